//! Sixteen callers, threads and tasks, on few keys of one cache.
//!
//! What an execution does is drawn with it: a *plan* says how the cache is built and what may go wrong, from a calm one,
//! in which creators neither fail nor are overtaken, to one in which everything happens. What is checked:
//!
//! - at most one creator at a time for one version of a key; in a calm plan exactly one for each key, ever;
//! - every call ends (shuttle tells of those that don't);
//! - what is returned was made for that key, by a creator or an insert of this execution;
//! - what was replaced, removed or cleared before a call is not returned by it, and a creation that began before that
//!   does not bring it back;
//! - in the end no key is locked, every key can be made anew, and no value is left when the cache is gone.

use crate::dice::Dice;
use crate::ledger::{Call, Creation, Ledger, Trouble, Value, Watch};
use crate::tasks::{Background, Ended, Fickle, SomeTime, planned_panic, surviving};
use crate::totals::TOTALS;
use dogpile::time::ManualClock;
use dogpile::{Cache, CreateError, Early, Freshness, Policy, RemovalCause};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

/// The same in every process, so that a seed repeats an execution.
type Hasher = BuildHasherDefault<DefaultHasher>;

const WORKERS: u64 = 16;
const TTL: Duration = Duration::from_nanos(100);
const STEPS: [u64; 4] = [10, 40, 60, 130];

/// An error of another type than the usual one: it tells a waiter nothing.
#[derive(Debug)]
struct Other;

/// What may happen in an execution.
#[derive(Clone, Copy, Debug)]
struct Plan {
    keys: u8,
    /// Inserts and removes.
    changes: bool,
    clears: bool,
    /// Values become stale, and the clock moves.
    ages: bool,
    /// Creators return errors.
    errs: bool,
    panics: bool,
    /// Futures are dropped, and tasks aborted.
    drops: bool,
    /// Some callers don't wait for long.
    limits: bool,
    /// Creators ask for other keys, or for their own.
    nests: bool,
    /// There is room for one or two.
    evicts: bool,
    /// Not every value is to be stored.
    picky: bool,
}

impl Plan {
    fn draw(dice: &mut Dice) -> Self {
        let keys = dice.pick(&[1, 2, 2, 3]);
        let calm = Self {
            keys,
            changes: false,
            clears: false,
            ages: false,
            errs: false,
            panics: false,
            drops: false,
            limits: false,
            nests: false,
            evicts: false,
            picky: false,
        };
        if dice.one_in(8) {
            return calm;
        }
        let changes = dice.one_in(2);
        Self {
            changes,
            clears: changes && dice.one_in(2),
            ages: dice.one_in(2),
            errs: dice.one_in(2),
            panics: dice.one_in(2),
            drops: dice.one_in(2),
            limits: dice.one_in(4),
            nests: dice.one_in(4),
            evicts: dice.one_in(6),
            picky: dice.one_in(8),
            ..calm
        }
    }

    fn is_calm(&self) -> bool {
        let Self { changes, ages, errs, panics, drops, limits, nests, evicts, picky, .. } = *self;
        ![changes, ages, errs, panics, drops, limits, nests, evicts, picky].contains(&true)
    }
}

/// How a creator ends, and what it does before.
#[derive(Clone, Copy, Debug)]
struct Making {
    switches: u64,
    inner: Option<u8>,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Value,
    Error,
    Panic,
}

struct World {
    cache: Cache<u8, Value, Hasher>,
    ledger: Arc<Ledger>,
    clock: ManualClock,
    plan: Plan,
    /// The cache's own, but impatient, picky about freshness, or making nothing.
    hasty: Policy<Value>,
    fresh_only: Policy<Value>,
    cache_only: Policy<Value>,
    background: Background,
}

