//! Get, and insert on a miss, with keys of a Zipf distribution and room for a tenth of them.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use super::{Effort, grouped};
use crate::keys::{Key, zipf};
use crate::measure::{Entrant, interleave, timed, together};
use crate::report::{self, COPY, Row, Speaker};
use crate::subjects::{Cached, Dogpile, Foyer, Moka, QuickCache, SccCache, Setup, Shared, TinyUfo};

/// A power of two, so that those that round up get no more room than the others.
const CAPACITY: u64 = 8_192;
const POPULATION: u64 = 10 * CAPACITY;
const DRAWS: usize = 1 << 20;
/// Operations between two looks at the clock.
const STEP: usize = 1 << 10;

/// How long a chunk runs. More threads than cores need time to take turns.
fn window(threads: usize) -> Duration {
    Duration::from_millis(if threads == 1 { 4 } else { 20 })
}

fn speaker(threads: usize) -> Speaker {
    if threads == 1 { Speaker::Fastest } else { Speaker::Median }
}

/// Identical subjects come out within 7 % in one thread. With more threads than one, who shares which core when decides.
fn bound(threads: usize) -> f64 {
    if threads == 1 { 0.12 } else { 0.20 }
}

/// Lookups so far and how many of them hit.
type Score = Rc<Cell<(u64, u64)>>;

pub(crate) fn mix(effort: Effort, exponent: f64, threads: usize) -> Row {
    row(effort, exponent, threads, Making { steps: 0 })
}

/// The same, and each miss keeps its thread busy for a microsecond, as if it made the value.
pub(crate) fn mix_with_work(effort: Effort, exponent: f64, threads: usize) -> Row {
    row(effort, exponent, threads, Making::microsecond())
}

/// What a value takes to be made: so many multiplications, each waiting for the last. Steps and not a span of time: a thread
/// that does not run makes nothing.
#[derive(Clone, Copy)]
struct Making {
    steps: u32,
}

impl Making {
    fn microsecond() -> Making {
        const STEPS: u32 = 100_000;
        let nanos = (0..20).map(|_| timed(STEPS as usize, || Making { steps: STEPS }.run(7)).0);
        let least = nanos.fold(f64::INFINITY, f64::min);
        Making { steps: (1e3 / least) as u32 }
    }

    #[inline]
    fn run(self, key: u64) -> u64 {
        (0..self.steps).fold(key, |value, _| black_box(value.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

fn row(effort: Effort, exponent: f64, threads: usize, making: Making) -> Row {
    let rounds = effort.rounds(61);
    let draws: Vec<u64> = zipf(POPULATION, exponent, DRAWS, 7).into_iter().map(u64::of).collect();
    let mut entrants = Vec::new();
    let mut scores = Vec::new();
    let mut enter = |(entrant, score): (Entrant<'static>, Score)| {
        entrants.push(entrant);
        scores.push(score);
    };
    let draws: Rc<[u64]> = draws.into();
    enter(entrant::<Dogpile<u64>>(&draws, threads, making, ""));
    enter(entrant::<Dogpile<u64>>(&draws, threads, making, COPY));
    enter(entrant::<QuickCache<u64>>(&draws, threads, making, ""));
    enter(entrant::<Moka<u64>>(&draws, threads, making, ""));
    enter(entrant::<Foyer<u64>>(&draws, threads, making, ""));
    enter(entrant::<Cached<u64>>(&draws, threads, making, ""));
    enter(entrant::<TinyUfo<u64>>(&draws, threads, making, ""));
    enter(entrant::<SccCache<u64>>(&draws, threads, making, ""));
    let samples = interleave(&mut entrants, rounds);
    let speaker = speaker(threads);
    let (mut lines, noise) = report::compare(&entrants, &samples, speaker, bound(threads));
    for (place, line) in lines.iter_mut().enumerate() {
        let (lookups, hits) = scores[place].get();
        let nanos: f64 = line.cells[0].parse().expect("the first cell is a number");
        line.cells.push(format!("{:.2}", 1e3 / nanos));
        line.cells.push(format!("{:.2}", 100.0 * hits as f64 / lookups as f64));
    }
    let plural = if threads == 1 { "" } else { "s" };
    Row {
        title: format!(
            "Zipf {exponent}, get or insert{}, {threads} thread{plural}",
            if making.steps == 0 { "" } else { ", 1 us of work per miss" }
        ),
        about: format!(
            "{threads} thread{plural}; {} keys, capacity {}; ns over all threads; {rounds} rounds of {} ms",
            grouped(POPULATION),
            grouped(CAPACITY),
            window(threads).as_millis()
        ),
        columns: match speaker {
            Speaker::Fastest => &["min ns", "min x", "med x", "M/s", "hit %"],
            Speaker::Median => &["med ns", "of meds", "med x", "M/s", "hit %"],
        },
        headline: 0,
        lines,
        noise,
    }
}

fn entrant<S: Shared<u64> + 'static>(
    draws: &Rc<[u64]>,
    threads: usize,
    making: Making,
    suffix: &str,
) -> (Entrant<'static>, Score) {
    let setup = Setup::evicting(CAPACITY);
    let mut subject = S::build(&setup);
    // One pass over the draws, so that the policy knows its keys.
    get_or_insert(&subject, draws, Making { steps: 0 });
    subject.settle();
    let score = Score::default();
    let total = Rc::clone(&score);
    let draws = Rc::clone(draws);
    let chunk = move |round: usize| {
        let draws: &[u64] = &draws;
        let (nanos, scores) =
            together(threads, window(threads), |thread, turn, (lookups, hits): &mut (u64, u64)| {
                // Each thread and each round goes through the draws from another place.
                let first = (round * 31 + thread * 127 + turn) * STEP % DRAWS;
                *hits += get_or_insert(&subject, &draws[first..first + STEP], making);
                *lookups += STEP as u64;
                STEP
            });
        let (mut lookups, mut hits) = total.get();
        for (more_lookups, more_hits) in scores {
            lookups += more_lookups;
            hits += more_hits;
        }
        total.set((lookups, hits));
        nanos
    };
    let entrant = Entrant {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(&setup),
        chunk: Box::new(chunk),
    };
    (entrant, score)
}

/// How many of `keys` hit. The value of a key is its complement.
fn get_or_insert<S: Shared<u64>>(subject: &S, keys: &[u64], making: Making) -> u64 {
    let (mut hits, mut wrong) = (0, 0);
    for key in keys {
        match subject.get(key) {
            Some(value) => {
                hits += 1;
                wrong |= value ^ !key;
            }
            None => {
                black_box(making.run(*key));
                subject.insert(*key, !key);
            }
        }
    }
    assert_eq!(wrong, 0, "{} answers wrongly", S::NAME);
    hits
}
