//! The locks: what they keep out, what a write under them is refused for, who is woken, what is left behind.

use super::servers::{Cluster, Redis, Timer, pass, until};
use dogpile::backend::{AsyncBackend, Backend, CacheMutex, Put, RedisBackend, RedisBackendBuilder, Stored};
use dogpile::codec::Envelope;
use dogpile::{ErrorKind, Region};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const LEASE: Duration = Duration::from_millis(300);
const LAYOUTS: [Envelope; 2] = [Envelope::Own, Envelope::Dogpile];

fn made(builder: RedisBackendBuilder, envelope: Envelope) -> RedisBackend {
    let backend = builder.lease(LEASE).timeout(Duration::from_secs(5)).build().unwrap();
    Backend::attach(&backend, envelope).unwrap();
    backend
}

fn of(server: &Redis, envelope: Envelope) -> RedisBackend {
    made(RedisBackend::builder("127.0.0.1", server.port()), envelope)
}

fn value(text: &str) -> Stored {
    Stored::from(text.as_bytes())
}

fn get(backend: &RedisBackend, key: &str) -> Option<String> {
    let stored = Backend::get(backend, key).unwrap()?;
    Some(String::from_utf8(stored.bytes().unwrap().to_vec()).unwrap())
}

fn set(backend: &RedisBackend, key: &str, text: &str) {
    Backend::set(backend, Put::new(key, &value(text))).unwrap();
}

/// A lock that is held.
fn locked(backend: &RedisBackend, key: &str) -> Box<dyn CacheMutex> {
    let lock = Backend::mutex(backend, key).unwrap();
    assert!(lock.acquire(Duration::ZERO).unwrap(), "nobody has it");
    lock
}

fn is_free(backend: &RedisBackend, key: &str) -> bool {
    !Backend::mutex(backend, key).unwrap().locked().unwrap()
}

/// Writes under a lock. Whether it was let.
fn written(backend: &RedisBackend, key: &str, lock: &dyn CacheMutex, text: &str) -> bool {
    let (fence, value) = (lock.fence().expect("it is held"), value(text));
    let put = Put::new(key, &value).ttl(Some(Duration::from_secs(60))).fence(Some(&fence));
    let done = Backend::set_unless(backend, &[put], &|_, _| panic!("who has a fence is not asked"));
    done.unwrap().unwrap() == [true]
}

#[test]
fn a_write_under_a_lock_is_refused_where_newer_state_has_come() {
    let server = Redis::start();
    for envelope in LAYOUTS {
        let (own, other) = (of(&server, envelope), of(&server, envelope));
        for before in [None, Some("old")] {
            let case = |name: &str| format!("{name}:{envelope}:{before:?}");
            let begin = |key: &str| {
                if let Some(before) = before {
                    set(&other, key, before);
                }
                let lock = locked(&own, key);
                let found = lock.found().expect("it has looked");
                assert_eq!(found.as_ref().and_then(Stored::bytes), before.map(str::as_bytes), "{key}");
                lock
            };

            let key = case("nothing");
            let lock = begin(&key);
            assert!(written(&own, &key, &*lock, "new"), "{key}");
            assert_eq!(get(&other, &key).as_deref(), Some("new"));
            assert!(is_free(&other, &key), "{key}: the write has given it back");
            lock.release().unwrap();

            let key = case("set");
            let lock = begin(&key);
            set(&other, &key, "newer");
            assert!(!written(&own, &key, &*lock, "new"), "{key}");
            assert_eq!(get(&other, &key).as_deref(), Some("newer"));
            lock.release().unwrap();
            assert!(is_free(&other, &key), "{key}");

            // As strings, nothing tells a key that nobody has written from one that was deleted.
            if before.is_some() || envelope == Envelope::Own {
                let key = case("delete");
                let lock = begin(&key);
                assert_eq!(Backend::delete(&other, &key).unwrap(), before.is_some());
                assert!(!written(&own, &key, &*lock, "new"), "{key}");
                assert_eq!(get(&other, &key), None, "{key}");
                lock.release().unwrap();
                assert!(is_free(&other, &key), "{key}");
            }

            let key = case("another holder");
            let lock = begin(&key);
            // As if its process had slept through its lease.
            if envelope == Envelope::Own {
                server.ask(&["HSET", &key, "d", "0"]);
            } else {
                server.ask(&["DEL", &format!("_lock{key}")]);
            }
            let second = locked(&other, &key);
            assert!(!written(&own, &key, &*lock, "new"), "{key}");
            lock.release().unwrap();
            assert!(!is_free(&own, &key), "{key}: it gave back nothing that is another's");
            assert!(written(&other, &key, &*second, "second"), "{key}");
            assert_eq!(get(&own, &key).as_deref(), Some("second"));
        }
    }
}

