//! What the project wants to reach, measured: each target with its figure, its bound and a verdict.
//!
//! A missed target is no failure of the command. A row in which two copies of one subject differ by more than its bound is,
//! after the retries of `table`: then there is no figure to judge.

#![forbid(unsafe_code)]

mod check;
mod counted;
mod hit_ratio;
mod peers;
mod timed;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::is_wanted;
use crate::report::{Format, Row, grid};
use crate::rows::{Effort, PLANS};
use crate::{clock, machine, table};
use check::Check;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetOptions {
    pub(crate) quick: bool,
    pub(crate) list: bool,
    /// Where the report goes as Markdown, too.
    pub(crate) markdown: Option<PathBuf>,
    /// The folder of traces to be replayed, and what other policies had on them.
    pub(crate) traces: Option<PathBuf>,
    pub(crate) reference: Option<PathBuf>,
    pub(crate) words: Vec<String>,
}

/// Several targets that one measurement answers.
struct Group {
    name: &'static str,
    measure: Measure,
}

enum Measure {
    /// The row of `table` with the group's name.
    Row(fn(&Row) -> Vec<Check>),
    /// Something else. An error is a measurement that could not be believed.
    Other(fn(&TargetOptions) -> Result<Vec<Check>, String>),
}

const fn row(name: &'static str, judge: fn(&Row) -> Vec<Check>) -> Group {
    Group { name, measure: Measure::Row(judge) }
}

const fn other(name: &'static str, measure: fn(&TargetOptions) -> Result<Vec<Check>, String>) -> Group {
    Group { name, measure: Measure::Other(measure) }
}

const GROUPS: &[Group] = &[
    other("instructions", counted::instructions),
    other("lines", counted::lines),
    // Before the others: a heap that they have left full of small free blocks is tidied by glibc in one of our insertions.
    row("growth-to-10m", timed::growth),
    row("get-hit-1k-u64", timed::get_hit_small),
    row("get-hit-drawn-1k-u64", timed::get_hit_small),
    row("get-hit-1m-u64", timed::get_hit_large),
    row("get-hit-1k-string", timed::get_hit_string),
    row("hot-key-factors", timed::hot_key),
    row("replace-u64", timed::replace),
    row("churn-u64", timed::churn),
    row("zipf-0.99-1-thread", timed::zipf),
    row("zipf-0.99-2-threads", timed::zipf),
    row("zipf-0.99-8-threads", timed::zipf),
    row("zipf-0.99-work-1-thread", timed::zipf_with_work),
    row("zipf-0.99-work-2-threads", timed::zipf_with_work),
    row("zipf-0.99-work-8-threads", timed::zipf_with_work),
    row("reader-beside-writers", timed::reader_beside_writers),
    row("memory-1m", timed::memory),
    row("expiry-get", timed::expiry),
    other("hit-ratio", hit_ratio::checks),
];

pub(crate) fn run(options: &TargetOptions) -> ExitCode {
    let groups: Vec<&Group> = GROUPS.iter().filter(|group| is_wanted(&options.words, group.name)).collect();
    if options.list {
        groups.iter().for_each(|group| println!("{}", group.name));
        return ExitCode::SUCCESS;
    }
    if groups.is_empty() {
        eprintln!("no target is called like that; `targets --list` prints the names");
        return ExitCode::from(2);
    }
    let start = clock::now();
    let head = machine::describe();
    println!("{head}\n");
    let (mut checks, mut rows, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        eprintln!("{} ({:.0} s)", group.name, start.elapsed().as_secs_f64());
        match measure(group, options) {
            Ok((answered, row)) => {
                checks.extend(answered);
                rows.extend(row.map(|row| (group.name, row)));
            }
            Err(message) => {
                checks.push(Check::invalid(group.name, &message));
                invalid.push(format!("{}: {message}", group.name));
            }
        }
    }
    let report = |format| {
        let mut text = verdicts(&checks, format);
        text.push_str(&peers::table(&rows, format));
        text
    };
    print!("{}", report(Format::Text));
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    if let Some(path) = &options.markdown {
        let text = format!("{}\n\n{}", head.replace('\n', "  \n"), report(Format::Markdown));
        if let Err(error) = fs::write(path, text) {
            eprintln!("error: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    for message in &invalid {
        eprintln!("error: no figure to be believed: {message}");
    }
    if invalid.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(group: &Group, options: &TargetOptions) -> Result<(Vec<Check>, Option<Row>), String> {
    match group.measure {
        Measure::Other(measure) => Ok((measure(options)?, None)),
        Measure::Row(judge) => {
            let plan = PLANS.iter().find(|plan| plan.name == group.name).expect("groups are named as rows");
            let effort = Effort { quick: options.quick, ten_million: false };
            let row = table::measure(plan, effort);
            if !row.noise.is_sound() {
                return Err(row.noise.to_string());
            }
            Ok((judge(&row), Some(row)))
        }
    }
}

fn verdicts(checks: &[Check], format: Format) -> String {
    let head = ["target", "bound", "figure", "verdict"].map(String::from);
    let body: Vec<Vec<String>> = checks.iter().map(Check::cells).collect();
    let mut text = grid(&head, &body, format);
    let count = |verdict: &str| body.iter().filter(|cells| cells[3].starts_with(verdict)).count();
    writeln!(
        text,
        "{} met, {} missed, {} not measured. Commands of their own: the soak, the sanitizers, the weakening of orderings.\n",
        count("met"),
        count("missed"),
        count("not measured") + count("invalid"),
    )
    .expect("writing to a string");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_a_row_names_one() {
        for group in GROUPS {
            let is_row = PLANS.iter().any(|plan| plan.name == group.name);
            assert_eq!(is_row, matches!(group.measure, Measure::Row(_)), "{}", group.name);
        }
    }
}
