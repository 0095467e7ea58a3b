//! The command `dogpile`: replays request traces through the cache of the library `dogpile`, lets callers stampede to a
//! simulated origin behind it, and looks into stores that processes share.
//!
//! Failures end with one line on standard error, which names the file, the position in it and the remedy, and with
//! exit code 2.

#![forbid(unsafe_code)]

mod belady;
mod capacity;
mod closure;
mod error;
mod lru;
mod pack;
mod plot;
mod progress;
mod reference;
mod replay;
mod report;
mod run;
#[cfg(test)]
mod samples;
mod stampede;
mod stores;
mod table;
mod trace;

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use clap::Parser;

use crate::error::Error;

/// Measures the cache `dogpile`, on recorded requests and on simulated ones, and looks into the stores of its regions.
#[derive(Debug, Parser)]
#[command(name = "dogpile", version)]
enum Command {
    Replay(replay::Options),
    Pack(pack::Options),
    Stampede(stampede::Options),
    Inspect(stores::InspectOptions),
    Locks(stores::LocksOptions),
    Invalidate(stores::InvalidateOptions),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match &command {
        Command::Replay(options) => replay::replay(options, &mut out),
        Command::Pack(options) => pack::pack(options, &mut out),
        Command::Stampede(options) => stampede::stampede(options, &mut out),
        Command::Inspect(options) => stores::inspect(options, &mut out),
        Command::Locks(options) => stores::locks(options, &mut out),
        Command::Invalidate(options) => stores::invalidate(options, &mut out),
    };
    let flushed = out.flush().map_err(Error::output);
    match result.and(flushed) {
        Ok(()) | Err(Error::ClosedPipe) => ExitCode::SUCCESS,
        Err(error @ Error::Failed(_)) => {
            // If standard error is closed as well, the exit code must do.
            let _: io::Result<()> = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
