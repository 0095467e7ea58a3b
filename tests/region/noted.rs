//! Invalidations that are kept in a store: two regions stand for two processes.

use super::SECOND;
use crate::common::{until, watch};
use dogpile::backend::{Backend, MemoryBackend, Put, Store, Stored};
use dogpile::region::{How, InvalidationStrategy, Scope, SharedInvalidation};
use dogpile::{AsyncRegion, Error, ErrorKind, Region};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(5);

fn store() -> MemoryBackend {
    MemoryBackend::builder().serialized(true).build().unwrap()
}

fn process(store: &MemoryBackend) -> Region {
    let shared = SharedInvalidation::with(Store::both(store.clone()), "notes", SOON, Duration::ZERO).unwrap();
    Region::builder().backend(store.clone()).invalidation(shared).build().unwrap()
}

/// Each scope, hard and soft, from a process that runs already to one that does, too, and to one that comes later.
#[test]
fn what_one_process_invalidates_is_invalid_in_all() {
    let _watch = watch();
    let cases = [
        (Scope::Region, How::Hard),
        (Scope::Tag("tag"), How::Hard),
        (Scope::Prefix("k"), How::Hard),
        (Scope::Key("key"), How::Hard),
        (Scope::Region, How::Soft),
        (Scope::Tag("tag"), How::Soft),
        (Scope::Prefix("k"), How::Soft),
        (Scope::Key("key"), How::Soft),
    ];
    for (scope, how) in cases {
        let store = store();
        let (one, other) = (process(&store), process(&store));
        one.tagged(["tag"]).get_or_create("key", || 1).unwrap();
        one.set("else", 1).unwrap();
        assert_eq!(other.get::<i32>("key").unwrap().as_deref(), Some(&1));
        one.invalidate(scope, how).unwrap();
        assert_eq!(one.get::<i32>("key").unwrap(), None, "{scope:?}, {how:?}: at once where it was said");
        until("the other process has looked", || other.get::<i32>("key").unwrap().is_none());
        let later = process(&store);
        assert_eq!(later.get::<i32>("key").unwrap(), None, "{scope:?}, {how:?}: a process that starts then");
        let others = if scope == Scope::Region { None } else { Some(1) };
        assert_eq!(later.get::<i32>("else").unwrap().as_deref().copied(), others, "{scope:?}, {how:?}");
        assert_eq!(*later.get_or_create("key", || 2).unwrap(), 2, "{scope:?}, {how:?}");
        assert_eq!(later.get::<i32>("key").unwrap().as_deref(), Some(&2), "what is made after it is valid");
        assert_eq!(other.get::<i32>("key").unwrap().as_deref(), Some(&2));
    }
}

/// N1: of notes that are made at the same time none is lost.
#[test]
fn no_note_is_lost() {
    let _watch = watch();
    let store = store();
    let tags: Vec<Vec<String>> = (0..4).map(|t| (0..50).map(|i| format!("{t}.{i}")).collect()).collect();
    let setter = process(&store);
    for tag in tags.iter().flatten() {
        setter.tagged([tag.as_str()]).get_or_create(tag, || 1).unwrap();
    }
    std::thread::scope(|scope| {
        for tags in &tags {
            let store = &store;
            scope.spawn(move || {
                let region = process(store);
                tags.iter().for_each(|tag| region.invalidate(Scope::Tag(tag), How::Hard).unwrap());
            });
        }
    });
    let reader = process(&store);
    for tag in tags.iter().flatten() {
        assert_eq!(reader.get::<i32>(tag).unwrap(), None, "{tag}");
    }
}

/// N3: clocks that differ by less than `skew`: what the other began before the invalidation is covered.
#[test]
fn clocks_may_differ() {
    let _watch = watch();
    let store = store();
    let (slow, fast) = (dogpile::time::ManualClock::new(), dogpile::time::ManualClock::new());
    fast.advance(SECOND);
    let process = |clock: &dogpile::time::ManualClock, skew| {
        let shared = SharedInvalidation::with(Store::both(store.clone()), "notes", SOON, skew).unwrap();
        Region::builder().backend(store.clone()).invalidation(shared).clock(clock.clone()).build().unwrap()
    };
    let (one, other) = (process(&slow, SECOND * 2), process(&fast, SECOND * 2));
    other.set("key", 1).unwrap();
    one.invalidate(Scope::Region, How::Hard).unwrap();
    until("it is seen", || other.get::<i32>("key").unwrap().is_none());
    assert_eq!(*other.get_or_create("key", || 2).unwrap(), 2);
    assert_eq!(other.get::<i32>("key").unwrap().as_deref(), Some(&2), "made later, by any clock");
}

