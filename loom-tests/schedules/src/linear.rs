//! Histories of a few callers on two keys, each checked to be linearizable.
//!
//! # The object
//! A key has a value or none, a *version* that every change raises, and *claims*: the creations of it that are under way,
//! each with the version that it began with. A claim is *current* while the key's version is still that one.
//!
//! | operation | answer | allowed if | then |
//! |---|---|---|---|
//! | get | what it has | always | |
//! | insert | what it had | always | it has the new value; a new version |
//! | insert if absent | what it had | always | if it had none: the new value; a new version |
//! | remove | what it had | always | it has none; a new version |
//! | clear | | always | the same for all keys |
//! | get or create | a value that others made | it has that value, or that value's claim is current | |
//! | | an error of others | that error's claim is current | |
//! | | "make it" | it has no value and no claim is current | a claim, with its version |
//! | | dropped | always | |
//! | renew (`refresh`) | a value that others made | it has that value, or that value's claim is current; and what gave it that value had not ended when this began | |
//! | | "make it" | no claim is current | a claim, with its version |
//! | the claim's end | made | always | if the claim is current: its value is the key's; a new version. Else nothing |
//! | | gave up (error, dropped) | always | |
//!
//! A call that leads is two operations: it ends the first when its creator begins, and begins the second when the creator
//! has ended. So this says all of what a creation may do: of the callers that miss together one leads, and no other until
//! it is done or its version has gone; its value is stored if nothing has changed the key since it began, *must* then be,
//! and *must not* be otherwise, though its callers get it; and whoever joins it joins it before the version has gone. A call
//! that is dropped, or whose creator errs, changes nothing.
//!
//! Not allowed for, and so not played: expiry, eviction, panics, limits of waiting (`crowd` has them).
//!
//! With one shard `clear` is one moment for both keys. With several it is one for each shard only, as documented: then each
//! key's history is checked by itself.

use crate::dice::Dice;
use crate::tasks::{Ended, Fickle, lock};
use crate::totals::Total;
use dogpile::{Cache, CreateError, InsertOptions, Inserted};
use shuttle::current::{TaskId, get_current_task};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::num::NonZero;
use std::sync::{Arc, Mutex};

type Hasher = BuildHasherDefault<DefaultHasher>;

const KEYS: usize = 2;
/// More, and some histories take seconds to check.
const CALLERS: usize = 4;
const CALLS: u64 = 4;

/// Histories that were checked, and those of them in which calls on one key overlapped.
pub(crate) static CHECKED: Total = Total::new();
pub(crate) static OVERLAPPING: Total = Total::new();
/// Operations, and those that began while another on the same key was under way.
pub(crate) static OPERATIONS: Total = Total::new();
pub(crate) static LATE: Total = Total::new();
pub(crate) static JOINED: Total = Total::new();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Get(usize),
    Insert(usize, u32),
    InsertIfAbsent(usize, u32),
    Remove(usize),
    Clear,
    GetOrCreate(usize),
    Renew(usize),
    Made(usize, u32),
    GaveUp(usize, u32),
}

