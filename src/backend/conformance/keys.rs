//! Checks of keys that nobody would choose, and of calls that nobody waits for.
#![forbid(unsafe_code)]

use super::super::{Put, Stored};
use super::{Bench, Not, checks, ensure};
use crate::error::ErrorKind;

checks![hostile_keys, a_call_that_is_given_up_harms_none];

/// Keys that stores have fallen over.
fn keys_that_nobody_would_choose() -> Vec<String> {
    let long = "k".repeat(10_000);
    let mut keys: Vec<String> = [
        "",
        " ",
        "  ",
        "a b",
        " a",
        "a ",
        "\t",
        "\n",
        "\r\n",
        "a\r\nset b 0 0 1\r\nc",
        "\0",
        "a",
        "a\0",
        "a\0b",
        "\0a",
        "\u{7f}",
        "\u{1b}[31m",
        "ключ",
        "🦀",
        "é",
        "e\u{301}",
        "\u{feff}a",
        "\u{202e}a",
        "*",
        "a*",
        "?",
        "[a]",
        "{a}",
        "%",
        "%00",
        "%s",
        "a/b",
        "../../a",
        "C:\\a",
        "'",
        "\"",
        "\\",
        "a|b",
        "--",
        "null",
        "NaN",
    ]
    .map(String::from)
    .into();
    keys.extend([format!("{long}1"), format!("{long}2"), "é".repeat(125), "é".repeat(126)]);
    keys
}

fn hostile_keys(bench: &Bench) -> Result<(), Not> {
    bench.kept()?;
    let shown = |key: &str| {
        let start: String = key.chars().take(20).collect();
        format!("the key {start:?} of {} bytes", key.len())
    };
    let mut there = Vec::new();
    for (i, key) in keys_that_nobody_would_choose().into_iter().enumerate() {
        let (stored, value) = (bench.mangled(&key), bench.value(i as u64));
        match bench.subject.set(Put::new(&stored, &value)) {
            Ok(()) => there.push((key, stored, value)),
            Err(error) if error.kind() == ErrorKind::Key => {}
            Err(error) => {
                return Err(Not::Passed(format!(
                    "{}: neither stored nor refused as a key: {error}",
                    shown(&key)
                )));
            }
        }
    }
    for (key, stored, value) in &there {
        bench.has(stored, value, &shown(key))?;
    }
    let all: Vec<&str> = there.iter().map(|(_, stored, _)| stored.as_str()).collect();
    let found = bench.subject.get_multi(&all)?;
    ensure!(found.len() == all.len(), "get_multi: {} keys, {} values", all.len(), found.len());
    for ((key, _, value), found) in there.iter().zip(&found) {
        ensure!(found.as_ref().is_some_and(|found| found.is_same(value)), "get_multi: {}", shown(key));
    }
    for (i, (key, stored, _)) in there.iter().enumerate() {
        bench.subject.delete(stored)?;
        bench.has_none(stored, &format!("{}, deleted", shown(key)))?;
        if let Some((next, stored, value)) = there.get(i + 1) {
            bench.has(stored, value, &format!("{}, after others were deleted", shown(next)))?;
        }
    }
    Ok(())
}

fn a_call_that_is_given_up_harms_none(bench: &Bench) -> Result<(), Not> {
    let keys = bench.keys(&["a", "b", "c"]);
    for round in 0..20 {
        let values: Vec<Stored> = (0..3).map(|i| bench.value(10 * round + i)).collect();
        bench.set(&keys[0], &values[0], None)?;
        bench.set(&keys[1], &values[1], None)?;
        if !bench.subject.give_up(&keys[0], Put::new(&keys[2], &values[2])) {
            return Err(Not::Applicable("calls that block can't be given up"));
        }
        bench.kept()?;
        bench.has(&keys[1], &values[1], "after reads and writes of other keys were given up")?;
        bench.has(&keys[0], &values[0], "after a read of it was given up")?;
    }
    Ok(())
}
