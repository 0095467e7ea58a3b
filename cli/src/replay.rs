//! `dogpile replay`: puts traces through the cache, exact LRU and the optimal bound.

use std::{
    fs,
    io::Write,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use crate::{
    belady,
    capacity::{self, Capacity},
    error::Error,
    lru::Lru,
    plot,
    progress::Progress,
    reference::Reference,
    report::{self, Report, Row},
    run::{self, Setup},
    trace::{self, ReadOptions},
};

/// Replay traces through the cache: hit ratios beside LRU and the optimal bound, throughput, miss-ratio curve
///
/// Every request is a get and, on a miss, an insert; every entry counts one. Closure is the part of the way from LRU
/// to the optimal bound (Belady's, with bypass) that the cache goes, where the two differ by a point or more.
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
    /// first number gives the curve and the closures
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2", value_parser = threads)]
    threads: Vec<NonZeroUsize>,

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
    let reference =
        options.reference.as_deref().map(|path| Reference::read(path, &options.policy)).transpose()?;
    let paths = trace::expand(&options.traces)?;
    let several = paths.len() > 1;
    if let (Some(folder), true) = (&options.svg, several) {
        fs::create_dir_all(folder).map_err(|error| Error::write(folder, error))?;
    }
    let mut reports = Vec::new();
    for path in &paths {
        let report = measure(path, options)?;
        report.print(out).and_then(|()| out.flush()).map_err(Error::output)?;
        match &options.svg {
            Some(folder) if several => plot::write(&report, &folder.join(format!("{}.svg", report.title)))?,
            Some(file) => plot::write(&report, file)?,
            None => {}
        }
        reports.push(report);
    }
    if several {
        report::print_closures(&reports, out).map_err(Error::output)?;
    }
    if let Some(reference) = reference {
        reference.print(&reports, out).map_err(Error::output)?;
    }
    Ok(())
}

fn measure(path: &Path, options: &Options) -> Result<Report, Error> {
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
    let passes = 1 + capacities.len() * (1 + options.threads.len() * seeds.len());
    let progress = Progress::new(&title, (trace.len() * passes) as u64);
    progress.phase("exact LRU");
    let lru = Lru::of(&trace, &progress);
    let mut rows = Vec::new();
    for &capacity in &capacities {
        progress.phase(format!("optimal bound at {capacity}"));
        let optimal = belady::hits(&trace, capacity, &progress);
        for &threads in &options.threads {
            progress.phase(format!("dogpile at {capacity}, threads {threads}"));
            let run = |&seed| {
                let setup = Setup { capacity, shards: options.shards, seed, threads };
                run::replay(trace.keys(), setup, &progress)
            };
            let runs = seeds.iter().map(run).collect::<Result<_, _>>().map_err(|error| {
                let problem = format_args!("no cache of {capacity} entries can be built ({error})");
                Error::new(&title, problem, "give another --capacity or --shards")
            })?;
            rows.push(Row { capacity, threads, runs, lru: lru.hits(capacity), optimal });
        }
    }
    Ok(Report { title, requests: trace.len(), distinct: trace.distinct(), rows })
}
