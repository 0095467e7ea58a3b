//! Does everything to caches of all kinds for a long time, from many threads, and looks whether anything stays behind.
//!
//! Keys and values count themselves: when all caches have gone, as many were dropped as were made, each once, and each was
//! whole whenever somebody looked. Meanwhile the resident memory must not grow: it is compared between the second part of
//! the run and the last one, where a part is a minute, or a quarter of a shorter run; and so is what is allocated, which says
//! whether it is the allocator that keeps more. Prints both each minute; ends with 1 if one is wrong.
//!
//! Threads come and go every few seconds, because each leaves memory of its own behind for the next. One kind of caches
//! comes and goes, too.

#![deny(unsafe_code)]

#[expect(dead_code, reason = "the table's memory rows read more of it")]
mod allocator;

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use dogpile::time::{Clock as _, PreciseClock};
use dogpile::{Cache, Compute, Handle, InsertOptions, Policy};

const HELP: &str = "\
usage: soak [--minutes N | --seconds N] [--threads N] [--growth PERCENT]

Mixed operations on all kinds of caches from many threads. Ends with 1 if the memory grows by more than so much
(default: 2 %) after the first part of the run, or if not everything that was made is dropped, once.
";

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// glibc gives threads that come and go a heap each, up to eight for each core, and each has its own gaps: with what is
/// allocated the same, 30 MiB resident became 37 in five minutes. With one heap they stay (2026-11-21).
const ARENAS: &str = "MALLOC_ARENA_MAX";

const MS: Duration = Duration::from_millis(1);
/// How long a thread lives.
const LIFE: Duration = Duration::from_secs(7);
/// How long what runs in the background may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

// Relaxed: sums, and read for good when all threads have been joined.
static MADE: AtomicI64 = AtomicI64::new(0);
static DROPPED: AtomicI64 = AtomicI64::new(0);
static TORN: AtomicU64 = AtomicU64::new(0);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

const SEAL: u64 = 0x5ea1_ab1e_5ea1_ab1e;

/// What counts itself.
struct Counted {
    number: u64,
    /// Of a length of its own, so that the allocator has something to do.
    seal: Box<[u64]>,
}

impl Counted {
    fn new(number: u64) -> Self {
        MADE.fetch_add(1, Relaxed);
        let words = 1 + number as usize % 24;
        Self { number, seal: vec![SEAL ^ number; words].into_boxed_slice() }
    }

    fn check(&self) {
        let is_whole = self.seal.iter().all(|word| *word == SEAL ^ self.number);
        TORN.fetch_add(u64::from(!is_whole), Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.check();
        self.seal.fill(0);
        DROPPED.fetch_add(1, Relaxed);
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.check();
        Self::new(self.number)
    }
}

#[derive(Clone)]
struct Key(Counted);

impl Key {
    fn new(number: u64) -> Self {
        Self(Counted::new(number))
    }
}
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.number.hash(state);
    }
}
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}
impl Eq for Key {}

impl Borrow<u64> for Key {
    fn borrow(&self) -> &u64 {
        &self.0.number
    }
}

type Soaked = Cache<Key, Counted>;

/// Random numbers of one thread: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// More often a small one than a large one.
    fn key(&mut self, keys: u64) -> u64 {
        let (a, b) = (self.below(keys), self.below(keys));
        a.min(b)
    }
}

/// The caches, and what their listeners were told.
struct Caches {
    all: Vec<(Soaked, u64)>,
    making: Soaked,
    told: Arc<AtomicU64>,
}

impl Caches {
    fn new() -> Self {
        let told = Arc::new(AtomicU64::new(0));
        let listener = {
            let told = Arc::clone(&told);
            move |entry: Handle<Key, Counted>, _| {
                entry.check();
                told.fetch_add(1, Relaxed);
            }
        };
        let builder = Cache::<Key, Counted>::builder;
        let weigher = |_: &Key, value: &Counted| value.seal.len() as u32 * 8;
        let policy = Policy::builder()
            .fresh(40 * MS)
            .stale(200 * MS)
            .stale_if_error(100 * MS)
            .error_ttl(20 * MS)
            .hold_back(10 * MS)
            .build()
            .expect("a policy");
        let caches = [
            (builder().max_entries(10_000), 30_000),
            (builder().max_entries(1000).listener(listener.clone()), 3000),
            (builder().max_weight(400_000).weigher(weigher), 20_000),
            (
                builder().max_entries(5000).time_to_live(50 * MS).time_to_idle(20 * MS).listener(listener),
                8000,
            ),
            (builder().time_to_live(100 * MS), 4000),
            (builder(), 6000),
        ];
        Self {
            all: caches.into_iter().map(|(cache, keys)| (cache.build().expect("a cache"), keys)).collect(),
            making: builder().max_entries(2000).policy(policy).build().expect("a cache"),
            told,
        }
    }

