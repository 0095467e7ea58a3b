//! User code that panics, lies, or calls back: the cache stays sound, and usable. Row M3 of the design's errata, and the
//! bad input of the specification.

use dogpile::time::ManualClock;
use dogpile::{Cache, CacheBuilder, Compute, Handle, InsertOptions, RemovalCause};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

/// Where a bomb goes off, on this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nowhere,
    Hash,
    Eq,
    Clone,
    Drop,
    Weigher,
    ExpireAfter,
    Listener,
    Closure,
}

thread_local! {
    static FUSE: Cell<(At, u32)> = const { Cell::new((At::Nowhere, 0)) };
}

/// Panics if the fuse is set for this place and has burnt down.
fn maybe(at: At) {
    let (place, left) = FUSE.get();
    if place == at {
        FUSE.set(if left == 0 { (At::Nowhere, 0) } else { (at, left - 1) });
        assert!(left != 0, "bomb at {at:?}");
    }
}

/// Runs `call` with a bomb in it. Whether it went off, and the call with it.
fn with_bomb(at: At, after: u32, call: impl FnOnce()) -> bool {
    FUSE.set((at, after));
    let panicked = catch_unwind(AssertUnwindSafe(call)).is_err();
    FUSE.set((At::Nowhere, 0));
    panicked
}

static ALIVE: AtomicUsize = AtomicUsize::new(0);
/// Tests that count what is alive, one after another.
static COUNTING: Mutex<()> = Mutex::new(());

struct Bomb(u32);

impl Bomb {
    fn new(number: u32) -> Self {
        ALIVE.fetch_add(1, SeqCst);
        Self(number)
    }
}
impl Hash for Bomb {
    fn hash<H: Hasher>(&self, state: &mut H) {
        maybe(At::Hash);
        // Few hashes, so that there is something to compare.
        (self.0 % 3).hash(state);
    }
}
impl PartialEq for Bomb {
    fn eq(&self, other: &Self) -> bool {
        maybe(At::Eq);
        self.0 == other.0
    }
}
impl Eq for Bomb {}
impl Clone for Bomb {
    fn clone(&self) -> Self {
        maybe(At::Clone);
        Self::new(self.0)
    }
}
impl Drop for Bomb {
    fn drop(&mut self) {
        // First the books: a destructor that panics has still run.
        ALIVE.fetch_sub(1, SeqCst);
        maybe(At::Drop);
    }
}

fn bombs(heard: &Arc<AtomicUsize>) -> Cache<Bomb, Bomb> {
    let heard = Arc::clone(heard);
    Cache::builder()
        .max_weight(50)
        .weigher(|_: &Bomb, value: &Bomb| {
            maybe(At::Weigher);
            value.0 % 3 + 1
        })
        .expire_after(|_: &Bomb, _: &Bomb| {
            maybe(At::ExpireAfter);
            None
        })
        .listener(move |entry: Handle<Bomb, Bomb>, _| {
            heard.fetch_add(1, SeqCst);
            assert_eq!(entry.key().0, entry.value().0);
            maybe(At::Listener);
        })
        .shards(NonZeroUsize::new(2).unwrap())
        .clock(ManualClock::new())
        .build()
        .unwrap()
}

/// One operation of each kind.
fn operate(cache: &Cache<Bomb, Bomb>, kind: u32, key: u32) {
    let bomb = || Bomb::new(key);
    match kind {
        0 | 1 => drop(cache.insert(bomb(), bomb())),
        2 => drop(cache.insert_with(bomb(), bomb(), InsertOptions::new().ttl(Duration::from_secs(5)))),
        3 => drop(cache.insert_if_absent(bomb(), bomb())),
        4 => drop(cache.remove(&bomb())),
        5 => {
            drop(cache.remove_if(&bomb(), |_, _| {
                maybe(At::Closure);
                true
            }));
        }
        6 => {
            drop(cache.compute(bomb(), |_| {
                maybe(At::Closure);
                if key.is_multiple_of(2) { Compute::Put(bomb()) } else { Compute::Remove }
            }));
        }
        7 => {
            cache.retain(|own, _| {
                maybe(At::Closure);
                own.0 % 5 != 0
            });
        }
        8 => drop(cache.get_cloned(&bomb())),
        9 => assert!(cache.get(&bomb()).is_none_or(|found| found.0 == key)),
        10 => {
            let (keys, pin) = ([bomb(), Bomb::new(key + 1)], cache.pin());
            assert!(cache.get_multi(&keys, &pin).flatten().all(|found| found.value().0 - key < 2));
        }
        11 => _ = cache.touch(&bomb()),
        12 => cache.clear(),
        13 => cache.resize(u64::from(key % 2 * 20 + 30)),
        14 => cache.run_pending(),
        _ => drop(cache.hottest(3)),
    }
}
const KINDS: u32 = 16;