#[test]
fn a_write_under_a_lock_whose_key_was_flushed_is_refused() {
    let server = Redis::start();
    let backend = of(&server, Envelope::Own);
    let lock = locked(&backend, "key");
    server.ask(&["FLUSHALL"]);
    assert!(!written(&backend, "key", &*lock, "new"));
    assert_eq!(get(&backend, "key"), None);
    lock.release().unwrap();
}

#[test]
fn in_a_cluster_the_bytes_are_compared() {
    let cluster = Cluster::start();
    for envelope in LAYOUTS {
        let backend = made(RedisBackend::of_cluster(cluster.addresses()), envelope);
        for key in ["a", "b", "c", "d"] {
            let key = format!("{key}:{envelope}");
            set(&backend, &key, "old");
            let lock = locked(&backend, &key);
            set(&backend, &key, "newer");
            assert!(!written(&backend, &key, &*lock, "new"));
            lock.release().unwrap();
            let lock = locked(&backend, &key);
            assert!(written(&backend, &key, &*lock, "new"));
            lock.release().unwrap();
            assert_eq!(get(&backend, &key).as_deref(), Some("new"));
            assert!(is_free(&backend, &key));
        }
    }
}

#[test]
fn a_lock_is_renewed_while_its_holder_lives_and_ends_without_it() {
    let server = Redis::start();
    for envelope in LAYOUTS {
        let (own, other) = (of(&server, envelope), of(&server, envelope));
        let lock = locked(&own, "key");
        pass(LEASE * 3);
        assert!(!is_free(&other, "key"), "three leases later it is held");
        let locks = Backend::locks(&other, "ke").unwrap().unwrap();
        assert_eq!(locks.len(), 1);
        assert_eq!(locks[0].key, "key");
        assert!(locks[0].left.is_some_and(|left| left > Duration::ZERO && left <= LEASE), "{locks:?}");
        drop(lock);
        until("who drops it gives it back", || is_free(&other, "key"));
        assert_eq!(Backend::locks(&other, "").unwrap().unwrap(), []);
        assert_eq!(server.ask(&["DBSIZE"]), "0", "nothing is left behind");
    }
}