/// One execution.
pub(crate) fn run() {
    let mut dice = Dice::of_the_schedule();
    let plan = Plan::draw(&mut dice);
    let world = Arc::new(World::new(plan, &mut dice));
    let mut threads = Vec::new();
    let mut tasks = Vec::new();
    for worker in 0..WORKERS {
        let (world, mut dice) = (Arc::clone(&world), dice.split());
        if worker % 2 == 0 {
            threads.push(shuttle::thread::spawn(move || {
                for _ in 0..=dice.below(2) {
                    world.act(&mut dice);
                }
            }));
        } else {
            tasks.push(shuttle::future::spawn(async move {
                for _ in 0..=dice.below(2) {
                    world.act_async(&mut dice).await;
                }
            }));
        }
    }
    if plan.drops {
        for _ in 0..dice.below(4) {
            shuttle::thread::yield_now();
            tasks[dice.below(tasks.len() as u64) as usize].abort();
        }
    }
    threads.into_iter().for_each(|thread| thread.join().expect("its panics were caught"));
    for task in tasks {
        // An error: it was aborted.
        let _ = shuttle::future::block_on(task);
    }
    world.background.join();
    let world = Arc::into_inner(world).expect("whoever used it has ended");
    world.end();
}

impl World {
    fn new(plan: Plan, dice: &mut Dice) -> Self {
        let ledger = Ledger::new(plan.keys, plan.evicts);
        let clock = ManualClock::new();
        let background = Background::new(dice.split());
        let (stale, if_error) = (dice.pick(&[0, 50, 50, 1000]), dice.pick(&[0, 0, 60, 1000]));
        let (error_ttl, early, hold) = (dice.one_in(3), dice.one_in(4), dice.pick(&[0, 30]));
        let soft = dice.one_in(3);
        let mut timers = dice.split();
        let policy = |freshness: Freshness, wait: bool, dice: Dice| {
            let mut builder = Policy::builder().runner(background.clone()).timer(SomeTime::new(dice));
            builder = builder.freshness(freshness);
            if plan.ages {
                builder = builder.fresh(TTL);
                if freshness != Freshness::WaitFresh {
                    builder = builder.stale(Duration::from_nanos(stale));
                }
                builder = builder.stale_if_error(Duration::from_nanos(if_error));
                if if_error > 0 {
                    builder = builder.hold_back(Duration::from_nanos(hold));
                }
            }
            if freshness != Freshness::CacheOnly {
                if plan.errs && error_ttl {
                    builder = builder.error_ttl(Duration::from_nanos(50));
                }
                if plan.ages && early {
                    builder = builder.early(Early::Fraction(0.4));
                }
                if plan.ages && stale > 0 && soft && freshness == Freshness::AllowStale {
                    builder = builder.soft_timeout(Duration::from_nanos(1));
                }
            }
            if wait {
                builder = builder.wait(Duration::from_nanos(1));
            }
            if plan.picky {
                builder = builder.should_cache(|value: &Value| !value.number.is_multiple_of(3));
            }
            builder.build().expect("no setting contradicts another")
        };
        let mut builder = Cache::builder()
            .hasher(Hasher::default())
            .shards(NonZero::new(dice.pick(&[1, 2])).expect("not zero"))
            .clock(clock.clone())
            .policy(policy(Freshness::AllowStale, false, timers.split()));
        if plan.evicts {
            builder = builder.max_entries(dice.pick(&[1, 2])).listener(|_, cause| {
                if cause == RemovalCause::Evicted {
                    TOTALS.evicted.add(1);
                }
            });
        }
        Self {
            cache: builder.build().expect("no setting contradicts another"),
            ledger,
            clock,
            plan,
            hasty: policy(Freshness::AllowStale, true, timers.split()),
            fresh_only: policy(Freshness::WaitFresh, false, timers.split()),
            cache_only: policy(Freshness::CacheOnly, false, timers.split()),
            background,
        }
    }

    fn key(&self, dice: &mut Dice) -> u8 {
        dice.below(u64::from(self.plan.keys)) as u8
    }

    fn making(&self, dice: &mut Dice) -> Making {
        let end = match dice.below(4) {
            0 if self.plan.errs => End::Error,
            1 if self.plan.panics => End::Panic,
            _ => End::Value,
        };
        let inner = (self.plan.nests && dice.one_in(2)).then(|| self.key(dice));
        Making { switches: dice.below(4), inner, end }
    }

    /// A caller that can't be told of an error may make a value for itself instead, beside the gate.
    fn watch(&self, policy: Option<&Policy<Value>>) -> Watch {
        let makes_nothing = policy.is_some_and(|policy| std::ptr::eq(policy, &self.cache_only));
        if self.plan.panics || self.plan.limits || makes_nothing { Watch::Unstored } else { Watch::Gated }
    }

