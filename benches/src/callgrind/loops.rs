//! The loops whose instructions are counted.
//!
//! Each comes in two variants: with the call, and with the call replaced by an exclusive or with its key. The difference,
//! divided by the number of iterations, is the price of the call.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::Arc;

use crate::keys::{Key, Order, Tally, value_of};
use crate::subjects::{
    DashMap, Dogpile, DogpileBatch, Hashbrown, Moka, OnDemand, Pace, Papaya, QuickCache, Setup, Subject,
};

/// Callgrind collects inside this function only; the name occurs in its mangled form too.
pub(super) const SECTION: &str = "measured_section";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Call,
    Baseline,
}

impl Variant {
    pub(crate) fn parse(text: &str) -> Option<Variant> {
        [Variant::Call, Variant::Baseline].into_iter().find(|variant| variant.name() == text)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Variant::Call => "call",
            Variant::Baseline => "baseline",
        }
    }
}

/// A loop that can be counted.
pub(super) struct Loop {
    pub(super) subject: &'static str,
    pub(super) operation: &'static str,
    run: fn(Variant),
}

impl Loop {
    /// Names the loop on the command line.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.subject, self.operation)
    }

    /// Whether limits are kept for it.
    pub(super) fn is_ours(&self) -> bool {
        self.subject == "dogpile"
    }
}

const ENTRIES: u64 = 800;
const CAPACITY: u64 = 1_024;
pub(super) const ITERATIONS: usize = 16_384;

pub(super) const CHECKS: &[Loop] = &[
    Loop { subject: "check", operation: "arc_clone_drop", run: arc_clone_drop },
    Loop { subject: "check", operation: "epoch_pin", run: epoch_pin },
];

pub(super) const LOOPS: &[Loop] = &[
    Loop { subject: "dogpile", operation: "get_hit", run: get_hit::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "get_miss", run: get_miss::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "get_miss_turned", run: get_miss_turned::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "contains_key", run: contains_key },
    Loop { subject: "dogpile", operation: "get_in", run: get_in },
    Loop { subject: "dogpile", operation: "get_multi", run: get_multi },
    Loop { subject: "dogpile", operation: "get_handle", run: get_handle },
    Loop { subject: "dogpile", operation: "get_handle_text", run: get_handle_text },
    Loop { subject: "dogpile", operation: "region_get", run: region_get },
    Loop { subject: "dogpile", operation: "region_get_or_create", run: region_get_or_create },
    Loop { subject: "dogpile", operation: "get_or_create", run: get_or_create::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "replace", run: replace::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "insert", run: insert::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "insert_unbounded", run: insert_unbounded::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "create", run: create::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "churn", run: churn::<Dogpile<u64>> },
    Loop { subject: "hashbrown", operation: "get_hit", run: get_hit::<Hashbrown<u64>> },
    Loop { subject: "hashbrown", operation: "get_miss", run: get_miss::<Hashbrown<u64>> },
    Loop { subject: "hashbrown", operation: "replace", run: replace::<Hashbrown<u64>> },
    Loop { subject: "hashbrown", operation: "insert", run: insert::<Hashbrown<u64>> },
    Loop { subject: "quick_cache", operation: "get_hit", run: get_hit::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "get_miss", run: get_miss::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "get_miss_turned", run: get_miss_turned::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "replace", run: replace::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "insert", run: insert::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "get_or_create", run: get_or_create::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "create", run: create::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "churn", run: churn::<QuickCache<u64>> },
    Loop { subject: "moka", operation: "get_hit", run: get_hit::<Moka<u64>> },
    Loop { subject: "moka", operation: "get_miss", run: get_miss::<Moka<u64>> },
    Loop { subject: "moka", operation: "replace", run: replace::<Moka<u64>> },
    Loop { subject: "moka", operation: "insert", run: insert::<Moka<u64>> },
    Loop { subject: "moka", operation: "churn", run: churn::<Moka<u64>> },
    Loop { subject: "papaya", operation: "get_hit", run: get_hit::<Papaya<u64>> },
    Loop { subject: "papaya", operation: "get_miss", run: get_miss::<Papaya<u64>> },
    Loop { subject: "papaya", operation: "replace", run: replace::<Papaya<u64>> },
    Loop { subject: "papaya", operation: "insert_unbounded", run: insert_unbounded::<Papaya<u64>> },
    Loop { subject: "papaya", operation: "insert", run: insert::<Papaya<u64>> },
    Loop { subject: "dashmap", operation: "get_hit", run: get_hit::<DashMap<u64>> },
    Loop { subject: "dashmap", operation: "get_miss", run: get_miss::<DashMap<u64>> },
    Loop { subject: "dashmap", operation: "replace", run: replace::<DashMap<u64>> },
    Loop { subject: "dashmap", operation: "insert", run: insert::<DashMap<u64>> },
];

