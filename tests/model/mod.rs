//! The plain model of a cache: a map, a clock, weights. Unit tests, property tests and the fuzzer share it.
//!
//! [`run`] drives a cache through operations and compares it with the model after every one. What an eviction policy
//! chooses the model does not know, but it knows what the policy may do: the listener names each entry that leaves, and
//! the model judges whether it was allowed to, at that moment, for that cause. So the model always knows what is in the
//! cache, down to expired entries that nobody has swept out, and every answer has one right value.
//!
//! Without a listener (caches then take other paths) the model looks which entries have gone, and knows of expired ones
//! only that they may still be there.
//!
//! # What holds
//! - **An entry is what was last put in**, or it is absent. What has left never comes back.
//! - **Nothing leaves without need**: an entry is evicted only while entries, or weights, exceed the capacity.
//! - **A newcomer is not its own victim**, and what fits is there when `insert` returns.
//! - **At exactly its deadline an entry is expired**, and it is then reported as expired, whoever takes it out.
//! - **Every version leaves once**, with the right cause, and is dropped once, and never before guards let it go.
//!
//! The file that includes this one imports the crate under test as `lib`.

pub(crate) mod hashing;

use super::lib::time::{Clock, Instant, ManualClock, PreciseClock};
use super::lib::{
    Cache, CacheBuilder, Compute, Handle, InsertOptions, Inserted, Pinned, RandomState, Ref, RemovalCause,
};
use hashing::{BadHash, Dice, Hashing};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::future::Future as _;
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The cache under test.
pub(crate) type Subject<K, S> = Cache<K, Value, S>;

/// Looks into a cache after each step: `validate` where it can be reached, else nothing.
pub(crate) trait Inspect {
    fn inspect<K, V, S>(cache: &Cache<K, V, S>);
}

/// Keys of the model are numbers; the cache's are made of them.
pub(crate) trait Key: Clone + Eq + Hash + Send + Sync + 'static {
    fn of(number: u16) -> Self;
    fn number(&self) -> u16;
}

impl Key for u16 {
    fn of(number: u16) -> Self {
        number
    }
    fn number(&self) -> u16 {
        *self
    }
}

impl Key for String {
    fn of(number: u16) -> Self {
        // With what keys of strangers may have in them; some of them long, and all with a destructor.
        format!("{number}\0\r\n{}", "é".repeat(if number.is_multiple_of(5) { 200 } else { 0 }))
    }
    fn number(&self) -> u16 {
        self.split('\0').next().and_then(|digits| digits.parse().ok()).expect("made by `of`")
    }
}

/// How often each version was dropped.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<u32>>>);

impl Ledger {
    fn is_dropped(&self, version: u64) -> bool {
        self.0.lock().unwrap()[version as usize] != 0
    }
    fn alive(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|drops| **drops == 0).count()
    }
}

const SEAL: u64 = 0x5ea1_ab1e_5ea1_ab1e;

/// A value that knows which version of which key it is, and tells when it is dropped.
pub(crate) struct Value {
    key: u16,
    version: u64,
    weight: u32,
    lifetime: Option<Duration>,
    /// On the heap, so that a use after free does not look right.
    seal: Box<u64>,
    ledger: Ledger,
    is_copy: bool,
}

impl Value {
    fn check(&self) {
        assert_eq!(*self.seal, SEAL ^ self.version ^ u64::from(self.key) << 48, "a value is torn or dead");
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        self.check();
        let (seal, ledger) = (self.seal.clone(), self.ledger.clone());
        Self { seal, ledger, is_copy: true, ..*self }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.check();
        if !self.is_copy {
            self.ledger.0.lock().unwrap()[self.version as usize] += 1;
        }
        *self.seal = 0;
    }
}

/// What bounds the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    None,
    Entries(u64),
    Weight(u64),
}

/// One cell of the configuration matrix.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) limit: Limit,
    pub(crate) shards: usize,
    pub(crate) hashing: Hashing,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) time_to_idle: Option<Duration>,
    /// Values say how long they live.
    pub(crate) by_value: bool,
    pub(crate) has_listener: bool,
    pub(crate) text_keys: bool,
    /// How many keys there are.
    pub(crate) keys: u16,
}

/// The grain of most times here. A time to idle may end 1/32 of it early: less than one such step, so that whole steps
/// are exact.
const STEP: Duration = Duration::from_millis(1);
pub(crate) const TTL: Duration = Duration::from_millis(50);
pub(crate) const TTI: Duration = Duration::from_millis(20);
const LIMITS: [Limit; 9] = [
    Limit::None,
    Limit::Entries(0),
    Limit::Entries(1),
    Limit::Entries(2),
    Limit::Entries(7),
    Limit::Entries(100),
    Limit::Weight(1),
    Limit::Weight(60),
    Limit::Weight(1000),
];
const SHARDS: [usize; 3] = [1, 4, 16];
const HASHINGS: [Hashing; 4] = [Hashing::Seeded, Hashing::Weak, Hashing::Constant, Hashing::Colliding];
const TIMES: [(Option<Duration>, Option<Duration>, bool); 5] = [
    (None, None, false),
    (Some(TTL), None, false),
    (None, Some(TTI), false),
    (Some(TTL), Some(TTI), false),
    (None, None, true),
];
const KEYS: [u16; 3] = [12, 40, 130];