/// Who has waited for longer looks once a second: it is not that which is measured here.
#[test]
fn who_waits_is_woken() {
    let server = Redis::start();
    // Not so short a lease that who waits looks when it may be over.
    let long =
        || RedisBackend::builder("127.0.0.1", server.port()).lease(Duration::from_secs(10)).build().unwrap();
    let (own, other) = (long(), long());
    type Wake<'w> = &'w (dyn Fn(&str, &dyn CacheMutex) + Sync);
    let ways: [(&str, Wake<'_>); 4] = [
        ("release", &|_, lock| lock.release().unwrap()),
        ("write", &|key, lock| assert!(written(&own, key, lock, "new"))),
        ("set", &|key, _| set(&own, key, "newer")),
        ("delete", &|key, _| assert!(!Backend::delete(&own, key).unwrap())),
    ];
    thread::scope(|scope| {
        for (key, wake) in ways {
            let (own, other, server) = (&own, &other, &server);
            scope.spawn(move || {
                let lock = locked(own, key);
                let waits = thread::scope(|scope| {
                    let waits = scope.spawn(|| {
                        let lock = Backend::mutex(other, key).unwrap();
                        assert!(lock.acquire(Duration::from_secs(20)).unwrap());
                        Timer::start()
                    });
                    let channel = format!("dogpile:wake:{key}");
                    until("it listens", || server.ask(&["PUBSUB", "CHANNELS"]).contains(&channel));
                    // By now its pause is a second.
                    pass(Duration::from_millis(1100));
                    let begun = Timer::start();
                    wake(key, &*lock);
                    let since = waits.join().unwrap().elapsed();
                    begun.elapsed().saturating_sub(since)
                });
                assert!(waits < Duration::from_millis(150), "by {key}: {waits:?}");
                until("who drops it gives it back", || is_free(own, key));
            });
        }
    });
    until("nobody listens any more", || server.ask(&["PUBSUB", "CHANNELS"]).is_empty());
}

#[test]
fn who_waits_in_vain_waits_to_the_end_and_no_longer() {
    let server = Redis::start();
    for envelope in LAYOUTS {
        let backend = of(&server, envelope);
        let lock = locked(&backend, "key");
        let begun = Timer::start();
        let wait = Duration::from_millis(250);
        assert!(!Backend::mutex(&backend, "key").unwrap().acquire(wait).unwrap());
        let took = begun.elapsed();
        assert!(took >= wait && took < wait * 2, "{took:?}");
        lock.release().unwrap();
    }
}

/// A lock makes a key live longer than its value may.
#[test]
fn a_value_ends_when_it_was_to_end() {
    let server = Redis::start();
    let backend = of(&server, Envelope::Own);
    let ttl = Duration::from_millis(100);
    for (key, is_waited_for) in [("later", false), ("over", true)] {
        Backend::set(&backend, Put::new(key, &value("short")).ttl(Some(ttl))).unwrap();
        let lock = locked(&backend, key);
        assert!(server.ask(&["PTTL", key]).parse::<u64>().unwrap() > 100);
        if is_waited_for {
            pass(ttl);
        }
        lock.release().unwrap();
        if !is_waited_for {
            assert!(server.ask(&["PTTL", key]).parse::<u64>().unwrap() <= 100);
        }
        until("it ends", || server.ask(&["EXISTS", key]) == "0");
    }
    // One that stays.
    set(&backend, "stays", "long");
    let lock = locked(&backend, "stays");
    lock.release().unwrap();
    assert_eq!(server.ask(&["PTTL", "stays"]), "-1");
    assert_eq!(server.ask(&["HLEN", "stays"]), "2", "the value and its epoch");
}

/// A task that is dropped while it asks for the lock has not taken it for long.
#[test]
fn a_lock_that_nobody_waits_for_is_given_back() {
    let server = Redis::start();
    for envelope in LAYOUTS {
        let backend = made(RedisBackend::builder("127.0.0.1", server.port()).db(1), envelope);
        let patient = made(RedisBackend::builder("127.0.0.1", server.port()).db(1), envelope);
        pollster::block_on(async {
            AsyncBackend::get(&backend, "connects").await.unwrap();
            for round in 0..50 {
                let lock = AsyncBackend::mutex(&backend, "key").unwrap();
                let mut acquire = lock.acquire(Duration::ZERO);
                // Once, and then it has gone.
                smol::future::poll_once(&mut acquire).await;
                drop(acquire);
                drop(lock);
                let next = AsyncBackend::mutex(&patient, "key").unwrap();
                let begun = Timer::start();
                assert!(next.acquire(Duration::from_secs(5)).await.unwrap(), "round {round}");
                assert!(begun.elapsed() < Duration::from_secs(2), "round {round}: {:?}", begun.elapsed());
                next.release().await.unwrap();
            }
        });
    }
}

#[test]
fn regions_over_one_server_make_a_value_once() {
    let server = Redis::start();
    for envelope in LAYOUTS {
        let codec = dogpile::codec::Codec::json().envelope(envelope);
        let region = || {
            let backend = RedisBackend::builder("127.0.0.1", server.port()).lease(LEASE).build().unwrap();
            Region::builder()
                .backend(backend)
                .codec(codec.clone())
                .prefix(format!("{envelope}:"))
                .build()
                .unwrap()
        };
        let made = Arc::new(AtomicU32::new(0));
        for generation in 0..20 {
            let key = format!("key-{generation}");
            thread::scope(|scope| {
                for _ in 0..4 {
                    let (region, made, key) = (region(), Arc::clone(&made), key.clone());
                    scope.spawn(move || {
                        let create = || {
                            pass(Duration::from_millis(5));
                            made.fetch_add(1, Ordering::Relaxed) + 1
                        };
                        assert_eq!(*region.get_or_create(&key, create).unwrap(), generation + 1);
                    });
                }
            });
        }
        assert_eq!(made.load(Ordering::Relaxed), 20);
    }
}

/// The source has a number that rises; who raises it deletes the entry. Nobody reads a number from before a delete that had
/// ended when the read began: neither from a creator that had begun before it, nor by a lease that was lost meanwhile.
#[test]
fn what_was_made_before_a_delete_is_never_read_after_it() {
    const LEASE: Duration = Duration::from_millis(30);
    let server = Redis::start();
    let is_long = std::env::var_os("DOGPILE_LONG").is_some();
    let span = Duration::from_secs(if is_long { 60 } else { 2 });
    let (source, deleted) = (AtomicU32::new(0), AtomicU32::new(0));
    let (reads, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let begun = Timer::start();
    thread::scope(|scope| {
        for process in 0..4 {
            let backend = RedisBackend::builder("127.0.0.1", server.port()).lease(LEASE).build().unwrap();
            let region = Arc::new(Region::builder().backend(backend).build().unwrap());
            let (source, deleted, reads, refused, server) = (&source, &deleted, &reads, &refused, &server);
            let own = Arc::clone(&region);
            scope.spawn(move || {
                while begun.elapsed() < span {
                    let least = deleted.load(Ordering::SeqCst);
                    if let Some(found) = own.get::<u32>("key").unwrap() {
                        assert!(*found >= least, "{found} was read after {least} was deleted");
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                    let create = || {
                        let number = source.load(Ordering::SeqCst);
                        if number.is_multiple_of(7) {
                            // Its lease is lost while it works.
                            server.ask(&["HSET", "key", "d", "0"]);
                        }
                        pass(Duration::from_micros(u64::from(number % 5) * 300));
                        number
                    };
                    own.get_or_create("key", create).unwrap();
                }
                refused.fetch_add(own.stats().refused_late_writes as u32, Ordering::Relaxed);
            });
            if process < 2 {
                scope.spawn(move || {
                    while begun.elapsed() < span {
                        let number = source.fetch_add(1, Ordering::SeqCst) + 1;
                        region.delete("key").unwrap();
                        deleted.fetch_max(number, Ordering::SeqCst);
                        pass(Duration::from_micros(700));
                    }
                });
            }
        }
    });
    let (reads, refused) = (reads.into_inner(), refused.into_inner());
    println!(
        "{} deletes, {reads} reads, {refused} late writes refused: none of them read",
        deleted.into_inner()
    );
    assert!(reads > 100 && refused > 10, "{reads} reads, {refused} refused");
}

#[test]
fn what_is_not_an_entry_is_a_clear_error() {
    let server = Redis::start();
    server.ask(&["SET", "string", "1"]);
    server.ask(&["LPUSH", "list", "1"]);
    for (envelope, key) in [(Envelope::Own, "string"), (Envelope::Dogpile, "list")] {
        let backend = of(&server, envelope);
        let error = Backend::get(&backend, key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("a key has something else than an entry"), "{error}");
    }
    let backend = of(&server, Envelope::Own);
    assert_eq!(
        Backend::set(&backend, Put::new("string", &value("new"))).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(server.ask(&["GET", "string"]), "1", "it was left alone");
    let error = Backend::attach(&backend, Envelope::Plain).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!Backend::clear(&backend, "").unwrap(), "not the whole database");
    assert_eq!(Backend::len(&backend, "").unwrap(), None);
}
