//! Values made on demand: who gets what by the table of the dogpile lock, and what each setting of a policy does.
//!
//! Time is a manual clock, order is forced by doors and by the count of those who wait, and what is said of one way to ask for a
//! value is asked of all of them.

mod common;

#[path = "creating/background.rs"]
mod background;
#[path = "creating/batches.rs"]
mod batches;
#[path = "creating/circles.rs"]
mod circles;
#[path = "creating/failing.rs"]
mod failing;
#[path = "creating/newer.rs"]
mod newer;
#[path = "creating/room.rs"]
mod room;
#[path = "creating/settings.rs"]
mod settings;
#[path = "creating/table.rs"]
mod table;
#[path = "creating/told.rs"]
mod told;

use dogpile::gate::PolicyBuilder;
use dogpile::time::ManualClock;
use dogpile::{Cache, CacheBuilder, CreateError, Policy};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// How long values are fresh, and stale after that.
const FRESH: Duration = Duration::from_secs(60);
const STALE: Duration = Duration::from_secs(600);

type Made = Result<u32, &'static str>;
type Make = Arc<dyn Fn() -> Made + Send + Sync>;

/// A creator that counts its calls.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn count(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn counts(&self, make: impl Fn() -> Made + Send + Sync + 'static) -> Make {
        let calls = Arc::clone(&self.0);
        Arc::new(move || {
            calls.fetch_add(1, SeqCst);
            make()
        })
    }

    fn makes(&self, made: Made) -> Make {
        self.counts(move || made)
    }
}

/// The ways to ask for a value with a creator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Plain,
    Try,
    Async,
    TryAsync,
    Multi,
    TryMulti,
    MultiAsync,
    TryMultiAsync,
    Detached,
    TryDetached,
    DetachedAsync,
    TryDetachedAsync,
}

const VERBS: [Verb; 12] = [
    Verb::Plain,
    Verb::Try,
    Verb::Async,
    Verb::TryAsync,
    Verb::Multi,
    Verb::TryMulti,
    Verb::MultiAsync,
    Verb::TryMultiAsync,
    Verb::Detached,
    Verb::TryDetached,
    Verb::DetachedAsync,
    Verb::TryDetachedAsync,
];

macro_rules! ask {
    ($verb:expr, $on:expr, $key:expr, $make:expr) => {{
        let (on, key, make) = ($on, $key, Arc::clone($make));
        let sure = "a creator of this verb can't fail";
        let one = |found: Vec<dogpile::Handle<u32, u32>>| {
            assert_eq!(found.len(), 1);
            *found[0]
        };
        match $verb {
            Verb::Plain => Ok(*on.get_or_create(&key, || make().expect(sure))),
            Verb::Try => on.try_get_or_create(&key, || make()).map(|found| *found),
            Verb::Async => {
                Ok(*pollster::block_on(on.get_or_create_async(&key, async { make().expect(sure) })))
            }
            Verb::TryAsync => {
                pollster::block_on(on.try_get_or_create_async(&key, async { make() })).map(|found| *found)
            }
            Verb::Multi => Ok(one(on.get_or_create_multi(&[key], |_| vec![make().expect(sure)]))),
            Verb::TryMulti => on.try_get_or_create_multi(&[key], |_| Ok(vec![make()?])).map(one),
            Verb::MultiAsync => {
                let make = |_| async { vec![make().expect(sure)] };
                Ok(one(pollster::block_on(on.get_or_create_multi_async(&[key], make))))
            }
            Verb::TryMultiAsync => {
                let make = |_| async { Ok(vec![make()?]) };
                pollster::block_on(on.try_get_or_create_multi_async(&[key], make)).map(one)
            }
            Verb::Detached => Ok(*on.get_or_create_detached(&key, move || make().expect(sure))),
            Verb::TryDetached => on.try_get_or_create_detached(&key, move || make()).map(|found| *found),
            Verb::DetachedAsync => {
                let make = async move { make().expect(sure) };
                Ok(*pollster::block_on(on.get_or_create_detached_async(&key, make)))
            }
            Verb::TryDetachedAsync => {
                let make = async move { make() };
                pollster::block_on(on.try_get_or_create_detached_async(&key, make)).map(|found| *found)
            }
        }
    }};
}

type Asked = Result<u32, CreateError<&'static str>>;

impl Verb {
    fn ask(self, cache: &Cache<u32, u32>, key: u32, make: &Make) -> Asked {
        ask!(self, cache, key, make)
    }

    fn ask_by(self, policy: &Policy<u32>, cache: &Cache<u32, u32>, key: u32, make: &Make) -> Asked {
        ask!(self, cache.with(policy), key, make)
    }

    /// Whether it returns errors.
    fn can_fail(self) -> bool {
        use Verb::{Try, TryAsync, TryDetached, TryDetachedAsync, TryMulti, TryMultiAsync};
        matches!(self, Try | TryAsync | TryMulti | TryMultiAsync | TryDetached | TryDetachedAsync)
    }

    fn is_detached(self) -> bool {
        use Verb::{Detached, DetachedAsync, TryDetached, TryDetachedAsync};
        matches!(self, Detached | TryDetached | DetachedAsync | TryDetachedAsync)
    }

    fn is_batch(self) -> bool {
        use Verb::{Multi, MultiAsync, TryMulti, TryMultiAsync};
        matches!(self, Multi | TryMulti | MultiAsync | TryMultiAsync)
    }
}

fn fallible() -> impl Iterator<Item = Verb> {
    VERBS.into_iter().filter(|verb| verb.can_fail())
}

/// What statistics say of creations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    leads: u64,
    waits: u64,
    timed_out: u64,
    creations: u64,
    failures: u64,
    stale_served: u64,
    hand_overs: u64,
    refused_late_writes: u64,
}

fn counts<K, V, S>(cache: &Cache<K, V, S>) -> Counts {
    let stats = cache.stats();
    Counts {
        leads: stats.leads,
        waits: stats.waits,
        timed_out: stats.timed_out,
        creations: stats.creations,
        failures: stats.failures,
        stale_served: stats.stale_served,
        hand_overs: stats.hand_overs,
        refused_late_writes: stats.refused_late_writes,
    }
}

const NOTHING: Counts = Counts {
    leads: 0,
    waits: 0,
    timed_out: 0,
    creations: 0,
    failures: 0,
    stale_served: 0,
    hand_overs: 0,
    refused_late_writes: 0,
};

fn policy() -> PolicyBuilder<u32> {
    Policy::builder()
}

/// A cache by a clock that stands still.
fn timed(builder: CacheBuilder<u32, u32>) -> (Cache<u32, u32>, ManualClock) {
    let clock = ManualClock::new();
    clock.advance(Duration::from_secs(1000));
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

/// The same, by this policy.
fn under(policy: PolicyBuilder<u32>) -> (Cache<u32, u32>, ManualClock) {
    timed(Cache::builder().max_entries(100).policy(policy.build().unwrap()))
}

/// Values are fresh, then stale, then of no use.
fn usual() -> PolicyBuilder<u32> {
    policy().fresh(FRESH).stale(STALE)
}
