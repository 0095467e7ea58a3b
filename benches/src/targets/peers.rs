//! The short table of peers that README shows.

#![forbid(unsafe_code)]

use crate::machine;
use crate::report::{Format, Row, grid};

/// Names in the rows, and packages for their versions.
const PEERS: [(&str, &str); 8] = [
    ("dogpile", "dogpile"),
    ("quick_cache", "quick_cache"),
    ("moka", "moka"),
    ("foyer", "foyer-memory"),
    ("TinyUFO", "TinyUFO"),
    ("scc HashCache", "scc"),
    ("papaya", "papaya"),
    ("hashbrown", "hashbrown"),
];

/// Row, what it is called here, columns of its cell, their unit.
const QUESTIONS: &[(&str, &str, &[&str], &str)] = &[
    ("get-hit-1k-u64", "get hit, 1 K", &["min ns"], "ns"),
    ("get-hit-1m-u64", "get hit, 1 M", &["min ns"], "ns"),
    ("get-hit-1k-string", "get hit, 1 K, 24-byte strings", &["min ns"], "ns"),
    ("replace-u64", "replace, 64 K", &["min ns"], "ns"),
    ("churn-u64", "new keys, full cache of 64 K", &["min ns"], "ns"),
    ("zipf-0.99-1-thread", "Zipf 0.99, 1 thread", &["M/s", "hit %"], "M/s / hits"),
    ("zipf-0.99-2-threads", "Zipf 0.99, 2 threads", &["M/s", "hit %"], "M/s / hits"),
    ("zipf-0.99-8-threads", "Zipf 0.99, 8 threads", &["M/s", "hit %"], "M/s / hits"),
    ("zipf-0.99-work-2-threads", "the same, 2 threads, 1 µs a miss", &["M/s", "hit %"], "M/s / hits"),
    ("reader-beside-writers", "read beside 7 writers, p99.9", &["p99.9"], "ns"),
    ("memory-1m", "memory per entry, 1 M", &["held"], "bytes"),
];

/// Nothing if no row of it was measured.
pub(super) fn table(rows: &[(&str, Row)], format: Format) -> String {
    let mut head = vec![String::from("question")];
    head.extend(PEERS.map(|(name, package)| match name {
        "dogpile" => String::from(name),
        _ => format!("{name} {}", machine::version_of(package)),
    }));
    head.push(String::from("unit"));
    let body: Vec<Vec<String>> = QUESTIONS
        .iter()
        .filter_map(|(name, title, columns, unit)| {
            let (_, row) = rows.iter().find(|(measured, _)| measured == name)?;
            let mut cells = vec![String::from(*title)];
            cells.extend(PEERS.map(|(subject, _)| cell(row, subject, columns)));
            cells.push(String::from(*unit));
            Some(cells)
        })
        .collect();
    if body.is_empty() { String::new() } else { grid(&head, &body, format) }
}

fn cell(row: &Row, subject: &str, columns: &[&str]) -> String {
    let shown = |column: &&str| match (row.figure(subject, column), *column) {
        (figure, "p99.9") => format!("{figure:.0}"),
        (figure, "hit %") => format!("{figure:.1} %"),
        (figure, _) => format!("{figure:.1}"),
    };
    match row.line(subject) {
        Some(_) => columns.iter().map(shown).collect::<Vec<_>>().join(" / "),
        None => String::from("-"),
    }
}
