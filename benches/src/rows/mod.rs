//! The rows of the table, one file per kind of question.

#![forbid(unsafe_code)]

mod creating;
mod expiry;
mod growth;
mod hot_key;
pub(crate) mod memory;
mod reads;
pub(crate) mod tails;
mod writes;
mod zipf;

use crate::report::Row;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
    /// Grow to 10 M entries, not 1 M.
    pub(crate) ten_million: bool,
}

impl Effort {
    /// `full` rounds, or a third of them.
    pub(crate) fn rounds(self, full: usize) -> usize {
        if self.quick { full.div_ceil(3) } else { full }
    }
}

/// A row that can be measured.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) measure: fn(Effort) -> Row,
    /// A quick run leaves it out unless it is asked for by name.
    pub(crate) is_slow: bool,
}

const fn plan(name: &'static str, measure: fn(Effort) -> Row) -> Plan {
    Plan { name, measure, is_slow: false }
}

const fn slow(name: &'static str, measure: fn(Effort) -> Row) -> Plan {
    Plan { name, measure, is_slow: true }
}

/// All rows, in the order of the table.
pub(crate) const PLANS: &[Plan] = &[
    plan("get-hit-1k-u64", reads::hit::<u64, { reads::SMALL }>),
    plan("get-hit-1k-string", reads::hit::<String, { reads::SMALL }>),
    plan("get-hit-1m-u64", reads::hit::<u64, { reads::LARGE }>),
    slow("get-hit-1m-string", reads::hit::<String, { reads::LARGE }>),
    plan("get-hit-drawn-1k-u64", reads::hit_drawn),
    plan("get-hit-chained-1k-u64", reads::hit_chained::<u64, { reads::SMALL }>),
    slow("get-hit-chained-1m-u64", reads::hit_chained::<u64, { reads::LARGE }>),
    plan("miss-1k-u64", reads::miss::<u64, { reads::SMALL }>),
    plan("miss-1m-u64", reads::miss::<u64, { reads::LARGE }>),
    plan("miss-1k-string", reads::miss::<String, { reads::SMALL }>),
    plan("replace-u64", writes::replace::<u64>),
    slow("replace-string", writes::replace::<String>),
    plan("churn-u64", writes::churn::<u64>),
    slow("churn-string", writes::churn::<String>),
    plan("create-hit-1k-u64", creating::hit),
    plan("create-new-u64", creating::new),
    plan("zipf-0.99-1-thread", |effort| zipf::mix(effort, 0.99, 1)),
    plan("zipf-0.99-2-threads", |effort| zipf::mix(effort, 0.99, 2)),
    plan("zipf-0.99-8-threads", |effort| zipf::mix(effort, 0.99, 8)),
    plan("zipf-0.7-1-thread", |effort| zipf::mix(effort, 0.7, 1)),
    slow("zipf-0.99-work-1-thread", |effort| zipf::mix_with_work(effort, 0.99, 1)),
    slow("zipf-0.99-work-2-threads", |effort| zipf::mix_with_work(effort, 0.99, 2)),
    slow("zipf-0.99-work-8-threads", |effort| zipf::mix_with_work(effort, 0.99, 8)),
    plan("hot-key-2-threads", hot_key::read),
    slow("hot-key-factors", hot_key::factors),
    plan("expiry-get", expiry::get),
    plan("expiry-replace", expiry::replace),
    plan("growth", growth::grow),
    slow("growth-to-10m", growth::grow_far),
    plan("reader-beside-writers", tails::reader_beside_writers),
    plan("memory-100k", |effort| memory::per_entry(effort, 100_000)),
    slow("memory-1m", |effort| memory::per_entry(effort, 1_000_000)),
];

/// `800`, `16,384`: digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(123_456_789), "123,456,789");
    }
}