    /// One thread's work, until it is time.
    fn work(&self, seed: u64, stop: impl Fn() -> bool) {
        let mut dice = Dice(seed);
        let mut held = Vec::new();
        while !stop() {
            for _ in 0..200 {
                let (cache, keys) = &self.all[dice.below(self.all.len() as u64) as usize];
                let key = dice.key(*keys);
                mixed(cache, key, &mut dice, &mut held);
            }
            for _ in 0..20 {
                let key = dice.key(3000);
                making(&self.making, key, &mut dice);
            }
            if dice.below(200) == 0 {
                passing(&mut dice);
            }
            if dice.below(500) == 0 {
                let (cache, _) = &self.all[dice.below(self.all.len() as u64) as usize];
                wide(cache, &mut dice);
            }
            OPERATIONS.fetch_add(220, Relaxed);
        }
    }
}

/// One operation on one key.
fn mixed(cache: &Soaked, key: u64, dice: &mut Dice, held: &mut Vec<Handle<Key, Counted>>) {
    match dice.below(100) {
        0..=44 => {
            let found = cache.get(&key);
            found.inspect(|found| found.check());
        }
        45..=64 => drop(cache.insert(Key::new(key), Counted::new(dice.roll()))),
        65..=69 => drop(cache.insert_if_absent(Key::new(key), Counted::new(dice.roll()))),
        70..=73 => {
            let options = InsertOptions::new().ttl(MS * dice.below(30) as u32);
            drop(cache.insert_with(Key::new(key), Counted::new(dice.roll()), options));
        }
        74..=87 => drop(cache.remove(&key)),
        88..=91 => {
            let roll = dice.roll();
            let decided = cache.compute(Key::new(key), |old| match (old, roll % 3) {
                (Some(_), 0) => Compute::Remove,
                (None, 0) => Compute::Keep,
                _ => Compute::Put(Counted::new(roll)),
            });
            decided.inspect(|value| value.check());
        }
        92..=94 => {
            let keys: Vec<u64> = (key..key + 16).collect();
            let pin = cache.pin();
            cache.get_multi(&keys, &pin).flatten().for_each(|found| found.value().check());
        }
        95..=97 => {
            // Handles that outlive their entries.
            held.extend(cache.get_handle(&key));
            if held.len() > 50 {
                let lot = dice.below(held.len() as u64) as usize;
                let last = held.swap_remove(lot);
                last.check();
                // The last handle of an entry may yield what is in it.
                drop(last.try_unwrap());
            }
        }
        98 => _ = cache.touch(&key),
        _ => _ = cache.expire_in(&key, Some(MS * dice.below(20) as u32)),
    }
}

/// What no creator says aloud.
struct Silent;

/// One value made on demand: by creators that succeed, fail, panic, are dropped half-way, or go on in the background.
fn making(cache: &Soaked, key: u64, dice: &mut Dice) {
    let lot = dice.roll();
    let make = move || {
        if lot.is_multiple_of(7) {
            thread::yield_now();
        }
        Counted::new(lot)
    };
    let key = &Key::new(key);
    match lot % 100 {
        0..=39 => cache.get_or_create(key, make).check(),
        40..=59 => {
            let tried =
                cache.try_get_or_create(key, || if lot.is_multiple_of(3) { Err(lot) } else { Ok(make()) });
            _ = tried.map(|found| found.check());
        }
        60..=64 => {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                cache.get_or_create(key, || resume_unwind(Box::new(Silent)));
            }));
            drop(panicked);
        }
        65..=84 => {
            // Whoever leads here is polled up to twice, and then dropped with what it made; waiters are left, too.
            let made = async {
                let half = Counted::new(lot);
                yield_once().await;
                half
            };
            let mut future = pin!(cache.get_or_create_async(key, made));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..1 + lot % 3 {
                if future.as_mut().poll(&mut context).is_ready() {
                    break;
                }
            }
        }
        85..=89 => {
            let keys: Vec<Key> = (0..8).map(|i| Key::new(key.0.number + i)).collect();
            let made = cache.get_or_create_multi(&keys, |missing| missing.iter().map(|_| make()).collect());
            made.iter().for_each(|value| value.check());
        }
        90 => cache.get_or_create_detached(key, make).check(),
        91..=95 => drop(cache.remove(key)),
        _ => drop(cache.insert(key.clone(), Counted::new(lot))),
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut yielded, true) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// Over a whole cache.
fn wide(cache: &Soaked, dice: &mut Dice) {
    match dice.below(12) {
        0 => cache.clear(),
        1..=4 => cache.iter().for_each(|entry| entry.check()),
        5 => cache.retain(|key, _| !key.0.number.is_multiple_of(3)),
        6 => cache.hottest(20).iter().for_each(|entry| entry.check()),
        7 if cache.capacity().is_some() => {
            let capacity = cache.capacity().unwrap_or(0);
            cache.resize(capacity / 2);
            cache.resize(capacity);
        }
        _ => cache.run_pending(),
    }
}

/// A cache that comes and goes; what is held of it goes later.
fn passing(dice: &mut Dice) {
    let cache = Soaked::new(300);
    (0..dice.below(600)).for_each(|key| drop(cache.insert(Key::new(key), Counted::new(dice.roll()))));
    let held = cache.get_handle(&dice.below(300));
    cache.clear();
    drop(cache);
    held.inspect(|held| held.check());
}

