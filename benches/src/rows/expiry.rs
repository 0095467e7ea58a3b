//! What a time to live on every entry costs. Nothing expires while the row is measured.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Effort, grouped, reads};
use crate::keys::Order;
use crate::measure::{Entrant, interleave, timed};
use crate::report::{self, COPY, Row, Speaker};
use crate::subjects::{Cached, CachedTtl, Dogpile, Hashbrown, Moka, Pace, Setup, Subject};

const WINDOW: usize = 8_192;
const DAY: Duration = Duration::from_secs(86_400);

/// As for the rows without expiry.
const BOUND: f64 = 0.10;

#[derive(Clone, Copy)]
enum Operation {
    Get,
    Replace,
}

pub(crate) fn get(effort: Effort) -> Row {
    row("get hit", effort, Operation::Get)
}

pub(crate) fn replace(effort: Effort) -> Row {
    row("replace", effort, Operation::Replace)
}

fn row(what: &str, effort: Effort, operation: Operation) -> Row {
    let rounds = effort.rounds(151);
    let order = Order::hits(0, reads::SMALL, 16, WINDOW);
    let off = Setup::keeping(1_024);
    let on = off.expiring(DAY);
    let mut entrants = vec![
        entrant::<Hashbrown<u64>>(operation, &order, &off, ""),
        entrant::<Hashbrown<u64>>(operation, &order, &off, COPY),
        entrant::<Dogpile<u64>>(operation, &order, &off, ""),
        entrant::<Dogpile<u64>>(operation, &order, &on, " with TTL"),
        entrant::<Moka<u64>>(operation, &order, &off, ""),
        entrant::<Moka<u64>>(operation, &order, &on, " with TTL"),
        entrant::<Cached<u64>>(operation, &order, &off, ""),
        entrant::<CachedTtl<u64>>(operation, &order, &on, " with TTL"),
    ];
    let samples = interleave(&mut entrants, rounds);
    report::times(
        format!("expiry off and on, {what}, 1 K, u64 keys"),
        format!(
            "1 thread; {} entries, capacity {}; {rounds} rounds of {}",
            grouped(reads::SMALL),
            grouped(off.bound()),
            grouped(WINDOW as u64)
        ),
        &entrants,
        &samples,
        Speaker::Fastest,
        BOUND,
    )
}

fn entrant<'a, S: Subject<u64> + 'a>(
    operation: Operation,
    order: &'a Order<u64>,
    setup: &Setup,
    suffix: &str,
) -> Entrant<'a> {
    let mut subject: S = reads::filled(setup, reads::SMALL);
    Entrant {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(setup),
        chunk: match operation {
            Operation::Get => Box::new(move |round| {
                let (nanos, tally) = timed(WINDOW, || subject.read(order.window(round), Pace::Free));
                assert_eq!(tally, order.expected(round), "{} answers wrongly", S::NAME);
                nanos
            }),
            Operation::Replace => Box::new(move |round| {
                let (window, value) = (order.window(round), round as u64);
                let (nanos, ()) = timed(WINDOW, || window.iter().for_each(|&key| subject.put(key, value)));
                let sum = subject.read(window, Pace::Free).sum;
                assert_eq!(sum, WINDOW as u64 * value, "{} kept an old value", S::NAME);
                nanos
            }),
        },
    }
}
