//! Callers of a region while its values are written, deleted, invalidated and cleared.
//!
//! A *source* has a version for each key. Creators read it when they start; who changes it then writes, deletes or
//! invalidates what is cached. What is checked:
//!
//! - what is returned is never older than the source was when the newest such call had ended, before the caller's began: no
//!   invalidation is lost, whatever was being made meanwhile (H16);
//! - in a calm plan exactly one value is made for each key;
//! - every call ends, no key stays locked, and each can be made anew.

use crate::dice::Dice;
use crate::tasks::{Ended, Fickle, SomeTime, lock, planned_panic, surviving};
use crate::totals::{TOTALS, Total};
use dogpile::backend::MemoryBackend;
use dogpile::region::{How, Scope, SetOptions};
use dogpile::time::ManualClock;
use dogpile::{AsyncRegion, CreateError, Region, RegionPolicy};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WORKERS: u64 = 10;
const KEYS: [&str; 2] = ["a/1", "a/2"];
const TAG: &str = "tag";

/// Values that were not stored since newer state was there, over all executions.
pub(crate) static LATE: Total = Total::new();
/// Calls that changed the source.
pub(crate) static CHANGES: Total = Total::new();

#[derive(Clone, Copy, Debug)]
struct Plan {
    changes: bool,
    soft: bool,
    ages: bool,
    errs: bool,
    panics: bool,
    drops: bool,
}

impl Plan {
    fn is_calm(&self) -> bool {
        let Self { changes, soft: _, ages, errs, panics, drops } = *self;
        ![changes, ages, errs, panics, drops].contains(&true)
    }
}

/// What creators read, by key.
#[derive(Default)]
struct Source {
    version: u64,
    /// What callers must have from now on.
    floor: u64,
    made: u64,
    /// Changes that are under way. One that sets is alone: what two callers set at once may come in any order.
    changing: u32,
    setting: bool,
}

struct World {
    region: Region,
    tasks: AsyncRegion,
    sources: [Mutex<Source>; 2],
    clock: ManualClock,
    plan: Plan,
}

#[derive(Debug)]
struct Trouble;

/// One execution.
pub(crate) fn run() {
    let mut dice = Dice::of_the_schedule();
    let is_calm = dice.one_in(8);
    let mut may = |n: u64| !is_calm && !dice.one_in(n);
    let plan =
        Plan { changes: may(6), soft: may(2), ages: may(2), errs: may(2), panics: may(2), drops: may(2) };
    let world = Arc::new(World::new(plan, &mut dice));
    let mut threads = Vec::new();
    let mut tasks = Vec::new();
    for worker in 0..WORKERS {
        let (world, mut dice) = (Arc::clone(&world), dice.split());
        if worker % 2 == 0 {
            threads.push(shuttle::thread::spawn(move || {
                for _ in 0..=dice.below(3) {
                    world.act(&mut dice);
                }
            }));
        } else {
            tasks.push(shuttle::future::spawn(async move {
                for _ in 0..=dice.below(3) {
                    world.act_async(&mut dice).await;
                }
            }));
        }
    }
    threads.into_iter().for_each(|thread| thread.join().expect("its panics were caught"));
    for task in tasks {
        shuttle::future::block_on(task).expect("nobody aborts it");
    }
    Arc::into_inner(world).expect("whoever used it has ended").end();
}

impl World {
    fn new(plan: Plan, dice: &mut Dice) -> Self {
        let clock = ManualClock::new();
        let mut policy = RegionPolicy::builder().timer(SomeTime::new(dice.split()));
        if plan.ages {
            policy = policy.fresh(Duration::from_nanos(100));
        }
        if dice.one_in(2) {
            // Stale values are of no use then: whoever needs one waits.
            policy = policy.stale(Duration::ZERO);
        }
        let backend = MemoryBackend::builder()
            .clock(clock.clone())
            .serialized(dice.one_in(3))
            .build()
            .expect("no setting contradicts another");
        let region = Region::builder()
            .backend(backend)
            .clock(clock.clone())
            .policy(policy.build().expect("no setting contradicts another"))
            .build()
            .expect("no setting contradicts another");
        let tasks = region.for_tasks().expect("it is configured");
        Self { region, tasks, sources: Default::default(), clock, plan }
    }

    fn floor(&self, key: usize) -> u64 {
        lock(&self.sources[key]).floor
    }

    /// The source changes; then `invalidate` is told; from when it has ended nobody may have what is older.
    fn note(&self, keys: std::ops::Range<usize>, version: Option<u64>, done: bool) -> u64 {
        let mut newest = 0;
        for key in keys {
            let mut source = lock(&self.sources[key]);
            if done {
                source.floor = source.floor.max(version.unwrap_or(source.floor));
            } else {
                source.version += 1;
            }
            newest = source.version;
        }
        newest
    }

