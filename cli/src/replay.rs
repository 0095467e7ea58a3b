//! `dogpile replay`: puts traces through the cache, exact LRU and the optimal bound.

use std::{
    fs,
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use crate::{
    belady,
    capacity::{self, Capacity},
    error::Error,
    lru::Lru,
    plot,
    progress::Progress,
    reference::{LEFT_OUT, Reference, SYNTHETIC},
    report::{self, Report, Row},
    run::{self, Outcome, Setup},
    trace::{self, ReadOptions},
};

/// Replay traces through the cache: hit ratios beside LRU and the optimal bound, throughput, miss-ratio curve
///
/// Every request is a get and, on a miss, an insert; every entry counts one. Closure is the part of the way from LRU
/// to the optimal bound (Belady's, with bypass) that the cache goes, where the two differ by a point or more. Several
/// traces, or a folder, end with the closure of each row, of each trace and of all rows.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Traces, folders with traces (*.ctr, *.ctr.zst), or `-` for standard input
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadOptions,

    /// Capacities in entries or in percent of the distinct keys, as in `100,5%`; without it 0.1, 1, 5, 10, 20 and
    /// 40 %, the first five that give at least 50 entries
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    capacity: Vec<Capacity>,

    /// That many capacities from 0.1 to 100 % of the distinct keys instead
    #[arg(long, value_name = "N", conflicts_with = "capacity", value_parser = clap::value_parser!(u16).range(1..=1000))]
    points: Option<u16>,

    /// Numbers of threads; several threads share one cache and take blocks of 64 requests of the trace in turn. The
    /// first number gives the curve and the closures. Without it 1 and 2, with several traces 1
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = threads)]
    threads: Vec<NonZeroUsize>,

    /// Replays that run side by side, each with a cache of its own; their hits are the same as one after the other,
    /// their requests per second are not. Without it 1, with several traces as many as there are cores
    #[arg(long, value_name = "N", value_parser = threads)]
    jobs: Option<NonZeroUsize>,

    /// Shards of the cache, rounded up to a power of two; without it the cache chooses
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroUsize>,

    /// Seeds of the hasher, for results that can be repeated (with one thread); several print the mean, the least and
    /// the most. Without it the seed is random
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    seed: Vec<u64>,

    /// Draw the miss-ratio curve into this file; with several traces, into this folder, one file for each
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Compare with hits from a CSV file (columns trace, size, policy, hits)
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,

    /// List the rows of these policies of the reference; without it all are summed up
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "reference")]
    policy: Vec<String>,

    /// Policies of the reference that are no rivals, because they hold more than their capacity or were never built
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = LEFT_OUT, requires = "reference")]
    leave_out: Vec<String>,

    /// Traces that nobody recorded: told from the others where the worst row is named
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = SYNTHETIC, requires = "reference")]
    synthetic: Vec<String>,
}

/// More threads than this measure nothing, and might not even start.
const MAX_THREADS: usize = 1024;

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(threads) if threads.get() <= MAX_THREADS => Ok(threads),
        _ => Err(format!("give numbers from 1 to {MAX_THREADS}")),
    }
}

/// Replays every trace, then sums up.
pub(crate) fn replay(options: &Options, out: &mut impl Write) -> Result<(), Error> {
    // First, so that a mistake in it does not come to light after minutes.
    let read = |path| Reference::read(path, &options.policy, &options.leave_out, &options.synthetic);
    let reference = options.reference.as_deref().map(read).transpose()?;
    let paths = trace::expand(&options.traces)?;
    let several = paths.len() > 1;
    let plan = Plan::of(options, several);
    if let (Some(folder), true) = (&options.svg, several) {
        fs::create_dir_all(folder).map_err(|error| Error::write(folder, error))?;
    }
    let mut reports = Vec::new();
    for path in &paths {
        let report = measure(path, options, &plan)?;
        // The curve has no figure that the table above it has not.
        report.print(!several, out).and_then(|()| out.flush()).map_err(Error::output)?;
        match &options.svg {
            Some(folder) if several => plot::write(&report, &folder.join(format!("{}.svg", report.title)))?,
            Some(file) => plot::write(&report, file)?,
            None => {}
        }
        reports.push(report);
    }
    let printed = match reference {
        Some(reference) => reference.print(&reports, several, out),
        None if several => report::print_closures(&reports, out),
        None => Ok(()),
    };
    printed.map_err(Error::output)
}