impl Op {
    /// None: all.
    fn key(self) -> Option<usize> {
        match self {
            Self::Get(key) | Self::Remove(key) | Self::GetOrCreate(key) | Self::Renew(key) => Some(key),
            Self::Insert(key, _)
            | Self::InsertIfAbsent(key, _)
            | Self::Made(key, _)
            | Self::GaveUp(key, _) => Some(key),
            Self::Clear => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Nothing,
    Had(Option<u32>),
    Others(u32),
    OthersError(u32),
    MakeIt(u32),
    Dropped,
}

#[derive(Clone, Debug, Default)]
struct Key {
    value: Option<u32>,
    version: u32,
    /// (the number of its value, the version it began with)
    claims: Vec<(u32, u32)>,
}

impl Key {
    fn is_current(&self, number: u32) -> bool {
        self.claims.contains(&(number, self.version))
    }

    fn is_claimed(&self) -> bool {
        self.claims.iter().any(|(_, version)| *version == self.version)
    }

    fn set(&mut self, value: Option<u32>) -> Option<u32> {
        self.version += 1;
        std::mem::replace(&mut self.value, value)
    }

    fn claim(&mut self, number: u32) -> bool {
        if self.is_claimed() {
            return false;
        }
        self.claims.push((number, self.version));
        true
    }

    fn end(&mut self, number: u32) -> bool {
        let at = self.claims.iter().position(|(other, _)| *other == number);
        at.is_some_and(|at| self.claims.swap_remove(at).1 == self.version)
    }
}

/// The object, and how much of it a history is about.
#[derive(Clone, Debug, Default)]
struct Object([Key; KEYS]);

impl SequentialSpec for Object {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, _op: &Op) -> Ret {
        unreachable!("every operation of a history has returned")
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        match (*op, *ret) {
            (Op::Get(key), Ret::Had(had)) => self.0[key].value == had,
            (Op::Insert(key, number), Ret::Had(had)) => self.0[key].set(Some(number)) == had,
            (Op::InsertIfAbsent(key, _), Ret::Had(had @ Some(_))) => self.0[key].value == had,
            (Op::InsertIfAbsent(key, number), Ret::Had(None)) => self.0[key].set(Some(number)).is_none(),
            (Op::Remove(key), Ret::Had(had)) => self.0[key].set(None) == had,
            (Op::Clear, Ret::Nothing) => {
                for key in &mut self.0 {
                    key.set(None);
                }
                true
            }
            (Op::GetOrCreate(key) | Op::Renew(key), Ret::Others(number)) => {
                self.0[key].value == Some(number) || self.0[key].is_current(number)
            }
            (Op::GetOrCreate(key), Ret::OthersError(number)) => self.0[key].is_current(number),
            (Op::GetOrCreate(key), Ret::MakeIt(number)) => {
                self.0[key].value.is_none() && self.0[key].claim(number)
            }
            (Op::Renew(key), Ret::MakeIt(number)) => self.0[key].claim(number),
            (Op::GetOrCreate(_), Ret::Dropped) => true,
            (Op::Made(key, number), Ret::Nothing) => {
                if self.0[key].end(number) {
                    self.0[key].set(Some(number));
                }
                true
            }
            (Op::GaveUp(key, number), Ret::Nothing) => {
                self.0[key].end(number);
                true
            }
            (op, ret) => unreachable!("{op:?} is not answered by {ret:?}"),
        }
    }
}

type Tester = LinearizabilityTester<usize, Object>;

/// What was done, as it was done: a note is one step of the schedule.
struct History {
    testers: Vec<Tester>,
    /// The operation of each caller that is under way, and what it will make.
    running: [Option<Op>; CALLERS],
    overlap: bool,
    operations: u64,
    numbers: u32,
    /// The length of the log when the operation ended that stored, or did not store, a number.
    stored: HashMap<u32, usize>,
    begun: [usize; CALLERS],
    log: Vec<String>,
}

struct World {
    cache: Arc<Cache<usize, u32, Hasher>>,
    history: Arc<Mutex<History>>,
}

#[derive(Debug)]
struct Trouble(u32);

impl History {
    fn new(joint: bool) -> Self {
        let testers = if joint { 1 } else { KEYS };
        Self {
            testers: vec![Tester::new(Object::default()); testers],
            running: [None; CALLERS],
            overlap: false,
            operations: 0,
            numbers: 0,
            stored: HashMap::new(),
            begun: [0; CALLERS],
            log: Vec::new(),
        }
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// The testers that an operation is told to.
    fn of(&mut self, op: Op) -> &mut [Tester] {
        match op.key() {
            Some(key) if self.testers.len() > 1 => &mut self.testers[key..=key],
            _ => &mut self.testers,
        }
    }

    fn begin(&mut self, caller: usize, op: Op) {
        let meets = |other: &Op| op.key().is_none() || other.key().is_none() || op.key() == other.key();
        self.overlap |= self.running.iter().flatten().any(meets);
        self.operations += 1;
        self.running[caller] = Some(op);
        self.begun[caller] = self.log.len();
        self.log.push(format!("caller {caller} begins {op:?}"));
        for tester in self.of(op) {
            tester.on_invoke(caller, op).expect("a caller does one thing at a time");
        }
    }

    fn end(&mut self, caller: usize, ret: Ret) {
        let op = self.running[caller].take().expect("what ends has begun");
        self.log.push(format!("caller {caller} ends {op:?}: {ret:?}"));
        match (op, ret) {
            (Op::Insert(_, number) | Op::InsertIfAbsent(_, number) | Op::Made(_, number), _) => {
                self.stored.insert(number, self.log.len());
            }
            (Op::Renew(_), Ret::Others(number)) => {
                let was_there = self.stored.get(&number).is_some_and(|at| *at <= self.begun[caller]);
                assert!(!was_there, "a renewal is answered with an old value:\n  {}", self.log.join("\n  "));
            }
            _ => {}
        }
        for tester in self.of(op) {
            tester.on_return(caller, ret).expect("what ends has begun");
        }
    }
}

/// One caller's view of the history.
#[derive(Clone)]
struct Scribe {
    history: Arc<Mutex<History>>,
    caller: usize,
}

impl Scribe {
    fn number(&self) -> u32 {
        lock(&self.history).number()
    }

