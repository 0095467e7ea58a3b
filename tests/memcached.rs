//! Regions over memcached, on servers of their own (`apt-get install --no-install-recommends memcached`): fences, leases,
//! dead holders, keys, times, several servers, servers that are stopped, killed, restarted; secrets.
//!
//! `DOGPILE_LONG=1 cargo test --release --features memcached --test memcached -- --nocapture` kills ten holders in a row.

mod servers;

use dogpile::backend::{Backend, CacheMutex, Fence, MemcachedBackend, Put, Schemes, Stored};
use dogpile::codec::Envelope;
use dogpile::region::RegionConfig;
use dogpile::time::{Clock, CoarseClock, Instant};
use dogpile::{ErrorKind, Region, RegionPolicy};
use servers::memcached::Memcached;
use servers::{Timer, pass, until};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(2);

fn over(server: &Memcached, envelope: Envelope) -> MemcachedBackend {
    let backend = MemcachedBackend::builder().server(server.address()).lease(LEASE).build().unwrap();
    backend.attach(envelope).unwrap();
    backend
}

fn minute() -> RegionPolicy {
    RegionPolicy::builder().fresh(60 * SECOND).build().unwrap()
}

fn value(text: &str) -> Stored {
    Stored::from(text.as_bytes())
}

fn text(stored: Option<Stored>) -> Option<String> {
    stored.map(|stored| String::from_utf8(stored.bytes().unwrap().to_vec()).unwrap())
}

fn read(backend: &dyn Backend, key: &str) -> Option<String> {
    text(backend.get(key).unwrap())
}

fn taken(backend: &dyn Backend, key: &str) -> Box<dyn CacheMutex> {
    let lock = backend.mutex(key).unwrap();
    assert!(lock.acquire(Duration::ZERO).unwrap(), "it is free");
    lock
}

/// Writes under a lock. What is without a fence is not to be asked about.
fn write(backend: &dyn Backend, key: &str, new: &str, fence: &Fence) -> bool {
    let new = value(new);
    let put = Put::new(key, &new).fence(Some(fence));
    backend.set_unless(&[put], &|_, _| panic!("it has a fence")).unwrap().unwrap() == [true]
}

/// A layout, and whether there is an old value.
struct Kind {
    backend: MemcachedBackend,
    old: Option<&'static str>,
    key: String,
    /// The lock, as the server has it.
    lock: String,
    /// Whether a delete of nothing is seen: not where Python would see what sees it.
    sees_all: bool,
}

fn kinds(server: &Memcached, ttl: Option<Duration>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (envelope, begin) in [(Envelope::Own, "dpl:!"), (Envelope::Dogpile, "_lock")] {
        for old in [None, Some("old")] {
            let backend = over(server, envelope);
            let key = format!("{envelope:?}-{}", old.unwrap_or("nothing"));
            if let Some(old) = old {
                backend.set(Put::new(&key, &value(old)).ttl(ttl)).unwrap();
            }
            let sees_all = envelope == Envelope::Own || old.is_some();
            kinds.push(Kind { backend, old, lock: format!("{begin}{key}"), key, sees_all });
        }
    }
    kinds
}

#[test]
fn a_write_under_the_lock_gives_it_back() {
    let server = Memcached::start();
    for Kind { backend, old, key, lock: name, .. } in &kinds(&server, None) {
        let lock = taken(backend, key);
        assert_eq!(text(lock.found().unwrap()).as_deref(), *old, "{key}");
        assert_eq!(read(backend, key).as_deref(), *old, "{key}: readers see what was there");
        assert!(lock.locked().unwrap());
        assert!(server.ask(&format!("mg {name} t")).starts_with("HD t"), "{name}");
        let fence = lock.fence().unwrap();
        assert!(write(backend, key, "new", &fence), "{key}");
        assert!(!lock.locked().unwrap(), "{key}: in the same step");
        assert_eq!(read(backend, key).as_deref(), Some("new"), "{key}");
        let next = taken(backend, key);
        lock.release().unwrap();
        assert!(next.locked().unwrap(), "{key}: another's lock is not given back");
        assert!(!write(backend, key, "late", &fence), "{key}: what it was for is written");
        next.release().unwrap();
        assert!(!next.locked().unwrap());
        assert_eq!(read(backend, key).as_deref(), Some("new"), "{key}");
    }
}

