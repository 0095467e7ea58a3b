//! What the replays of one trace found, and how it is printed.

use std::{
    io::{self, Write},
    num::NonZeroUsize,
    time::Duration,
};

use crate::{
    closure::{Hits, mean},
    run::Outcome,
    table::Table,
};

/// One capacity and one number of threads.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) capacity: u64,
    pub(crate) threads: NonZeroUsize,
    /// One for each seed.
    pub(crate) runs: Vec<Outcome>,
    pub(crate) lru: u64,
    pub(crate) optimal: u64,
}

impl Row {
    /// Our hits, the mean over the seeds, beside the two bounds.
    pub(crate) fn hits(&self) -> Hits {
        let policy = mean(self.runs.iter().map(|run| run.hits as f64)).expect("there is a seed");
        Hits { policy, lru: self.lru, optimal: self.optimal }
    }
}

/// One trace.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) title: String,
    pub(crate) requests: usize,
    pub(crate) distinct: usize,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// A number of requests in percent of all.
    pub(crate) fn percent(&self, requests: f64) -> f64 {
        requests * 100.0 / self.requests as f64
    }

    /// The rows of the first number of threads: one for each capacity.
    pub(crate) fn curve(&self) -> impl Iterator<Item = &Row> {
        let threads = self.rows.first().map(|row| row.threads);
        self.rows.iter().filter(move |row| Some(row.threads) == threads)
    }

    /// The closures of [`curve`](Self::curve), where they are defined.
    pub(crate) fn closures(&self) -> impl Iterator<Item = f64> {
        self.curve().filter_map(|row| row.hits().closure(self.requests))
    }

    /// Prints the hit ratios, and the curve if it is wanted.
    pub(crate) fn print(&self, with_curve: bool, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}: {} requests, {} distinct keys\n", self.title, self.requests, self.distinct)?;
        self.hit_ratios().print(out)?;
        if !with_curve {
            return Ok(());
        }
        let threads = self.rows.first().map_or(1, |row| row.threads.get());
        writeln!(out, "miss-ratio curve ({})\n", plural(threads, "thread"))?;
        self.miss_ratios().print(out)
    }

    fn hit_ratios(&self) -> Table {
        let several = self.rows.iter().any(|row| row.runs.len() > 1);
        let mut headings = vec!["capacity", "of keys", "shards", "threads", "dogpile"];
        if several {
            headings.extend(["least", "most"]);
        }
        headings.extend(["lru", "optimal", "closure", "requests/s"]);
        let mut table = Table::numbers(&headings);
        for row in &self.rows {
            let hits = row.hits();
            let ratio = |hits: u64| percent(self.percent(hits as f64));
            let mut cells = vec![
                row.capacity.to_string(),
                share(row.capacity, self.distinct),
                row.runs.first().map_or(0, |run| run.shards).to_string(),
                row.threads.to_string(),
                percent(self.percent(hits.policy)),
            ];
            if several {
                let each = || row.runs.iter().map(|run| run.hits);
                cells.extend([each().min(), each().max()].map(|hits| ratio(hits.unwrap_or(0))));
            }
            cells.extend([ratio(row.lru), ratio(row.optimal), fraction(hits.closure(self.requests))]);
            cells.push(rate(self.requests * row.runs.len(), row.runs.iter().map(|run| run.elapsed).sum()));
            table.row(cells);
        }
        table
    }

    fn miss_ratios(&self) -> Table {
        let mut table = Table::numbers(&["capacity", "dogpile", "lru", "optimal"]);
        for row in self.curve() {
            let miss = |hits: f64| percent(100.0 - self.percent(hits));
            let hits = row.hits();
            table.row([
                row.capacity.to_string(),
                miss(hits.policy),
                miss(row.lru as f64),
                miss(row.optimal as f64),
            ]);
        }
        table
    }
}

/// Prints the closure of each row, their mean for each trace, and that of all rows together.
pub(crate) fn print_closures(reports: &[Report], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::named(&["closure of", "capacity", "dogpile", "closure"]);
    for report in reports {
        for row in report.curve() {
            let hits = row.hits();
            table.row([
                report.title.clone(),
                row.capacity.to_string(),
                percent(report.percent(hits.policy)),
                fraction(hits.closure(report.requests)),
            ]);
        }
        let mean = fraction(mean(report.closures()));
        table.row([report.title.clone(), String::from("mean"), String::new(), mean]);
    }
    table.print(out)?;
    print_mean(reports, out)
}

/// Prints the mean closure of all rows.
pub(crate) fn print_mean(reports: &[Report], out: &mut impl Write) -> io::Result<()> {
    let all = || reports.iter().flat_map(Report::closures);
    writeln!(out, "mean closure of {}: {}", plural(all().count(), "row"), fraction(mean(all())))
}

/// A hit ratio.
pub(crate) fn percent(percent: f64) -> String {
    format!("{percent:.2} %")
}

/// A closure, where there is one.
pub(crate) fn fraction(fraction: Option<f64>) -> String {
    fraction.map_or_else(|| String::from("-"), |fraction| format!("{fraction:.3}"))
}

fn share(capacity: u64, distinct: usize) -> String {
    format!("{:.1} %", capacity as f64 * 100.0 / distinct as f64)
}

pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("{count} {noun}") } else { format!("{count} {noun}s") }
}

/// Requests per second, in millions.
fn rate(requests: usize, elapsed: Duration) -> String {
    // A short trace may take no time at all by the clock.
    let seconds = elapsed.as_secs_f64().max(1e-9);
    format!("{:.2} M", requests as f64 / seconds / 1e6)
}