/// Loops over tables far larger than a first-level cache, for its misses and not for instructions.
pub(super) const LARGE_LOOPS: &[Loop] = &[
    Loop { subject: "check", operation: "one_line", run: one_line },
    Loop { subject: "dogpile", operation: "large_hit", run: large_hit::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "large_miss", run: large_miss::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "large_miss_turned", run: large_miss_turned },
    Loop { subject: "dogpile", operation: "large_replace", run: large_replace::<Dogpile<u64>> },
    Loop { subject: "dogpile", operation: "large_churn", run: large_churn::<Dogpile<u64>> },
    Loop { subject: "hashbrown", operation: "large_hit", run: large_hit::<Hashbrown<u64>> },
    Loop { subject: "hashbrown", operation: "large_miss", run: large_miss::<Hashbrown<u64>> },
    Loop { subject: "quick_cache", operation: "large_hit", run: large_hit::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "large_miss", run: large_miss::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "large_replace", run: large_replace::<QuickCache<u64>> },
    Loop { subject: "quick_cache", operation: "large_churn", run: large_churn::<QuickCache<u64>> },
];

/// Runs one loop: what the child process does.
pub(crate) fn run_loop(name: &str, variant: Variant) {
    let chosen = CHECKS.iter().chain(LOOPS).chain(LARGE_LOOPS).find(|candidate| candidate.name() == name);
    (chosen.expect("the parent names a known loop").run)(variant);
}

#[inline(never)]
fn measured_section(work: &mut dyn FnMut() -> Tally) -> Tally {
    black_box(work())
}

/// Calls `call` with each key inside the measured section, or what the loop alone does.
#[inline(always)]
fn drive(variant: Variant, keys: &[u64], mut call: impl FnMut(u64) -> Option<u64>) -> Tally {
    // The black box keeps the baseline from being computed four keys at a time.
    match variant {
        Variant::Call => measured_section(&mut || {
            let mut tally = Tally::default();
            keys.iter().for_each(|key| tally.note(call(black_box(*key))));
            tally
        }),
        Variant::Baseline => measured_section(&mut || {
            let mut tally = Tally::default();
            keys.iter().for_each(|key| tally.note(Some(black_box(*key) ^ 1)));
            tally
        }),
    }
}

fn arc_clone_drop(variant: Variant) {
    let order = Order::<u64>::hits(0, ENTRIES, 1, ITERATIONS);
    let shared = Arc::new(7);
    drive(variant, order.window(0), |key| Some(key ^ *black_box(Arc::clone(&shared))));
}

fn epoch_pin(variant: Variant) {
    let order = Order::<u64>::hits(0, ENTRIES, 1, ITERATIONS);
    drop(crossbeam_epoch::pin());
    drive(variant, order.window(0), |key| {
        let _pinned = black_box(crossbeam_epoch::pin());
        Some(key)
    });
}

fn warm<S: Subject<u64>>(setup: &Setup, entries: u64) -> S {
    let mut subject = S::build(setup);
    (0..entries).for_each(|index| subject.put(u64::of(index), value_of(index)));
    subject.settle();
    // Twice, so that the policy's counters have reached where they stay.
    for _ in 0..2 {
        (0..entries).for_each(|index| _ = subject.get(&u64::of(index)));
    }
    subject
}

/// A loop of hits on a small warm cache, read in any way.
fn hits<S: Subject<u64>>(variant: Variant, get: impl Fn(&S, u64) -> Option<u64>) {
    let subject: S = warm(&Setup::keeping(CAPACITY), ENTRIES);
    let order = Order::<u64>::hits(0, ENTRIES, 1, ITERATIONS);
    let tally = drive(variant, order.window(0), |key| get(&subject, key));
    assert_eq!(tally.hits, ITERATIONS as u64);
    if variant == Variant::Call {
        assert_eq!(tally, order.expected(0), "{} answers wrongly", S::NAME);
    }
}

/// All loops of `get` are this one: with a loop for each, the compiler no longer finds the call worth inlining, and the
/// price of a hit would depend on how many questions are asked about it.
#[inline(never)]
fn get_all<S: Subject<u64>>(subject: &S, variant: Variant, keys: &[u64]) -> Tally {
    drive(variant, keys, |key| subject.get(&key))
}

fn hits_in<S: Subject<u64>>(subject: &S, variant: Variant, entries: u64) {
    let order = Order::<u64>::hits(0, entries, 1, ITERATIONS);
    let tally = get_all(subject, variant, order.window(0));
    if variant == Variant::Call {
        assert_eq!(tally, order.expected(0), "{} answers wrongly", S::NAME);
    }
}