/// M3: a panic anywhere in user code passes through the call it is in; nothing is lost, nothing stays locked.
#[test]
fn m3_panics_in_user_code_leave_a_usable_cache() {
    let _counting = COUNTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = ALIVE.load(SeqCst);
    let mut went_off = 0;
    for at in [At::Hash, At::Eq, At::Clone, At::Drop, At::Weigher, At::ExpireAfter, At::Listener, At::Closure]
    {
        let heard = Arc::new(AtomicUsize::new(0));
        let cache = bombs(&heard);
        let mut here = 0;
        for round in 0..400 {
            let (kind, key) = (round * 7 % KINDS, round * 11 % 40);
            if round % 3 > 0 {
                cache.insert(Bomb::new(key), Bomb::new(key));
            }
            here += u32::from(with_bomb(at, round % 4, || operate(&cache, kind, key)));
            // The cache works: for this thread and for others, and its books are right.
            assert!(cache.weight() <= 50);
            cache.insert(Bomb::new(key), Bomb::new(key));
            assert_eq!(cache.get(&Bomb::new(key)).map(|found| found.0), Some(key), "{at:?} in {round}");
            let entries: Vec<_> = cache.iter().collect();
            assert_eq!(cache.len(), entries.len() as u64, "{at:?} in {round}");
            let weight: u64 = entries.iter().map(|entry| u64::from(entry.entry().weight())).sum();
            assert_eq!(cache.weight(), weight, "{at:?} in {round}");
        }
        // A destructor that the cache runs is caught and counted instead.
        assert!(here + cache.stats().panicked_drops as u32 > 10, "{at:?} went off {here} times");
        went_off += here;
        let len = cache.len();
        while cache.stats().pending_reclaim > 0 {
            cache.run_pending();
        }
        assert_eq!(ALIVE.load(SeqCst) - before, 2 * len as usize, "{at:?}: keys and values");
        drop(cache);
        assert_eq!(ALIVE.load(SeqCst), before, "{at:?}: every key and value was dropped once");
    }
    assert!(went_off > 300, "{went_off}");
}

/// M3: a panic of a listener comes out of the call when all is done, not in the middle of it.
#[test]
fn m3_a_listener_that_panics_stops_nothing() {
    let clock = ManualClock::new();
    let (heard, angry) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let cache: Cache<u32, u32> = Cache::builder()
        .max_entries(100)
        .clock(clock.clone())
        .shards(NonZeroUsize::new(4).unwrap())
        .listener({
            let (heard, angry) = (Arc::clone(&heard), Arc::clone(&angry));
            move |_, _| {
                heard.fetch_add(1, SeqCst);
                assert!(!angry.load(SeqCst), "the listener is angry");
            }
        })
        .build()
        .unwrap();
    let attempt = |call: &dyn Fn(), left: u64, told: usize, what: &str| {
        angry.store(false, SeqCst);
        cache.clear();
        cache.resize(100);
        while cache.stats().pending_reclaim > 0 {
            cache.run_pending();
        }
        (0..100).for_each(|key| {
            drop(cache.insert_with(key, key, InsertOptions::new().ttl(Duration::from_secs(1))))
        });
        heard.store(0, SeqCst);
        angry.store(true, SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "{what}: the panic comes out");
        assert_eq!(cache.len(), left, "{what}: the call did all it had to");
        assert_eq!(heard.load(SeqCst), told, "{what}: the listener was told of all");
    };
    attempt(&|| drop(cache.remove(&5)), 99, 1, "remove");
    attempt(&|| drop(cache.insert(5, 6)), 100, 1, "replace");
    attempt(&|| drop(cache.insert(500, 6)), 100, 1, "evict");
    attempt(&|| cache.resize(10), 10, 90, "resize");
    attempt(&|| cache.retain(|key, _| key % 2 == 0), 50, 50, "retain");
    attempt(
        &|| {
            clock.advance(Duration::from_secs(1));
            cache.run_pending();
        },
        0,
        100,
        "run_pending",
    );
    // It has also freed what there was, unless a thread of another test was pinned.
    assert!((0..1000).any(|_| {
        attempt(
            &|| {
                clock.advance(Duration::from_secs(1));
                cache.run_pending();
            },
            0,
            100,
            "run_pending",
        );
        cache.stats().pending_reclaim == 0
    }));
    angry.store(false, SeqCst);
    (0..100).for_each(|key| drop(cache.insert(key, key)));
    heard.store(0, SeqCst);
    angry.store(true, SeqCst);
    let mut panics = 0;
    panics += u32::from(catch_unwind(AssertUnwindSafe(|| cache.clear())).is_err());
    while cache.stats().pending_reclaim > 0 || heard.load(SeqCst) < 100 {
        panics += u32::from(catch_unwind(AssertUnwindSafe(|| cache.run_pending())).is_err());
        assert!(panics < 1000);
    }
    assert!((1..=2).contains(&panics), "clear, or the call after it, tells of all: {panics}");
    assert_eq!(heard.load(SeqCst), 100);
}

