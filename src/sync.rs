//! The only door to atomics, locks and thread-locals: `std`, loom under `--cfg dogpile_loom`, or shuttle under
//! `--cfg dogpile_shuttle`.
//!
//! What does not come through here is invisible to the model checker, so nothing else in the crate names
//! `std::sync` or `std::thread` (`tests/layering.rs` reads the sources to keep it so).
#![forbid(unsafe_code)]

#[cfg(not(any(dogpile_loom, dogpile_shuttle)))]
mod imp {
    pub(crate) use std::alloc::{alloc_zeroed, dealloc};
    /// A cell of one thread at a time, handed on by an ordering that the models check.
    pub(crate) use std::cell::Cell as OwnedCell;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        fence,
    };
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread_local;

    /// Waits a little for another thread that is inside a few stores.
    pub(crate) use crossbeam_utils::Backoff;
}

#[cfg(dogpile_loom)]
mod imp {
    pub(crate) use loom::alloc::{alloc_zeroed, dealloc};
    pub(crate) use loom::cell::Cell as OwnedCell;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};

    /// loom's own doesn't know `const` initialisers.
    macro_rules! locals {
        ($($vis:vis static $name:ident: $of:ty = const $init:block);+ $(;)?) => {
            loom::thread_local! { $($vis static $name: $of = $init;)+ }
        };
    }
    pub(crate) use locals as thread_local;

    /// loom refuses a relaxed fence, which is none: what a weakened one becomes.
    pub(crate) fn fence(order: Ordering) {
        if order != Ordering::Relaxed {
            loom::sync::atomic::fence(order);
        }
    }

    /// loom explores schedules, so waiting is yielding to it.
    pub(crate) struct Backoff(std::cell::Cell<u32>);

    impl Backoff {
        /// Two that wait for a third may let each other go first for ever, and loom would follow them. After so many looks
        /// in vain it runs on without exploring what else could have happened.
        const MOST: u32 = 2;

        pub(crate) fn new() -> Self {
            Self(std::cell::Cell::new(0))
        }
        pub(crate) fn snooze(&self) {
            self.0.set(self.0.get() + 1);
            if self.0.get() > Self::MOST {
                loom::skip_branch();
            }
            loom::thread::yield_now();
        }
    }
}

#[cfg(dogpile_shuttle)]
mod imp {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread_local;
    pub(crate) use std::alloc::{alloc_zeroed, dealloc};
    pub(crate) use std::cell::Cell as OwnedCell;
    use std::sync::atomic;
    /// Without the flags: they are hints, and one is raised by crossbeam-epoch, wherever that runs.
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering, fence};

    /// One of std's atomics, with a place before each use where another task may go on. Not shuttle's own: those are
    /// too large for the layouts of nodes and buckets, and zero bytes are none of them.
    #[repr(transparent)]
    #[derive(Default)]
    pub(crate) struct Scheduled<A>(A);

    impl<A> std::ops::Deref for Scheduled<A> {
        type Target = A;
        fn deref(&self) -> &A {
            // Of all that shuttle calls sleeping, only that.
            shuttle::thread::sleep(std::time::Duration::ZERO);
            &self.0
        }
    }

    impl<T> Scheduled<atomic::AtomicPtr<T>> {
        pub(crate) const fn new(to: *mut T) -> Self {
            Self(atomic::AtomicPtr::new(to))
        }
    }
    pub(crate) type AtomicPtr<T> = Scheduled<atomic::AtomicPtr<T>>;

    macro_rules! scheduled {
        ($($name:ident: $of:ty),+) => {$(
            impl Scheduled<atomic::$name> {
                pub(crate) const fn new(of: $of) -> Self {
                    Self(atomic::$name::new(of))
                }
            }
            pub(crate) type $name = Scheduled<atomic::$name>;
        )+};
    }
    scheduled! { AtomicI64: i64, AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize }

    /// One thread runs all tasks, so waiting is letting another go on.
    pub(crate) struct Backoff;

    impl Backoff {
        pub(crate) fn new() -> Self {
            Self
        }
        pub(crate) fn snooze(&self) {
            shuttle::thread::yield_now();
        }
    }
}

pub(crate) use imp::*;
#[cfg(any(feature = "region", feature = "macros"))]
pub(crate) use std::sync::OnceLock;
/// Shared ownership of plain data. The counts of `std`'s `Arc` are not modelled: no protocol here depends on them.
pub(crate) use std::sync::{Arc, LazyLock};
#[cfg(feature = "region")]
pub(crate) use std::sync::{PoisonError, RwLock, Weak};
/// What checks of foreign code run with. They are not modelled.
#[cfg(feature = "conformance")]
pub(crate) use std::{
    sync::{Barrier, mpsc},
    thread::{ScopedJoinHandle, scope},
};

/// A fence that comes after a read-modify-write of `of`. ThreadSanitizer knows no fences: for it, a load of that place.
#[inline(always)]
pub(crate) fn fence_after(of: &AtomicU32, order: Ordering) {
    if cfg!(dogpile_tsan) {
        of.load(order);
    } else {
        fence(order);
    }
}