/// The store fails: the caller is told, and this process has it all the same. It is read again when it answers.
#[test]
fn a_store_that_fails() {
    #[derive(Clone)]
    struct Failing(MemoryBackend, Arc<AtomicBool>);
    impl Failing {
        fn check(&self) -> Result<&MemoryBackend, Error> {
            match self.1.load(SeqCst) {
                true => Err(Error::new(ErrorKind::Unavailable, "the store")),
                false => Ok(&self.0),
            }
        }
    }
    impl Backend for Failing {
        fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
            Backend::get(self.check()?, key)
        }
        fn set(&self, put: Put<'_>) -> Result<(), Error> {
            Backend::set(self.check()?, put)
        }
        fn delete(&self, key: &str) -> Result<bool, Error> {
            Backend::delete(self.check()?, key)
        }
        fn set_unless(
            &self,
            puts: &[Put<'_>],
            keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
        ) -> Option<Result<Vec<bool>, Error>> {
            match self.check() {
                Ok(memory) => Backend::set_unless(memory, puts, keeps),
                Err(error) => Some(Err(error)),
            }
        }
    }
    let _watch = watch();
    let memory = store();
    let failing = Failing(memory.clone(), Arc::new(AtomicBool::new(false)));
    let shared = SharedInvalidation::with(Store::blocking(failing.clone()), "notes", SOON, Duration::ZERO);
    let shared = shared.unwrap();
    let region = Region::builder().backend(memory.clone()).invalidation(shared.clone()).build().unwrap();
    region.set("key", 1).unwrap();
    failing.1.store(true, SeqCst);
    let error = region.invalidate(Scope::Region, How::Hard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(region.get::<i32>("key").unwrap(), None);
    until("it was noticed", || shared.failures() > 0);
    failing.1.store(false, SeqCst);
    region.set("key", 2).unwrap();
    process(&memory).invalidate(Scope::Region, How::Hard).unwrap();
    until("the other's is seen", || region.get::<i32>("key").unwrap().is_none());
}

/// What stands in the place of the notes and is none is not written over.
#[test]
fn foreign_bytes_in_the_place_of_notes() {
    let store = store();
    let foreign = Stored::from(b"something else".as_slice());
    Backend::set(&store, Put::new("dogpile:notes:notes", &foreign)).unwrap();
    let error = process(&store).invalidate(Scope::Region, How::Hard).unwrap_err();
    assert!(error.to_string().contains("delete that entry, or use another name"), "{error}");
    assert!(Backend::get(&store, "dogpile:notes:notes").unwrap().unwrap().is_same(&foreign));
}

#[test]
fn by_a_builder_and_for_tasks() {
    let _watch = watch();
    let store = store();
    let builder = || Region::builder().backend(store.clone()).shared_invalidation("pages");
    let tasks: AsyncRegion = builder().build_async().unwrap();
    let threads = builder().build().unwrap();
    threads.set("key", 1).unwrap();
    pollster::block_on(tasks.invalidate(Scope::Prefix("k"), How::Hard)).unwrap();
    until("it is seen", || threads.get::<i32>("key").unwrap().is_none());
    let from_url = Region::from_url("memory+serialized://?shared_invalidation=pages").unwrap();
    from_url.invalidate(Scope::Tag("tag"), How::Soft).unwrap();
    let both = builder().invalidation(SharedInvalidation::over(Store::both(store.clone()), "x").unwrap());
    assert!(both.build().unwrap_err().to_string().contains("choose one"));
    let objects = Region::builder().backend(MemoryBackend::new()).shared_invalidation("pages").build();
    assert!(objects.unwrap_err().to_string().contains("takes bytes"));
    let only_tasks = Store::awaiting(store.clone());
    assert_eq!(SharedInvalidation::over(only_tasks, "x").unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Nobody follows any more once the last clone is gone.
#[test]
fn the_thread_ends() {
    let _watch = watch();
    let held = Arc::new(());
    struct Held(MemoryBackend, #[expect(dead_code)] Arc<()>);
    impl Backend for Held {
        fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
            Backend::get(&self.0, key)
        }
        fn set(&self, put: Put<'_>) -> Result<(), Error> {
            Backend::set(&self.0, put)
        }
        fn delete(&self, key: &str) -> Result<bool, Error> {
            Backend::delete(&self.0, key)
        }
    }
    let backend = Held(store(), Arc::clone(&held));
    let shared = SharedInvalidation::with(Store::blocking(backend), "x", SECOND * 1000, SECOND).unwrap();
    assert_eq!(shared.newest(), 0);
    drop(shared);
    until("the store is let go", || Arc::strong_count(&held) == 1);
}
