//! `expected-instructions.toml`: the limits that continuous integration holds our own loops to.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/expected-instructions.toml");

/// Limits per operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) instructions: f64,
    /// Fences and system calls among them.
    pub(super) locked: f64,
    /// Those in the library's own code.
    pub(super) own_locked: f64,
}

const UNLIMITED: Limit =
    Limit { instructions: f64::INFINITY, locked: f64::INFINITY, own_locked: f64::INFINITY };

/// Reads the file: sections of `name = number` lines and comments, nothing else of TOML.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Limit>, String> {
    let mut limits = BTreeMap::new();
    let mut section = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        let broken = || {
            format!(
                "line {}: expected `[operation]`, `instructions = …`, `locked = …` or `own_locked = …`",
                number + 1
            )
        };
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            limits.insert(String::from(name), UNLIMITED);
            section = Some(String::from(name));
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(broken)?;
        let value: f64 = value.trim().parse().map_err(|_| broken())?;
        let limit = section.as_ref().and_then(|section| limits.get_mut(section)).ok_or_else(broken)?;
        match key.trim() {
            "instructions" => limit.instructions = value,
            "locked" => limit.locked = value,
            "own_locked" => limit.own_locked = value,
            _ => return Err(broken()),
        }
    }
    Ok(limits)
}

pub(super) fn format(limits: &[(String, Limit)]) -> String {
    let mut text = String::from(
        "# Most instructions, locked instructions (fences and system calls among them) and such in the library's own code, per\n\
         # operation on u64 keys and values. `cargo run --release -p dogpile-benches -- instructions --check` fails beyond them,\n\
         # `--write` makes this file anew from what it counts, and 3 %.\n",
    );
    for (operation, Limit { instructions, locked, own_locked }) in limits {
        let numbers =
            format!("instructions = {instructions:.1}\nlocked = {locked:.2}\nown_locked = {own_locked:.2}");
        write!(text, "\n[{operation}]\n{numbers}\n").expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let limit = Limit { instructions: 101.5, locked: 1.25, own_locked: 0.0 };
        let text = format(&[(String::from("get_hit"), limit)]);
        assert_eq!(parse(&text).unwrap()["get_hit"], limit);
        assert!(parse("instructions = 1").is_err(), "no section");
        assert!(parse("[get_hit]\ntime = 1").is_err());
    }
}
