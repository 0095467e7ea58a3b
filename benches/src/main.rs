//! Measures `dogpile` beside its peers. See `README.md` for what the commands print and how to read it.

#![deny(unsafe_code)]

mod allocator;
mod args;
mod callgrind;
mod clock;
mod keys;
mod machine;
mod measure;
mod report;
mod rows;
mod single_flight;
mod stats;
mod subjects;
mod table;
mod targets;

use std::process::ExitCode;

use args::Command;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match args::parse(&arguments) {
        Ok(Command::Help) => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Table(options)) => table::run(&options),
        Ok(Command::Targets(options)) => targets::run(&options),
        Ok(Command::Instructions(options)) => callgrind::run(&options),
        Ok(Command::SingleFlight(options)) => single_flight::run(&options),
        Ok(Command::ChildMemory { subject, entries }) => {
            rows::memory::report_footprint(&subject, entries);
            ExitCode::SUCCESS
        }
        Ok(Command::ChildLoop { name, variant }) => {
            callgrind::run_loop(&name, variant);
            ExitCode::SUCCESS
        }
        Ok(Command::ChildCase { subject, case }) => {
            single_flight::run_case(&subject, &case);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}\n\n{}", args::HELP);
            ExitCode::from(2)
        }
    }
}