impl Config {
    /// A configuration from any bytes.
    pub(crate) fn decode(raw: [u8; 7]) -> Self {
        let [limit, shards, hashing, times, listener, text, keys] = raw.map(usize::from);
        let (time_to_live, time_to_idle, by_value) = TIMES[times % TIMES.len()];
        Self {
            limit: LIMITS[limit % LIMITS.len()],
            shards: SHARDS[shards % SHARDS.len()],
            hashing: HASHINGS[hashing % HASHINGS.len()],
            time_to_live,
            time_to_idle,
            by_value,
            has_listener: listener % 4 != 3,
            text_keys: text % 2 == 1,
            keys: KEYS[keys % KEYS.len()],
        }
    }

    /// The matrix: limits, shards, hashers, times, with and without listener, both kinds of keys. Few keys in the small
    /// caches, many in the others.
    pub(crate) fn matrix() -> impl Iterator<Item = Self> {
        let cells = LIMITS.len() * SHARDS.len() * HASHINGS.len() * TIMES.len() * 4;
        (0..cells).map(|cell| {
            let mut rest = cell;
            let mut digit = |base: usize| {
                let digit = rest % base;
                rest /= base;
                digit as u8
            };
            let (limit, shards, hashing, times) =
                (digit(LIMITS.len()), digit(SHARDS.len()), digit(HASHINGS.len()), digit(TIMES.len()));
            let (listener, text) = (digit(2), digit(2));
            let keys = (limit + shards + times) % KEYS.len() as u8;
            Self::decode([limit, shards, hashing, times, listener * 3, text, keys])
        })
    }
}

/// What is done to the cache. Times are from now.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Insert {
        key: u16,
        weight: u32,
        lifetime: Option<Duration>,
    },
    InsertWith {
        key: u16,
        weight: u32,
        ttl: Option<Duration>,
        own: Option<u32>,
    },
    InsertIfAbsent {
        key: u16,
        weight: u32,
    },
    InsertIfAbsentWith {
        key: u16,
        weight: u32,
        ttl: Option<Duration>,
        own: Option<u32>,
    },
    /// That many keys from `key` on.
    Fill {
        key: u16,
        count: u16,
        weight: u32,
    },
    /// Looks the value up, and makes it if it is not there.
    Create {
        key: u16,
        weight: u32,
        end: End,
    },
    ComputeKeep {
        key: u16,
    },
    ComputePut {
        key: u16,
        weight: u32,
    },
    ComputeRemove {
        key: u16,
    },
    Remove {
        key: u16,
    },
    RemoveIf {
        key: u16,
        yes: bool,
    },
    /// Keeps the keys that `modulus` does not divide.
    Retain {
        modulus: u16,
    },
    Get {
        key: u16,
    },
    GetCloned {
        key: u16,
    },
    GetIn {
        key: u16,
    },
    GetMulti {
        key: u16,
        count: u16,
    },
    Touch {
        key: u16,
    },
    ExpireIn {
        key: u16,
        span: Option<Duration>,
    },
    ExpireAt {
        key: u16,
        span: Option<Duration>,
        before: bool,
    },
    Clear,
    Resize {
        capacity: u64,
    },
    RunPending,
    Advance {
        span: Duration,
    },
    /// The clock jumps backwards.
    Rewind {
        span: Duration,
    },
    Hottest {
        n: usize,
    },
    Coldest {
        n: usize,
    },
    /// A borrow that is kept.
    Hold {
        key: u16,
    },
    LetGo {
        which: usize,
    },
    /// A handle that is kept.
    Take {
        key: u16,
    },
    GiveBack {
        which: usize,
    },
    Pin,
    Unpin,
}

/// What becomes of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Made,
    Failed,
    Panicked,
    /// Its future is polled and dropped.
    Dropped,
    /// Its own key is removed meanwhile.
    Removed,
}

const ENDS: [End; 8] =
    [End::Made, End::Made, End::Made, End::Made, End::Failed, End::Panicked, End::Dropped, End::Removed];

impl Op {
    /// An operation from any bytes. Smaller numbers are simpler operations.
    pub(crate) fn decode((kind, key, x, y): (u8, u16, u8, u8)) -> Self {
        let heavy = [60, 61, 999, 1000, u32::MAX];
        let weight = match x {
            0..=127 => u32::from(x % 8),
            128..=239 => u32::from(x % 32),
            _ => heavy[usize::from(y) % heavy.len()],
        };
        let span = match y {
            0..=9 => Duration::MAX,
            10..=19 => Duration::ZERO,
            20..=39 => Duration::from_nanos(u64::from(x) + 1),
            _ => STEP * u32::from(y % 64),
        };
        let spanned = (y % 3 != 0).then_some(span);
        let own = (x % 5 == 0).then_some(weight / 2);
        let pick = usize::from(x);
        match kind {
            0..=24 => Self::Insert { key, weight, lifetime: spanned },
            25..=39 => Self::Create { key, weight, end: ENDS[usize::from(y) % ENDS.len()] },
            40..=54 => Self::InsertWith { key, weight, ttl: spanned, own },
            55..=62 => Self::InsertIfAbsent { key, weight },
            63..=69 => Self::InsertIfAbsentWith { key, weight, ttl: spanned, own },
            70..=77 => Self::Fill { key, count: u16::from(y) % 120, weight: u32::from(x) % 8 },
            78..=81 => Self::ComputeKeep { key },
            82..=91 => Self::ComputePut { key, weight },
            92..=96 => Self::ComputeRemove { key },
            97..=111 => Self::Remove { key },
            112..=117 => Self::RemoveIf { key, yes: x % 2 == 0 },
            118..=120 => Self::Retain { modulus: u16::from(x) % 7 + 1 },
            121..=140 => Self::Get { key },
            141..=145 => Self::GetCloned { key },
            146..=152 => Self::GetIn { key },
            153..=158 => Self::GetMulti { key, count: u16::from(x) % 70 },
            159..=164 => Self::Touch { key },
            165..=174 => Self::ExpireIn { key, span: spanned },
            175..=179 => Self::ExpireAt { key, span: spanned, before: x % 8 == 0 },
            180..=182 => Self::Clear,
            183..=187 => Self::Resize { capacity: [0, 1, 2, 5, 20, 100, 1000, u64::MAX][pick % 8] },
            188..=192 => Self::RunPending,
            193..=212 => Self::Advance { span: if y < 10 { Duration::from_secs(9) } else { span } },
            213..=214 => Self::Rewind { span: STEP * u32::from(y) },
            215..=217 => Self::Hottest { n: usize::from(y) },
            218..=220 => Self::Coldest { n: usize::from(y) },
            221..=232 => Self::Hold { key },
            233..=240 => Self::LetGo { which: pick },
            241..=246 => Self::Take { key },
            247..=250 => Self::GiveBack { which: pick },
            251..=252 => Self::Pin,
            253..=255 => Self::Unpin,
        }
    }
}

