//! The page of the guide that shows the table.

use super::covered::COVERED;
use super::intended::{CALLS, INTENDED};
use super::{Difference, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The version that the scripts install.
fn version(package: &str) -> &'static str {
    let script = include_str!("../../scripts/python.sh");
    let after = script.split_once(&format!("'{package}==")).expect("the package is pinned").1;
    after.split_once('\'').expect("quoted").0
}

/// Ids in the order of the list.
fn ids<'d>(rows: impl Iterator<Item = &'d Difference>) -> String {
    let used: BTreeSet<&str> = rows.flat_map(|row| row.reasons.iter().copied()).collect();
    let named = INTENDED.iter().map(|intended| intended.id).filter(|id| used.contains(id));
    named.collect::<Vec<_>>().join(", ")
}

pub(crate) fn page(same: &[Row], different: &[Difference]) -> String {
    let mut page = format!(
        "The Python packages as oracles.\n\n\
         A script calls dogpile.cache {} and cachetory {}, method by method, on values in every state, and records what comes \
         of it: {} rows. A test does the same with regions, by threads and by tasks. They differ in {} rows, each for one of the reasons below; were \
         there another, the test would fail. It also keeps this page.\n\n",
        version("dogpile.cache"),
        version("cachetory"),
        same.len() + different.len(),
        different.len(),
    );
    calls(&mut page, same, different);
    page.push_str("# What differs on purpose\n\n| | rows | here, and there |\n|---|--:|---|\n");
    for intended in INTENDED {
        let rows = different.iter().filter(|row| row.reasons.contains(&intended.id)).count();
        writeln!(page, "| {} | {rows} | {} |", intended.id, intended.reason).unwrap();
    }
    page.push_str("\n# What is no row\n\nBehaviour of more than one call has tests of its own.\n\n| | | tests |\n|---|---|---|\n");
    for (package, what, tests) in COVERED {
        let named = tests.iter().flat_map(|(file, functions)| functions.iter().map(move |name| (file, name)));
        let named: Vec<String> = named.map(|(file, name)| format!("`{name}` in {file}")).collect();
        writeln!(page, "| {package} | {what} | {} |", named.join(", ")).unwrap();
    }
    page.push_str(
        "\n# Row by row\n\nThe state of the key, then the call; what the package came to, then what we do: only what differs \
         of the result, of what another call meanwhile has `seen`, of what the next call `then` gets, of the creators' \
         `calls`, and of what is `stored` (values, with their ages). `locked`: what another makes meanwhile, and `other` what becomes \
         of that.\n",
    );
    for intended in INTENDED {
        write!(page, "\n## {}\n\n```text\n", intended.id).unwrap();
        // Rows that differ in the backend only are one.
        let mut rows: BTreeMap<(usize, String, String, String), BTreeSet<&str>> = BTreeMap::new();
        let mut first = BTreeMap::new();
        for (at, difference) in different.iter().enumerate() {
            if difference.reasons.first() == Some(&intended.id) {
                let (theirs, ours) = difference.both();
                let call = difference.row.call();
                let at = *first.entry((call.clone(), theirs.clone(), ours.clone())).or_insert(at);
                rows.entry((at, call, theirs, ours)).or_default().insert(&difference.row.backend);
            }
        }
        for ((_, call, theirs, ours), backends) in rows {
            let backends = backends.into_iter().collect::<Vec<_>>().join(", ");
            writeln!(page, "{call}  ({backends})\n    theirs  {theirs}\n    ours    {ours}").unwrap();
        }
        page.push_str("```\n");
    }
    page
}

fn calls(page: &mut String, same: &[Row], different: &[Difference]) {
    let all = || same.iter().chain(different.iter().map(|difference| &difference.row));
    for package in ["dogpile.cache", "cachetory"] {
        writeln!(page, "| {package} | here | rows | differ | why |\n|---|---|--:|--:|---|").unwrap();
        for (of, method, here) in CALLS.iter().filter(|(of, ..)| *of == package) {
            let is_this = |row: &&Row| row.package == *of && row.method == *method;
            let rows = all().filter(is_this).count();
            let why: Vec<&Difference> = different.iter().filter(|row| is_this(&&row.row)).collect();
            let reasons = ids(why.iter().copied());
            writeln!(page, "| `{method}` | {here} | {rows} | {} | {reasons} |", why.len()).unwrap();
        }
        page.push('\n');
    }
    for row in all() {
        let is_listed = CALLS.iter().any(|(of, method, _)| row.package == *of && row.method == *method);
        assert!(is_listed, "{}, {}: not in the list of calls", row.package, row.method);
    }
}