    fn note<T>(&self, op: Op, call: impl FnOnce() -> T, ret: impl FnOnce(&T) -> Ret) {
        lock(&self.history).begin(self.caller, op);
        let result = call();
        let ret = ret(&result);
        lock(&self.history).end(self.caller, ret);
    }

    /// The creator begins: the call was told to make it.
    fn claim(&self, number: u32) {
        lock(&self.history).end(self.caller, Ret::MakeIt(number));
    }

    fn claimed(&self, op: Op) {
        lock(&self.history).begin(self.caller, op);
    }

    /// A call that could create has ended. `own`: what its creator made, if it ran.
    fn end(&self, ran: bool, result: Result<u32, u32>) {
        let ret = match result {
            _ if ran => Ret::Nothing,
            Ok(number) => Ret::Others(number),
            Err(number) => Ret::OthersError(number),
        };
        let mut history = lock(&self.history);
        if let Ret::Others(_) = ret {
            JOINED.add(1);
        }
        history.end(self.caller, ret);
    }
}

/// The creator of one call.
struct Creator {
    scribe: Scribe,
    key: usize,
    number: u32,
    switches: u64,
    errs: bool,
    ran: Arc<Mutex<bool>>,
}

impl Creator {
    fn new(scribe: &Scribe, key: usize, dice: &mut Dice) -> Self {
        Self {
            scribe: scribe.clone(),
            key,
            number: scribe.number(),
            switches: dice.below(4),
            errs: dice.one_in(6),
            ran: Arc::default(),
        }
    }

    fn begin(&self) {
        *lock(&self.ran) = true;
        self.scribe.claim(self.number);
    }

    fn end(&self) -> Result<u32, Trouble> {
        let op = if self.errs { Op::GaveUp(self.key, self.number) } else { Op::Made(self.key, self.number) };
        self.scribe.claimed(op);
        if self.errs { Err(Trouble(self.number)) } else { Ok(self.number) }
    }

    fn run(&self) -> Result<u32, Trouble> {
        self.begin();
        for _ in 0..self.switches {
            shuttle::thread::yield_now();
        }
        self.end()
    }