#[test]
fn what_is_newer_stays() {
    let server = Memcached::start();
    for Kind { backend, old, key, sees_all, .. } in &kinds(&server, None) {
        let lock = taken(backend, key);
        assert_eq!(backend.delete(key).unwrap(), old.is_some(), "{key}: a placeholder is nothing");
        let is_written = write(backend, key, "late", &lock.fence().unwrap());
        assert_eq!(is_written, !sees_all, "{key}: it was deleted meanwhile");
        lock.release().unwrap();

        let lock = taken(backend, key);
        backend.set(Put::new(key, &value("set"))).unwrap();
        assert!(!write(backend, key, "late", &lock.fence().unwrap()), "{key}: it was set meanwhile");
        lock.release().unwrap();
        assert_eq!(read(backend, key).as_deref(), Some("set"), "{key}");
    }
}

/// Who has lost the lock, and does not know it, writes nothing once another has it: not even while that one has written
/// nothing yet.
#[test]
fn who_is_late_writes_nothing() {
    let server = Memcached::start();
    for Kind { backend, old, key, lock: name, sees_all } in &kinds(&server, None) {
        let late = taken(backend, key);
        let fence = late.fence().unwrap();
        assert_eq!(server.ask(&format!("md {name}")), "HD", "its lease ends");
        let next = taken(backend, key);
        assert_eq!(text(next.found().unwrap()).as_deref(), *old, "{key}");
        if *sees_all {
            assert!(!write(backend, key, "late", &fence), "{key}: another has the lock");
        }
        late.release().unwrap();
        assert!(next.locked().unwrap(), "{key}: another's lock is not given back");
        assert_eq!(read(backend, key).as_deref(), *old, "{key}");
        assert!(write(backend, key, "new", &next.fence().unwrap()), "{key}");
        assert_eq!(read(backend, key).as_deref(), Some("new"), "{key}");
    }
}

/// A lock ends when its lease does, and not while it is held; a value whose time ends meanwhile is no newer state.
#[test]
fn leases_are_renewed_until_the_lock_is_dropped() {
    let server = Memcached::start();
    let kinds = kinds(&server, Some(SECOND));
    let held: Vec<_> = kinds.iter().map(|kind| (kind, taken(&kind.backend, &kind.key))).collect();
    pass(3 * LEASE);
    for (Kind { backend, key, .. }, lock) in &held {
        let is_free = backend.mutex(key).unwrap().acquire(Duration::ZERO).unwrap();
        assert!(!is_free, "{key}: it is held");
        assert!(write(backend, key, "new", &lock.fence().unwrap()), "{key}: nothing newer has come");
        assert_eq!(read(backend, key).as_deref(), Some("new"), "{key}");
    }
    drop(held);
    kinds.iter().map(|kind| taken(&kind.backend, &kind.key)).for_each(drop);
    for Kind { backend, key, .. } in &kinds {
        let next = backend.mutex(key).unwrap();
        assert!(next.acquire(SECOND).unwrap(), "{key}: who drops a lock gives it back at once");
        next.release().unwrap();
        assert_eq!(read(backend, key).as_deref(), Some("new"), "{key}: and takes nothing with it");
    }
}

/// What a placeholder stands for is missing, whoever asks, and however.
#[test]
fn placeholders_are_nothing() {
    let server = Memcached::start();
    let backend = over(&server, Envelope::Own);
    let lock = taken(&backend, "key");
    assert_eq!(server.ask("mg key s v"), "VA 0 s0 Z", "the server's own placeholder");
    assert_eq!(read(&backend, "key"), None);
    assert!(backend.get_multi(&["key", "key"]).unwrap().iter().all(Option::is_none));
    assert!(!backend.expire("key", None).unwrap());
    assert!(!backend.delete("nothing").unwrap());
    let new = value("new");
    let is_there = |_: usize, now: Option<&Stored>| now.is_some();
    let done = backend.set_unless(&[Put::new("key", &new)], &is_there).unwrap().unwrap();
    assert_eq!(done, [true], "there is nothing");
    assert!(!write(&backend, "key", "late", &lock.fence().unwrap()), "and then there is");
    backend.set(Put::new("empty", &value(""))).unwrap();
    assert_eq!(read(&backend, "empty").as_deref(), Some(""), "what is empty is not nothing");
    let lock = taken(&backend, "empty");
    assert_eq!(text(lock.found().unwrap()).as_deref(), Some(""));
    lock.release().unwrap();
    assert_eq!(read(&backend, "empty").as_deref(), Some(""));
    let failed = taken(&backend, "failed");
    failed.release().unwrap();
    assert_eq!(server.ask("mg failed s v"), "EN", "a creator that fails leaves nothing");
}