/// Keys that were never inserted: those from `first` on.
fn misses_above<S: Subject<u64>>(subject: &S, variant: Variant, first: u64) {
    let order = Order::<u64>::misses(first, first, 1, ITERATIONS);
    let tally = get_all(subject, variant, order.window(0));
    if variant == Variant::Call {
        assert_eq!(tally.hits, 0, "{} answers wrongly", S::NAME);
    }
}

fn get_hit<S: Subject<u64>>(variant: Variant) {
    hits_in::<S>(&warm(&Setup::keeping(CAPACITY), ENTRIES), variant, ENTRIES);
}

fn get_miss<S: Subject<u64>>(variant: Variant) {
    misses_above::<S>(&warm(&Setup::keeping(CAPACITY), ENTRIES), variant, ENTRIES);
}

/// The same in a cache that evicts and has turned over thirty times: what its tables have become, not what they were.
fn get_miss_turned<S: Subject<u64>>(variant: Variant) {
    let subject: S = turned(CAPACITY, TURNOVERS);
    misses_above(&subject, variant, TURNOVERS * CAPACITY);
}

const TURNOVERS: u64 = 30;

/// A full cache whose content has been replaced by new keys so often.
fn turned<S: Subject<u64>>(capacity: u64, turnovers: u64) -> S {
    let mut subject = S::build(&Setup::evicting(capacity));
    (0..turnovers * capacity).for_each(|index| subject.put(u64::of(index), index));
    subject.settle();
    subject
}

/// 3 MB and more of table.
const LARGE: u64 = 200_000;

fn large<S: Subject<u64>>() -> S {
    let mut subject = S::build(&Setup::keeping(LARGE + LARGE / 10));
    (0..LARGE).for_each(|index| subject.put(u64::of(index), value_of(index)));
    subject.settle();
    subject
}

fn large_hit<S: Subject<u64>>(variant: Variant) {
    hits_in::<S>(&large(), variant, LARGE);
}

fn large_miss<S: Subject<u64>>(variant: Variant) {
    misses_above(&large::<S>(), variant, LARGE);
}

/// Fewer turnovers of more entries: an overflow bucket shows after a few.
fn large_miss_turned(variant: Variant) {
    misses_above(&turned::<Dogpile<u64>>(LARGE / 4, 4), variant, LARGE);
}

fn large_replace<S: Subject<u64>>(variant: Variant) {
    let mut subject = large::<S>();
    let order = Order::<u64>::hits(0, LARGE, 1, ITERATIONS);
    drive(variant, order.window(0), |key| {
        subject.put(key, key);
        Some(key)
    });
}

/// New keys in a full cache.
fn large_churn<S: Subject<u64>>(variant: Variant) {
    let mut subject: S = turned(LARGE, 2);
    let keys: Vec<u64> = (2 * LARGE..).take(ITERATIONS).map(u64::of).collect();
    drive(variant, &keys, |key| {
        subject.put(key, key);
        Some(key)
    });
}

/// Random lines of an array: one each.
fn one_line(variant: Variant) {
    const LINES: u64 = 64 * 1024;
    let lines: Vec<u64> = (0..LINES * 8).collect();
    let order = Order::<u64>::hits(0, LINES, 1, ITERATIONS);
    drive(variant, order.window(0), |key| lines.get((key >> 48 << 3) as usize).copied());
}

/// The key itself instead of the value: there is none to look at, and the sum is checked nonetheless.
fn contains_key(variant: Variant) {
    let subject: Dogpile<u64> = warm(&Setup::keeping(CAPACITY), ENTRIES);
    let order = Order::<u64>::hits(0, ENTRIES, 1, ITERATIONS);
    let tally = drive(variant, order.window(0), |key| subject.cache().contains_key(&key).then_some(key));
    assert_eq!(tally.hits, ITERATIONS as u64);
}

fn get_in(variant: Variant) {
    let subject: Dogpile<u64> = warm(&Setup::keeping(CAPACITY), ENTRIES);
    let order = Order::<u64>::hits(0, ENTRIES, 1, ITERATIONS);
    let cache = subject.cache();
    let pinned = cache.pin();
    let tally =
        drive(variant, order.window(0), |key| cache.get_in(&key, &pinned).map(|entry| *entry.value()));
    if variant == Variant::Call {
        assert_eq!(tally, order.expected(0));
    }
}

/// Hits, 32 keys a call and a pin; counted for each key.
fn get_multi(variant: Variant) {
    let subject: DogpileBatch<u64> = warm(&Setup::keeping(CAPACITY), ENTRIES);
    let order = Order::<u64>::hits(0, ENTRIES, 1, ITERATIONS);
    let keys = order.window(0);
    let tally = match variant {
        Variant::Call => measured_section(&mut || subject.read(keys, Pace::Free)),
        Variant::Baseline => drive(variant, keys, |_| None),
    };
    if variant == Variant::Call {
        assert_eq!(tally, order.expected(0));
    }
}