/// What the options leave open, decided.
struct Plan {
    threads: Vec<NonZeroUsize>,
    jobs: NonZeroUsize,
}

impl Plan {
    fn of(options: &Options, several: bool) -> Plan {
        let one = NonZeroUsize::MIN;
        let usual = if several { &[one][..] } else { &[one, one.saturating_add(1)] };
        let threads = if options.threads.is_empty() { usual.to_vec() } else { options.threads.clone() };
        let cores = || thread::available_parallelism().unwrap_or(one);
        Plan { threads, jobs: options.jobs.unwrap_or_else(|| if several { cores() } else { one }) }
    }
}

fn measure(path: &Path, options: &Options, plan: &Plan) -> Result<Report, Error> {
    let title = trace::title_of(path);
    let trace = trace::read(path, &options.read)?;
    let capacities = match options.points {
        Some(points) => capacity::spread(points, trace.distinct()),
        None if options.capacity.is_empty() => capacity::usual(trace.distinct()),
        None => capacity::chosen(&options.capacity, trace.distinct()),
    };
    let seeds = match &options.seed[..] {
        [] => vec![None],
        seeds => seeds.iter().copied().map(Some).collect(),
    };
    let passes = 1 + capacities.len() * (1 + plan.threads.len() * seeds.len());
    let progress = Progress::new(&title, (trace.len() * passes) as u64);
    progress.phase("exact LRU");
    let lru = Lru::of(&trace, &progress);
    // The largest first: the last ones to run are short.
    let rows = in_parallel(plan.jobs, capacities.iter().copied().rev(), |&capacity| {
        progress.phase(format!("optimal bound at {capacity}"));
        let optimal = belady::hits(&trace, capacity, &progress);
        let row = |&threads: &NonZeroUsize| -> Result<Row, Error> {
            progress.phase(format!("dogpile at {capacity}, threads {threads}"));
            let run = |&seed| {
                let setup = Setup { capacity, shards: options.shards, seed, threads };
                run::replay(trace.keys(), setup, &progress)
            };
            let runs = seeds.iter().map(run).collect::<Result<Vec<Outcome>, _>>().map_err(|error| {
                let problem = format_args!("no cache of {capacity} entries can be built ({error})");
                Error::new(&title, problem, "give another --capacity or --shards")
            })?;
            Ok(Row { capacity, threads, runs, lru: lru.hits(capacity), optimal })
        };
        plan.threads.iter().map(row).collect::<Result<Vec<Row>, Error>>()
    });
    let rows: Vec<Vec<Row>> = rows.into_iter().rev().collect::<Result<_, _>>()?;
    let rows = rows.into_iter().flatten().collect();
    Ok(Report { title, requests: trace.len(), distinct: trace.distinct(), rows })
}

/// `work` of each item, in the items' order; up to `jobs` at once.
fn in_parallel<I: Sync, R: Send>(
    jobs: NonZeroUsize,
    items: impl Iterator<Item = I>,
    work: impl Fn(&I) -> R + Sync,
) -> Vec<R> {
    let items: Vec<I> = items.collect();
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    // Relaxed: it only deals out numbers.
    let taken = AtomicUsize::new(0);
    let worker = || {
        while let Some((item, result)) =
            Some(taken.fetch_add(1, Relaxed)).and_then(|place| Some((items.get(place)?, &results[place])))
        {
            let done = work(item);
            *result.lock().expect("each result has one writer") = Some(done);
        }
    };
    thread::scope(|scope| {
        for _ in 1..jobs.get().min(items.len().max(1)) {
            scope.spawn(worker);
        }
        worker();
    });
    let result = |result: Mutex<Option<R>>| result.into_inner().ok().flatten();
    results.into_iter().map(|done| result(done).expect("each item was dealt out")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_their_items() {
        for jobs in [1, 2, 7] {
            let jobs = NonZeroUsize::new(jobs).expect("not zero");
            assert_eq!(in_parallel(jobs, 0..5, |item| item * item), [0, 1, 4, 9, 16]);
            assert_eq!(in_parallel(jobs, 0..0, |item: &i32| *item), Vec::<i32>::new());
        }
    }
}