    async fn run_async(&self) -> Result<u32, Trouble> {
        self.begin();
        for _ in 0..self.switches {
            shuttle::future::yield_now().await;
        }
        self.end()
    }
}

/// What the loader is to do for the call of a task.
type Loads = Arc<Mutex<HashMap<TaskId, Creator>>>;

/// One execution: a history, and its check.
pub(crate) fn run() {
    let mut dice = Dice::of_the_schedule();
    let joint = dice.one_in(2);
    let loads = Loads::default();
    let cache = Cache::builder()
        .hasher(Hasher::default())
        .shards(NonZero::new(if joint { 1 } else { 4 }).expect("not zero"))
        .try_loader({
            let loads = Arc::clone(&loads);
            move |_: &usize| {
                let me = get_current_task().expect("a loader runs in its caller's task");
                let creator = lock(&loads).remove(&me).expect("its caller said what to do");
                let made = creator.run();
                made.map_err(|trouble| std::io::Error::other(trouble.0.to_string()))
            }
        })
        .build()
        .expect("no setting contradicts another");
    let world = World { cache: Arc::new(cache), history: Arc::new(Mutex::new(History::new(joint))) };
    let clears = dice.one_in(2);
    let mut threads = Vec::new();
    let mut tasks = Vec::new();
    for caller in 0..CALLERS {
        let mut dice = dice.split();
        let scribe = Scribe { history: Arc::clone(&world.history), caller };
        let cache = Arc::clone(&world.cache);
        let loads = Arc::clone(&loads);
        if caller % 2 == 0 {
            threads.push(shuttle::thread::spawn(move || {
                for _ in 0..CALLS {
                    act(&cache, &scribe, clears, &loads, &mut dice);
                }
            }));
        } else {
            tasks.push(shuttle::future::spawn(async move {
                for _ in 0..CALLS {
                    act_async(&cache, &scribe, clears, &mut dice).await;
                }
            }));
        }
    }
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    for task in tasks {
        shuttle::future::block_on(task).expect("nobody aborts it");
    }
    LATE.add(world.cache.stats().refused_late_writes);
    let history = lock(&world.history);
    CHECKED.add(1);
    OVERLAPPING.add(u64::from(history.overlap));
    OPERATIONS.add(history.operations);
    if !history.testers.iter().all(Tester::is_consistent) {
        panic!("this history is not linearizable:\n  {}", history.log.join("\n  "));
    }
}

type Shared = Cache<usize, u32, Hasher>;

fn pick(dice: &mut Dice) -> usize {
    // Mostly the one.
    usize::from(dice.one_in(4))
}

/// What does not create. False: it is to be something that does.
fn plain(cache: &Shared, scribe: &Scribe, clears: bool, dice: &mut Dice) -> bool {
    let key = pick(dice);
    match dice.below(16) {
        0..=2 => scribe.note(Op::Get(key), || cache.get_cloned(&key), |got| Ret::Had(*got)),
        3 | 4 => {
            let number = scribe.number();
            let insert = || match cache.insert_with(key, number, InsertOptions::new()) {
                Inserted::Added => None,
                Inserted::Replaced(old) => Some(*old),
                other => panic!("an insertion that replaces: {other:?}"),
            };
            scribe.note(Op::Insert(key, number), insert, |old| Ret::Had(*old));
        }
        5 => {
            let number = scribe.number();
            let insert = || match cache.insert_if_absent(key, number) {
                Inserted::Added => None,
                Inserted::Present { existing, .. } => Some(*existing),
                other => panic!("an insertion of what is absent: {other:?}"),
            };
            scribe.note(Op::InsertIfAbsent(key, number), insert, |old| Ret::Had(*old));
        }
        6 | 7 => scribe.note(Op::Remove(key), || cache.remove(&key).map(|old| *old), |old| Ret::Had(*old)),
        8 if clears => scribe.note(Op::Clear, || cache.clear(), |()| Ret::Nothing),
        _ => return false,
    }
    true
}

fn act(cache: &Shared, scribe: &Scribe, clears: bool, loads: &Loads, dice: &mut Dice) {
    if plain(cache, scribe, clears, dice) {
        return;
    }
    let key = pick(dice);
    let creator = Creator::new(scribe, key, dice);
    let ran = Arc::clone(&creator.ran);
    if dice.one_in(4) {
        scribe.claimed(Op::Renew(key));
        let me = get_current_task().expect("a caller is a task");
        lock(loads).insert(me, Creator { errs: false, ..creator });
        let renewed = cache.refresh(&key).map(|new| *new);
        lock(loads).remove(&me);
        match renewed {
            Ok(number) => scribe.end(*lock(&ran), Ok(number)),
            Err(error) => {
                let said = error.creator().expect("only creators fail").to_string();
                scribe.end(*lock(&ran), Err(said.parse().expect("a number")));
            }
        }
    } else {
        scribe.claimed(Op::GetOrCreate(key));
        let result = cache.try_get_or_create(&key, || creator.run());
        scribe.end(*lock(&ran), numbered(result.as_deref()));
    }
}

fn numbered(result: Result<&u32, &CreateError<Trouble>>) -> Result<u32, u32> {
    result.copied().map_err(|error| error.creator().expect("only creators fail").0)
}

async fn act_async(cache: &Shared, scribe: &Scribe, clears: bool, dice: &mut Dice) {
    if plain(cache, scribe, clears, dice) {
        return;
    }
    let key = pick(dice);
    let creator = Creator::new(scribe, key, dice);
    let patience = dice.one_in(4).then(|| dice.below(6) as u32);
    scribe.claimed(Op::GetOrCreate(key));
    let gone = || {
        // Its creator will not run any more.
        if *lock(&creator.ran) {
            scribe.claimed(Op::GaveUp(key, creator.number));
        }
    };
    let ended = Fickle::new(cache.try_get_or_create_async(&key, creator.run_async()), patience, gone).await;
    let ran = *lock(&creator.ran);
    match ended {
        Ended::With(result) => scribe.end(ran, numbered(result.as_deref())),
        Ended::Dropped if ran => lock(&scribe.history).end(scribe.caller, Ret::Nothing),
        Ended::Dropped => lock(&scribe.history).end(scribe.caller, Ret::Dropped),
        Ended::Panicked => unreachable!("no creator here panics"),
    }
}