/// A value whose destructor uses the cache that it came from.
struct Echo(u32);

static ECHOES: LazyLock<Cache<u32, Echo>> =
    LazyLock::new(|| Cache::builder().max_entries(30).shards(NonZeroUsize::new(2).unwrap()).build().unwrap());
static ECHOED: AtomicU32 = AtomicU32::new(0);

impl Drop for Echo {
    fn drop(&mut self) {
        ECHOED.fetch_add(1, SeqCst);
        let cache = &*ECHOES;
        match self.0 % 9 {
            0 => drop(cache.insert(self.0, Self(self.0 + 1))),
            1 => drop(cache.remove(&(self.0 / 2))),
            2 => cache.clear(),
            3 => cache.run_pending(),
            4 => assert!(cache.get(&(self.0 % 30)).is_none_or(|found| found.0 < 1_000_000)),
            5 => cache.retain(|key, _| key % 7 != 0),
            6 => drop(cache.compute(self.0 % 30, |_| Compute::Remove)),
            7 => cache.resize(25 + u64::from(self.0 % 10)),
            _ => drop(cache.iter().map(|entry| entry.0).sum::<u32>()),
        }
    }
}

/// M3: destructors run at the end of an operation, when nothing is locked, so they may do anything.
#[test]
fn m3_destructors_may_use_the_cache() {
    let threads: Vec<_> = (0..2)
        .map(|thread| {
            thread::spawn(move || {
                for i in 0..4000 {
                    let number = i * 2 + thread;
                    ECHOES.insert(number % 60, Echo(number));
                    if i % 50 == 0 {
                        ECHOES.clear();
                    }
                    if i % 3 == 0 {
                        let held = ECHOES.get(&(number % 60));
                        ECHOES.remove(&(number % 60));
                        drop(held);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // Other tests of this process may be pinned for a moment.
    for _ in 0..100_000 {
        ECHOES.run_pending();
        if ECHOED.load(SeqCst) >= 7900 {
            break;
        }
        thread::yield_now();
    }
    assert_eq!(ECHOES.stats().panicked_drops, 0);
    assert_eq!(ECHOES.len(), ECHOES.iter().count() as u64);
    assert!(ECHOED.load(SeqCst) >= 7900, "{} destructors ran", ECHOED.load(SeqCst));
}

/// M3: what destructors throw out is dropped later, not on top of their stack.
#[test]
fn m3_destructors_do_not_pile_up_on_the_stack() {
    struct Deep(u32);
    static CACHE: LazyLock<Cache<u32, Deep>> = LazyLock::new(|| Cache::new(4));
    static DEEPEST: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static DEPTH: Cell<u32> = const { Cell::new(0) };
    }
    impl Drop for Deep {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() + 1);
            DEEPEST.fetch_max(DEPTH.get(), SeqCst);
            if self.0 > 0 {
                CACHE.insert(self.0 % 8, Self(self.0 - 1));
                CACHE.insert(self.0 % 8, Self(self.0 / 2));
            }
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    for i in 0..100_000 {
        CACHE.insert(i % 8, Deep(9));
        CACHE.clear();
        CACHE.run_pending();
        // Other tests of this process may be pinned for a moment.
        if i >= 200 && DEEPEST.load(SeqCst) > 0 {
            break;
        }
    }
    assert_eq!(DEEPEST.load(SeqCst), 1, "levels of destructors in one another");
}

/// The listener may use the cache, too; what it does to it is told to it in turn.
#[test]
fn m3_listeners_may_use_the_cache() {
    static CACHE: LazyLock<Cache<u32, u32>> = LazyLock::new(|| {
        let builder: CacheBuilder<u32, u32> = Cache::builder().max_entries(10);
        builder
            .listener(|entry: Handle<u32, u32>, cause| {
                HEARD.fetch_add(1, SeqCst);
                assert!(CACHE.peek(entry.key()).is_none_or(|found| *found != *entry), "it has left");
                match cause {
                    RemovalCause::Evicted if entry.is_multiple_of(4) => {
                        drop(CACHE.insert(*entry + 1, *entry + 1))
                    }
                    RemovalCause::Replaced => drop(CACHE.remove(entry.key())),
                    RemovalCause::Removed if entry.is_multiple_of(3) => CACHE.clear(),
                    _ => CACHE.run_pending(),
                }
            })
            .build()
            .unwrap()
    });
    static HEARD: AtomicU32 = AtomicU32::new(0);
    for i in 0..500 {
        CACHE.insert(i, i);
        CACHE.insert(i, i + 1000);
        CACHE.insert(i + 1, i);
        if i % 10 == 0 {
            CACHE.remove(&(i + 1));
        }
    }
    assert!(HEARD.load(SeqCst) > 500);
    assert!(CACHE.len() <= 10);
}

/// What the closures of `compute` and `remove_if` do to the same key is done before what they answer.
#[test]
fn closures_may_use_the_cache() {
    let cache = Cache::new(10);
    cache.insert(1, 1);
    let mut asked = 0;
    let after = cache.compute(1, |old| {
        asked += 1;
        if asked == 1 {
            cache.insert(1, 10);
        }
        Compute::Put(old.copied().unwrap_or(0) + 1)
    });
    assert_eq!((asked, after.as_deref()), (2, Some(&11)), "it changed underneath, so it was asked again");
    let mut asked = 0;
    let removed = cache.remove_if(&1, |_, value| {
        asked += 1;
        if asked == 1 {
            cache.insert(1, 20);
        }
        *value < 20
    });
    assert_eq!((asked, removed.is_none(), cache.get_cloned(&1)), (2, true, Some(20)));
    cache.retain(|key, _| {
        cache.insert(key + 1, 5);
        cache.remove(key);
        cache.contains_key(key)
    });
    assert!(cache.len() <= 10);
}

/// A key that lies: about its hash, about equality, differently each time.
struct Liar {
    number: u32,
    kind: u32,
}

static LIES: AtomicU32 = AtomicU32::new(1);

fn lie() -> u32 {
    // Any numbers will do, as long as they change.
    LIES.fetch_add(0x9e37_79b9, SeqCst) >> 7
}

impl Hash for Liar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.kind {
            0 => lie().hash(state),
            1 => (lie() % 4).hash(state),
            _ => (self.number % 2).hash(state),
        }
    }
}
impl PartialEq for Liar {
    fn eq(&self, other: &Self) -> bool {
        match self.kind {
            0 => self.number == other.number,
            1 | 2 => lie().is_multiple_of(3),
            3 => false,
            4 => true,
            _ => lie().is_multiple_of(2),
        }
    }
}
impl Eq for Liar {}

#[test]
fn keys_that_lie_are_found_or_not_and_nothing_worse() {
    let alive = Arc::new(());
    for kind in 0..6 {
        for entries in [0, 1, 10, 300] {
            let liar = |number| Liar { number, kind };
            let cache =
                Cache::builder().max_entries(entries).shards(NonZeroUsize::new(4).unwrap()).build().unwrap();
            thread::scope(|scope| {
                for thread in 0..2 {
                    let (cache, alive) = (&cache, &alive);
                    scope.spawn(move || {
                        for i in 0..600 {
                            let number = (i * 7 + thread) % 50;
                            cache.insert(liar(number), Arc::clone(alive));
                            match i % 6 {
                                0 => drop(cache.remove(&liar(number))),
                                1 => drop(cache.insert_if_absent(liar(number), Arc::clone(alive))),
                                2 => drop(cache.compute(liar(number), |_| Compute::Put(Arc::clone(alive)))),
                                3 => drop(cache.get(&liar(number)).map(|found| found.key().number)),
                                4 => drop(cache.touch(&liar(number))),
                                _ => cache.retain(|key, _| key.number % 9 != 0),
                            }
                        }
                    });
                }
            });
            cache.run_pending();
            assert_eq!(cache.len(), cache.iter().count() as u64, "kind {kind}");
            assert!(cache.len() <= entries);
            drop(cache);
            assert_eq!(Arc::strong_count(&alive), 1, "kind {kind}: all dropped");
        }
    }
}

/// A key whose hash changes while it is in the cache: what the table knows is the hash it was put in with.
#[test]
fn keys_that_change_stay_removable() {
    struct Mutable(AtomicU32);
    impl Hash for Mutable {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.load(SeqCst).hash(state);
        }
    }
    impl PartialEq for Mutable {
        fn eq(&self, other: &Self) -> bool {
            self.0.load(SeqCst) == other.0.load(SeqCst)
        }
    }
    impl Eq for Mutable {}
    let cache = Cache::unbounded();
    for i in 0..500 {
        cache.insert(Mutable(AtomicU32::new(i)), i);
        for entry in cache.iter().filter(|entry| **entry % 3 == 0) {
            entry.key().0.store(10_000 + i, SeqCst);
        }
    }
    assert_eq!((cache.len(), cache.iter().count()), (500, 500), "growth moved them by the hashes they had");
    cache.retain(|_, _| false);
    assert!(cache.is_empty());
}

#[test]
fn keys_may_be_anything() {
    let cache: Cache<String, usize> = Cache::new(100);
    let keys = [
        String::new(),
        String::from("\0"),
        String::from("\0\0"),
        String::from("a\r\nb"),
        String::from("\u{202e}\u{feff}"),
        "x".repeat(1 << 20),
        "x".repeat((1 << 20) + 1),
    ];
    for (i, key) in keys.iter().enumerate() {
        assert!(cache.insert(key.clone(), i).is_none());
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(cache.get_cloned(key.as_str()), Some(i), "looked up as str");
        assert_eq!(*cache.remove(key.as_str()).unwrap(), i);
    }
    assert!(cache.is_empty());
}

#[test]
fn sizes_may_be_anything() {
    #[repr(align(256))]
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    struct Wide([u8; 256]);
    let nothing = Cache::new(10);
    nothing.insert((), ());
    assert_eq!(nothing.get_cloned(&()), Some(()));
    nothing.clear();
    assert!(nothing.is_empty());
    let wide = Cache::new(10);
    for i in 0..100 {
        wide.insert(Wide([i; 256]), Wide([i; 256]));
        let found = wide.get(&Wide([i; 256])).unwrap();
        assert_eq!((*found, std::ptr::from_ref(found.value()).addr() % 256), (Wide([i; 256]), 0));
    }
    let heap: Cache<Box<[u8]>, Vec<Box<str>>> = Cache::new(10);
    heap.insert(Box::from([1, 2, 3]), vec![Box::from("x"); 3]);
    assert_eq!(heap.get(&[1, 2, 3][..]).unwrap().len(), 3);
}

/// A clock that panics is user code, too.
#[test]
fn a_clock_that_panics_is_survived() {
    struct Broken(ManualClock, Arc<AtomicBool>);
    impl dogpile::time::Clock for Broken {
        fn now(&self) -> dogpile::time::Instant {
            assert!(!self.1.load(SeqCst), "the clock is broken");
            self.0.now()
        }
    }
    let (clock, broken) = (ManualClock::new(), Arc::new(AtomicBool::new(false)));
    let cache = Cache::builder()
        .max_entries(20)
        .time_to_live(Duration::from_secs(1))
        .clock(Broken(clock.clone(), Arc::clone(&broken)))
        .build()
        .unwrap();
    for round in 0..50 {
        (0..30).for_each(|key| drop(cache.insert(key, round)));
        broken.store(true, SeqCst);
        let calls: [&dyn Fn(); 7] = [
            &|| drop(cache.insert(100, 1)),
            &|| drop(cache.insert(5, 1)),
            &|| drop(cache.get(&29)),
            &|| drop(cache.remove(&29)),
            &|| assert!(cache.iter().count() < 99),
            &|| assert!(cache.touch(&29)),
            &|| cache.run_pending(),
        ];
        assert!(catch_unwind(AssertUnwindSafe(calls[round % calls.len()])).is_err());
        broken.store(false, SeqCst);
        assert!(cache.len() <= 20);
        cache.insert(7, round);
        assert_eq!(cache.get_cloned(&7), Some(round));
        clock.advance(Duration::from_millis(300));
    }
    clock.advance(Duration::from_secs(2));
    cache.run_pending();
    assert!(cache.is_empty());
}