/// The number of threads that can run at once, 1 where the system does not say.
pub(crate) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

pub(crate) use std::thread::Thread;

/// The calling thread, as others know it.
pub(crate) fn current_thread() -> Thread {
    std::thread::current()
}

/// Runs `job` on a thread of its own. False: there is none to be had, and the job is dropped.
pub(crate) fn spawn(name: &str, job: impl FnOnce() + Send + 'static) -> bool {
    std::thread::Builder::new().name(name.to_owned()).spawn(job).is_ok()
}

/// What one thread waits for and others raise. A raise that comes first is not lost.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    bell: Condvar,
}

impl Signal {
    pub(crate) fn raise(&self) {
        *lock(&self.raised) = true;
        self.bell.notify_one();
    }

    /// Waits until it is raised, or for `at_most`, and lowers it. May return early.
    pub(crate) fn wait(&self, at_most: Option<std::time::Duration>) {
        let mut raised = lock(&self.raised);
        match at_most {
            None => {
                while !*raised {
                    raised = self.bell.wait(raised).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
            // In models time runs out at once, or after whatever the other threads do first.
            Some(_) if cfg!(any(dogpile_loom, dogpile_shuttle)) => {}
            Some(at_most) if !*raised => {
                let woken = self.bell.wait_timeout(raised, at_most);
                raised = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            }
            Some(_) => {}
        }
        *raised = false;
    }
}

/// Whether this thread is unwinding.
pub(crate) fn is_panicking() -> bool {
    std::thread::panicking()
}

/// Locks a mutex under which no user code ever runs, so that it can't be poisoned by one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// Declares the orderings of one protocol, by the names that its header's table uses.
///
/// Each is a constant function. In loom builds it looks its name up in `DOGPILE_WEAKEN` (`slot.PUBLISH`) and is weaker
/// then: the models must then fail.
macro_rules! orderings {
    ($room:ident: $($name:ident = $order:ident),+ $(,)?) => {
        #[allow(non_snake_case, dead_code)]
        mod ord {
            use $crate::sync::Ordering;
            $(
                #[inline(always)]
                pub(super) fn $name() -> Ordering {
                    #[cfg(dogpile_loom)]
                    if let Some(weaker) = $crate::sync::weakened(concat!(stringify!($room), ".", stringify!($name))) {
                        return weaker;
                    }
                    Ordering::$order
                }
            )+
        }
    };
}
pub(crate) use orderings;

/// What the named ordering is dropped to in this process, if it was started to run so: `slot.SWAP`, or `slot.SWAP=Release`
/// for one that is more.
#[cfg(dogpile_loom)]
pub(crate) fn weakened(name: &str) -> Option<Ordering> {
    static WEAKENED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let weakened = WEAKENED.get_or_init(|| std::env::var("DOGPILE_WEAKEN").ok()).as_deref()?;
    match weakened.strip_prefix(name)? {
        "" => Some(Ordering::Relaxed),
        "=Acquire" => Some(Ordering::Acquire),
        "=Release" => Some(Ordering::Release),
        _ => None,
    }
}

/// Whether to do what only saves a step or two. Most models do without: each step more multiplies their schedules.
#[cfg(not(dogpile_loom))]
#[inline(always)]
pub(crate) const fn takes_shortcuts() -> bool {
    true
}

#[cfg(dogpile_loom)]
std::thread_local! {
    static SHORTCUTS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// All threads of a model are one of the system's.
#[cfg(dogpile_loom)]
pub(crate) fn takes_shortcuts() -> bool {
    SHORTCUTS.get()
}

/// Runs a model that takes them.
#[cfg(dogpile_loom)]
pub fn with_shortcuts(model: impl FnOnce()) {
    SHORTCUTS.set(true);
    model();
    SHORTCUTS.set(false);
}

/// Plain memory that its maker publishes, and nobody writes any more. Models watch who reads it without having heard of it.
pub(crate) struct Published<T> {
    what: T,
    #[cfg(dogpile_loom)]
    watch: OwnedCell<()>,
}

impl<T> Published<T> {
    pub(crate) fn new(what: T) -> Self {
        Self {
            what,
            #[cfg(dogpile_loom)]
            watch: OwnedCell::new(()),
        }
    }
}

impl<T> std::ops::Deref for Published<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        #[cfg(dogpile_loom)]
        self.watch.get();
        &self.what
    }
}

// Statistics are not modelled: they decide nothing, and would only multiply the schedules that loom explores.

/// A counter that one thread writes and others read now and then.
pub(crate) type Tally = std::sync::atomic::AtomicU64;
pub(crate) use std::sync::Mutex as PlainMutex;
#[cfg(feature = "file")]
pub(crate) use std::sync::MutexGuard as PlainGuard;
/// Atomics of what models leave out: hints, and what they can't do.
pub(crate) use std::sync::atomic as plain;
/// Keeps the compiler from reordering, and nobody else.
pub(crate) use std::sync::atomic::compiler_fence;
pub(crate) use std::thread_local as thread_local_plain;

/// As `lock`, for a mutex that is not modelled.
pub(crate) fn lock_plain<T>(mutex: &PlainMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