fn get_handle(variant: Variant) {
    hits::<Dogpile<u64>>(variant, |subject, key| subject.cache().get_handle(&key).map(|value| *value));
}

/// Text keys, as regions have them.
fn names() -> Vec<String> {
    (0..ENTRIES).map(|index| format!("entry number {index:04}")).collect()
}

/// Hits of text keys, by the number of the key.
fn text_hits(variant: Variant, get: impl Fn(&str) -> Option<u64>) {
    let names = names();
    let keys: Vec<u64> = (0..ITERATIONS as u64).map(|i| i * 7_919 % ENTRIES).collect();
    let tally = drive(variant, &keys, |key| get(&names[key as usize]));
    assert_eq!(tally.hits, ITERATIONS as u64);
}

fn get_handle_text(variant: Variant) {
    let cache = dogpile::Cache::<String, u64>::unbounded();
    names().into_iter().zip(0..).for_each(|(name, value)| drop(cache.insert(name, value)));
    text_hits(variant, |name| cache.get_handle(name).map(|value| *value));
}

fn warm_region() -> dogpile::Region {
    let region = dogpile::Region::in_memory();
    for (name, value) in names().iter().zip(0_u64..) {
        region.set(name, value).expect("memory takes all");
    }
    region
}

fn region_get(variant: Variant) {
    let region = warm_region();
    text_hits(variant, |name| region.get::<u64>(name).expect("memory does not fail").map(|value| *value));
}

/// A hit, by the call that would make the value if there were none.
fn region_get_or_create(variant: Variant) {
    let region = warm_region();
    let made = |name: &str| region.get_or_create(name, || unreachable!("every key is there"));
    text_hits(variant, |name| Some(*made(name).expect("memory does not fail")));
}

/// A hit, by the call that would make the value if there were none.
fn get_or_create<S: OnDemand<u64>>(variant: Variant) {
    hits::<S>(variant, |subject, key| {
        Some(subject.get_or_create(&key, || unreachable!("every key is there")))
    });
}

fn replace<S: Subject<u64>>(variant: Variant) {
    let mut subject: S = warm(&Setup::keeping(CAPACITY), ENTRIES);
    let order = Order::<u64>::hits(0, ENTRIES, 1, ITERATIONS);
    // Until the allocator and the reclamation have reached their steady state.
    order.window(0).iter().for_each(|&key| subject.put(key, 1));
    drive(variant, order.window(0), |key| {
        subject.put(key, key);
        Some(key)
    });
    if variant == Variant::Call {
        assert!(
            order.window(0).iter().all(|key| subject.get(key) == Some(*key)),
            "{} answers wrongly",
            S::NAME
        );
    }
}

/// New keys in a cache with room for them.
fn insert<S: Subject<u64>>(variant: Variant) {
    insert_into::<S>(variant, &Setup::keeping(4 * ITERATIONS as u64));
}

/// New keys in one without bound, growth included.
fn insert_unbounded<S: Subject<u64>>(variant: Variant) {
    insert_into::<S>(variant, &Setup::growing());
}

fn insert_into<S: Subject<u64>>(variant: Variant, setup: &Setup) {
    let mut subject: S = warm(setup, ENTRIES);
    let keys: Vec<u64> = (ENTRIES..).take(ITERATIONS).map(u64::of).collect();
    drive(variant, &keys, |key| {
        subject.put(key, key);
        Some(key)
    });
    if variant == Variant::Call {
        assert!(keys.iter().all(|key| subject.get(key) == Some(*key)), "{} answers wrongly", S::NAME);
    }
}

/// New keys in a cache with room for them, made on demand.
fn create<S: OnDemand<u64>>(variant: Variant) {
    let subject: S = warm(&Setup::keeping(4 * ITERATIONS as u64), ENTRIES);
    let keys: Vec<u64> = (ENTRIES..).take(ITERATIONS).map(u64::of).collect();
    drive(variant, &keys, |key| Some(subject.get_or_create(&key, || key)));
    if variant == Variant::Call {
        assert!(keys.iter().all(|key| subject.get(key) == Some(*key)), "{} answers wrongly", S::NAME);
    }
}

/// New keys in a full cache.
fn churn<S: Subject<u64>>(variant: Variant) {
    let mut subject = S::build(&Setup::evicting(4_096));
    (0..8_192).for_each(|index| subject.put(u64::of(index), index));
    subject.settle();
    let keys: Vec<u64> = (8_192..).take(ITERATIONS).map(u64::of).collect();
    drive(variant, &keys, |key| {
        subject.put(key, key);
        Some(key)
    });
}
