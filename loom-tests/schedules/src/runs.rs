//! The commands: how many schedules of what, and what is printed of them.

use crate::totals::TOTALS;
use crate::{alone, crowd, ledger, linear, planted, region};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::hash::{BuildHasher as _, RandomState};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An execution with more steps than this waits for something that does not happen. The longest that end have some 5,000.
const MOST_STEPS: usize = 200_000;
/// Deep enough for the futures that are polled on it, and for a panic on top.
const STACK: usize = 1 << 17;
/// Of this many schedules or more everything is expected to have happened.
const MANY: u64 = 5_000;
/// Of the histories, in percent.
const LEAST_OVERLAP: f64 = 90.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Crowd,
    Gate,
    Linear,
    Region,
}

impl Scenario {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "crowd" => Self::Crowd,
            "gate" => Self::Gate,
            "linear" => Self::Linear,
            "region" => Self::Region,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Crowd => "crowd",
            Self::Gate => "gate",
            Self::Linear => "linear",
            Self::Region => "region",
        }
    }

    /// One schedule in so many is by PCT. It switches seldom, so that few calls overlap.
    fn pct(self) -> usize {
        if self == Self::Linear { 12 } else { 4 }
    }

    fn run(self) {
        match self {
            Self::Crowd => crowd::run(),
            Self::Gate => alone::run(),
            Self::Linear => linear::run(),
            Self::Region => region::run(),
        }
    }
}

#[derive(Clone, Copy)]
struct Options {
    schedules: u64,
    threads: u64,
    seconds: Option<u64>,
    seed: Option<u64>,
}

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<u64> {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(
            arguments
                .get(at + 1)
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("{name} needs a number")),
        )
    };
    let options = Options {
        schedules: number("--schedules").unwrap_or(10_000),
        threads: number("--threads").unwrap_or(2),
        seconds: number("--seconds"),
        seed: number("--seed"),
    };
    let of = |scenario, schedules, seconds| {
        run(scenario, Options { schedules, seconds: options.seconds.or(seconds), ..options })
    };
    let is_well = match arguments.first().map(String::as_str) {
        Some("short") => {
            let crowd = of(Scenario::Crowd, 45_000, Some(20));
            let gate = of(Scenario::Gate, 15_000, Some(8));
            let linear = of(Scenario::Linear, 15_000, Some(12));
            let region = of(Scenario::Region, 30_000, Some(12));
            crowd && gate && linear && region && happened()
        }
        Some("long") => {
            let crowd = of(Scenario::Crowd, 750_000, None);
            let gate = of(Scenario::Gate, 250_000, None);
            let linear = of(Scenario::Linear, 100_000, None);
            let region = of(Scenario::Region, 250_000, None);
            crowd && gate && linear && region && happened() && planted::run()
        }
        Some("planted") => planted::run(),
        Some(name) if Scenario::named(name).is_some() => {
            Scenario::named(name).is_some_and(|scenario| run(scenario, options))
        }
        _ => {
            eprintln!("short, long, crowd, gate, linear, region, or planted; see src/main.rs");
            false
        }
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all that should happen has.
fn happened() -> bool {
    let missing = TOTALS.missing();
    if !missing.is_empty() {
        println!("never happened: {}", missing.join(", "));
    }
    missing.is_empty()
}

fn run(scenario: Scenario, options: Options) -> bool {
    let start = now();
    let done = AtomicU64::new(0);
    let done: &'static AtomicU64 = Box::leak(Box::new(done));
    let threads = if options.seed.is_some() { 1 } else { options.threads };
    let green = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|i| {
                let share = options.schedules / threads + u64::from(i < options.schedules % threads);
                scope.spawn(move || {
                    let ended = std::panic::catch_unwind(|| schedules(scenario, share, options, done));
                    if ended.is_err() {
                        ledger::print_last();
                    }
                    ended.is_ok()
                })
            })
            .collect();
        runs.into_iter().all(|run| run.join().expect("its panics were caught"))
    });
    let (n, seconds) = (done.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
    let verdict = if green { "green" } else { "RED" };
    println!(
        "{}: {n} schedules on {threads} threads in {seconds:.1} s, {:.0} a second: {verdict}",
        scenario.name(),
        n as f64 / seconds
    );
    if scenario == Scenario::Linear {
        let overlap = 100.0 * linear::OVERLAPPING.get() as f64 / linear::CHECKED.get().max(1) as f64;
        println!(
            "  histories {}, {overlap:.2} % of them with overlapping calls on a key; {} operations; {} joined, {} late",
            linear::CHECKED.get(),
            linear::OPERATIONS.get(),
            linear::JOINED.get(),
            linear::LATE.get(),
        );
        if overlap < LEAST_OVERLAP {
            println!("  fewer than {LEAST_OVERLAP} % overlap: that shows nothing");
        }
        return green && overlap >= LEAST_OVERLAP && (n < MANY || linear::LATE.get() > 0);
    }
    if scenario == Scenario::Region {
        println!(
            "  changes of the source {}, values that came too late {}",
            region::CHANGES.get(),
            region::LATE.get()
        );
        return green && (n < MANY || region::LATE.get() > 0);
    }
    println!("  so far: {TOTALS}");
    green
}

fn schedules(scenario: Scenario, n: u64, options: Options, done: &'static AtomicU64) {
    let start = now();
    let config = || {
        let mut config = Config::new();
        config.stack_size = STACK;
        config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
        config.max_time =
            options.seconds.map(|seconds| Duration::from_secs(seconds).saturating_sub(start.elapsed()));
        config.silence_warnings = true;
        // They would fill pages, and are of little use: see the header of `main.rs`.
        config.failure_persistence = FailurePersistence::None;
        config
    };
    let body = move || {
        scenario.run();
        done.fetch_add(1, Ordering::Relaxed);
    };
    if let Some(seed) = options.seed {
        Runner::new(RandomScheduler::new_from_seed(seed, 1), config()).run(body);
        return;
    }
    // In turns, so that a run that is stopped had some of each.
    let mut left = usize::try_from(n).unwrap_or(usize::MAX);
    let mut seeds = (0..).map(|i: u64| RandomState::new().hash_one(i));
    while left > 0 && options.seconds.is_none_or(|seconds| start.elapsed() < Duration::from_secs(seconds)) {
        let turn = left.min(4_000);
        left -= turn;
        let seed = seeds.next().expect("there is always another");
        Runner::new(RandomScheduler::new_from_seed(seed, turn - turn / scenario.pct()), config()).run(body);
        Runner::new(PctScheduler::new_from_seed(seed, 3, turn / scenario.pct()), config()).run(body);
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a run takes is no part of it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
