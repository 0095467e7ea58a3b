//! What one execution has done so far, and whether that may be. It watches, so it is not scheduled itself: a look or a
//! note is one step.

use crate::tasks::lock;
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// A value, told from all others of its execution by its number.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) key: u8,
    pub(crate) number: u64,
    /// Of both, so that a torn value is found out.
    sum: u64,
    alive: Arc<AtomicUsize>,
}

fn sum(key: u8, number: u64) -> u64 {
    (number << 8 | u64::from(key)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Clone for Value {
    fn clone(&self) -> Self {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Self { key: self.key, number: self.number, sum: self.sum, alive: Arc::clone(&self.alive) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.sum, sum(self.key, self.number), "a value ends once, and whole");
        self.sum = 0;
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As a key: whichever.
const ANY: u8 = u8::MAX;

/// A creator's error.
#[derive(Debug)]
pub(crate) struct Trouble(pub(crate) u64);

/// A call that a worker has begun, for one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) key: u8,
    id: u64,
    begun: u64,
    /// Values from before this time must not be returned.
    floor: u64,
}

/// What a creator may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// A leader's: at most one at a time for a version.
    Gated,
    /// That of a caller that could not wait and can't be told of an error: beside the gate, and not stored.
    Unstored,
}

/// All that is known. Times are numbers of events.
#[derive(Debug)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    alive: Arc<AtomicUsize>,
    /// Versions may also leave by eviction, at times that nobody knows: then several creators for one key prove nothing.
    evicts: bool,
}

#[derive(Debug)]
struct Inner {
    now: u64,
    origins: Vec<Origin>,
    books: Vec<Book>,
    log: Vec<(u64, &'static str, u64, u8, u64)>,
}

/// Where a value, or an error, comes from.
#[derive(Debug)]
struct Origin {
    key: u8,
    /// A change of its key that begins later ends it.
    settled: u64,
}

/// A creator that runs for a call.
#[derive(Debug)]
struct Creator {
    call: u64,
    begun: u64,
}

/// What is known of a key.
#[derive(Debug, Default)]
struct Book {
    /// The latest begin of a change (an insert, a remove, a clear) that has ended.
    floor: u64,
    /// The latest end of a change.
    changed: u64,
    /// How many changes are under way.
    changing: u32,
    creators: Vec<Creator>,
    created: u64,
}

impl Inner {
    fn tick(&mut self, what: &'static str, who: u64, key: u8, number: u64) -> u64 {
        self.now += 1;
        self.log.push((self.now, what, who, key, number));
        self.now
    }

    fn told(&self) -> String {
        let mut told = String::new();
        for (at, what, who, key, number) in &self.log {
            told.push_str(&format!("  {at:4} {what:<16} call {who:<3} key {key} number {number}\n"));
        }
        told
    }

    fn fail(&self, why: &str) -> ! {
        panic!("{why}\n{}", self.told())
    }
}

thread_local! {
    /// The ledger of the execution that runs on this thread.
    static LAST: RefCell<Weak<Ledger>> = const { RefCell::new(Weak::new()) };
}

/// Prints what was done in the execution that failed on this thread.
pub(crate) fn print_last() {
    if let Some(last) = LAST.with(|last| last.borrow().upgrade()) {
        eprintln!("{}", lock(&last.inner).told());
    }
}

impl Ledger {
    pub(crate) fn new(keys: u8, evicts: bool) -> Arc<Self> {
        let ledger = Arc::new(Self {
            inner: Mutex::new(Inner {
                now: 0,
                origins: Vec::new(),
                books: (0..keys).map(|_| Book::default()).collect(),
                log: Vec::new(),
            }),
            alive: Arc::default(),
            evicts,
        });
        LAST.set(Arc::downgrade(&ledger));
        ledger
    }

    /// A worker begins something with a key.
    pub(crate) fn call(&self, what: &'static str, key: u8) -> Call {
        let mut inner = lock(&self.inner);
        let id = inner.now + 1;
        let begun = inner.tick(what, id, key, 0);
        Call { key, id, begun, floor: inner.books[usize::from(key)].floor }
    }

    fn origin(inner: &mut Inner, key: u8, settled: u64) -> u64 {
        inner.origins.push(Origin { key, settled });
        inner.origins.len() as u64 - 1
    }

    fn value(&self, key: u8, number: u64) -> Value {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Value { key, number, sum: sum(key, number), alive: Arc::clone(&self.alive) }
    }

    /// A creator begins, for that call.
    pub(crate) fn creation(self: &Arc<Self>, call: Call, watch: Watch) -> Creation {
        let mut inner = lock(&self.inner);
        let now = inner.tick("creator begins", call.id, call.key, 0);
        let number = Self::origin(&mut inner, call.key, now);
        let book = &inner.books[usize::from(call.key)];
        if watch == Watch::Gated && !self.evicts && book.changing == 0 {
            for other in &book.creators {
                // Either may lead a version from before a change.
                if book.changed < call.begun.min(other.begun) {
                    let (one, two) = (other.call, call.id);
                    inner.fail(&format!("two creators at once for one version: calls {one} and {two}"));
                }
            }
        }
        if watch == Watch::Gated {
            let creator = Creator { call: call.id, begun: call.begun };
            inner.books[usize::from(call.key)].creators.push(creator);
        }
        Creation { ledger: Arc::clone(self), call, number }
    }

    /// A change of these keys begins: an insert, a remove, a clear.
    pub(crate) fn change(&self, what: &'static str, keys: std::ops::Range<u8>) -> Change<'_> {
        let mut inner = lock(&self.inner);
        let begun = inner.tick(what, 0, keys.start, 0);
        for key in keys.clone() {
            inner.books[usize::from(key)].changing += 1;
        }
        Change { ledger: self, keys, begun, number: None }
    }

    /// That call was answered with this value.
    pub(crate) fn saw(&self, call: Call, value: &Value) {
        let mut inner = lock(&self.inner);
        inner.tick("saw", call.id, call.key, value.number);
        if value.sum != sum(value.key, value.number) || value.key != call.key {
            inner.fail("a value that nobody made for this key");
        }
        match inner.origins.get(value.number as usize) {
            Some(origin) if origin.key == call.key => {
                if origin.settled < call.floor {
                    inner.fail(&format!(
                        "call {} got {}, which was inserted over, removed or cleared before the call",
                        call.id, value.number
                    ));
                }
            }
            _ => inner.fail("a value that nobody made for this key"),
        }
    }

    /// An error of a creator of many keys, which is that of each.
    pub(crate) fn trouble_of_many(&self) -> Trouble {
        let mut inner = lock(&self.inner);
        Trouble(Self::origin(&mut inner, ANY, 0))
    }

    /// That call was answered with this error.
    pub(crate) fn failed(&self, call: Call, trouble: u64) {
        let mut inner = lock(&self.inner);
        inner.tick("got an error", call.id, call.key, trouble);
        if inner.origins.get(trouble as usize).is_none_or(|origin| ![call.key, ANY].contains(&origin.key)) {
            inner.fail("an error that no creator of this key returned");
        }
    }

    pub(crate) fn note(&self, what: &'static str, call: Call) {
        lock(&self.inner).tick(what, call.id, call.key, 0);
    }

    /// How many creations of a key have returned a value.
    pub(crate) fn created(&self, key: u8) -> u64 {
        lock(&self.inner).books[usize::from(key)].created
    }

    pub(crate) fn check(&self, holds: bool, otherwise: &str) {
        if !holds {
            lock(&self.inner).fail(otherwise);
        }
    }

    /// How many values there are.
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}

/// A creator that runs.
pub(crate) struct Creation {
    ledger: Arc<Ledger>,
    call: Call,
    pub(crate) number: u64,
}

impl Creation {
    pub(crate) fn value(&self) -> Value {
        let mut inner = lock(&self.ledger.inner);
        inner.tick("created", self.call.id, self.call.key, self.number);
        inner.books[usize::from(self.call.key)].created += 1;
        self.ledger.value(self.call.key, self.number)
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        let mut inner = lock(&self.ledger.inner);
        inner.tick("creator ends", self.call.id, self.call.key, 0);
        inner.books[usize::from(self.call.key)].creators.retain(|creator| creator.call != self.call.id);
    }
}

/// A change that is under way.
pub(crate) struct Change<'l> {
    ledger: &'l Ledger,
    keys: std::ops::Range<u8>,
    begun: u64,
    number: Option<u64>,
}

impl Change<'_> {
    /// What is inserted by it.
    pub(crate) fn value(&mut self) -> Value {
        let mut inner = lock(&self.ledger.inner);
        let number = Ledger::origin(&mut inner, self.keys.start, u64::MAX);
        self.number = Some(number);
        self.ledger.value(self.keys.start, number)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut inner = lock(&self.ledger.inner);
        let now = inner.tick("changed", 0, self.keys.start, self.number.unwrap_or(0));
        for key in self.keys.clone() {
            let book = &mut inner.books[usize::from(key)];
            book.changing -= 1;
            book.changed = now;
            book.floor = book.floor.max(self.begun);
        }
        if let Some(number) = self.number {
            inner.origins[number as usize].settled = now;
        }
    }
}
