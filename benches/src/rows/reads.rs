//! Hits and misses, one thread.

#![forbid(unsafe_code)]

use super::{Effort, grouped};
use crate::keys::{DRAWS, Key, Order, Random, value_of};
use crate::measure::{Entrant, interleave, timed};
use crate::report::{self, COPY, Row, Speaker};
use crate::subjects::{
    Cached, DashMap, Dogpile, DogpileBatch, DogpileHandle, DogpilePinned, Foyer, Hashbrown, Moka, Pace,
    Papaya, PapayaPinned, QuickCache, SccCache, SccIndex, Setup, Subject, TinyUfo,
};

/// Fits the first-level cache in most subjects.
pub(crate) const SMALL: u64 = 800;
/// Fits no cache.
pub(crate) const LARGE: u64 = 1_000_000;

const WINDOW: usize = DRAWS;

/// Minima of identical subjects come out within 2 % when the table fits the cache. When it does not, it matters where the
/// kernel put their pages: 5 to 10 % then, and twice that on a busy machine, which retries mend.
fn bound<K: Key>(entries: u64) -> f64 {
    match (entries, size_of::<K>()) {
        (SMALL, _) => 0.08,
        (_, 8) => 0.15,
        // A second allocation per entry, somewhere else.
        _ => 0.20,
    }
}

/// Room with which no subject evicts: the shards of a small cache fill unevenly.
fn setup(entries: u64) -> Setup {
    Setup::keeping(if entries == SMALL { 1_024 } else { entries + entries / 10 })
}

pub(crate) fn hit<K: Key, const ENTRIES: u64>(effort: Effort) -> Row {
    read::<K>("get hit", effort, ENTRIES, Pace::Free, |windows| Order::hits(0, ENTRIES, windows, WINDOW))
}

/// The same with a random number generator in the loop, as in the measurements the design rests on: the loop itself then
/// takes a third of a plain map's time, and the ratios are smaller.
pub(crate) fn hit_drawn(effort: Effort) -> Row {
    read::<u64>("get hit, keys drawn in the loop", effort, SMALL, Pace::Drawn, |windows| {
        Order::drawn(SMALL, windows)
    })
}

/// The same, each read waiting for the last one's answer.
pub(crate) fn hit_chained<K: Key, const ENTRIES: u64>(effort: Effort) -> Row {
    let order = |windows| Order::hits(0, ENTRIES, windows, WINDOW);
    read::<K>("get hit, chained", effort, ENTRIES, Pace::Chained, order)
}

pub(crate) fn miss<K: Key, const ENTRIES: u64>(effort: Effort) -> Row {
    read::<K>("miss", effort, ENTRIES, Pace::Free, |windows| Order::misses(ENTRIES, ENTRIES, windows, WINDOW))
}

fn read<K: Key>(
    what: &str,
    effort: Effort,
    entries: u64,
    pace: Pace,
    order: impl FnOnce(usize) -> Order<K>,
) -> Row {
    let rounds = effort.rounds(if entries == SMALL { 201 } else { 181 });
    // A large table sees each window once, so that no chunk finds its lines where the last one left them.
    let order = order(if entries == SMALL { 16 } else { rounds + 1 });
    let work = Work { order, pace, setup: setup(entries), entries };
    let mut entrants = vec![
        work.entrant::<Hashbrown<K>>(""),
        work.entrant::<Hashbrown<K>>(COPY),
        work.entrant::<Dogpile<K>>(""),
        work.entrant::<DogpilePinned<K>>(""),
        work.entrant::<DogpileHandle<K>>(""),
        work.entrant::<QuickCache<K>>(""),
        work.entrant::<Moka<K>>(""),
        work.entrant::<Foyer<K>>(""),
        work.entrant::<Cached<K>>(""),
        work.entrant::<TinyUfo<K>>(""),
        work.entrant::<SccCache<K>>(""),
        work.entrant::<SccIndex<K>>(""),
        work.entrant::<Papaya<K>>(""),
        work.entrant::<PapayaPinned<K>>(""),
        work.entrant::<DashMap<K>>(""),
    ];
    if pace == Pace::Free {
        entrants.insert(5, work.entrant::<DogpileBatch<K>>(""));
    }
    let samples = interleave(&mut entrants, rounds);
    let size = if entries == SMALL { "1 K" } else { "1 M" };
    report::times(
        format!("{what}, {size}, {} keys", K::NAME),
        format!(
            "1 thread; {} entries, capacity {}; {rounds} rounds of {}",
            grouped(entries),
            grouped(work.setup.bound()),
            grouped(WINDOW as u64)
        ),
        &entrants,
        &samples,
        Speaker::Fastest,
        bound::<K>(entries),
    )
}

/// What all subjects of a row do.
struct Work<K> {
    order: Order<K>,
    pace: Pace,
    setup: Setup,
    entries: u64,
}

impl<K: Key> Work<K> {
    fn entrant<'a, S: Subject<K> + 'a>(&'a self, suffix: &str) -> Entrant<'a> {
        let Work { order, pace, setup, entries } = self;
        let subject: S = filled(setup, *entries);
        Entrant {
            name: format!("{}{suffix}", S::NAME),
            package: S::PACKAGE,
            settings: S::settings(setup),
            chunk: Box::new(move |round| {
                let window = order.window(round);
                let (nanos, tally) = timed(WINDOW, || subject.read(window, *pace));
                assert_eq!(tally, order.expected(round), "{} answers wrongly", S::NAME);
                nanos
            }),
        }
    }
}

/// Builds a subject and fills it with `entries` entries in the order of their numbers. String keys come from all over the
/// heap, as in a process that has run for a while.
pub(super) fn filled<K: Key, S: Subject<K>>(setup: &Setup, entries: u64) -> S {
    let mut indices: Vec<u64> = (0..entries).collect();
    Random::new(entries).shuffle(&mut indices);
    let mut keys: Vec<(u64, K)> = indices.into_iter().map(|index| (index, K::of(index))).collect();
    keys.sort_unstable_by_key(|&(index, _)| index);
    let mut subject = S::build(setup);
    for (index, key) in keys {
        subject.put(key, value_of(index));
    }
    subject.settle();
    for index in 0..entries {
        let found = subject.get(&K::of(index));
        assert_eq!(found, Some(value_of(index)), "{} lost entry {index} of {entries}", S::NAME);
    }
    subject
}
