//! Which capacities a trace is replayed at.

use std::str::FromStr;

/// Shares of the distinct keys, in thousandths.
const SHARES: [u64; 6] = [1, 10, 50, 100, 200, 400];

/// Fewer entries than this say more about rounding than about a policy.
const LEAST: u64 = 50;

/// How many of [`SHARES`] are taken.
const COUNT: usize = 5;

/// A capacity as the user gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Capacity {
    /// A number of entries.
    Entries(u64),
    /// A share of the distinct keys.
    Share(f64),
}

impl FromStr for Capacity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| format!("`{percent}` is no percentage"))?;
            if percent > 0.0 && percent <= 100.0 {
                return Ok(Self::Share(percent / 100.0));
            }
            return Err(String::from("a percentage lies above 0 and not above 100"));
        }
        match text.replace('_', "").parse() {
            Ok(entries) => Ok(Self::Entries(entries)),
            Err(_) => Err(String::from("give a number of entries, or a percentage such as `5%`")),
        }
    }
}

impl Capacity {
    /// The number of entries; a share is rounded, and at least one entry.
    fn entries(self, distinct: u64) -> u64 {
        match self {
            Self::Entries(entries) => entries,
            Self::Share(share) => ((share * distinct as f64).round() as u64).max(1),
        }
    }
}

/// `chosen` as numbers of entries, in ascending order.
pub(crate) fn chosen(chosen: &[Capacity], distinct: usize) -> Vec<u64> {
    ordered(chosen.iter().map(|capacity| capacity.entries(distinct as u64)))
}

/// 0.1, 1, 5, 10, 20 and 40 % of the distinct keys, rounded: the first five with at least 50 entries, or all if none
/// has as many.
pub(crate) fn usual(distinct: usize) -> Vec<u64> {
    let shares = SHARES.iter().map(|thousandths| (distinct as u64 * thousandths + 500) / 1000);
    let usual: Vec<u64> = shares.clone().filter(|&entries| entries >= LEAST).take(COUNT).collect();
    if usual.is_empty() { ordered(shares.map(|entries| entries.max(1))) } else { usual }
}

/// `points` capacities from a thousandth of the distinct keys to all of them, each the same multiple of the last.
pub(crate) fn spread(points: u16, distinct: usize) -> Vec<u64> {
    let (least, most) = ((distinct as f64 / 1000.0).max(1.0), distinct as f64);
    let steps = f64::from(points.max(2) - 1);
    ordered((0..points).map(|step| (most * (least / most).powf(f64::from(step) / steps)).round() as u64))
}

fn ordered(capacities: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut capacities: Vec<u64> = capacities.collect();
    capacities.sort_unstable();
    capacities.dedup();
    capacities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ones_are_those_of_the_reference_table() {
        // Traces of the reference table: web07, oltp, cpp, adaptsize (a half is rounded up), loop.
        assert_eq!(usual(20_484), [205, 1024, 2048, 4097, 8194]);
        assert_eq!(usual(186_880), [187, 1869, 9344, 18_688, 37_376]);
        assert_eq!(usual(1223), [61, 122, 245, 489]);
        assert_eq!(usual(36_815), [368, 1841, 3682, 7363, 14_726]);
        assert_eq!(usual(1011), [51, 101, 202, 404]);
    }

    #[test]
    fn tiny_traces_have_capacities_too() {
        assert_eq!(usual(10), [1, 2, 4]);
        assert_eq!(usual(1), [1]);
    }

    #[test]
    fn shares_and_numbers_are_told_apart() {
        assert_eq!("5%".parse(), Ok(Capacity::Share(0.05)));
        assert_eq!("1_000".parse(), Ok(Capacity::Entries(1000)));
        for wrong in ["", "%", "0%", "101%", "-1", "x", "nan%", "inf%"] {
            assert!(wrong.parse::<Capacity>().is_err(), "{wrong}");
        }
        assert_eq!(chosen(&[Capacity::Share(0.5), Capacity::Entries(3), Capacity::Share(0.001)], 6), [1, 3]);
    }

    #[test]
    fn spread_ones_are_even_on_a_logarithmic_scale() {
        assert_eq!(spread(4, 10_000), [10, 100, 1000, 10_000]);
        assert_eq!(spread(1, 500), [500]);
    }
}
