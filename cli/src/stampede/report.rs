//! What the runs found: a table of the origin's load, one of the callers' lot, and the load over time as CSV.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use super::{
    amount::short,
    load::{Load, WINDOW},
    mode::{Counts, Mode},
    tally::Tally,
};
use crate::{error::Error, table::Table};

/// One mode.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) mode: Mode,
    pub(crate) load: Load,
    pub(crate) tally: Tally,
    /// From the first request to the last answer.
    pub(crate) asked: Duration,
    pub(crate) counts: Counts,
}

/// All modes.
#[derive(Debug)]
pub(crate) struct Report {
    /// What the same for all was, in words.
    pub(crate) load: String,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Report {
    /// Prints both tables.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}\n", self.load)?;
        self.origin().print(out)?;
        self.callers().print(out)
    }

    fn origin(&self) -> Table {
        let window = format!("most begun in {} ms", WINDOW.as_millis());
        let mut table = Table::named(&["the origin", "calls", "most in flight", "of one key", &window]);
        for Outcome { mode, load, .. } in &self.outcomes {
            let numbers = [load.calls, load.most_in_flight, load.most_of_one_key, load.most_in_window];
            table.row([mode.title().to_owned()].into_iter().chain(numbers.map(|number| number.to_string())));
        }
        table
    }

    fn callers(&self) -> Table {
        let headings =
            ["the callers", "requests/s", "waits", "stale", "failures", "p50", "p99", "p99.9", "max"];
        let mut table = Table::named(&headings);
        for Outcome { mode, tally, asked, counts, .. } in &self.outcomes {
            table.row([
                mode.title().to_owned(),
                format!("{:.0}", tally.requests() as f64 / asked.as_secs_f64().max(1e-9)),
                counts.waits.to_string(),
                counts.stale_served.to_string(),
                tally.failures().to_string(),
                short(tally.percentile(50.0)),
                short(tally.percentile(99.0)),
                short(tally.percentile(99.9)),
                short(tally.longest()),
            ]);
        }
        table
    }

    /// Writes the load over time into the file `path`: one row for each mode and stretch of time.
    pub(crate) fn write_csv(&self, path: &Path) -> Result<(), Error> {
        fs::write(path, self.csv()).map_err(|error| Error::write(path, error))
    }

    fn csv(&self) -> String {
        let mut csv = String::from("mode,milliseconds,calls_begun,most_in_flight\n");
        for Outcome { mode, load, .. } in &self.outcomes {
            for (index, bin) in load.curve.iter().enumerate() {
                let millis = index as u128 * load.bin_width.as_millis();
                writeln!(csv, "{},{millis},{},{}", mode.title(), bin.begun, bin.in_flight)
                    .expect("a string takes everything");
            }
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stampede::{load::Call, origin::Failure};

    /// Two calls of 20 ms each, and 4 requests in 2 s, of which one failed.
    fn report() -> Report {
        let millis = Duration::from_millis;
        let calls = [
            Call { key: 1, from: millis(0), until: millis(20) },
            Call { key: 1, from: millis(5), until: millis(25) },
        ];
        let mut tally = Tally::new();
        for nanos in [100, 100, 100] {
            tally.note(Duration::from_nanos(nanos), &Ok(()));
        }
        tally.note(millis(20), &Err::<(), _>(Failure));
        let load = Load::of(&calls, millis(40), millis(10));
        let counts = Counts { waits: 7, stale_served: 8 };
        let outcome = Outcome { mode: Mode::NoGate, load, tally, asked: millis(2000), counts };
        Report { load: String::from("a load"), outcomes: vec![outcome] }
    }

    #[test]
    fn all_numbers_have_their_columns() {
        let mut out = Vec::new();
        report().print(&mut out).expect("a vector takes everything");
        let expected = "\
a load

the origin  calls  most in flight  of one key  most begun in 10 ms
no gate         2               2           2                    2

the callers  requests/s  waits  stale  failures     p50      p99    p99.9      max
no gate               2      7      8         1  100 ns  20.0 ms  20.0 ms  20.0 ms

";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn the_load_over_time_has_a_row_for_each_stretch() {
        let expected = "\
mode,milliseconds,calls_begun,most_in_flight
no gate,0,2,2
no gate,10,0,2
no gate,20,0,2
no gate,30,0,0
";
        assert_eq!(report().csv(), expected);
    }
}
