//! `dogpile stampede`: lets callers stampede to a simulated origin, with the gate in their way and without.

mod amount;
mod callers;
mod chart;
mod law;
mod load;
mod mode;
mod origin;
mod popularity;
mod report;
mod tally;
#[cfg(test)]
mod tests;
mod time;

use std::{
    fmt,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dogpile::time::{Instant, PreciseClock};
use tokio::runtime::Runtime;

use self::{
    callers::Crowd,
    law::Law,
    load::{Load, WINDOW},
    mode::{Lifetimes, Mode, Subject},
    origin::Origin,
    popularity::Popularity,
    report::{Outcome, Report},
    time::RealTime,
};
use crate::{error::Error, progress::Progress};

/// Let callers stampede to a simulated origin: its load and the callers' latencies without the gate and with it
///
/// Threads and tasks ask for keys, pause and ask again. All keys are in the cache at first and expire together. Each
/// mode gets the same callers, keys and latencies, one mode after another.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Callers that are threads
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,

    /// Callers that are async tasks
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u16).range(..=10_000))]
    tasks: u16,

    /// The mean pause of a caller between an answer and its next request
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = amount::duration)]
    pause: Duration,

    /// Keys that are asked for
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    keys: u32,

    /// Exponent of Zipf's law, by which the first keys are asked for more often; with 0 all are equal
    #[arg(long, value_name = "EXPONENT", default_value = "1", value_parser = amount::exponent)]
    zipf: f64,

    /// Median latency of the origin
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = amount::duration)]
    latency: Duration,

    /// How far latencies lie from the median: two of three within this part of it
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = amount::share)]
    latency_spread: f64,

    /// Calls that the origin serves at once at its full speed; beyond it all get slower in proportion. 0 sets no limit
    #[arg(long, value_name = "N", default_value = "64")]
    limit: usize,

    /// The part of the origin's calls that fails
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = amount::share)]
    fail: f64,

    /// Time to live of an entry
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = amount::positive)]
    fresh: Duration,

    /// For how long after that it may be served stale, in the modes that do so
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = amount::duration)]
    stale: Duration,

    /// By which part of --fresh entries may expire early, at random, in the mode that lets them
    #[arg(long, value_name = "SHARE", default_value = "20%", value_parser = amount::part)]
    jitter: f64,

    /// For how long callers ask in each mode; the first entries expire when --fresh has gone by
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = amount::positive)]
    duration: Duration,

    /// Run this mode only; may be given several times
    #[arg(long, value_enum)]
    mode: Vec<Mode>,

    /// Draw the origin's load over time into this SVG file
    #[arg(long, visible_alias = "svg", value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Write the origin's load over time into this CSV file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Seed of the keys, pauses, latencies and failures. Without it the seed is random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl fmt::Display for Options {
    /// The load, as the report begins with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, tasks, pause, keys, zipf, latency, limit, fresh, stale, duration, .. } = self;
        writeln!(f, "{threads} threads and {tasks} tasks, pauses of {pause:?}; {duration:?} for each mode")?;
        writeln!(f, "{keys} keys, Zipf exponent {zipf}, fresh for {fresh:?}, then stale for {stale:?}")?;
        let [spread, fail] = [self.latency_spread, self.fail].map(|share| share * 100.0);
        write!(f, "an origin of {latency:?}, spread {spread} %, failures {fail} %, ")?;
        match limit {
            0 => f.write_str("no limit"),
            _ => write!(f, "slower beyond {limit} calls at once"),
        }
    }
}

/// More stretches of time than this are no clearer to see.
const BINS: u32 = 1000;

/// Between two looks at the progress.
const TICK: Duration = Duration::from_millis(100);

/// For how long calls of the background may outlive a run.
const LATE: Duration = Duration::from_secs(10);

