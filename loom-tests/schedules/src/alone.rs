//! Sixteen callers, threads and tasks, on one gate without a cache: it guards a cell that its creators fill.
//!
//! Here there is one version at a time, whatever happens, so the claims are the strictest: never two creators at once; in
//! a calm plan exactly one; and nobody gets a value older than the newest that was there when the call began.

use crate::dice::Dice;
use crate::ledger::{Call, Ledger, Trouble, Value, Watch};
use crate::tasks::{Ended, Fickle, SomeTime, lock, planned_panic, surviving};
use crate::totals::TOTALS;
use dogpile::gate::{Dated, Gate};
use dogpile::time::{Clock as _, Instant, ManualClock};
use dogpile::{CreateError, Freshness, Policy};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WORKERS: u64 = 16;

#[derive(Clone, Copy, Debug)]
struct Plan {
    ages: bool,
    empties: bool,
    errs: bool,
    panics: bool,
    drops: bool,
    limits: bool,
}

impl Plan {
    fn is_calm(&self) -> bool {
        let Self { ages, empties, errs, panics, drops, limits } = *self;
        ![ages, empties, errs, panics, drops, limits].contains(&true)
    }
}

/// What the gate guards.
#[derive(Default)]
struct Cell {
    content: Option<(Value, Instant)>,
    /// The number after that of the newest value that was ever in it.
    newest: u64,
}

struct World {
    gate: Gate<Value>,
    cell: Mutex<Cell>,
    ledger: Arc<Ledger>,
    clock: ManualClock,
    plan: Plan,
    policy: Policy<Value>,
    fresh_only: Policy<Value>,
    hasty: Policy<Value>,
}

/// One execution.
pub(crate) fn run() {
    let mut dice = Dice::of_the_schedule();
    let is_calm = dice.one_in(8);
    let mut may = || !is_calm && dice.one_in(2);
    let plan = Plan { ages: may(), empties: may(), errs: may(), panics: may(), drops: may(), limits: may() };
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
    threads.into_iter().for_each(|thread| thread.join().expect("its panics were caught"));
    for task in tasks {
        shuttle::future::block_on(task).expect("nobody aborts it");
    }
    Arc::into_inner(world).expect("whoever used it has ended").end();
}

impl World {
    fn new(plan: Plan, dice: &mut Dice) -> Self {
        let (stale, if_error) = (dice.pick(&[0, 50, 1000]), dice.pick(&[0, 60]));
        let error_ttl = dice.one_in(3);
        let mut policy = |freshness: Freshness, wait: bool| {
            let mut builder = Policy::builder().freshness(freshness).timer(SomeTime::new(dice.split()));
            if plan.ages {
                builder = builder.fresh(Duration::from_nanos(100));
                builder = builder.stale_if_error(Duration::from_nanos(if_error));
                if freshness == Freshness::AllowStale {
                    builder = builder.stale(Duration::from_nanos(stale));
                }
            }
            if plan.errs && error_ttl {
                builder = builder.error_ttl(Duration::from_nanos(50));
            }
            if wait {
                builder = builder.wait(Duration::from_nanos(1));
            }
            builder.build().expect("no setting contradicts another")
        };
        Self {
            policy: policy(Freshness::AllowStale, false),
            fresh_only: policy(Freshness::WaitFresh, false),
            hasty: policy(Freshness::AllowStale, true),
            gate: Gate::new(),
            cell: Mutex::default(),
            ledger: Ledger::new(1, false),
            clock: ManualClock::new(),
            plan,
        }
    }

    fn read(&self) -> Option<Dated<Value>> {
        shuttle::thread::yield_now();
        let now = self.clock.now();
        let cell = lock(&self.cell);
        let (value, made) = cell.content.as_ref()?;
        Some(Dated { value: value.clone(), age: now.saturating_duration_since(*made) })
    }

    fn store(&self, value: &Value) {
        let now = self.clock.now();
        let mut cell = lock(&self.cell);
        let former = cell.content.replace((value.clone(), now));
        cell.newest = value.number + 1;
        drop(cell);
        drop(former);
    }

    fn end_of_creation(
        &self,
        dice: &mut Dice,
        number: u64,
        value: impl FnOnce() -> Value,
    ) -> Result<Value, Trouble> {
        match dice.below(4) {
            0 if self.plan.errs => Err(Trouble(number)),
            1 if self.plan.panics => planned_panic(),
            _ => {
                let value = value();
                self.store(&value);
                Ok(value)
            }
        }
    }