/// The part of the test below that is killed: says that it holds the locks of the keys that it is told, and waits.
#[test]
fn child_that_holds() {
    let Ok(address) = std::env::var("DOGPILE_TEST_HOLD") else { return };
    let backend = MemcachedBackend::builder().server(address).lease(LEASE).build().unwrap();
    let mut locks = Vec::new();
    for key in std::io::stdin().lines().map_while(Result::ok) {
        locks.push(taken(&backend, &key));
        println!("\nholds {key}");
        std::io::stdout().flush().unwrap();
    }
    panic!("it was to be killed while it holds {}", locks.len());
}

/// R23: after a holder was killed by signal 9, the next has the lock within the lease and 1.1 s, and what was there stays.
#[test]
fn a_dead_holder_blocks_for_its_lease() {
    let server = Memcached::start();
    let backend = over(&server, Envelope::Own);
    let rounds = if std::env::var_os("DOGPILE_LONG").is_some() { 10 } else { 1 };
    let mut waits: Vec<Duration> = Vec::new();
    for round in 0..rounds {
        let keys: Vec<String> = (0..4).map(|i| format!("dead-{round}-{i}")).collect();
        for key in &keys[..2] {
            backend.set(Put::new(key, &value("old"))).unwrap();
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_that_holds", "--exact", "--nocapture"])
            .env("DOGPILE_TEST_HOLD", server.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        for key in &keys {
            writeln!(to, "{key}").unwrap();
            assert!(lines.any(|line| line == format!("holds {key}")));
        }
        // Long enough that it has renewed them.
        pass(LEASE);
        assert!(keys.iter().all(|key| backend.mutex(key).unwrap().locked().unwrap()));
        child.kill().unwrap();
        let killed = Timer::start();
        child.wait().unwrap();
        std::thread::scope(|scope| {
            let next = |key: &String| {
                let key = key.clone();
                let backend = &backend;
                scope.spawn(move || {
                    let lock = backend.mutex(&key).unwrap();
                    assert!(lock.acquire(10 * SECOND).unwrap());
                    let waited = killed.elapsed();
                    assert_eq!(text(lock.found().unwrap()), read(backend, &key));
                    lock.release().unwrap();
                    waited
                })
            };
            let all: Vec<_> = keys.iter().map(next).collect();
            waits.extend(all.into_iter().map(|thread| thread.join().unwrap()));
        });
        for (i, key) in keys.iter().enumerate() {
            assert_eq!(read(&backend, key).as_deref(), (i < 2).then_some("old"), "what was there stays");
        }
    }
    let longest = waits.iter().max().unwrap();
    println!("{} holders killed: the next after {longest:?} at the most, lease {LEASE:?}", waits.len());
    assert!(*longest <= LEASE + Duration::from_millis(1100), "{waits:?}");
}

/// R19: 10^5 keys that nobody would choose come back, each with its own value, and nothing else is in the server.
#[test]
fn keys_are_never_commands() {
    let server = Memcached::start();
    let backend = over(&server, Envelope::Own);
    let mut keys: Vec<String> = (0..=255_u8).map(|byte| format!("a{}b", char::from(byte))).collect();
    keys.extend(["", " ", "a\r\nset pwned 0 0 1\r\nz", "a 0 0 1\r\nb"].map(String::from));
    keys.extend([249, 250, 251, 10_000].map(|length| "k".repeat(length)));
    for i in keys.len()..100_000 {
        let nasty = ["\r\n", " ", "\0", "é", "\u{7f}", "-"][i % 6];
        keys.push(format!("user{nasty}{i}{nasty}set pwned 0 0 1\r\nz"));
    }
    let values: Vec<Stored> = (0..keys.len()).map(|i| value(&i.to_string())).collect();
    let puts: Vec<Put<'_>> = keys.iter().zip(&values).map(|(key, value)| Put::new(key, value)).collect();
    backend.set_multi(&puts).unwrap();
    let borrowed: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = backend.get_multi(&borrowed).unwrap();
    let wrong = found
        .iter()
        .zip(&values)
        .filter(|(found, value)| !found.as_ref().is_some_and(|found| found.is_same(value)));
    assert_eq!(wrong.count(), 0);
    assert_eq!(server.ask("mg pwned v"), "EN");
    assert_eq!(server.statistic("curr_items"), keys.len() as u64, "no more, no fewer");
    backend.delete_multi(&borrowed).unwrap();
    assert_eq!(server.statistic("curr_items"), 0);
}

/// A clock of a machine that is wrong.
struct Wrong(Duration, bool);

impl Clock for Wrong {
    fn now(&self) -> Instant {
        CoarseClock.now()
    }
    fn unix(&self) -> Duration {
        let right = CoarseClock.unix();
        if self.1 { right.saturating_add(self.0) } else { right.saturating_sub(self.0) }
    }
}

/// R20: days are not taken for dates, nor dates for days.
#[test]
fn times_may_be_long() {
    const DAY: u64 = 24 * 60 * 60;
    let server = Memcached::start();
    let backend = over(&server, Envelope::Own);
    let left = |backend: &MemcachedBackend, ttl| {
        backend.set(Put::new("key", &value("there")).ttl(ttl)).unwrap();
        assert_eq!(read(backend, "key").as_deref(), Some("there"), "{ttl:?}");
        let touched = backend.expire("key", ttl).unwrap();
        assert!(touched && read(backend, "key").is_some(), "{ttl:?}");
        server.ask("mg key t").strip_prefix("HD t").unwrap().parse::<i64>().unwrap()
    };
    for seconds in [1, 60, 30 * DAY - 2, 30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 31 * DAY, 3_650 * DAY] {
        let shown = left(&backend, Some(Duration::from_secs(seconds)));
        assert!((seconds as i64..=seconds as i64 + 2).contains(&shown), "{seconds} s became {shown}");
    }
    for ttl in [None, Some(Duration::MAX), Some(Duration::from_secs(100 * 365 * DAY))] {
        assert_eq!(left(&backend, ttl), -1, "{ttl:?}: for ever");
    }
    assert!((1..=2).contains(&left(&backend, Some(Duration::from_nanos(1)))));
    backend.set(Put::new("key", &value("gone")).ttl(Some(Duration::ZERO))).unwrap();
    assert_eq!(read(&backend, "key"), None);

    // The lock keeps what there is for as long as it has.
    for seconds in [2, 31 * DAY] {
        backend.set(Put::new("key", &value("there")).ttl(Some(Duration::from_secs(seconds)))).unwrap();
        let lock = taken(&backend, "key");
        let shown: i64 = server.ask("mg key t").strip_prefix("HD t").unwrap().parse().unwrap();
        assert!((seconds as i64..=seconds as i64 + 2).contains(&shown), "{seconds} s became {shown}");
        lock.release().unwrap();
    }

    let hour = Duration::from_secs(60 * 60);
    for (clock, off) in
        [(Wrong(hour, false), -3_600), (Wrong(hour, true), 3_600), (Wrong(Duration::MAX, false), 0)]
    {
        let wrong = MemcachedBackend::builder().server(server.address()).clock(clock).build().unwrap();
        assert_eq!(left(&wrong, Some(60 * SECOND)) - 60, 1, "up to 30 days no clock of ours is asked");
        let month = 31 * DAY as i64;
        if off != 0 {
            let shown = left(&wrong, Some(Duration::from_secs(31 * DAY)));
            assert!((month + off..=month + off + 2).contains(&shown), "{shown}");
        }
    }
    let region = Region::builder()
        .backend(over(&server, Envelope::Own))
        .policy(RegionPolicy::builder().fresh(Duration::from_secs(30 * DAY + 1)).build().unwrap())
        .build()
        .unwrap();
    assert_eq!(*region.get_or_create("month", || 7).unwrap(), 7);
    assert_eq!(region.get::<i32>("month").unwrap().as_deref(), Some(&7));
}

#[test]
fn what_is_too_large_is_said_to_be() {
    let server = Memcached::start_with(&["-I", "2m"]);
    let backend = over(&server, Envelope::Own);
    let large = Stored::from(vec![b'x'; 3_000_000]);
    let error = backend.set(Put::new("key", &large)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    let said = error.to_string();
    assert!(said.contains("a value of 3000000 bytes is too large: an item may have 2097152"), "{said}");
    let lock = taken(&backend, "key");
    let put = Put::new("key", &large);
    let fence = lock.fence().unwrap();
    let refused = backend.set_unless(&[put.fence(Some(&fence))], &|_, _| false).unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full);
    lock.release().unwrap();
    assert!(!lock.locked().unwrap());

    let region = Region::builder().backend(backend).build().unwrap();
    let made = region.get_or_create("large", || vec![7_u8; 3_000_000]).unwrap();
    assert_eq!(made.len(), 3_000_000, "it is the caller's all the same");
    assert!(region.get::<Vec<u8>>("large").unwrap().is_none());
}

#[test]
fn a_server_that_is_down_has_its_keys() {
    let (one, mut two) = (Memcached::start(), Memcached::start());
    let open = |first: &Memcached, second: &Memcached| {
        let builder = MemcachedBackend::builder().server(first.address()).server(second.address());
        builder.timeout(SECOND / 4).build().unwrap()
    };
    let backend = open(&one, &two);
    let keys: Vec<String> = (0..200).map(|i| format!("key-{i}")).collect();
    let values: Vec<Stored> = keys.iter().map(|key| value(key)).collect();
    let puts: Vec<Put<'_>> = keys.iter().zip(&values).map(|(key, value)| Put::new(key, value)).collect();
    backend.set_multi(&puts).unwrap();
    let turned = open(&two, &one);
    let borrowed: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(
        turned.get_multi(&borrowed).unwrap().iter().all(Option::is_some),
        "in whatever order they are given"
    );
    let of_two = two.statistic("curr_items");
    assert!((60..140).contains(&of_two), "{of_two} of 200");

    two.kill();
    let (mut found, mut failed) = (0, 0);
    for key in &keys {
        match backend.get(key) {
            Ok(Some(_)) => found += 1,
            Ok(None) => panic!("a key of the other server's is missing"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.to_string().contains(&two.address()), "{error}");
                failed += 1;
            }
        }
    }
    assert_eq!((found, failed), (200 - of_two, of_two), "not silently elsewhere");
    two.restart();
    for key in &keys {
        backend.set(Put::new(key, &value("again"))).unwrap();
    }
    assert_eq!(two.statistic("curr_items"), of_two);
}

/// Who does not answer costs one time limit, and never gives one caller another's reply.
#[test]
fn a_server_that_is_stopped_harms_nobody() {
    let server = Memcached::start();
    let backend = MemcachedBackend::builder()
        .server(server.address())
        .timeout(SECOND / 4)
        .lease(LEASE)
        .build()
        .unwrap();
    let keys: Vec<String> = (0..8).map(|i| format!("key-{i}")).collect();
    for key in &keys {
        backend.set(Put::new(key, &value(key))).unwrap();
    }
    let region = Region::builder().backend(backend.clone()).policy(minute()).build().unwrap();
    let lock = taken(&backend, "locked");
    server.pause();
    std::thread::scope(|scope| {
        for key in &keys {
            let (backend, region) = (&backend, &region);
            scope.spawn(move || {
                let begun = Timer::start();
                let error = backend.get(key).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                assert!(error.is_transient());
                assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
                assert_eq!(
                    *region.get_or_create(key, || format!("made {key}")).unwrap(),
                    format!("made {key}")
                );
            });
        }
    });
    server.resume();
    // Replies that come now were for calls that have gone.
    for _ in 0..20 {
        for key in &keys {
            match backend.get(key) {
                Ok(found) => {
                    assert!(found.is_some_and(|found| found.is_same(&value(key))), "another's reply")
                }
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    }
    for key in &keys {
        assert_eq!(read(&backend, key).as_deref(), Some(&**key));
    }
    lock.release().unwrap();
    assert!(!lock.locked().unwrap());
}

#[test]
fn a_server_that_was_restarted_is_found_again() {
    let mut server = Memcached::start();
    let region = Region::builder().backend(over(&server, Envelope::Own)).policy(minute()).build().unwrap();
    assert_eq!(*region.get_or_create("key", || 1).unwrap(), 1);
    server.kill();
    assert_eq!(*region.get_or_create("key", || 2).unwrap(), 2, "each process makes its own while it is down");
    assert!(region.set("key", 3).is_err(), "who writes is told");
    server.restart();
    let begun = Timer::start();
    until("the region keeps values again", || {
        let _ = region.set("other", 3);
        region.get::<i32>("other").is_ok_and(|found| found.is_some())
    });
    println!("found again after {:?}", begun.elapsed());
    assert!(begun.elapsed() < 2 * SECOND);
    assert_eq!(*region.get_or_create("key", || 4).unwrap(), 4, "it had lost everything");
    assert_eq!(*region.get_or_create("key", || 5).unwrap(), 4);
}

/// A creation that takes longer than the lease is one all the same, with an old value as without.
#[test]
fn a_long_creation_is_one() {
    let server = Memcached::start();
    let open = || Region::builder().backend(over(&server, Envelope::Own)).policy(minute()).build().unwrap();
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for i in 0..3 {
            let (region, made) = (open(), &made);
            scope.spawn(move || {
                pass(SECOND / 10 * i);
                let value = region.get_or_create("long", || {
                    pass(2 * LEASE + SECOND / 2);
                    made.fetch_add(1, SeqCst)
                });
                assert_eq!(*value.unwrap(), 0);
                assert_eq!(region.stats().refused_late_writes, 0);
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
    assert_eq!(server.statistic("curr_items"), 1, "the lock has gone");
}

/// Batches that overlap, of two regions as of two processes: no key is made twice, and none is left locked.
#[test]
fn batches_share_their_keys() {
    let server = Memcached::start();
    let regions = [(); 2]
        .map(|()| Region::builder().backend(over(&server, Envelope::Own)).policy(minute()).build().unwrap());
    let keys: Vec<String> = (0..24).map(|i| format!("key-{i}")).collect();
    let made: Vec<AtomicUsize> = keys.iter().map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (region, keys, made) = (&regions[thread % 2], &keys, &made);
            scope.spawn(move || {
                for round in 0..3 {
                    let first = (thread * 5 + round * 7) % 16;
                    let mut batch: Vec<&str> = keys[first..first + 8].iter().map(String::as_str).collect();
                    if thread % 3 == 0 {
                        batch.reverse();
                    }
                    let values = region.get_or_create_multi(&batch, |missing| {
                        let number = |key: &&str| key["key-".len()..].parse::<usize>().unwrap();
                        let numbers: Vec<usize> = missing.iter().map(number).collect();
                        for i in &numbers {
                            made[*i].fetch_add(1, SeqCst);
                        }
                        numbers
                    });
                    for (key, value) in batch.iter().zip(values.unwrap()) {
                        assert_eq!(*key, format!("key-{value}"));
                    }
                }
            });
        }
    });
    let made: Vec<usize> = made.into_iter().map(AtomicUsize::into_inner).collect();
    assert!(made.iter().all(|times| *times <= 1), "{made:?}");
    let there = made.iter().filter(|times| **times == 1).count();
    assert!(there > 16);
    assert_eq!(server.statistic("curr_items"), there as u64, "values, and no locks");
}

/// What a thread did, between two stamps of a clock that all share.
#[derive(Clone, Copy, Debug)]
enum Done {
    /// Set, or deleted.
    Changed { begun: u64, ended: u64 },
    /// Had the lock from the first stamp on, began to write at the second. Whether it was written, and whether the lock was
    /// taken from it before that.
    Held { thread: usize, taken: u64, writes: u64, is_written: bool, is_lost: bool },
}

/// Six threads, each with a backend of its own as six processes, take one key's lock, lose it, set, delete, write. Of all that
/// was written under the lock nothing is late, and no two have it at once unless it was lost.
fn histories(envelope: Envelope, lock: &str) {
    let server = Memcached::start();
    let (clock, random) = (AtomicU64::new(0), AtomicU64::new(1));
    let stamp = || clock.fetch_add(1, SeqCst);
    let is_own = envelope == Envelope::Own;
    let work = |thread: usize| {
        let backend = over(&server, envelope);
        let (begun, mut done) = (Timer::start(), Vec::new());
        let new = value("new");
        while begun.elapsed() < SECOND {
            let dice =
                random.fetch_add(0x9E37_79B9_7F4A_7C15, SeqCst).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
            let at = stamp();
            match dice % 10 {
                0 | 1 => {
                    backend.set(Put::new("key", &value("set"))).unwrap();
                    done.push(Done::Changed { begun: at, ended: stamp() });
                }
                // Where Python reads, a delete of nothing is not seen.
                2 if is_own => {
                    backend.delete("key").unwrap();
                    done.push(Done::Changed { begun: at, ended: stamp() });
                }
                _ => {
                    let mutex = backend.mutex("key").unwrap();
                    if !mutex.acquire(SECOND / 50).unwrap() {
                        continue;
                    }
                    let taken = stamp();
                    pass(Duration::from_micros(dice >> 4 & 0x7FF));
                    let is_lost = is_own && dice & 0x100 != 0 && server.ask(&format!("md {lock}")) == "HD";
                    if is_lost {
                        pass(SECOND / 500);
                    }
                    let writes = stamp();
                    let put = Put::new("key", &new);
                    let fence = mutex.fence().unwrap();
                    let is_written =
                        backend.set_unless(&[put.fence(Some(&fence))], &|_, _| true).unwrap().unwrap()[0];
                    done.push(Done::Held { thread, taken, writes, is_written, is_lost });
                    mutex.release().unwrap();
                }
            }
        }
        done
    };
    let all: Vec<Done> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (mut held, mut written, mut refused, mut lost) = (0, 0, 0, 0);
    for one in &all {
        let Done::Held { thread, taken, writes, is_written, is_lost } = *one else { continue };
        held += 1;
        written += u32::from(is_written);
        refused += u32::from(!is_written);
        lost += u32::from(is_lost);
        for other in &all {
            match *other {
                Done::Changed { begun, ended } => {
                    let is_late = is_written && begun > taken && ended < writes;
                    assert!(!is_late, "{one:?} has overwritten {other:?}");
                }
                Done::Held { thread: by, taken: later, .. }
                    if by != thread && (taken..writes).contains(&later) =>
                {
                    assert!(is_lost, "{one:?} and {other:?} have it at once");
                    assert!(!is_written, "{one:?} was written after {other:?} had taken the lock");
                }
                Done::Held { .. } => {}
            }
        }
    }
    println!("{envelope:?}: {held} times held, {lost} lost; {written} written, {refused} refused");
    assert!(written > 100 && refused > 20, "there were races");
    assert!(!is_own || lost > 20);
}

#[test]
fn no_write_is_late() {
    histories(Envelope::Own, "dpl:!key");
    histories(Envelope::Dogpile, "_lockkey");
}

/// Answers each command with the same bytes, whatever it was, and hangs up after that, or waits.
fn that_answers(junk: Vec<u8>, hangs_up: bool) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let junk = junk.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                while lines.next().is_some() {
                    if stream.write_all(&junk).is_err() || hangs_up {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// Whatever a server says, it is an error or a value, soon: no panic, no memory that its bytes don't have.
#[test]
fn hostile_replies_are_errors() {
    let mut all: Vec<Vec<u8>> = [
        "",
        "\r\n",
        "\n",
        "HD\r\n",
        "EN\r\n",
        "NF\r\n",
        "EX\r\n",
        "MN\r\n",
        "VA\r\n",
        "VA x\r\n",
        "VA -1\r\n",
        "VA 3\r\nabc\r\n",
        "VA 3 c1 t-1 s3 f0\r\nab",
        "VA 3 c1 t-1 s3 f0\r\nabcde\r\n",
        "VA 99999999999999999999 c1\r\n",
        "VA 9999999999 c1\r\n",
        "VA 1000000000 c1 t-1 s3 f0\r\nabc",
        "VA 3 c-1 t-1 s3 f0\r\nabc\r\n",
        "VA 3 c99999999999999999999 t1 s3 f0\r\nabc\r\n",
        "VA 3 c1 t99999999999999999999 s3 f0\r\nabc\r\n",
        "VA 3 c1 t-1 s3 f99999999999\r\nabc\r\n",
        "VA 0 c1 t30 s0 f0 W Z X\r\n\r\n",
        "HD O0\r\nHD O0\r\n",
        "EN O1\r\nEN O0\r\n",
        "ERROR\r\n",
        "CLIENT_ERROR bad\r\n",
        "SERVER_ERROR out of memory storing object\r\n",
        "SERVER_ERROR object too large for cache\r\n",
        "VALUE key 0 3\r\nabc\r\nEND\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
    ]
    .map(|reply| reply.as_bytes().to_vec())
    .into();
    all.push(vec![b'V'; 1 << 20]);
    let mut state = 7_u64;
    for i in 0..60 {
        let byte = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if i % 2 == 0 { (state >> 33) as u8 } else { b"VA 012cts\r\nHDf-WZ"[(state >> 33) as usize % 17] }
        };
        all.push((0..i).map(byte).collect());
    }
    std::thread::scope(|scope| {
        for junk in &all {
            scope.spawn(move || {
                for hangs_up in [false, true] {
                    let address = that_answers(junk.clone(), hangs_up);
                    let builder = MemcachedBackend::builder().server(address).timeout(SECOND / 10);
                    let backend = builder.build().unwrap();
                    let begun = Timer::start();
                    let new = value("new");
                    let shown = String::from_utf8_lossy(&junk[..junk.len().min(40)]).into_owned();
                    // What makes sense is believed; the rest is an error.
                    let _ = backend.get("key");
                    let _ = backend.set(Put::new("key", &new));
                    let _ = backend.delete("key");
                    if let Ok(found) = backend.get_multi(&["a", "b", "c"]) {
                        assert_eq!(found.len(), 3, "{shown}");
                    }
                    let _ = backend.set_unless(&[Put::new("key", &new)], &|_, _| false);
                    let lock = backend.mutex("key").unwrap();
                    if lock.acquire(Duration::ZERO).is_ok_and(|is_held| is_held) {
                        let _ = write_if(&backend, "key", &lock.fence().unwrap());
                        let _ = lock.release();
                    }
                    assert!(begun.elapsed() < 10 * SECOND, "{shown}: {:?}", begun.elapsed());
                }
            });
        }
    });
}

fn write_if(backend: &dyn Backend, key: &str, fence: &Fence) -> Result<Vec<bool>, dogpile::Error> {
    let new = value("new");
    backend.set_unless(&[Put::new(key, &new).fence(Some(fence))], &|_, _| false).unwrap()
}

/// Tasks of two regions, as of two processes: one creation. A task that is dropped while it makes a value gives its lock back.
#[test]
fn tasks_take_the_same_locks() {
    let server = Memcached::start();
    let open = || Region::builder().backend(over(&server, Envelope::Own)).policy(minute()).build().unwrap();
    let regions = [open(), open()];
    let made = AtomicUsize::new(0);
    smol::block_on(async {
        let all = (0..16).map(|i| {
            let region = regions[i % 2].for_tasks().unwrap();
            let made = &made;
            async move {
                let value = region.get_or_create("key", async {
                    made.fetch_add(1, SeqCst);
                    smol::Timer::after(SECOND / 20).await;
                    7
                });
                assert_eq!(*value.await.unwrap(), 7);
            }
        });
        futures_join(all.collect()).await;
    });
    assert_eq!(made.into_inner(), 1);

    let region = regions[0].for_tasks().unwrap();
    let (begun, begins) = std::sync::mpsc::channel();
    smol::block_on(async {
        let endless = region.get_or_create("dropped", async {
            begun.send(()).unwrap();
            std::future::pending::<i32>().await
        });
        let is_begun = async {
            while begins.try_recv().is_err() {
                smol::Timer::after(SECOND / 200).await;
            }
            None
        };
        let ended = smol::future::or(async { Some(endless.await) }, is_begun).await;
        assert!(ended.is_none());
    });
    until("the lock is free again", || !regions[1].key_is_locked("dropped").unwrap());
    assert_eq!(*regions[1].get_or_create("dropped", || 8).unwrap(), 8);
}

/// All of them, by turns.
async fn futures_join(futures: Vec<impl Future<Output = ()>>) {
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = futures.into_iter().map(|future| executor.spawn(future)).collect();
    executor
        .run(async {
            for task in tasks {
                task.await;
            }
        })
        .await;
}

fn refused(url: &str) -> String {
    let error = Region::from_url(url).err().unwrap_or_else(|| panic!("{url} is accepted"));
    assert!(!format!("{error:?}{error}").contains("hunter2"), "{error:?}");
    error.to_string()
}

#[test]
fn settings_are_checked_and_secrets_not_shown() {
    for (url, expected) in [
        ("memcached://", "`url`: there is no host"),
        ("memcached://h?lease=1s", "`lease`: expected 2s to 29 days"),
        ("memcached://h?lease=31days", "`lease`: expected 2s to 29 days"),
        ("memcached://h?timeout=0", "`timeout`: no reply comes in no time"),
        ("memcached://h?connect_timeout=0", "`connect_timeout`: no connection"),
        ("memcached://h?max_connections=0", "`max_connections`: expected a whole number from 1 on"),
        ("memcached://h,h", "`server`: the same one is given twice"),
        ("memcached://h/path", "it has no path"),
        ("memcached://ada:hunter2@h", "there is a user name or a password"),
        ("memcached://h?password=hunter2", "there is a user name or a password"),
        ("memcached://h?hash=ketama", "`hash` is unknown"),
        ("memcached://h?distributed_lock=true", "`distributed_lock` is unknown"),
        (
            "pymemcache://h?min_compress_len=1",
            "`min_compress_len` is unknown (in dogpile.cache it is not; here use a codec",
        ),
        ("dogpile.cache.memcached?url=ada:hunter2@h", ""),
    ] {
        let said = refused(url);
        assert!(said.contains(expected), "{url}: {said}");
    }
    let server = Memcached::start();
    let map: HashMap<&str, String> = HashMap::from([
        ("backend", String::from("dogpile.cache.pymemcache")),
        ("arguments.url", server.address()),
        ("arguments.distributed_lock", String::from("True")),
        ("arguments.lock_timeout", String::from("30")),
        ("arguments.memcached_expire_time", String::from("600")),
        ("arguments.socket_timeout", String::from("3")),
    ]);
    let config = RegionConfig::from_map(map, "").unwrap();
    let region = Region::builder().config(&config, &Schemes::new()).unwrap().build().unwrap();
    region.set("key", 7).unwrap();
    let entry = server.value("key").unwrap();
    assert!(entry.starts_with("{\"ct\": ") && entry.ends_with(", \"v\": 2}|7"), "{entry}");
    let left: i64 = server.ask("mg key t").strip_prefix("HD t").unwrap().parse().unwrap();
    assert!((599..=601).contains(&left), "{left}");
    let shown = format!("{:?}", over(&server, Envelope::Own));
    assert!(shown.contains(&server.address()), "{shown}");
}

#[test]
fn one_backend_has_one_envelope() {
    let backend = MemcachedBackend::builder().server("nowhere.invalid").build().unwrap();
    backend.attach(Envelope::Own).unwrap();
    backend.attach(Envelope::Own).unwrap();
    assert_eq!(backend.attach(Envelope::Plain).unwrap_err().kind(), ErrorKind::Config);
    let error = backend.get("key").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("nowhere.invalid:11211"), "{error}");
}
