//! Hits of other policies on the same traces, from a CSV file, beside ours.
//!
//! The columns `trace`, `size`, `policy` and `hits` are read, others are left alone. The policies `lru` and `opt` are
//! compared with our own algorithms; a difference means that the file speaks of another trace. On each row the best of
//! the other policies, LRU among them, is the rival that ours is judged by.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Write},
    path::Path,
};

use crate::{
    closure::{Hits, mean},
    error::Error,
    report::{self, Report, Row, fraction, percent, plural},
    table::Table,
    trace::{Csv, Input, name_of},
};

const OPTIMAL: &str = "opt";

/// The two policies that closures are measured against.
const BOUNDS: [&str; 2] = ["lru", OPTIMAL];

/// No rivals, unless the user says otherwise: one holds more than its capacity, the other was simulated as a plan for
/// this very cache.
pub(crate) const LEFT_OUT: [&str; 2] = ["moka-lazy", "reuse-interval"];

/// Traces of `traces/README.md` of the reference that were made up, not recorded.
pub(crate) const SYNTHETIC: [&str; 3] = ["2pools", "loop", "zigzag"];

/// So many points of hit ratio below the best other policy are as good as equal.
const NEAR: f64 = 1.0;

/// The file's hits, by trace and capacity and then by policy.
#[derive(Debug)]
pub(crate) struct Reference {
    hits: HashMap<(String, u64), BTreeMap<String, u64>>,
    /// The policies to compare with.
    policies: Vec<String>,
    /// Whether each row is to be listed.
    rows: bool,
    left_out: Vec<String>,
    synthetic: Vec<String>,
}

impl Reference {
    /// Reads `path`. Each of `policies` must occur in it; none stands for all, and then only the sums are printed.
    pub(crate) fn read(
        path: &Path,
        policies: &[String],
        left_out: &[String],
        synthetic: &[String],
    ) -> Result<Self, Error> {
        let mut csv = Csv::open(Input::open(path)?)?;
        let [trace, size, policy, hits] = ["trace", "size", "policy", "hits"].map(|name| csv.column(name));
        let (trace, size, policy, hits) = (trace?, size?, policy?, hits?);
        let mut all: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        let mut known = BTreeSet::new();
        while csv.read_row()? {
            let text = |index| String::from_utf8_lossy(csv.field(index)).into_owned();
            let number = |index| {
                let text: String = text(index);
                let problem = format_args!("`{text}` is no number of entries or hits");
                text.parse::<u64>().map_err(|_| csv.fail(problem, "mend the row"))
            };
            let policy = text(policy);
            known.insert(policy.clone());
            all.entry((text(trace), number(size)?)).or_default().insert(policy, number(hits)?);
        }
        for bound in BOUNDS {
            known.remove(bound);
        }
        if let Some(unknown) = policies.iter().find(|policy| !known.contains(*policy)) {
            let has = known.into_iter().collect::<Vec<_>>().join(", ");
            let problem = format_args!("has no policy `{unknown}`");
            return Err(Error::new(name_of(path), problem, format_args!("choose from {has}")));
        }
        let rows = !policies.is_empty();
        let policies = if rows { policies.to_vec() } else { known.into_iter().collect() };
        let (left_out, synthetic) = (left_out.to_vec(), synthetic.to_vec());
        Ok(Self { hits: all, policies, rows, left_out, synthetic })
    }

    /// Prints the comparison with all rows that the file has; of several traces, rows that it has not, too.
    pub(crate) fn print(&self, reports: &[Report], several: bool, out: &mut impl Write) -> io::Result<()> {
        let mut shared = Vec::new();
        for report in reports {
            for row in report.curve() {
                if let Some(theirs) = self.hits.get(&(report.title.clone(), row.capacity)) {
                    shared.push(Shared { report, row, theirs, best: self.best(theirs) });
                }
            }
        }
        if shared.is_empty() {
            if several {
                report::print_closures(reports, out)?;
            }
            return writeln!(out, "the reference has none of these traces at these capacities");
        }
        if self.rows {
            self.list(&shared).print(out)?;
        }
        beside_the_best(reports, &shared).print(out)?;
        self.sum_up(&shared).print(out)?;
        let all: usize = reports.iter().map(|report| report.closures().count()).sum();
        let judged =
            shared.iter().filter(|row| row.row.hits().closure(row.report.requests).is_some()).count();
        if all > judged {
            report::print_mean(reports, out)?;
        }
        self.judge(&shared, out)?;
        let equal = shared.iter().filter(|row| row.has_our_bounds()).count();
        writeln!(out, "lru and optimal: equal to the reference's on {equal} of {} rows", shared.len())
    }

