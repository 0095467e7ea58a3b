//! Growing from nothing: what the slowest insertions cost.
//!
//! CPU time of the thread, read before and after each insertion: preemption does not count, the price of the two system
//! calls does and is what the line "no map" shows. Minimum over the repetitions of each figure.

#![forbid(unsafe_code)]

use super::{Effort, grouped};
use crate::clock;
use crate::keys::{Key, Random};
use crate::report::{self, COPY, Line, Row};
use crate::stats::Histogram;
use crate::subjects::{DashMap, Dogpile, Hashbrown, Pace, Papaya, SccIndex, Setup, Subject};

/// p99 of identical subjects; the maximum is too rare an event to compare.
const BOUND: f64 = 0.20;

/// What one growth showed, in nanoseconds.
#[derive(Clone, Copy)]
struct Growth {
    mean: f64,
    p50: u64,
    p99: u64,
    p999: u64,
    maximum: u64,
}

impl Growth {
    fn least(self, other: Growth) -> Growth {
        Growth {
            mean: self.mean.min(other.mean),
            p50: self.p50.min(other.p50),
            p99: self.p99.min(other.p99),
            p999: self.p999.min(other.p999),
            maximum: self.maximum.min(other.maximum),
        }
    }
}

struct Grower {
    name: String,
    package: &'static str,
    settings: String,
    grow: fn(&[u64]) -> Growth,
}

/// Ours alone, to 10 M: a peer takes as long as all other rows together.
pub(crate) fn grow_far(effort: Effort) -> Row {
    let growers = [
        Grower {
            name: String::from("no map"),
            package: "",
            settings: String::from("the timer alone"),
            grow: timer,
        },
        grower::<Dogpile<u64>>(""),
        grower::<Dogpile<u64>>(COPY),
    ];
    row(&growers, FAR, effort.rounds(2))
}

const FAR: u64 = 10_000_000;

pub(crate) fn grow(effort: Effort) -> Row {
    let entries = if effort.ten_million { FAR } else { 1_000_000 };
    let growers = [
        Grower {
            name: String::from("no map"),
            package: "",
            settings: String::from("the timer alone"),
            grow: timer,
        },
        grower::<Hashbrown<u64>>(""),
        grower::<Dogpile<u64>>(""),
        grower::<Dogpile<u64>>(COPY),
        grower::<SccIndex<u64>>(""),
        grower::<Papaya<u64>>(""),
        grower::<DashMap<u64>>(""),
    ];
    row(&growers, entries, effort.rounds(5))
}

fn row(growers: &[Grower], entries: u64, repetitions: usize) -> Row {
    let keys: Vec<u64> = (0..entries).map(u64::of).collect();
    let mut best: Vec<Option<Growth>> = vec![None; growers.len()];
    let mut order: Vec<usize> = (0..growers.len()).collect();
    let mut random = Random::new(43);
    for _ in 0..repetitions {
        random.shuffle(&mut order);
        for &place in &order {
            let growth = (growers[place].grow)(&keys);
            best[place] = Some(best[place].map_or(growth, |before| before.least(growth)));
        }
    }
    let best: Vec<Growth> = best.into_iter().map(|growth| growth.expect("each has grown")).collect();
    let names: Vec<&str> = growers.iter().map(|grower| grower.name.as_str()).collect();
    let p99: Vec<f64> = best.iter().map(|growth| growth.p99 as f64).collect();
    let noise = report::noise(&names, &p99, "p99", BOUND);
    let lines = growers
        .iter()
        .zip(&best)
        .map(|(grower, growth)| Line {
            subject: grower.name.clone(),
            package: grower.package,
            settings: grower.settings.clone(),
            cells: vec![
                format!("{:.0}", growth.mean),
                growth.p50.to_string(),
                growth.p99.to_string(),
                growth.p999.to_string(),
                grouped(growth.maximum),
            ],
            samples: Vec::new(),
        })
        .collect();
    Row {
        title: format!("growth to {} entries, u64 keys", grouped(entries)),
        about: format!(
            "1 thread, unbounded, from empty; CPU time of single insertions in ns, timer included, but for the mean; least of \
             {repetitions} repetitions"
        ),
        columns: &["mean", "p50", "p99", "p99.9", "max"],
        headline: 2,
        lines,
        noise,
    }
}

fn grower<S: Subject<u64>>(suffix: &str) -> Grower {
    Grower {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(&Setup::growing()),
        grow: |keys| {
            let mut subject = S::build(&Setup::growing());
            let start = clock::thread_cpu();
            keys.iter().for_each(|&key| subject.put(key, !key));
            let elapsed = clock::thread_cpu() - start;
            let mut histogram =
                each(&mut S::build(&Setup::growing()), keys, |subject, key| subject.put(key, !key));
            let tally = subject.read(keys, Pace::Free);
            assert_eq!(tally.hits, keys.len() as u64, "{} lost entries while growing", S::NAME);
            growth(elapsed.as_nanos() as f64 / keys.len() as f64, &mut histogram)
        },
    }
}

fn timer(keys: &[u64]) -> Growth {
    growth(0.0, &mut each(&mut 0_u64, keys, |sum, key| *sum ^= key))
}

fn growth(mean: f64, histogram: &mut Histogram) -> Growth {
    Growth {
        mean,
        p50: histogram.quantile(0.5),
        p99: histogram.quantile(0.99),
        p999: histogram.quantile(0.999),
        maximum: histogram.maximum(),
    }
}

fn each<S>(subject: &mut S, keys: &[u64], put: impl Fn(&mut S, u64)) -> Histogram {
    let mut histogram = Histogram::new();
    let mut before = clock::thread_cpu();
    for &key in keys {
        put(subject, key);
        let after = clock::thread_cpu();
        histogram.record((after - before).as_nanos() as u64);
        before = after;
    }
    histogram
}