/// Operations that are the same in every run.
pub(crate) fn ops(seed: u64, count: usize) -> Vec<Op> {
    let mut dice = Dice(seed);
    (0..count)
        .map(|_| {
            let [a, b, c, d, e, ..] = dice.roll().to_le_bytes();
            Op::decode((a, u16::from_le_bytes([b, c]), d, e))
        })
        .collect()
}

/// An entry as the model sees it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    version: u64,
    weight: u32,
    lifetime: Option<Duration>,
    expiry: u64,
    idle: u64,
}

impl Entry {
    fn is_expired(&self, now: u64) -> bool {
        self.expiry <= now || self.idle <= now
    }
}

/// An entry that left, as the listener was told: version, key, cause.
type Departure = (u64, u16, RemovalCause);

#[derive(Default, Debug, PartialEq, Eq)]
struct Tally {
    hits: u64,
    misses: u64,
    insertions: u64,
    replacements: u64,
    evicted: u64,
    expired: u64,
    removed: u64,
    cleared: u64,
    refused: u64,
}

struct Run<'c, K, S> {
    config: &'c Config,
    cache: &'c Subject<K, S>,
    clock: ManualClock,
    log: Arc<Mutex<Vec<Departure>>>,
    ledger: Ledger,
    now: u64,
    capacity: Option<u64>,
    /// What is in the cache; without a listener, the fresh entries only.
    entries: HashMap<u16, Entry>,
    /// What a `clear` took and the listener has not been told of.
    cleared: HashSet<u64>,
    /// Without a listener: expired entries that may still be there, and what they weigh.
    perhaps: (u64, u64),
    tally: Tally,
    refs: Vec<(Ref<'c, K, Value>, u64)>,
    handles: Vec<(Handle<K, Value>, u64)>,
    pin: Option<Pinned<'c>>,
}

/// Names the step in which a run panicked.
struct Trace<'a>(usize, &'a [Op], &'a Config);

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.1.get(self.0);
            eprintln!("in step {} of {}, {last:?}, with {:?}", self.0, self.1.len(), self.2);
        }
    }
}

/// Drives a cache of that configuration through the operations.
pub(crate) fn run<I: Inspect>(config: &Config, ops: &[Op]) {
    match (config.hashing, config.text_keys) {
        (Hashing::Seeded, false) => run_with::<u16, _, I>(config, ops, RandomState::with_seed(1)),
        (Hashing::Seeded, true) => run_with::<String, _, I>(config, ops, RandomState::with_seed(2)),
        (bad, false) => run_with::<u16, _, I>(config, ops, BadHash(bad)),
        (bad, true) => run_with::<String, _, I>(config, ops, BadHash(bad)),
    }
}

fn build<K: Key, S: BuildHasher + 'static>(
    config: &Config,
    hasher: S,
    clock: &ManualClock,
    log: &Arc<Mutex<Vec<Departure>>>,
) -> Subject<K, S> {
    let mut builder: CacheBuilder<K, Value, S> = Cache::builder()
        .hasher(hasher)
        .shards(NonZeroUsize::new(config.shards).expect("at least one shard"))
        .clock(clock.clone());
    builder = match config.limit {
        Limit::None => builder,
        Limit::Entries(entries) => builder.max_entries(entries),
        Limit::Weight(weight) => builder.max_weight(weight).weigher(|_: &K, value: &Value| value.weight),
    };
    if let Some(time_to_live) = config.time_to_live {
        builder = builder.time_to_live(time_to_live);
    }
    if let Some(time_to_idle) = config.time_to_idle {
        builder = builder.time_to_idle(time_to_idle);
    }
    if config.by_value {
        builder = builder.expire_after(|_: &K, value: &Value| value.lifetime);
    }
    if config.has_listener {
        let log = Arc::clone(log);
        builder = builder.listener(move |entry: Handle<K, Value>, cause| {
            entry.check();
            assert_eq!(entry.key().number(), entry.value().key, "the listener gets the key with its value");
            log.lock().unwrap().push((entry.version, entry.value().key, cause));
        });
    }
    builder.build().expect("the configuration does not contradict itself")
}

