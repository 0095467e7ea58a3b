//! Proxies: what stands between a region and its backend. One counts, one keeps a log, one seals values so that the store
//! can't read them. The first that is given is the outermost: it sees the region's calls first.

use dogpile::backend::{Backend, MemoryBackend, Proxy, Put, Schemes, Stored, Takes};
use dogpile::region::RegionConfig;
use dogpile::{Error, Region};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts reads and writes. What it does not override passes by it.
#[derive(Clone, Default)]
struct Counting {
    reads: Arc<AtomicU32>,
    writes: Arc<AtomicU32>,
}

/// `set_unless` is how values that were made are written. `None`: do it by `get` and `set`, which see everything then.
type Unless = Option<Result<Vec<bool>, Error>>;
type Keeps<'a> = &'a dyn Fn(usize, Option<&Stored>) -> bool;

impl Proxy for Counting {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        self.reads.fetch_add(1, Relaxed);
        next.get(key)
    }
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        self.writes.fetch_add(1, Relaxed);
        next.set(put)
    }
    fn set_unless(&self, next: &dyn Backend, puts: &[Put<'_>], keeps: Keeps<'_>) -> Unless {
        self.writes.fetch_add(1, Relaxed);
        next.set_unless(puts, keeps)
    }
}

/// Notes who was asked for what, in which order.
struct Logging {
    name: &'static str,
    log: Arc<Mutex<Vec<String>>>,
}

impl Logging {
    fn note(&self, what: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{} {what}", self.name));
    }
}

impl Proxy for Logging {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        self.note("asks");
        let found = next.get(key);
        self.note("has asked");
        found
    }
}

/// Stands in for a cipher: its stream of bytes is no secret to anybody.
#[derive(Clone, Copy)]
struct Sealing(u8);

impl Sealing {
    /// Seals and opens.
    fn turn(self, value: &Stored) -> Stored {
        let stream = (0..=u8::MAX).cycle().map(|byte| byte.wrapping_mul(167) ^ self.0);
        let bytes = value.bytes().unwrap_or_default();
        Stored::from(bytes.iter().zip(stream).map(|(byte, other)| byte ^ other).collect::<Vec<u8>>())
    }
}

impl Proxy for Sealing {
    fn get(&self, next: &dyn Backend, key: &str) -> Result<Option<Stored>, Error> {
        Ok(next.get(key)?.map(|value| self.turn(&value)))
    }
    fn get_multi(&self, next: &dyn Backend, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        let found = next.get_multi(keys)?;
        Ok(found.into_iter().map(|value| value.map(|value| self.turn(&value))).collect())
    }
    fn set(&self, next: &dyn Backend, put: Put<'_>) -> Result<(), Error> {
        next.set(Put::new(put.key, &self.turn(put.value)).ttl(put.ttl))
    }
    fn set_multi(&self, next: &dyn Backend, puts: &[Put<'_>]) -> Result<(), Error> {
        puts.iter().try_for_each(|put| self.set(next, *put))
    }
    fn set_unless(&self, _: &dyn Backend, _: &[Put<'_>], _: Keeps<'_>) -> Unless {
        None
    }
    fn takes(&self, _: &dyn Backend) -> Takes {
        Takes::Bytes
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (counting, log) = (Counting::default(), Arc::new(Mutex::new(Vec::new())));
    let logging = |name| Logging { name, log: Arc::clone(&log) };
    let region = Region::builder()
        .backend(MemoryBackend::new())
        .wrap(logging("outer"))
        .wrap(counting.clone())
        .wrap(logging("inner"))
        .build()?;

    // One read and one write for a value that is made, one read for each hit.
    for _ in 0..3 {
        region.get_or_create("key", || 7)?;
    }
    assert_eq!((counting.reads.load(Relaxed), counting.writes.load(Relaxed)), (3, 1));

    // The first is the outermost.
    log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    region.get::<i32>("key")?;
    let order = ["outer asks", "inner asks", "inner has asked", "outer has asked"];
    assert_eq!(*log.lock().unwrap_or_else(PoisonError::into_inner), order);

    // Sealed: the region sees its values, the store does not.
    let sealed = Region::builder().backend(MemoryBackend::new()).wrap(Sealing(42)).build()?;
    sealed.get_or_create("secret", || String::from("the name of the rose"))?;
    sealed.set_multi([("more", String::from("the rose")), ("less", String::from("a rose"))])?;
    assert_eq!(sealed.get::<String>("secret")?.as_deref().map(String::as_str), Some("the name of the rose"));
    assert_eq!(sealed.get_multi::<String>(&["less"])?[0].as_deref().map(String::as_str), Some("a rose"));
    let backend = sealed.actual_backend()?.ok_or("it is for threads")?;
    for key in ["secret", "more", "less"] {
        let kept = backend.get(key)?.ok_or("it was put in")?;
        assert!(!kept.bytes().ok_or("they are bytes")?.windows(4).any(|four| four == b"rose"));
    }

    // Sealed by another: the checksum in the envelope finds it, and the value is made anew.
    backend.set(Put::new("secret", &Sealing(43).turn(&backend.get("more")?.ok_or("it was put in")?)))?;
    assert_eq!((sealed.get::<String>("secret")?, sealed.stats().undecodable), (None, 1));
    assert_eq!(*sealed.get_or_create("secret", || String::from("anew"))?, "anew");

    // A configuration names proxies that were registered.
    let schemes = Schemes::new().register_proxy("sealed", || Sealing(42));
    let config = RegionConfig::from_url("memory+serialized://?wrap=sealed")?;
    let region = Region::builder().config(&config, &schemes)?.build()?;
    region.set("key", 7)?;
    assert_eq!(region.get::<i32>("key")?.as_deref(), Some(&7));
    println!("{:?}", region.stats());
    Ok(())
}
