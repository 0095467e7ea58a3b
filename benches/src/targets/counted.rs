//! The targets that callgrind answers.

#![forbid(unsafe_code)]

use super::TargetOptions;
use super::check::Check;
use crate::callgrind::{self, Kind};

const WHY: &str = "valgrind does not start here";

pub(super) fn instructions(_: &TargetOptions) -> Result<Vec<Check>, String> {
    if !callgrind::is_there() {
        return Ok(vec![Check::not_measured("instructions", WHY)]);
    }
    let names =
        ["get_hit", "get_handle", "get_miss", "get_miss_turned"].map(|name| format!("dogpile/{name}"));
    let counts = callgrind::count(&names)?;
    let of = |name: &str| {
        let name = format!("dogpile/{name}");
        counts.iter().find(|count| count.name == name).expect("all that were asked for are counted")
    };
    let hit = of("get_hit");
    Ok(vec![
        Check::exactly("get hit: locked instructions", hit.of_kind(Kind::Locked), 0.0),
        Check::exactly("get hit: fences", hit.of_kind(Kind::Fence), 0.0),
        Check::at_most("get hit: instructions", hit.instructions, 85.0),
        Check::exactly("Arc-cloning hit: locked instructions", of("get_handle").of_kind(Kind::Locked), 2.0),
        Check::at_most("miss: instructions", of("get_miss").instructions, 80.0),
        Check::at_most("miss after 30 turnovers: instructions", of("get_miss_turned").instructions, 80.0),
    ])
}

pub(super) fn lines(_: &TargetOptions) -> Result<Vec<Check>, String> {
    if !callgrind::is_there() {
        return Ok(vec![Check::not_measured("cache lines", WHY)]);
    }
    let names =
        ["dogpile/large_miss", "dogpile/large_miss_turned", "hashbrown/large_miss", "dogpile/large_hit"];
    let lines = callgrind::count_lines(&names.map(String::from))?;
    let of = |name: &str| lines.iter().find(|(found, _)| found == name).map_or(f64::NAN, |(_, lines)| *lines);
    // Misses of the simulated cache: one line, and what the loop itself displaces now and then.
    let note = format!("simulated; hashbrown {:.2}", of("hashbrown/large_miss"));
    Ok(vec![
        Check::at_most("miss: cache lines, 200 K entries", of("dogpile/large_miss"), ONE_LINE).with(note),
        Check::at_most("miss after turnovers: cache lines", of("dogpile/large_miss_turned"), ONE_LINE)
            .with("simulated"),
        Check::shown("hit: cache lines, 200 K entries", format!("{:.2}", of("dogpile/large_hit"))),
    ])
}

/// One, and the accidents of a simulated cache in which stack and table meet; random lines of an array come to 0.99, a miss
/// of hashbrown to 1.05.
const ONE_LINE: f64 = 1.1;