    /// The best of the policies that are rivals, the first by name of those with the same hits.
    fn best<'a>(&self, theirs: &'a BTreeMap<String, u64>) -> Option<(&'a str, u64)> {
        let is_rival = |policy: &str| policy != OPTIMAL && !self.left_out.iter().any(|out| out == policy);
        let rivals = theirs.iter().map(|(policy, &hits)| (policy.as_str(), hits));
        rivals.filter(|(policy, _)| is_rival(policy)).rev().max_by_key(|&(_, hits)| hits)
    }

    /// Prints what the rows come to: the means, how often ours is near the best other, and where it is farthest below.
    fn judge(&self, shared: &[Shared<'_>], out: &mut impl Write) -> io::Result<()> {
        let closures = || shared.iter().filter_map(|row| row.row.hits().closure(row.report.requests));
        let (count, ours) = (closures().count(), fraction(mean(closures())));
        let best = fraction(mean(shared.iter().filter_map(Shared::best_closure)));
        writeln!(out, "mean closure of {}: {ours}; of the best other on each: {best}", plural(count, "row"))?;
        let behind: Vec<(&Shared<'_>, f64)> =
            shared.iter().filter_map(|row| Some((row, row.behind_best()?))).collect();
        let near = behind.iter().filter(|(_, difference)| *difference >= -NEAR).count();
        writeln!(
            out,
            "within {NEAR} point of the best other: {near} of {} ({})",
            plural(behind.len(), "row"),
            percent(near as f64 * 100.0 / behind.len().max(1) as f64)
        )?;
        for (kind, is_synthetic) in [("recorded", false), ("synthetic", true)] {
            let of_kind = behind.iter().filter(|(row, _)| self.is_synthetic(row) == is_synthetic);
            if let Some((row, difference)) = of_kind.min_by(|a, b| a.1.total_cmp(&b.1)) {
                let rival = row.best.map_or("", |(policy, _)| policy);
                let place = row.place();
                writeln!(out, "worst {kind} row: {} points at {place} ({rival})", points(*difference))?;
            }
        }
        Ok(())
    }

    fn is_synthetic(&self, row: &Shared<'_>) -> bool {
        self.synthetic.contains(&row.report.title)
    }

    fn list(&self, shared: &[Shared<'_>]) -> Table {
        let mut headings = vec!["trace", "capacity", "dogpile"];
        for policy in &self.policies {
            headings.extend([policy, "difference"]);
        }
        let mut table = Table::named(&headings);
        for row in shared {
            let ours = row.report.percent(row.row.hits().policy);
            let mut cells = vec![row.report.title.clone(), row.row.capacity.to_string(), percent(ours)];
            for policy in &self.policies {
                match row.percent(policy) {
                    Some(theirs) => cells.extend([percent(theirs), points(ours - theirs)]),
                    None => cells.extend(["-", "-"].map(String::from)),
                }
            }
            table.row(cells);
        }
        table
    }

    fn sum_up(&self, shared: &[Shared<'_>]) -> Table {
        let mut table = Table::named(&[
            "dogpile against",
            "rows",
            "mean difference",
            "greatest",
            "at",
            "its closure",
            "dogpile's",
        ]);
        for policy in &self.policies {
            let both = || shared.iter().filter_map(|row| Some((row, row.difference(policy)?)));
            let Some((place, greatest)) = both().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())) else {
                continue;
            };
            let differences = both().map(|(_, difference)| difference);
            // Over the same rows, since a policy may not be listed for all.
            let ours = both().filter_map(|(row, _)| row.row.hits().closure(row.report.requests));
            let theirs = both().filter_map(|(row, _)| row.closure(policy));
            table.row([
                policy.clone(),
                both().count().to_string(),
                points(mean(differences).unwrap_or(0.0)),
                points(greatest),
                place.place(),
                fraction(mean(theirs)),
                fraction(mean(ours)),
            ]);
        }
        table
    }
}

/// Every row with its closure and with the best other policy, where the reference has the row; every trace's mean.
fn beside_the_best(reports: &[Report], shared: &[Shared<'_>]) -> Table {
    let mut table =
        Table::named(&["closure of", "capacity", "dogpile", "closure", "best other", "its", "difference"]);
    for report in reports {
        for row in report.curve() {
            let hits = row.hits();
            let mut cells = vec![
                report.title.clone(),
                row.capacity.to_string(),
                percent(report.percent(hits.policy)),
                fraction(hits.closure(report.requests)),
            ];
            let both = shared.iter().find(|shared| std::ptr::eq(shared.row, row));
            match both.and_then(|row| Some((row.best?.0, row.best_closure(), row.behind_best()?))) {
                Some((best, closure, difference)) => {
                    cells.extend([best.to_owned(), fraction(closure), points(difference)]);
                }
                None => cells.extend(["-", "-", "-"].map(String::from)),
            }
            table.row(cells);
        }
        let ours = fraction(mean(report.closures()));
        let of_it = shared.iter().filter(|shared| std::ptr::eq(shared.report, report));
        let theirs = fraction(mean(of_it.filter_map(Shared::best_closure)));
        let title = report.title.clone();
        table.row([title, "mean".into(), String::new(), ours, String::new(), theirs, String::new()]);
    }
    table
}

/// A row of ours that the reference has too.
#[derive(Debug)]
struct Shared<'a> {
    report: &'a Report,
    row: &'a Row,
    theirs: &'a BTreeMap<String, u64>,
    /// The rival with the most hits.
    best: Option<(&'a str, u64)>,
}

impl Shared<'_> {
    fn place(&self) -> String {
        format!("{}/{}", self.report.title, self.row.capacity)
    }

    fn best_closure(&self) -> Option<f64> {
        self.closure(self.best?.0)
    }

    /// Ours minus the best other, in points of hit ratio.
    fn behind_best(&self) -> Option<f64> {
        self.difference(self.best?.0)
    }

    fn percent(&self, policy: &str) -> Option<f64> {
        Some(self.report.percent(*self.theirs.get(policy)? as f64))
    }

    /// Ours minus theirs, in points of hit ratio.
    fn difference(&self, policy: &str) -> Option<f64> {
        Some(self.report.percent(self.row.hits().policy) - self.percent(policy)?)
    }

    fn closure(&self, policy: &str) -> Option<f64> {
        let theirs = *self.theirs.get(policy)? as f64;
        Hits { policy: theirs, ..self.row.hits() }.closure(self.report.requests)
    }

    fn has_our_bounds(&self) -> bool {
        BOUNDS.map(|bound| self.theirs.get(bound).copied()) == [Some(self.row.lru), Some(self.row.optimal)]
    }
}

fn points(points: f64) -> String {
    format!("{points:+.2}")
}