    /// A creator of a thread's.
    fn make(&self, call: Call, watch: Watch, making: Making) -> Result<Value, Trouble> {
        let creation = self.ledger.creation(call, watch);
        for _ in 0..making.switches {
            shuttle::thread::yield_now();
        }
        if let Some(key) = making.inner {
            let inner = self.ledger.call("inner", key);
            let simple = Making { switches: 1, inner: None, ..making };
            let result = self.cache.try_get_or_create(&key, || self.make(inner, Watch::Gated, simple));
            self.judge(inner, result.as_deref(), true);
        }
        finish(&creation, making)
    }

    async fn make_async(&self, call: Call, watch: Watch, making: Making) -> Result<Value, Trouble> {
        let creation = self.ledger.creation(call, watch);
        for _ in 0..making.switches {
            shuttle::future::yield_now().await;
        }
        if let Some(key) = making.inner {
            let inner = self.ledger.call("inner", key);
            let simple = Making { switches: 1, inner: None, ..making };
            let creator = Box::pin(self.make_async(inner, Watch::Gated, simple));
            let result = self.cache.try_get_or_create_async(&key, creator).await;
            self.judge(inner, result.as_deref(), true);
        }
        finish(&creation, making)
    }

    /// What a call that may fail may be answered with. `leads`: by somebody who leads, and so may be in a circle.
    fn judge(&self, call: Call, result: Result<&Value, &CreateError<Trouble>>, leads: bool) {
        match result {
            Ok(value) => self.ledger.saw(call, value),
            Err(CreateError::Creator(trouble)) => self.ledger.failed(call, trouble.0),
            Err(CreateError::LeaderPanicked) => {
                TOTALS.panicked.add(1);
                self.ledger.check(self.plan.panics, "a leader panicked that was not asked to");
            }
            Err(CreateError::TimedOut) => {
                self.ledger.check(self.plan.limits, "a wait ended that has no limit")
            }
            Err(CreateError::NotCached) => self.ledger.note("not cached", call),
            Err(CreateError::Reentrant) => {
                TOTALS.circles.add(1);
                self.ledger.check(leads, "a circle of one who leads nothing");
            }
            Err(CreateError::WrongCount { asked, made }) => {
                self.ledger.check(asked != made, "a wrong count that is right");
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Inserts, removes, clears, or lets time pass. False: this plan does not.
    fn change(&self, dice: &mut Dice) -> bool {
        let key = self.key(dice);
        match dice.below(16) {
            0 | 1 if self.plan.changes => {
                let mut change = self.ledger.change("insert", key..key + 1);
                let value = change.value();
                self.cache.insert(key, value);
            }
            2 | 3 if self.plan.changes => {
                let change = self.ledger.change("remove", key..key + 1);
                self.cache.remove(&key);
                drop(change);
            }
            4 if self.plan.clears => {
                let change = self.ledger.change("clear", 0..self.plan.keys);
                self.cache.clear();
                drop(change);
            }
            5..=7 if self.plan.ages => self.clock.advance(Duration::from_nanos(dice.pick(&STEPS))),
            8 | 9 => {
                let call = self.ledger.call("get", key);
                if let Some(found) = self.cache.get(&key) {
                    self.ledger.saw(call, &found);
                }
            }
            _ => return false,
        }
        true
    }

    /// What a thread does.
    fn act(self: &Arc<Self>, dice: &mut Dice) {
        if self.change(dice) {
            return;
        }
        let key = self.key(dice);
        let making = self.making(dice);
        let policy = self.policy(dice);
        let with = self.cache.with(policy.unwrap_or(&self.cache_only));
        match dice.below(12) {
            0..=2 => {
                let call = self.ledger.call("get_or_create", key);
                let watch = self.watch(policy);
                // It can't fail.
                let making = if matches!(making.end, End::Error) {
                    Making { end: End::Value, ..making }
                } else {
                    making
                };
                let create = || match self.make(call, watch, making) {
                    Ok(value) => value,
                    Err(_) => unreachable!("it was not to fail"),
                };
                // A circle would be a panic, with a message.
                let making_alone = making.inner.is_none();
                let found = surviving(|| match policy {
                    None => making_alone.then(|| self.cache.get_or_create(&key, create)),
                    Some(_) => making_alone.then(|| with.get_or_create(&key, create)),
                });
                if let Some(Some(found)) = found {
                    self.ledger.saw(call, &found);
                }
            }
            3..=6 => {
                let call = self.ledger.call("try", key);
                let create = || self.make(call, Watch::Gated, making);
                let result = surviving(|| match policy {
                    None => self.cache.try_get_or_create(&key, create),
                    Some(_) => with.try_get_or_create(&key, create),
                });
                if let Some(result) = result {
                    self.judge(call, result.as_deref(), false);
                }
            }
            7 => {
                let call = self.ledger.call("try, other", key);
                let create = || self.make(call, Watch::Gated, making).map_err(|_| Other);
                if let Some(Ok(found)) = surviving(|| self.cache.try_get_or_create(&key, create)) {
                    self.ledger.saw(call, &found);
                }
            }
            8 | 9 => {
                let call = self.ledger.call("detached", key);
                let create = {
                    let world = Arc::clone(self);
                    move || world.make(call, Watch::Gated, making)
                };
                let result = surviving(|| self.cache.try_get_or_create_detached(&key, create));
                if let Some(result) = result {
                    self.judge(call, result.as_deref(), false);
                }
            }
            _ => self.batch(dice, making),
        }
    }

    fn policy(&self, dice: &mut Dice) -> Option<&Policy<Value>> {
        match dice.below(8) {
            0 | 1 if self.plan.limits => Some(&self.hasty),
            2 => Some(&self.fresh_only),
            3 if !self.plan.is_calm() => Some(&self.cache_only),
            _ => None,
        }
    }

    /// Keys in any order, some of them twice.
    fn keys(&self, dice: &mut Dice) -> Vec<u8> {
        (0..=dice.below(3)).map(|_| self.key(dice)).collect()
    }

    fn batch(&self, dice: &mut Dice, making: Making) {
        let keys = self.keys(dice);
        let short = self.plan.errs && dice.one_in(4);
        let calls: Vec<Call> = keys.iter().map(|key| self.ledger.call("batch", *key)).collect();
        let call_of = |key: u8| calls[keys.iter().position(|other| *other == key).expect("it was asked for")];
        let result = surviving(|| {
            self.cache.try_get_or_create_multi(&keys, |asked| {
                let creations: Vec<Creation> =
                    asked.iter().map(|key| self.ledger.creation(call_of(**key), Watch::Gated)).collect();
                for _ in 0..making.switches {
                    shuttle::thread::yield_now();
                }
                let made: Result<Vec<Value>, Trouble> =
                    creations.iter().map(|creation| finish(creation, making)).collect();
                made.map_err(|_| self.ledger.trouble_of_many()).map(|mut made| {
                    made.truncate(if short { made.len() - 1 } else { made.len() });
                    made
                })
            })
        });
        match result {
            Some(Ok(found)) => {
                self.ledger.check(found.len() == keys.len(), "a batch returns a value for each key");
                calls.iter().zip(&found).for_each(|(call, found)| self.ledger.saw(*call, found));
            }
            // Of whichever key.
            Some(Err(CreateError::Creator(_))) | None => {}
            Some(Err(error)) => self.judge(calls[0], Err(&error), false),
        }
    }

    /// What a task does.
    async fn act_async(self: &Arc<Self>, dice: &mut Dice) {
        if self.change(dice) {
            return;
        }
        let key = self.key(dice);
        let making = self.making(dice);
        let policy = self.policy(dice);
        let with = self.cache.with(policy.unwrap_or(&self.cache_only));
        let patience = (self.plan.drops && dice.one_in(3)).then(|| dice.below(8) as u32);
        match dice.below(12) {
            0..=2 => {
                let call = self.ledger.call("async", key);
                let watch = self.watch(policy);
                let making = if matches!(making.end, End::Error) {
                    Making { end: End::Value, ..making }
                } else {
                    making
                };
                let making = Making { inner: None, ..making };
                let create = async move {
                    match self.make_async(call, watch, making).await {
                        Ok(value) => value,
                        Err(_) => unreachable!("it was not to fail"),
                    }
                };
                let ended = Self::may_go(patience, async {
                    match policy {
                        None => self.cache.get_or_create_async(&key, create).await,
                        Some(_) => with.get_or_create_async(&key, create).await,
                    }
                })
                .await;
                if let Ended::With(found) = ended {
                    self.ledger.saw(call, &found);
                }
            }
            3..=6 => {
                let call = self.ledger.call("try async", key);
                let create = self.make_async(call, Watch::Gated, making);
                let ended = Self::may_go(patience, async {
                    match policy {
                        None => self.cache.try_get_or_create_async(&key, create).await,
                        Some(_) => with.try_get_or_create_async(&key, create).await,
                    }
                })
                .await;
                if let Ended::With(result) = ended {
                    self.judge(call, result.as_deref(), false);
                }
            }
            7..=9 => {
                let call = self.ledger.call("detached async", key);
                let create = {
                    let world = Arc::clone(self);
                    async move { world.make_async(call, Watch::Gated, making).await }
                };
                // What was handed on goes on without its caller.
                let detached = self.cache.try_get_or_create_detached_async(&key, create);
                let ended = Self::may_go(patience, detached).await;
                if let Ended::With(result) = ended {
                    self.judge(call, result.as_deref(), false);
                }
            }
            _ => self.batch_async(dice, making, patience).await,
        }
    }

    async fn batch_async(&self, dice: &mut Dice, making: Making, patience: Option<u32>) {
        let keys = self.keys(dice);
        let calls: Vec<Call> = keys.iter().map(|key| self.ledger.call("batch async", *key)).collect();
        let call_of = |key: u8| calls[keys.iter().position(|other| *other == key).expect("it was asked for")];
        let create = |asked: Vec<&u8>| {
            let asked: Vec<Call> = asked.into_iter().map(|key| call_of(*key)).collect();
            async move {
                let creations: Vec<Creation> =
                    asked.into_iter().map(|call| self.ledger.creation(call, Watch::Gated)).collect();
                for _ in 0..making.switches {
                    shuttle::future::yield_now().await;
                }
                let made: Result<Vec<Value>, Trouble> =
                    creations.iter().map(|creation| finish(creation, making)).collect();
                made.map_err(|_| self.ledger.trouble_of_many())
            }
        };
        let gone = || TOTALS.dropped.add(1);
        let ended =
            Fickle::new(self.cache.try_get_or_create_multi_async(&keys, create), patience, gone).await;
        match ended {
            Ended::With(Ok(found)) => {
                self.ledger.check(found.len() == keys.len(), "a batch returns a value for each key");
                calls.iter().zip(&found).for_each(|(call, found)| self.ledger.saw(*call, found));
            }
            Ended::With(Err(CreateError::Creator(_))) | Ended::Panicked | Ended::Dropped => {}
            Ended::With(Err(error)) => self.judge(calls[0], Err(&error), false),
        }
    }

    /// A call of a task that may be dropped before its end: then it creates nothing any more.
    fn may_go<F: Future>(patience: Option<u32>, future: F) -> Fickle<F, impl FnMut()> {
        Fickle::new(future, patience, || TOTALS.dropped.add(1))
    }

    /// Everybody has gone.
    fn end(self) {
        let Self { cache, ledger, plan, .. } = &self;
        for key in 0..plan.keys {
            let made = ledger.created(key);
            ledger.check(!cache.key_is_locked(&key), "nobody is there, and a key is locked");
            ledger.check(cache.explain(&key).leader.is_none(), "nobody is there, and a key has a leader");
            ledger.check(!plan.is_calm() || made <= 1, "nothing went wrong, and a key was made twice");
            let call = ledger.call("in the end", key);
            let create = || ledger.creation(call, Watch::Gated).value();
            ledger.saw(call, &cache.get_or_create(&key, create));
            // There may have been a value, or an error that is remembered.
            cache.remove(&key);
            let before = ledger.created(key);
            ledger.saw(call, &cache.get_or_create(&key, create));
            ledger.check(ledger.created(key) == before + 1, "a key that has nothing is not made");
        }
        #[cfg(fuzzing)]
        {
            let valid = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.validate()));
            ledger.check(valid.is_ok(), "an invariant of the engine does not hold");
        }
        TOTALS.read(&cache.stats());
        let ledger = Arc::clone(ledger);
        drop(self);
        ledger.check(ledger.alive() == 0, "the cache has gone, and values are left");
    }
}

fn finish(creation: &Creation, making: Making) -> Result<Value, Trouble> {
    match making.end {
        End::Value => Ok(creation.value()),
        End::Error => Err(Trouble(creation.number)),
        End::Panic => planned_panic(),
    }
}