fn run_with<K: Key, S: BuildHasher + 'static, I: Inspect>(config: &Config, ops: &[Op], hasher: S) {
    let (clock, ledger) = (ManualClock::new(), Ledger::default());
    // Not at the origin, so that clocks can go backwards.
    clock.advance(STEP * 1000);
    let log = Arc::new(Mutex::new(Vec::new()));
    let cache = build::<K, S>(config, hasher, &clock, &log);
    let mut trace = Trace(0, ops, config);
    let mut run = Run {
        config,
        cache: &cache,
        now: clock.now().as_nanos(),
        clock,
        log,
        ledger: ledger.clone(),
        capacity: match config.limit {
            Limit::None => None,
            Limit::Entries(capacity) | Limit::Weight(capacity) => Some(capacity),
        },
        entries: HashMap::new(),
        cleared: HashSet::new(),
        perhaps: (0, 0),
        tally: Tally::default(),
        refs: Vec::new(),
        handles: Vec::new(),
        pin: None,
    };
    run.compare();
    for op in ops {
        run.step(op);
        run.compare();
        I::inspect(&cache);
        trace.0 += 1;
    }
    run.finish();
    drop(run);
    I::inspect(&cache);
    drop(cache);
    let drops = ledger.0.lock().unwrap();
    assert!(drops.iter().all(|drops| *drops == 1), "each version is dropped once: {drops:?}");
}

fn after(now: u64, span: Duration) -> u64 {
    Instant::from_nanos(now).saturating_add(span).as_nanos()
}

impl<'c, K: Key, S: BuildHasher> Run<'c, K, S> {
    fn key(&self, key: u16) -> u16 {
        key % self.config.keys
    }

    fn fresh(&self, key: u16) -> Option<Entry> {
        self.entries.get(&key).copied().filter(|entry| !entry.is_expired(self.now))
    }

    fn value(&self, key: u16, weight: u32, lifetime: Option<Duration>) -> Value {
        let mut drops = self.ledger.0.lock().unwrap();
        let version = drops.len() as u64;
        drops.push(0);
        let seal = Box::new(SEAL ^ version ^ u64::from(key) << 48);
        Value { key, version, weight, lifetime, seal, ledger: self.ledger.clone(), is_copy: false }
    }

    /// The whole use of the capacity, with what may be there at the most.
    fn used(&self) -> u64 {
        let weights: u64 = self.entries.values().map(|entry| u64::from(entry.weight)).sum();
        weights + self.perhaps.1
    }

    fn lifetime(&self, lifetime: Option<Duration>) -> Option<Duration> {
        lifetime.filter(|_| self.config.by_value).or(self.config.time_to_live)
    }

    /// The entry that a value becomes, put in now.
    fn entry(&self, value: &Value, ttl: Option<Duration>, own: Option<u32>) -> Entry {
        let weight = match self.config.limit {
            Limit::Weight(_) => own.unwrap_or(value.weight).max(1),
            Limit::None | Limit::Entries(_) => 1,
        };
        let deadline = |span: Option<Duration>| span.map_or(u64::MAX, |span| after(self.now, span));
        Entry {
            version: value.version,
            weight,
            lifetime: value.lifetime,
            expiry: deadline(ttl.or(self.lifetime(value.lifetime))),
            idle: deadline(self.config.time_to_idle),
        }
    }

    fn fits(&self, entry: &Entry) -> bool {
        self.capacity.is_none_or(|capacity| u64::from(entry.weight) <= capacity)
    }

    /// The model's part of storing `entry` under `key`. Returns the fresh entry that was there.
    fn put(&mut self, key: u16, entry: Entry) -> Option<Entry> {
        let old = self.entries.remove(&key);
        let fresh = old.filter(|old| !old.is_expired(self.now));
        let mut expected = Vec::new();
        if let Some(old) = old {
            let cause = if fresh.is_some() { RemovalCause::Replaced } else { RemovalCause::Expired };
            expected.push((old.version, key, cause));
        }
        let newcomer = if self.fits(&entry) {
            self.entries.insert(key, entry);
            let count = if old.is_some() { &mut self.tally.replacements } else { &mut self.tally.insertions };
            *count += 1;
            Some(entry.version)
        } else {
            self.tally.refused += 1;
            None
        };
        self.settle(expected, newcomer);
        fresh
    }

    /// Takes out the fresh entry of `key` by the model, and expects to hear of it.
    fn take_out(&mut self, key: u16) {
        let old = self.entries.remove(&key);
        let expired = old.is_some_and(|old| old.is_expired(self.now));
        let cause = if expired { RemovalCause::Expired } else { RemovalCause::Removed };
        self.settle(old.map(|old| (old.version, key, cause)).into_iter().collect(), None);
    }

