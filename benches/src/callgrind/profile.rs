//! Reads the files callgrind writes with `--dump-instr=yes --compress-pos=no --compress-strings=no`.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// Executions of one instruction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// File of the program or library.
    pub(super) object: String,
    pub(super) address: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    /// How often the instruction at each place ran, and in which function it lies.
    pub(super) executed: BTreeMap<Place, (u64, String)>,
    /// How often each function was called.
    pub(super) calls: BTreeMap<String, u64>,
    /// Reads and writes of data that missed the first-level cache; none where no cache was simulated.
    pub(super) first_level_misses: u64,
}

/// The events whose sum is [`Profile::first_level_misses`].
const MISSES: [&str; 2] = ["D1mr", "D1mw"];

impl Profile {
    pub(super) fn instructions(&self) -> u64 {
        self.executed.values().map(|(count, _)| count).sum()
    }

    pub(super) fn parse(text: &str) -> Result<Profile, String> {
        let mut profile = Profile::default();
        let (mut object, mut function, mut callee) = (String::new(), String::new(), String::new());
        let mut is_call = false;
        let mut misses = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let broken = || format!("line {} of the profile is not understood: {line}", number + 1);
            if let Some(address) = line.strip_prefix("0x") {
                let mut fields = address.split(' ');
                let address = fields.next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
                // Address, line, instructions and other events; zeros at the end are left out.
                let events: Result<Vec<u64>, _> = fields.skip(1).map(str::parse::<u64>).collect();
                let (Some(address), Ok(events)) = (address, events) else { return Err(broken()) };
                let count = events.first().copied().unwrap_or(0);
                // The line after `calls=` holds the cost of the callee, which its own lines hold too.
                if !std::mem::take(&mut is_call) {
                    profile.first_level_misses +=
                        misses.iter().filter_map(|&place: &usize| events.get(place)).sum::<u64>();
                    let place = Place { object: object.clone(), address };
                    profile.executed.entry(place).or_insert_with(|| (0, function.clone())).0 += count;
                }
                continue;
            }
            if let Some(names) = line.strip_prefix("events: ") {
                let places = names.split(' ').enumerate().filter(|(_, name)| MISSES.contains(name));
                misses = places.map(|(place, _)| place).collect();
            }
            match line.split_once('=') {
                Some(("ob", name)) => object = String::from(name),
                Some(("fn", name)) => function = String::from(name),
                Some(("cfn", name)) => callee = String::from(name),
                Some(("calls", counts)) => {
                    let count = counts.split(' ').next().and_then(|count| count.parse::<u64>().ok());
                    *profile.calls.entry(callee.clone()).or_default() += count.ok_or_else(broken)?;
                    is_call = true;
                }
                _ => {}
            }
        }
        if profile.executed.is_empty() {
            return Err(String::from("the profile holds no instructions: was the measured section inlined?"));
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_costs_are_told_from_those_of_callees() {
        let text = "\
positions: instr line
events: Ir
ob=/bin/a
fn=outer
0x10 3 5
0x14 3 5
cob=/lib/b
cfn=inner
calls=5 0x99 7
0x14 3 500
0x10 4 1

ob=/lib/b
fn=inner
0x99 7 500
totals: 511
";
        let profile = Profile::parse(text).unwrap();
        assert_eq!(profile.instructions(), 511);
        assert_eq!(profile.calls["inner"], 5);
        let place = Place { object: String::from("/bin/a"), address: 0x10 };
        assert_eq!(profile.executed[&place], (6, String::from("outer")));
        assert!(Profile::parse("events: Ir\n").is_err());
    }

    #[test]
    fn misses_are_added_where_they_were_simulated() {
        let text = "\
events: Ir Dr Dw I1mr D1mr D1mw ILmr
fn=outer
0x10 3 5 2 1 0 2 1
0x14 3 5
calls=5 0x99 7
0x14 3 500 9 9 9 9 9 9
";
        let profile = Profile::parse(text).unwrap();
        assert_eq!((profile.instructions(), profile.first_level_misses), (10, 3));
    }
}
