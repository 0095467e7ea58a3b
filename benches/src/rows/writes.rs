//! Replacing values, and new keys in a full cache; one thread.

#![forbid(unsafe_code)]

use super::{Effort, grouped, reads};
use crate::keys::{Key, Order};
use crate::measure::{Entrant, interleave, timed};
use crate::report::{self, COPY, Row, Speaker};
use crate::subjects::{
    Cached, DashMap, Dogpile, Foyer, Hashbrown, Moka, Pace, Papaya, QuickCache, SccCache, Setup, Subject,
    TinyUfo,
};

const ENTRIES: u64 = 60_000;
const CAPACITY: u64 = 65_536;
const WINDOW: usize = 8_192;

/// Minima of identical subjects come out within 5 %: the allocator's state differs between them.
const BOUND: f64 = 0.12;

/// New values for random keys among the stored ones.
pub(crate) fn replace<K: Key>(effort: Effort) -> Row {
    let rounds = effort.rounds(151);
    let order = Order::<K>::hits(0, ENTRIES, 16, WINDOW);
    let setup = Setup::keeping(CAPACITY);
    let mut entrants = vec![
        replacer::<K, Hashbrown<K>>(&order, &setup, ""),
        replacer::<K, Hashbrown<K>>(&order, &setup, COPY),
        replacer::<K, Dogpile<K>>(&order, &setup, ""),
        replacer::<K, QuickCache<K>>(&order, &setup, ""),
        replacer::<K, Moka<K>>(&order, &setup, ""),
        replacer::<K, Foyer<K>>(&order, &setup, ""),
        replacer::<K, Cached<K>>(&order, &setup, ""),
        replacer::<K, TinyUfo<K>>(&order, &setup, ""),
        replacer::<K, SccCache<K>>(&order, &setup, ""),
        replacer::<K, Papaya<K>>(&order, &setup, ""),
        replacer::<K, DashMap<K>>(&order, &setup, ""),
    ];
    let samples = interleave(&mut entrants, rounds);
    report::times(
        format!("replace, 64 K, {} keys", K::NAME),
        format!(
            "1 thread; {} entries, capacity {}; {rounds} rounds of {}",
            grouped(ENTRIES),
            grouped(CAPACITY),
            grouped(WINDOW as u64)
        ),
        &entrants,
        &samples,
        Speaker::Fastest,
        BOUND,
    )
}

fn replacer<'a, K: Key, S: Subject<K> + 'a>(order: &'a Order<K>, setup: &Setup, suffix: &str) -> Entrant<'a> {
    let mut subject: S = reads::filled(setup, ENTRIES);
    Entrant {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(setup),
        chunk: Box::new(move |round| {
            let window = order.window(round);
            let keys: Vec<K> = window.to_vec();
            let value = round as u64;
            let (nanos, ()) = timed(WINDOW, || keys.into_iter().for_each(|key| subject.put(key, value)));
            let tally = subject.read(window, Pace::Free);
            assert_eq!(tally.hits, WINDOW as u64, "{} lost entries it had room for", S::NAME);
            assert_eq!(tally.sum, WINDOW as u64 * value, "{} kept an old value", S::NAME);
            nanos
        }),
    }
}

/// New keys, each seen once, in a cache that is full: each insertion evicts something or is refused.
pub(crate) fn churn<K: Key>(effort: Effort) -> Row {
    let rounds = effort.rounds(151);
    let setup = Setup::evicting(CAPACITY);
    let mut entrants = vec![
        churner::<K, Dogpile<K>>(&setup, ""),
        churner::<K, Dogpile<K>>(&setup, COPY),
        churner::<K, QuickCache<K>>(&setup, ""),
        churner::<K, Moka<K>>(&setup, ""),
        churner::<K, Foyer<K>>(&setup, ""),
        churner::<K, Cached<K>>(&setup, ""),
        churner::<K, TinyUfo<K>>(&setup, ""),
        churner::<K, SccCache<K>>(&setup, ""),
    ];
    let samples = interleave(&mut entrants, rounds);
    report::times(
        format!("churn on a full cache, 64 K, {} keys", K::NAME),
        format!(
            "1 thread; capacity {}, keys never seen before; {rounds} rounds of {}",
            grouped(CAPACITY),
            grouped(WINDOW as u64)
        ),
        &entrants,
        &samples,
        Speaker::Fastest,
        BOUND,
    )
}

fn churner<'a, K: Key, S: Subject<K> + 'a>(setup: &Setup, suffix: &str) -> Entrant<'a> {
    let mut subject = S::build(setup);
    let mut next = 0;
    // Two turnovers: the ghosts and the free lists of the steady state.
    while next < 2 * CAPACITY {
        subject.put(K::of(next), next);
        next += 1;
    }
    subject.settle();
    Entrant {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(setup),
        chunk: Box::new(move |_| {
            let first = next;
            next += WINDOW as u64;
            let keys: Vec<(K, u64)> = (first..next).map(|index| (K::of(index), index)).collect();
            let (nanos, ()) =
                timed(WINDOW, || keys.into_iter().for_each(|(key, value)| subject.put(key, value)));
            subject.settle();
            assert!(next > CAPACITY + WINDOW as u64);
            nanos
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `churn` relies on: a full cache is full, and not fuller.
    fn stays_within_its_capacity<S: Subject<u64>>() {
        let mut subject = S::build(&Setup::evicting(CAPACITY));
        (0..3 * CAPACITY).for_each(|index| subject.put(u64::of(index), index));
        subject.settle();
        let held = (0..3 * CAPACITY).filter(|&index| subject.get(&u64::of(index)).is_some()).count() as u64;
        assert!(held <= CAPACITY + CAPACITY / 50, "{} holds {held} of {CAPACITY}", S::NAME);
        assert!(held >= CAPACITY / 2, "{} holds {held} of {CAPACITY}", S::NAME);
    }

    #[test]
    fn bounded_subjects_are_bounded() {
        stays_within_its_capacity::<Dogpile<u64>>();
        stays_within_its_capacity::<QuickCache<u64>>();
        stays_within_its_capacity::<Moka<u64>>();
        stays_within_its_capacity::<Foyer<u64>>();
        stays_within_its_capacity::<Cached<u64>>();
        stays_within_its_capacity::<TinyUfo<u64>>();
        stays_within_its_capacity::<SccCache<u64>>();
    }
}