    fn change(&self, dice: &mut Dice) -> bool {
        match dice.below(8) {
            0 if self.plan.ages => self.clock.advance(Duration::from_nanos(dice.pick(&[10, 60, 130]))),
            1 if self.plan.empties => {
                let former = lock(&self.cell).content.take();
                drop(former);
            }
            _ => return false,
        }
        true
    }

    fn policy(&self, dice: &mut Dice) -> &Policy<Value> {
        match dice.below(4) {
            0 if self.plan.limits => &self.hasty,
            1 => &self.fresh_only,
            _ => &self.policy,
        }
    }

    fn newest(&self) -> u64 {
        lock(&self.cell).newest
    }

    fn judge(&self, call: Call, newest: u64, result: Result<Value, CreateError<Trouble>>) {
        match result {
            Ok(value) => {
                self.ledger.saw(call, &value);
                self.ledger.check(value.number + 1 >= newest, "a value older than one that was there before");
            }
            Err(CreateError::Creator(trouble)) => self.ledger.failed(call, trouble.0),
            Err(CreateError::LeaderPanicked) => {
                TOTALS.panicked.add(1);
                self.ledger.check(self.plan.panics, "a leader panicked that was not asked to");
            }
            Err(CreateError::TimedOut) => {
                self.ledger.check(self.plan.limits, "a wait ended that has no limit")
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn act(&self, dice: &mut Dice) {
        if self.change(dice) {
            return;
        }
        let policy = self.policy(dice);
        let newest = self.newest();
        let call = self.ledger.call("run", 0);
        let create = || {
            let creation = self.ledger.creation(call, Watch::Gated);
            for _ in 0..dice.below(4) {
                shuttle::thread::yield_now();
            }
            self.end_of_creation(dice, creation.number, || creation.value())
        };
        if let Some(result) = surviving(|| self.gate.run(|| self.read(), create, &self.clock, policy)) {
            self.judge(call, newest, result);
        }
    }

    async fn act_async(&self, dice: &mut Dice) {
        if self.change(dice) {
            return;
        }
        let policy = self.policy(dice);
        let patience = (self.plan.drops && dice.one_in(2)).then(|| dice.below(8) as u32);
        let newest = self.newest();
        let call = self.ledger.call("run async", 0);
        let read = || async {
            shuttle::future::yield_now().await;
            self.read()
        };
        let create = async {
            let creation = self.ledger.creation(call, Watch::Gated);
            for _ in 0..dice.below(4) {
                shuttle::future::yield_now().await;
            }
            self.end_of_creation(dice, creation.number, || creation.value())
        };
        let run = self.gate.run_async(read, create, &self.clock, policy);
        let gone = || TOTALS.dropped.add(1);
        if let Ended::With(result) = Fickle::new(run, patience, gone).await {
            self.judge(call, newest, result);
        }
    }

    /// Everybody has gone.
    fn end(self) {
        let Self { gate, ledger, .. } = &self;
        let made = ledger.created(0);
        ledger.check(!gate.is_locked(), "nobody is there, and the gate is locked");
        ledger.check(
            !self.plan.is_calm() || made == 1,
            "nothing went wrong, and not exactly one value was made",
        );
        let call = ledger.call("in the end", 0);
        let newest = self.newest();
        // An error of a type of its own, so that none is remembered for it.
        let create = || {
            let value = ledger.creation(call, Watch::Gated).value();
            self.store(&value);
            Ok::<_, std::convert::Infallible>(value)
        };
        match gate.run(|| self.read(), create, &self.clock, &self.policy) {
            Ok(value) => self.judge(call, newest, Ok(value)),
            Err(error) => ledger.check(false, &format!("nobody is there, and: {error}")),
        }
        let stats = gate.stats();
        TOTALS.leads.add(stats.leads);
        TOTALS.waits.add(stats.waits);
        TOTALS.timed_out.add(stats.timed_out);
        TOTALS.creations.add(stats.creations);
        TOTALS.failures.add(stats.failures);
        TOTALS.stale_served.add(stats.stale_served);
        TOTALS.hand_overs.add(stats.hand_overs);
        let ledger = Arc::clone(ledger);
        drop(self);
        ledger.check(ledger.alive() == 0, "the gate has gone, and values are left");
    }
}
