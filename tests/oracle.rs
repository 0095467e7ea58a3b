//! What dogpile.cache and cachetory do, row by row of a table that they have made themselves, is what regions do; but where
//! we differ on purpose.
//!
//! Each row is done by threads and by tasks. `scripts/oracle.py` makes the table, `tests/golden/oracle.jsonl`, and tells whether it is still true.
#![cfg(feature = "region")]

mod common;
#[path = "oracle/covered.rs"]
mod covered;
#[path = "oracle/intended.rs"]
mod intended;
#[path = "oracle/ours.rs"]
mod ours;
#[path = "oracle/page.rs"]
mod page;

use covered::COVERED;
use intended::INTENDED;
use ours::{Face, Outcome};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// One call, on a cache in one state, and what came of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    package: String,
    backend: String,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    states: BTreeMap<String, String>,
    method: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    #[serde(flatten)]
    outcome: Outcome,
}

fn rows() -> Vec<Row> {
    let table = include_str!("golden/oracle.jsonl");
    table.lines().map(|line| serde_json::from_str(line).expect("a row of the table")).collect()
}

/// Equal, but for what floats lose.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-3,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}

/// A row in which we differ.
struct Difference {
    row: Row,
    ours: Outcome,
    reasons: Vec<&'static str>,
}

fn short(map: &Map<String, Value>) -> String {
    let parts: Vec<String> = map.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    parts.join(", ")
}

impl Row {
    /// All but the backend.
    fn call(&self) -> String {
        let mut call = String::new();
        let states: Vec<String> = match self.states.get("k") {
            Some(state) if self.states.len() == 1 => vec![state.clone()],
            _ => self.states.iter().map(|(key, state)| format!("{key} {state}")).collect(),
        };
        write!(call, "{}: {}({})", states.join("; "), self.method, short(&self.arguments)).unwrap();
        let mut settings = self.settings.clone();
        if settings.get("expiration_time").and_then(Value::as_i64) == Some(60) {
            settings.remove("expiration_time");
        }
        if !settings.is_empty() {
            write!(call, " [{}]", short(&settings)).unwrap();
        }
        call
    }
}

impl Difference {
    /// Only what differs of the two.
    fn both(&self) -> (String, String) {
        let names: BTreeSet<&String> = self.row.outcome.keys().chain(self.ours.keys()).collect();
        let (mut theirs, mut ours) = (Map::new(), Map::new());
        for name in names {
            let pair = (self.row.outcome.get(name), self.ours.get(name));
            let is_equal = matches!(pair, (Some(a), Some(b)) if is_same(a, b));
            if !is_equal {
                theirs.insert(name.clone(), pair.0.cloned().unwrap_or(Value::Array(Vec::new())));
                ours.insert(name.clone(), pair.1.cloned().unwrap_or(Value::Array(Vec::new())));
            }
        }
        (short(&theirs), short(&ours))
    }

    fn told(&self, is_different: bool) -> String {
        let what = if is_different { "no reason is given for" } else { "a reason is given, but we agree" };
        let (theirs, ours) = self.both();
        let Row { package, backend, .. } = &self.row;
        let reasons = self.reasons.join(", ");
        format!(
            "{what} ({reasons}): {package}, {backend}, {}\n  theirs {theirs}\n  ours   {ours}",
            self.row.call()
        )
    }
}

/// Does all rows over again, and returns those in which we differ.
///
/// # Panics
/// If we differ without a reason, or a reason has come to nothing.
fn differ() -> (Vec<Row>, Vec<Difference>) {
    let (mut same, mut different, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows() {
        let ours = ours::run(&row, Face::Threads);
        let by_tasks = ours::run(&row, Face::Tasks);
        assert_eq!(ours, by_tasks, "threads and tasks: {}, {}", row.backend, row.call());
        let is_different = !is_same(&Value::Object(ours.clone()), &Value::Object(row.outcome.clone()));
        let reasons: Vec<&'static str> =
            INTENDED.iter().filter(|intended| (intended.covers)(&row)).map(|intended| intended.id).collect();
        let difference = Difference { row, ours, reasons };
        if is_different == difference.reasons.is_empty() {
            wrong.push(difference.told(is_different));
        }
        if is_different { different.push(difference) } else { same.push(difference.row) }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    (same, different)
}

#[test]
fn regions_do_what_the_packages_do() {
    let (same, different) = differ();
    let count = same.len() + different.len();
    println!(
        "{count} rows, of which {} differ, all on purpose, by {} reasons",
        different.len(),
        INTENDED.len()
    );
    assert!(count >= 300, "{count} rows are too few");
    for intended in INTENDED {
        assert!(
            different.iter().any(|row| row.reasons.contains(&intended.id)),
            "{}: shows in no row",
            intended.id
        );
    }
}

/// `DOGPILE_BLESS=1` writes the page anew.
#[test]
fn the_page_shows_the_table() {
    let (same, different) = differ();
    let page = page::page(&same, &different);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/oracle-table.md");
    if std::env::var_os("DOGPILE_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = page.lines().zip(shown.lines().chain(std::iter::repeat("")));
    let first = lines.clone().find(|(now, then)| now != then);
    assert!(page == shown, "docs/oracle-table.md is out of date, DOGPILE_BLESS=1 writes it anew: {first:?}");
}

#[test]
fn what_is_no_row_is_a_test() {
    for (_, what, tests) in COVERED {
        for (file, functions) in *tests {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for function in *functions {
                let is_there = text.contains(&format!("#[test]\nfn {function}() {{"));
                assert!(is_there, "{what}: no test {function} in {file}");
            }
        }
    }
}
