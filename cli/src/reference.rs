//! Hits of other policies on the same traces, from a CSV file, beside ours.
//!
//! The columns `trace`, `size`, `policy` and `hits` are read, others are left alone. The policies `lru` and `opt` are
//! compared with our own algorithms; a difference means that the file speaks of another trace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, Write},
    path::Path,
};

use crate::{
    closure::{Hits, mean},
    error::Error,
    report::{Report, Row, fraction, percent},
    table::Table,
    trace::{Csv, Input, name_of},
};

/// The two policies that closures are measured against.
const BOUNDS: [&str; 2] = ["lru", "opt"];

/// The file's hits, by trace and capacity and then by policy.
#[derive(Debug)]
pub(crate) struct Reference {
    hits: HashMap<(String, u64), BTreeMap<String, u64>>,
    /// The policies to compare with.
    policies: Vec<String>,
    /// Whether each row is to be listed.
    rows: bool,
}

impl Reference {
    /// Reads `path`. Each of `policies` must occur in it; none stands for all, and then only the sums are printed.
    pub(crate) fn read(path: &Path, policies: &[String]) -> Result<Self, Error> {
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
        Ok(Self { hits: all, policies, rows })
    }

    /// Prints the comparison with all rows that the file has.
    pub(crate) fn print(&self, reports: &[Report], out: &mut impl Write) -> io::Result<()> {
        let mut shared = Vec::new();
        for report in reports {
            for row in report.curve() {
                if let Some(theirs) = self.hits.get(&(report.title.clone(), row.capacity)) {
                    shared.push(Shared { report, row, theirs });
                }
            }
        }
        if shared.is_empty() {
            return writeln!(out, "the reference has none of these traces at these capacities");
        }
        if self.rows {
            self.list(&shared).print(out)?;
        }
        self.sum_up(&shared).print(out)?;
        let equal = shared.iter().filter(|row| row.has_our_bounds()).count();
        writeln!(out, "lru and optimal: equal to the reference's on {equal} of {} rows", shared.len())
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
                format!("{}/{}", place.report.title, place.row.capacity),
                fraction(mean(theirs)),
                fraction(mean(ours)),
            ]);
        }
        table
    }
}

/// A row of ours that the reference has too.
#[derive(Debug)]
struct Shared<'a> {
    report: &'a Report,
    row: &'a Row,
    theirs: &'a BTreeMap<String, u64>,
}

impl Shared<'_> {
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