    /// Judges what left during the operation. `expected` must have left, for that cause; the others had to.
    fn settle(&mut self, expected: Vec<Departure>, newcomer: Option<u64>) {
        if !self.config.has_listener {
            return self.settle_unheard(newcomer);
        }
        let mut expected: HashMap<u64, Departure> = expected.into_iter().map(|gone| (gone.0, gone)).collect();
        let mut used = self.used();
        let departures = std::mem::take(&mut *self.log.lock().unwrap());
        for (version, key, cause) in departures {
            match cause {
                RemovalCause::Evicted => self.tally.evicted += 1,
                RemovalCause::Expired => self.tally.expired += 1,
                RemovalCause::Removed => self.tally.removed += 1,
                _ => {}
            }
            if let Some(gone) = expected.remove(&version) {
                assert_eq!(gone, (version, key, cause), "it leaves for that cause");
                continue;
            }
            if cause == RemovalCause::Cleared {
                assert!(
                    self.cleared.remove(&version),
                    "{version} of {key} was not cleared, or reported twice"
                );
                continue;
            }
            let entry = self.entries.remove(&key).filter(|entry| entry.version == version);
            let entry = entry.unwrap_or_else(|| panic!("{version} of {key} is not in the cache: {cause:?}"));
            match cause {
                RemovalCause::Evicted => {
                    let capacity = self.capacity.expect("an unbounded cache evicts nothing");
                    assert!(!entry.is_expired(self.now), "{key} had expired, and was evicted");
                    assert_ne!(newcomer, Some(version), "the newcomer is not its own victim");
                    assert!(used > capacity, "{key} was evicted at {used} of {capacity}");
                }
                RemovalCause::Expired => {
                    assert!(entry.is_expired(self.now), "{key} had not expired: {entry:?}")
                }
                cause => panic!("{key} left, nobody knows why: {cause:?}"),
            }
            used -= u64::from(entry.weight);
        }
        assert!(expected.is_empty(), "left and not reported: {expected:?}");
    }

    /// As `settle`, by looking who is still there.
    fn settle_unheard(&mut self, newcomer: Option<u64>) {
        let used = self.used();
        self.forget_expired();
        let (cache, before) = (self.cache, self.entries.len() as u64);
        self.entries.retain(|key, entry| {
            let stays = cache.contains_key(&K::of(*key));
            assert!(stays || newcomer != Some(entry.version), "the newcomer is not its own victim");
            stays
        });
        let gone = before - self.entries.len() as u64;
        self.tally.evicted += gone;
        if gone > 0 {
            let capacity = self.capacity.expect("an unbounded cache evicts nothing");
            assert!(used > capacity, "{gone} evicted at {used} of {capacity}");
            assert_eq!(self.tally.evicted, cache.stats().evicted, "as many are counted as have gone");
        }
    }

    fn forget_expired(&mut self) {
        let (now, perhaps) = (self.now, &mut self.perhaps);
        self.entries.retain(|_, entry| {
            if entry.is_expired(now) {
                perhaps.0 += 1;
                perhaps.1 += u64::from(entry.weight);
            }
            !entry.is_expired(now)
        });
    }

    /// Notes a use of `key`, and returns the entry that a look-up must find.
    fn look_up(&mut self, key: u16) -> Option<Entry> {
        let found = self.fresh(key);
        match found {
            Some(_) => self.tally.hits += 1,
            None => self.tally.misses += 1,
        }
        if found.is_some() {
            self.put_off_idle(key);
        }
        found
    }

    fn put_off_idle(&mut self, key: u16) {
        if let (Some(time_to_idle), Some(entry)) = (self.config.time_to_idle, self.entries.get_mut(&key)) {
            entry.idle = entry.idle.max(after(self.now, time_to_idle));
        }
    }

    fn insert_with(
        &mut self,
        key: u16,
        value: Value,
        ttl: Option<Duration>,
        own: Option<u32>,
        if_absent: bool,
    ) {
        let (key, entry) = (self.key(key), self.entry(&value, ttl, own));
        let mut options = InsertOptions::new();
        if let Some(ttl) = ttl {
            options = options.ttl(ttl);
        }
        if let Some(own) = own {
            options = options.weight(own);
        }
        let inserted = match (if_absent, ttl.is_some() || own.is_some()) {
            (false, _) => self.cache.insert_with(K::of(key), value, options),
            (true, true) => self.cache.insert_if_absent_with(K::of(key), value, options),
            (true, false) => self.cache.insert_if_absent(K::of(key), value),
        };
        if let (true, Some(there)) = (if_absent, self.fresh(key)) {
            match inserted {
                Inserted::Present { existing, rejected } => {
                    assert_eq!((existing.version, rejected.version), (there.version, entry.version));
                }
                _ => panic!("{key} is present"),
            }
            return self.settle(Vec::new(), None);
        }
        let fits = self.fits(&entry);
        let old = self.put(key, entry);
        match inserted {
            Inserted::Added => assert!(fits && old.is_none(), "added over {old:?}"),
            Inserted::Replaced(handle) => {
                assert!(fits, "{entry:?} does not fit");
                assert_eq!(Some(handle.version), old.map(|old| old.version), "the version before");
            }
            Inserted::Refused(handle) => {
                assert!(!fits, "{entry:?} fits");
                assert_eq!(handle.version, entry.version, "what is refused comes back");
            }
            _ => panic!("{key} is absent"),
        }
    }

