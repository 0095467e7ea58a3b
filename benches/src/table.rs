//! Measures the rows that were asked for, prints them, and judges the noise.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use crate::args::{TableOptions, is_wanted};
use crate::report::{self, Row};
use crate::rows::{Effort, PLANS, Plan};
use crate::{clock, machine};

/// How often a row may be measured again before the run counts as failed.
const RETRIES: usize = 3;

pub(crate) fn run(options: &TableOptions) -> ExitCode {
    let plans: Vec<&Plan> = PLANS
        .iter()
        .filter(|plan| is_wanted(&options.words, plan.name))
        .filter(|plan| !(options.quick && plan.is_slow && options.words.is_empty()))
        .collect();
    if options.list {
        plans.iter().for_each(|plan| println!("{}", plan.name));
        return ExitCode::SUCCESS;
    }
    if plans.is_empty() {
        eprintln!("no row is called like that; `table --list` prints the names");
        return ExitCode::from(2);
    }
    let start = clock::now();
    println!("{}\n", machine::describe());
    println!(
        "min ns: the fastest of many short interleaved chunks. min x: the same, over that of the first subject. med x: median \
         over the\nrounds of the ratio to the first subject's chunk in the same round. With several threads the median chunk \
         speaks (med ns, of\nmeds): what keeps one thread from running makes the others faster. Each row holds one subject \
         twice; how far the two differ is the\nnoise, and beyond the bound it fails the run.\n"
    );
    let effort = Effort { quick: options.quick, ten_million: options.ten_million };
    let mut unsound = Vec::new();
    let mut rows = Vec::new();
    for plan in plans {
        let row = measure(plan, effort);
        if !row.noise.is_sound() {
            unsound.push(format!("{}: {}", plan.name, row.noise));
        }
        print!("{}", row.print(options.format));
        rows.push(row);
    }
    print!("{}", report::summary(&rows, options.format));
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    if unsound.is_empty() {
        return ExitCode::SUCCESS;
    }
    for row in unsound {
        eprintln!("error: too noisy to be believed, after {RETRIES} retries: {row}");
    }
    ExitCode::FAILURE
}

/// Measures a row, again if it is too noisy.
pub(crate) fn measure(plan: &Plan, effort: Effort) -> Row {
    let mut row = (plan.measure)(effort);
    for retry in 1..=RETRIES {
        if row.noise.is_sound() {
            break;
        }
        eprintln!("   {}: {}; measured again ({retry} of {RETRIES})", plan.name, row.noise);
        row = (plan.measure)(effort);
    }
    row
}