/// Runs all modes, then sums up.
pub(crate) fn stampede(options: &Options, out: &mut impl Write) -> Result<(), Error> {
    if options.threads == 0 && options.tasks == 0 {
        return Err(fail("there is nobody who asks", "give --threads or --tasks"));
    }
    // First, so that a mistake does not come to light after the runs.
    for path in [&options.plot, &options.csv].into_iter().flatten() {
        writable(path)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build();
    let runtime = runtime.map_err(|error| {
        fail(format_args!("tasks cannot be run ({error})"), "try again when the machine has more room")
    })?;
    let modes = if options.mode.is_empty() { &Mode::ALL[..] } else { &options.mode };
    let simulation = Simulation::new(options, runtime);
    let progress = Progress::new("stampede", millis(options.duration) * modes.len() as u64);
    let outcomes = modes.iter().map(|&mode| simulation.run(mode, &progress)).collect::<Result<_, _>>()?;
    drop(progress);
    let report = Report { load: options.to_string(), outcomes };
    report.print(out).and_then(|()| out.flush()).map_err(Error::output)?;
    if let Some(path) = &options.plot {
        chart::write(&report, path)?;
    }
    if let Some(path) = &options.csv {
        report.write_csv(path)?;
    }
    Ok(())
}

fn fail(problem: impl fmt::Display, remedy: impl fmt::Display) -> Error {
    Error::new("stampede", problem, remedy)
}

/// Opens a file that will be written to later. What is in it stays.
fn writable(path: &Path) -> Result<(), Error> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|error| Error::write(path, error))
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// What all modes have in common.
#[derive(Debug)]
struct Simulation {
    law: Law,
    crowd: Crowd,
    popularity: Arc<Popularity>,
    lifetimes: Lifetimes,
    duration: Duration,
    runtime: Runtime,
}

impl Simulation {
    fn new(options: &Options, runtime: Runtime) -> Self {
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        Self {
            law: Law {
                latency: options.latency,
                spread: options.latency_spread,
                fail: options.fail,
                limit: options.limit,
                seed,
            },
            crowd: Crowd {
                threads: options.threads.into(),
                tasks: options.tasks.into(),
                pause: options.pause,
                seed,
            },
            popularity: Arc::new(Popularity::zipf(options.keys, options.zipf)),
            lifetimes: Lifetimes { fresh: options.fresh, stale: options.stale, jitter: options.jitter },
            duration: options.duration,
            runtime,
        }
    }

    /// One mode: fills the cache, lets the callers loose, and waits for the last call to end.
    fn run(&self, mode: Mode, progress: &Progress) -> Result<Outcome, Error> {
        let origin = Arc::new(Origin::new(self.popularity.keys(), self.law, Arc::new(RealTime)));
        // The precise clock, so that entries may live for less than the coarse one's grain.
        let subject =
            Subject::new(mode, self.lifetimes, Arc::clone(&origin), PreciseClock, self.runtime.handle());
        let subject = Arc::new(subject.map_err(|error| {
            fail(format_args!("no cache can be built ({error})"), "give another --fresh, --stale or --jitter")
        })?);
        self.warm_up(&subject);
        let before = subject.counts();
        let begin = origin.open();
        let end = begin.saturating_add(self.duration);
        let callers = self.crowd.start(&subject, &self.popularity, end, &self.runtime);
        self.watch(&origin, mode, begin, progress);
        let tally = callers.join(&self.runtime);
        let asked = origin.time().now().saturating_duration_since(begin);
        let counts = subject.counts().since(before);
        settle(&origin);
        let load = Load::of(&origin.take_calls(), self.duration, self.bin_width());
        Ok(Outcome { mode, load, tally, asked, counts })
    }

    /// Shows how the run goes, until its time has gone by.
    fn watch(&self, origin: &Origin, mode: Mode, begin: Instant, progress: &Progress) {
        let time = origin.time();
        let mut shown = Duration::ZERO;
        loop {
            let passed = time.now().saturating_duration_since(begin).min(self.duration);
            progress.advance((millis(passed) - millis(shown)) as usize);
            shown = passed;
            let (calls, in_flight) = (origin.ended(), origin.in_flight());
            progress.phase(format!("{}: {calls} calls, {in_flight} in flight", mode.word()));
            if passed == self.duration {
                return;
            }
            time.block(TICK.min(self.duration - passed));
        }
    }

    /// Has each key created once, all at the same time, so that they expire together.
    fn warm_up(&self, subject: &Arc<Subject>) {
        let ask = |key| {
            let subject = Arc::clone(subject);
            self.runtime.spawn(async move { subject.ask_async(key).await })
        };
        let asked: Vec<_> = (0..self.popularity.keys()).map(ask).collect();
        for task in asked {
            let answer = self.runtime.block_on(task).expect("asking does not panic");
            answer.expect("the origin does not fail before it opens");
        }
    }

    /// A whole number of windows.
    fn bin_width(&self) -> Duration {
        let windows = self.duration.as_nanos().div_ceil(WINDOW.as_nanos() * u128::from(BINS));
        WINDOW * windows as u32
    }
}

/// Waits until the calls of the background have ended too: no other mode shall be disturbed by them.
fn settle(origin: &Origin) {
    let time = origin.time();
    let latest = time.now().saturating_add(LATE);
    while origin.in_flight() > 0 && time.now() < latest {
        time.block(Duration::from_millis(1));
    }
}