    fn step(&mut self, op: &Op) {
        let cache = self.cache;
        match *op {
            Op::Insert { key, weight, lifetime } => self.insert(key, weight, lifetime),
            Op::Fill { key, count, weight } => {
                for key in key..key.saturating_add(count) {
                    self.insert(key, weight, None);
                }
            }
            Op::InsertWith { key, weight, ttl, own } => {
                let value = self.value(self.key(key), weight, None);
                self.insert_with(key, value, ttl, own, false);
            }
            Op::InsertIfAbsent { key, weight } => {
                let value = self.value(self.key(key), weight, None);
                self.insert_with(key, value, None, None, true);
            }
            Op::InsertIfAbsentWith { key, weight, ttl, own } => {
                let value = self.value(self.key(key), weight, None);
                self.insert_with(key, value, ttl, own, true);
            }
            Op::Create { key, weight, end } => self.create(key, weight, end),
            Op::ComputeKeep { key } => {
                let key = self.key(key);
                let there = self.fresh(key).map(|entry| entry.version);
                let (asked, kept) = self.compute(key, || Compute::Keep);
                assert_eq!((asked, kept), (there, there), "a computation sees and keeps what is there");
                self.settle(Vec::new(), None);
            }
            Op::ComputePut { key, weight } => {
                let key = self.key(key);
                let there = self.fresh(key).map(|entry| entry.version);
                let value = self.value(key, weight, None);
                let entry = self.entry(&value, None, None);
                let mut value = Some(value);
                let (asked, put) = self.compute(key, || Compute::Put(value.take().expect("asked once")));
                assert_eq!(asked, there, "a computation sees what is there");
                assert_eq!(put, Some(entry.version), "and returns what it made, stored or not");
                self.put(key, entry);
            }
            Op::ComputeRemove { key } => {
                let key = self.key(key);
                let there = self.fresh(key).map(|entry| entry.version);
                let (asked, left) = self.compute(key, || Compute::Remove);
                assert_eq!((asked, left), (there, None), "nothing is left");
                self.take_out(key);
            }
            Op::Remove { key } => {
                let key = self.key(key);
                let there = self.fresh(key).map(|entry| entry.version);
                let removed = cache.remove(&K::of(key)).map(|handle| handle.version);
                assert_eq!(removed, there, "what is removed comes back");
                self.take_out(key);
            }
            Op::RemoveIf { key, yes } => {
                let key = self.key(key);
                let there = self.fresh(key).map(|entry| entry.version);
                let mut asked = None;
                let removed = cache.remove_if(&K::of(key), |own, value| {
                    assert_eq!(own.number(), key);
                    asked = Some(value.version);
                    yes
                });
                assert_eq!(asked, there, "only what is fresh is asked about");
                assert_eq!(removed.map(|handle| handle.version), there.filter(|_| yes));
                if yes || there.is_none() {
                    self.take_out(key);
                } else {
                    self.settle(Vec::new(), None);
                }
            }
            Op::Retain { modulus } => {
                let mut seen = HashSet::new();
                cache.retain(|key, value| {
                    assert!(seen.insert(value.version), "{} is looked at twice", value.key);
                    !key.number().is_multiple_of(modulus)
                });
                let fresh: HashSet<u64> = self.fresh_versions();
                assert_eq!(seen, fresh, "all that is fresh is looked at");
                let goes =
                    |key: &u16, entry: &Entry| key.is_multiple_of(modulus) && fresh.contains(&entry.version);
                let expected = self.entries.iter().filter(|(key, entry)| goes(key, entry));
                let expected =
                    expected.map(|(key, entry)| (entry.version, *key, RemovalCause::Removed)).collect();
                self.entries.retain(|key, entry| !goes(key, entry));
                self.settle(expected, None);
            }
            Op::Get { key } => {
                let key = self.key(key);
                let expected = self.look_up(key);
                let found = cache.get(&K::of(key));
                self.matches(found.as_deref(), expected);
            }
            Op::GetCloned { key } => {
                let key = self.key(key);
                let expected = self.look_up(key);
                self.matches(cache.get_cloned(&K::of(key)).as_ref(), expected);
            }
            Op::GetIn { key } => {
                let key = self.key(key);
                let expected = self.look_up(key);
                let pin = cache.pin();
                let found = cache.get_in(&K::of(key), &pin);
                assert!(found.is_none_or(|found| found.key().number() == key));
                self.matches(found.map(|found| found.value()), expected);
            }
            Op::GetMulti { key, count } => {
                let keys: Vec<u16> = (key..key.saturating_add(count)).map(|key| self.key(key)).collect();
                let own: Vec<K> = keys.iter().map(|key| K::of(*key)).collect();
                let pin = cache.pin();
                let found: Vec<_> = cache.get_multi(&own, &pin).collect();
                assert_eq!(found.len(), keys.len(), "an answer for each key");
                for (key, found) in keys.into_iter().zip(found) {
                    let expected = self.look_up(key);
                    self.matches(found.map(|found| found.value()), expected);
                }
            }
            Op::Touch { key } => {
                let key = self.key(key);
                let fresh = self.fresh(key);
                assert_eq!(cache.touch(&K::of(key)), fresh.is_some(), "touch says whether {key} is there");
                if let Some(fresh) = fresh {
                    self.put_off_idle(key);
                    let expiry = self.lifetime(fresh.lifetime).map_or(u64::MAX, |span| after(self.now, span));
                    if expiry != u64::MAX {
                        self.entries.get_mut(&key).expect("fresh").expiry = expiry;
                    }
                }
            }
            Op::ExpireIn { key, span } => {
                let key = self.key(key);
                let there = self.fresh(key).is_some();
                assert_eq!(
                    cache.expire_in(&K::of(key), span),
                    there,
                    "expire_in says whether {key} is there"
                );
                if there {
                    let expiry = span.map_or(u64::MAX, |span| after(self.now, span));
                    self.entries.get_mut(&key).expect("fresh").expiry = expiry;
                }
            }
            Op::ExpireAt { key, span, before } => {
                let key = self.key(key);
                let there = self.fresh(key).is_some();
                let now = Instant::from_nanos(self.now);
                let at =
                    span.map(|span| if before { now.saturating_sub(span) } else { now.saturating_add(span) });
                assert_eq!(cache.expire_at(&K::of(key), at), there, "expire_at says whether {key} is there");
                if there {
                    self.entries.get_mut(&key).expect("fresh").expiry =
                        at.map_or(u64::MAX, Instant::as_nanos);
                }
            }
            Op::Clear => {
                self.tally.cleared += self.entries.len() as u64;
                let gone = self.entries.drain().map(|(_, entry)| entry.version);
                if self.config.has_listener {
                    self.cleared.extend(gone);
                } else {
                    gone.for_each(drop);
                    self.perhaps = (0, 0);
                }
                cache.clear();
                assert!(cache.is_empty());
                self.settle(Vec::new(), None);
            }
            Op::Resize { capacity } => {
                if let Some(own) = &mut self.capacity {
                    *own = capacity;
                }
                cache.resize(capacity);
                self.settle(Vec::new(), None);
            }
            Op::RunPending => {
                cache.run_pending();
                self.settle(Vec::new(), None);
                let now = self.now;
                assert!(
                    self.entries.values().all(|entry| !entry.is_expired(now)),
                    "expired ones are swept out"
                );
                self.perhaps = (0, 0);
            }
            Op::Advance { span } => {
                self.clock.advance(self.whole(span));
                self.now = self.clock.now().as_nanos();
                self.time_has_passed();
            }
            Op::Rewind { span } => {
                // Without a listener nobody knows whether what had expired comes back.
                if self.config.has_listener {
                    self.clock.set(Instant::from_nanos(self.now).saturating_sub(self.whole(span)));
                    self.now = self.clock.now().as_nanos();
                }
            }
            Op::Hottest { n } => self.ranked(cache.hottest(n), n),
            Op::Coldest { n } => self.ranked(cache.coldest(n), n),
            Op::Hold { key } => {
                let key = self.key(key);
                let expected = self.look_up(key);
                let found = cache.get(&K::of(key));
                self.matches(found.as_deref(), expected);
                // More than the hazard slots of a thread.
                if let (Some(found), true) = (found, self.refs.len() < 20) {
                    let version = found.version;
                    self.refs.push((found, version));
                }
            }
            Op::LetGo { which } => {
                if !self.refs.is_empty() {
                    drop(self.refs.swap_remove(which % self.refs.len()));
                }
            }
            Op::Take { key } => {
                let key = self.key(key);
                let expected = self.look_up(key);
                let found = cache.get_handle(&K::of(key));
                self.matches(found.as_deref(), expected);
                if let (Some(found), true) = (found, self.handles.len() < 20) {
                    let version = found.version;
                    self.handles.push((found.clone(), version));
                }
            }
            Op::GiveBack { which } => {
                if !self.handles.is_empty() {
                    drop(self.handles.swap_remove(which % self.handles.len()));
                }
            }
            Op::Pin => self.pin = Some(cache.pin()),
            Op::Unpin => self.pin = None,
        }
    }

