//! Values made on demand, one thread: hits, and new keys in a full cache.

#![forbid(unsafe_code)]

use super::{Effort, grouped, reads};
use crate::keys::{Order, Tally, value_of};
use crate::measure::{Entrant, interleave, timed};
use crate::report::{self, COPY, Row, Speaker};
use crate::subjects::{Dogpile, Moka, OnDemand, QuickCache, Setup, Subject};

const CAPACITY: u64 = 65_536;
const WINDOW: usize = 8_192;

/// As for reads, and for churn.
const HIT_BOUND: f64 = 0.08;
const NEW_BOUND: f64 = 0.12;

/// Every key is there.
pub(crate) fn hit(effort: Effort) -> Row {
    let rounds = effort.rounds(201);
    let order = Order::hits(0, reads::SMALL, 16, WINDOW);
    let setup = Setup::keeping(1_024);
    let mut entrants = vec![
        hitter::<Dogpile<u64>>(&order, &setup, ""),
        hitter::<Dogpile<u64>>(&order, &setup, COPY),
        getter::<Dogpile<u64>>(&order, &setup, ", get"),
        hitter::<QuickCache<u64>>(&order, &setup, ""),
        hitter::<Moka<u64>>(&order, &setup, ""),
    ];
    let samples = interleave(&mut entrants, rounds);
    report::times(
        String::from("get or create, hit, 1 K, u64 keys"),
        format!("1 thread; {} entries; {rounds} rounds of {}", grouped(reads::SMALL), grouped(WINDOW as u64)),
        &entrants,
        &samples,
        Speaker::Fastest,
        HIT_BOUND,
    )
}

fn hitter<'a, S: OnDemand<u64> + 'a>(order: &'a Order<u64>, setup: &Setup, suffix: &str) -> Entrant<'a> {
    let subject: S = reads::filled(setup, reads::SMALL);
    entrant::<S>(order, setup, suffix, move |key| {
        subject.get_or_create(key, || unreachable!("every key is there"))
    })
}

fn getter<'a, S: Subject<u64> + 'a>(order: &'a Order<u64>, setup: &Setup, suffix: &str) -> Entrant<'a> {
    let subject: S = reads::filled(setup, reads::SMALL);
    entrant::<S>(order, setup, suffix, move |key| subject.get(key).expect("every key is there"))
}

fn entrant<'a, S: Subject<u64>>(
    order: &'a Order<u64>,
    setup: &Setup,
    suffix: &str,
    get: impl Fn(&u64) -> u64 + 'a,
) -> Entrant<'a> {
    Entrant {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(setup),
        chunk: Box::new(move |round| {
            let window = order.window(round);
            let (nanos, tally) = timed(WINDOW, || {
                let mut tally = Tally::default();
                window.iter().for_each(|key| tally.note(Some(get(key))));
                tally
            });
            assert_eq!(tally, order.expected(round), "{} answers wrongly", S::NAME);
            nanos
        }),
    }
}

/// No key is there; each creation is nothing but its value.
pub(crate) fn new(effort: Effort) -> Row {
    let rounds = effort.rounds(151);
    let setup = Setup::evicting(CAPACITY);
    let mut entrants = vec![
        creator::<Dogpile<u64>>(&setup, ""),
        creator::<Dogpile<u64>>(&setup, COPY),
        creator::<QuickCache<u64>>(&setup, ""),
        creator::<Moka<u64>>(&setup, ""),
    ];
    let samples = interleave(&mut entrants, rounds);
    report::times(
        String::from("get or create, new keys, full cache, 64 K, u64 keys"),
        format!(
            "1 thread; capacity {}, keys never seen before; {rounds} rounds of {}",
            grouped(CAPACITY),
            grouped(WINDOW as u64)
        ),
        &entrants,
        &samples,
        Speaker::Fastest,
        NEW_BOUND,
    )
}

fn creator<'a, S: OnDemand<u64> + 'a>(setup: &Setup, suffix: &str) -> Entrant<'a> {
    let mut subject = S::build(setup);
    let mut next = 0;
    while next < 2 * CAPACITY {
        subject.put(next, next);
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
            let (nanos, created) = timed(WINDOW, || {
                let mut created = 0;
                for key in first..next {
                    subject.get_or_create(&key, || {
                        created += 1;
                        value_of(key)
                    });
                }
                created
            });
            assert_eq!(created, WINDOW as u64, "{} made each value once", S::NAME);
            subject.settle();
            nanos
        }),
    }
}
