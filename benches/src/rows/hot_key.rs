//! One key that all threads read at once.

#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Effort, grouped, reads};
use crate::keys::{Key, Tally, value_of};
use crate::measure::{Entrant, interleave, together};
use crate::report::{self, COPY, Row, Speaker};
use crate::subjects::{
    Cached, DashMap, Dogpile, DogpileHandle, DogpilePinned, Foyer, Hashbrown, Moka, Pace, Papaya,
    PapayaPinned, QuickCache, SccCache, SccIndex, Setup, Subject, TinyUfo,
};

const THREADS: usize = 2;
const HOT: u64 = 17;
const WINDOW: Duration = Duration::from_millis(8);

/// With as many threads as cores, anything else that runs shows.
const BOUND: f64 = 0.15;

pub(crate) fn read(effort: Effort) -> Row {
    let rounds = effort.rounds(101);
    let mut entrants = vec![
        entrant::<Hashbrown<u64>>(""),
        entrant::<Hashbrown<u64>>(COPY),
        entrant::<Dogpile<u64>>(""),
        entrant::<DogpilePinned<u64>>(""),
        entrant::<DogpileHandle<u64>>(""),
        entrant::<QuickCache<u64>>(""),
        entrant::<Moka<u64>>(""),
        entrant::<Foyer<u64>>(""),
        entrant::<Cached<u64>>(""),
        entrant::<TinyUfo<u64>>(""),
        entrant::<SccCache<u64>>(""),
        entrant::<SccIndex<u64>>(""),
        entrant::<Papaya<u64>>(""),
        entrant::<PapayaPinned<u64>>(""),
        entrant::<DashMap<u64>>(""),
    ];
    let samples = interleave(&mut entrants, rounds);
    report::times(
        String::from("hot key, 2 threads"),
        format!(
            "{THREADS} threads read one of {} u64 keys; ns per read of one thread; {rounds} rounds of {} ms; hashbrown is shared \
             without any lock",
            grouped(reads::SMALL),
            WINDOW.as_millis()
        ),
        &entrants,
        &samples,
        Speaker::Median,
        BOUND,
    )
}

fn entrant<S: Subject<u64> + Sync + 'static>(suffix: &str) -> Entrant<'static> {
    let setup = Setup::keeping(1_024);
    let subject: S = reads::filled(&setup, reads::SMALL);
    let keys = vec![u64::of(HOT); 1_024];
    Entrant {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(&setup),
        chunk: Box::new(move |_| {
            let (nanos, tallies) = together(THREADS, WINDOW, |_, _, tally: &mut Tally| {
                let seen = subject.read(&keys, Pace::Free);
                tally.hits += seen.hits;
                tally.sum = tally.sum.wrapping_add(seen.sum);
                keys.len()
            });
            for Tally { hits, sum } in tallies {
                assert_eq!(sum, value_of(HOT).wrapping_mul(hits), "{} answers wrongly", S::NAME);
                assert!(hits > 0);
            }
            nanos * THREADS as f64
        }),
    }
}