    /// Changes the source of one key or of all, and what is cached. True: it did.
    fn change(&self, dice: &mut Dice) -> bool {
        if self.plan.ages && dice.one_in(6) {
            self.clock.advance(Duration::from_nanos(dice.pick(&[10, 60, 130])));
            return true;
        }
        if !self.plan.changes || !dice.one_in(3) {
            return false;
        }
        let kind = dice.below(7);
        let key = dice.below(2) as usize;
        let is_wide = kind >= 3;
        let keys = if is_wide { 0..2 } else { key..key + 1 };
        let sets = kind == 0;
        for key in keys.clone() {
            let source = lock(&self.sources[key]);
            if source.setting || sets && source.changing > 0 {
                return false;
            }
        }
        for key in keys.clone() {
            let mut source = lock(&self.sources[key]);
            source.changing += 1;
            source.setting = sets;
        }
        let versions: Vec<u64> = keys.clone().map(|key| self.note(key..key + 1, None, false)).collect();
        let how = if self.plan.soft && dice.one_in(2) { How::Soft } else { How::Hard };
        let name = KEYS[key];
        match kind {
            0 => self.region.set_with(name, versions[0], SetOptions::new().tags([TAG])).map(drop),
            1 => self.region.delete(name).map(drop),
            2 => self.region.invalidate(Scope::Key(name), how),
            3 => self.region.invalidate(Scope::Tag(TAG), how),
            4 => self.region.invalidate(Scope::Prefix("a/"), how),
            5 => self.region.invalidate(Scope::Region, how),
            _ => self.region.clear(),
        }
        .expect("memory does not fail");
        CHANGES.add(1);
        // Stale values may be served after a soft one: only reads of fresh values are held to it.
        let is_soft = how == How::Soft && (2..=5).contains(&kind);
        for (key, version) in keys.zip(versions) {
            if !is_soft {
                self.note(key..key + 1, Some(version), true);
            }
            let mut source = lock(&self.sources[key]);
            source.changing -= 1;
            if sets {
                source.setting = false;
            }
        }
        true
    }

    fn read_source(&self, key: usize) -> u64 {
        let mut source = lock(&self.sources[key]);
        source.made += 1;
        source.version
    }

    fn end_of_creation(&self, dice: &mut Dice, version: u64) -> Result<u64, Trouble> {
        match dice.below(5) {
            0 if self.plan.errs => Err(Trouble),
            1 if self.plan.panics => planned_panic(),
            _ => Ok(version),
        }
    }

    fn judge(&self, floor: u64, result: Result<Arc<u64>, CreateError<Trouble>>) {
        match result {
            Ok(version) => {
                assert!(*version >= floor, "an invalidation was lost: {version} came back, {floor} is newer");
            }
            Err(CreateError::Creator(_)) => assert!(self.plan.errs),
            Err(CreateError::LeaderPanicked) => assert!(self.plan.panics),
            Err(other) => panic!("{other}"),
        }
    }

    fn act(&self, dice: &mut Dice) {
        if self.change(dice) {
            return;
        }
        let key = dice.below(2) as usize;
        let floor = self.floor(key);
        if dice.one_in(4) {
            if let Some(version) = self.region.get::<u64>(KEYS[key]).expect("memory does not fail") {
                assert!(*version >= floor, "an invalidation was lost: {version} was read, {floor} is newer");
            }
            return;
        }
        let create = || {
            let version = self.read_source(key);
            for _ in 0..dice.below(4) {
                shuttle::thread::yield_now();
            }
            self.end_of_creation(dice, version)
        };
        let region = self.region.tagged([TAG]);
        if let Some(result) = surviving(|| region.try_get_or_create(KEYS[key], create)) {
            self.judge(floor, result);
        }
    }

    async fn act_async(&self, dice: &mut Dice) {
        if self.change(dice) {
            return;
        }
        let key = dice.below(2) as usize;
        let floor = self.floor(key);
        let patience = (self.plan.drops && dice.one_in(2)).then(|| dice.below(8) as u32);
        let create = async {
            let version = self.read_source(key);
            for _ in 0..dice.below(4) {
                shuttle::future::yield_now().await;
            }
            self.end_of_creation(dice, version)
        };
        let region = self.tasks.tagged([TAG]);
        let run = region.try_get_or_create(KEYS[key], create);
        let gone = || TOTALS.dropped.add(1);
        if let Ended::With(result) = Fickle::new(run, patience, gone).await {
            self.judge(floor, result);
        }
    }

    /// Everybody has gone.
    fn end(self) {
        let Self { region, sources, plan, .. } = &self;
        for (key, name) in KEYS.into_iter().enumerate() {
            assert!(!region.key_is_locked(name).expect("memory does not fail"), "nobody is there");
            let made = lock(&sources[key]).made;
            assert!(!plan.is_calm() || made <= 1, "nothing went wrong, and {made} values were made");
            let floor = self.floor(key);
            let last = region.try_get_or_create(name, || Ok::<_, Trouble>(self.read_source(key)));
            self.judge(floor, last);
        }
        LATE.add(region.stats().refused_late_writes);
    }
}