/// Bytes of this process that are in memory; none where the system does not say.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

struct Arguments {
    length: Duration,
    threads: u64,
    growth: f64,
}

fn parse() -> Option<Arguments> {
    let mut parsed = Arguments { length: Duration::from_secs(600), threads: 8, growth: 2.0 };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next()?;
        match flag.as_str() {
            "--minutes" => parsed.length = Duration::from_secs(60 * value.parse::<u64>().ok()?),
            "--seconds" => parsed.length = Duration::from_secs(value.parse().ok()?),
            "--threads" => parsed.threads = value.parse().ok()?,
            "--growth" => parsed.growth = value.parse().ok()?,
            _ => return None,
        }
    }
    (parsed.length >= Duration::from_secs(4) && parsed.threads > 0).then_some(parsed)
}

fn main() -> ExitCode {
    let Some(arguments) = parse() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    if std::env::var_os(ARENAS).is_none() {
        let again = std::env::current_exe().map(|soak| {
            std::process::Command::new(soak).args(std::env::args_os().skip(1)).env(ARENAS, "1").exec()
        });
        eprintln!("can't start anew: {again:?}");
        return ExitCode::FAILURE;
    }
    allocator::start_counting();
    let caches = Caches::new();
    let over = &AtomicBool::new(false);
    let memory = thread::scope(|scope| {
        for place in 0..arguments.threads {
            let caches = &caches;
            scope.spawn(move || {
                for life in 0.. {
                    if over.load(Relaxed) {
                        return;
                    }
                    // Lives of different lengths, so that not all end at once.
                    let end = PreciseClock.now().saturating_add(LIFE + 300 * MS * place as u32);
                    let is_over = || over.load(Relaxed) || PreciseClock.now() >= end;
                    thread::scope(|scope| _ = scope.spawn(|| caches.work(place << 32 | life, is_over)));
                }
            });
        }
        let memory = watch(&arguments, &caches);
        over.store(true, Relaxed);
        memory
    });
    let told = caches.told.load(Relaxed);
    drop(caches);
    // What runs in the background ends by itself.
    let give_up = PreciseClock.now().saturating_add(PATIENCE);
    while MADE.load(Relaxed) != DROPPED.load(Relaxed) && PreciseClock.now() < give_up {
        thread::yield_now();
    }

    let (made, dropped, torn) = (MADE.load(Relaxed), DROPPED.load(Relaxed), TORN.load(Relaxed));
    println!("made {made}, dropped {dropped}, torn {torn}, listeners were told of {told}");
    let mut is_flat = true;
    for (what, (early, late)) in memory {
        let growth = (late / early - 1.0) * 100.0;
        println!("{what} {:.2} MiB, then {:.2} MiB: {growth:+.2} %", early / MIB, late / MIB);
        if growth > arguments.growth {
            println!("FAILED: {what} grew by more than {} %", arguments.growth);
            is_flat = false;
        }
    }
    if made != dropped || torn != 0 || told == 0 {
        println!("FAILED: not everything was dropped once, and whole");
        return ExitCode::FAILURE;
    }
    if is_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const MIB: f64 = (1 << 20) as f64;

/// Looks on until the time is over. Returns means over the second part of it and over the last one: of what was resident,
/// where the system says so, and of what was allocated.
fn watch(arguments: &Arguments, caches: &Caches) -> Vec<(&'static str, (f64, f64))> {
    let part = (arguments.length / 4).min(Duration::from_secs(60));
    let start = PreciseClock.now();
    let (mut early, mut late) = (Vec::new(), Vec::new());
    let mut told = Duration::ZERO;
    loop {
        let gone = PreciseClock.now().saturating_duration_since(start);
        let now = (resident().unwrap_or(0) as f64, allocator::counts().held as f64);
        if (part..2 * part).contains(&gone) {
            early.push(now);
        }
        if gone + part >= arguments.length {
            late.push(now);
        }
        let is_over = gone >= arguments.length;
        if gone >= told + part || is_over {
            told = gone;
            let waiting: u64 = caches.all.iter().map(|(cache, _)| cache.stats().pending_reclaim).sum();
            println!(
                "{:5.0} s  {:7.1} MiB resident  {:7.1} MiB allocated  {:10} operations  {:7} alive  {waiting:6} wait to be freed",
                gone.as_secs_f64(),
                now.0 / MIB,
                now.1 / MIB,
                OPERATIONS.load(Relaxed),
                MADE.load(Relaxed) - DROPPED.load(Relaxed),
            );
        }
        if is_over {
            break;
        }
        // To look now and then; nothing depends on how long it is.
        thread::park_timeout(Duration::from_millis(200));
    }
    let mean = |samples: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| {
        samples.iter().map(pick).sum::<f64>() / samples.len().max(1) as f64
    };
    let both = |pick| (mean(&early, pick), mean(&late, pick));
    let mut means = vec![("allocated", both(|now| now.1))];
    if resident().is_some() {
        means.push(("resident", both(|now| now.0)));
    }
    means
}