    /// Whole steps in caches with a time to idle, where only those are exact.
    fn whole(&self, span: Duration) -> Duration {
        match self.config.time_to_idle {
            Some(_) => STEP * u32::try_from(span.as_millis()).unwrap_or(9000),
            None => span.min(STEP * 9000),
        }
    }

    fn time_has_passed(&mut self) {
        if !self.config.has_listener {
            self.forget_expired();
        }
    }

    fn create(&mut self, key: u16, weight: u32, end: End) {
        let key = self.key(key);
        let there = self.look_up(key);
        let value = self.value(key, weight, None);
        let entry = self.entry(&value, None, None);
        let (cache, own) = (self.cache, K::of(key));
        let called = Cell::new(false);
        let make = || {
            assert!(!called.replace(true), "a creator is called once");
            value
        };
        let found = match end {
            End::Made => Some(cache.get_or_create(&own, make).version),
            End::Removed => {
                let make = || {
                    assert!(cache.remove(&own).is_none(), "there is nothing to remove");
                    make()
                };
                Some(cache.get_or_create(&own, make).version)
            }
            End::Failed => {
                let tried = cache.try_get_or_create(&own, || {
                    drop(make());
                    Err("no")
                });
                match tried {
                    Ok(found) => Some(found.version),
                    Err(error) => {
                        assert_eq!(error.creator(), Some(&"no"));
                        None
                    }
                }
            }
            End::Panicked => {
                let call = || cache.get_or_create(&own, || resume_unwind(Box::new(make()))).version;
                catch_unwind(AssertUnwindSafe(call)).ok()
            }
            End::Dropped => {
                let make = async {
                    let _half = make();
                    std::future::pending().await
                };
                let mut future = pin!(cache.get_or_create_async(&own, make));
                match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(found) => Some(found.version),
                    Poll::Pending => None,
                }
            }
        };
        assert_eq!(called.get(), there.is_none(), "what is there is not made");
        let is_made = matches!(end, End::Made | End::Removed);
        let expected = there.map(|there| there.version).or(is_made.then_some(entry.version));
        assert_eq!(found, expected, "what is there, or what was made");
        if there.is_some() {
            self.settle(Vec::new(), None);
        } else if end == End::Made {
            self.put(key, entry);
        } else if end == End::Removed {
            // What would not fit is refused before anybody looks whether the key is as it was.
            self.tally.refused += u64::from(!self.fits(&entry));
            self.take_out(key);
        } else {
            self.settle(Vec::new(), None);
        }
    }

    fn insert(&mut self, key: u16, weight: u32, lifetime: Option<Duration>) {
        let key = self.key(key);
        let value = self.value(key, weight, lifetime);
        let entry = self.entry(&value, None, None);
        let refused = self.cache.insert(K::of(key), value).map(|handle| handle.version);
        assert_eq!(refused, (!self.fits(&entry)).then_some(entry.version), "what is refused comes back");
        self.put(key, entry);
    }

    /// What a computation was shown, and what it returned.
    fn compute(&self, key: u16, mut answer: impl FnMut() -> Compute<Value>) -> (Option<u64>, Option<u64>) {
        let mut asked = Vec::new();
        let after = self.cache.compute(K::of(key), |old| {
            asked.push(old.map(|value| value.version));
            answer()
        });
        assert_eq!(asked.len(), 1, "nobody interferes, so it is asked once");
        (asked[0], after.map(|handle| handle.version))
    }

    fn fresh_versions(&self) -> HashSet<u64> {
        let fresh = self.entries.values().filter(|entry| !entry.is_expired(self.now));
        fresh.map(|entry| entry.version).collect()
    }

    fn matches(&self, found: Option<&Value>, expected: Option<Entry>) {
        if let Some(value) = found {
            value.check();
        }
        assert_eq!(
            found.map(|value| value.version),
            expected.map(|entry| entry.version),
            "the version found"
        );
    }

    fn ranked(&self, found: Vec<Handle<K, Value>>, n: usize) {
        let fresh = self.fresh_versions();
        assert_eq!(found.len(), n.min(fresh.len()), "as many as there are, up to {n}");
        let versions: HashSet<u64> = found.iter().map(|handle| handle.version).collect();
        assert_eq!(versions.len(), found.len(), "each once");
        assert!(versions.is_subset(&fresh), "all of them fresh");
    }

    /// Compares everything that can be seen of the cache with the model, without a trace.
    fn compare(&self) {
        let cache = self.cache;
        for key in 0..self.config.keys {
            let expected = self.fresh(key);
            let own = K::of(key);
            let found = cache.peek(&own);
            self.matches(found.as_deref(), expected);
            assert_eq!(cache.contains_key(&own), expected.is_some());
            if let (Some(found), Some(expected)) = (found, expected) {
                assert_eq!((found.key().number(), found.value().key), (key, key));
                assert_eq!(found.entry().weight(), expected.weight);
                let expiry = found.entry().expires_at().map_or(u64::MAX, Instant::as_nanos);
                assert_eq!(expiry, expected.expiry, "the deadline of {key}");
            }
        }
        let iterated: Vec<u64> = cache.iter().map(|handle| handle.version).collect();
        assert_eq!(iterated.iter().copied().collect::<HashSet<_>>(), self.fresh_versions(), "iteration");
        assert_eq!(iterated.len(), self.fresh_versions().len(), "iteration yields each once");

        let (len, weight) = (self.entries.len() as u64, self.used());
        assert!((len..=len + self.perhaps.0).contains(&cache.len()), "{} of {len}, {self:?}", cache.len());
        assert!(
            (weight - self.perhaps.1..=weight).contains(&cache.weight()),
            "{} of {weight}",
            cache.weight()
        );
        assert_eq!(cache.is_empty(), matches!(cache.len(), 0));
        assert_eq!(cache.capacity(), self.capacity);
        if let Some(capacity) = self.capacity {
            assert!(cache.weight() <= capacity, "{} of {capacity}", cache.weight());
        }

        let stats = cache.stats();
        let seen = Tally {
            hits: stats.hits,
            misses: stats.misses,
            refused: stats.refused,
            insertions: stats.insertions,
            replacements: stats.replacements,
            evicted: stats.evicted,
            expired: stats.expired,
            removed: stats.removed,
            cleared: stats.cleared,
        };
        if self.config.has_listener {
            assert_eq!(seen, self.tally, "statistics");
        } else {
            let (seen, tally) = (seen, &self.tally);
            assert_eq!((seen.hits, seen.misses, seen.refused), (tally.hits, tally.misses, tally.refused));
        }
        assert_eq!(stats.panicked_drops, 0, "values check themselves when they are dropped");

        let refs = self.refs.iter().map(|(found, version)| (found.value(), *version));
        let handles = self.handles.iter().map(|(found, version)| (found.value(), *version));
        for (value, version) in refs.chain(handles) {
            value.check();
            assert_eq!(value.version, version, "what is held does not change");
            assert!(!self.ledger.is_dropped(version), "nor is it dropped");
        }
        assert!(
            self.entries.values().all(|entry| !self.ledger.is_dropped(entry.version)),
            "nor what is there"
        );
    }

    /// Lets go of everything. All that left must now be reported and dropped.
    fn finish(&mut self) {
        self.refs.clear();
        self.handles.clear();
        self.pin = None;
        let give_up = PreciseClock.now().saturating_add(Duration::from_secs(60));
        while PreciseClock.now() < give_up {
            self.step(&Op::RunPending);
            let is_free = self.cache.stats().pending_reclaim == 0;
            if is_free && self.cleared.is_empty() && self.ledger.alive() == self.entries.len() {
                break;
            }
            // Another test of this process is pinned just now.
            std::thread::yield_now();
        }
        self.compare();
        assert!(self.cleared.is_empty(), "cleared and never reported: {:?}", self.cleared);
        assert_eq!(self.ledger.alive(), self.entries.len(), "what left has been dropped, what stays has not");
        assert_eq!(self.cache.stats().pending_reclaim, 0, "nothing waits to be freed");
    }
}

impl<K, S> Debug for Run<'_, K, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("now", &self.now).field("entries", &self.entries).finish_non_exhaustive()
    }
}
