//! The system's allocator, counting when asked to.
//!
//! Counting is off outside the memory rows: an allocation then pays one relaxed load and a branch that is always predicted.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

/// Bytes alive since counting began; negative when older ones were freed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// As callers asked.
    pub(crate) asked: i64,
    /// As glibc gave: the usable size and the word before it.
    pub(crate) held: i64,
}

// All orderings are relaxed: the counts are read by the thread that allocates, or after joins.
static COUNTING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicI64 = AtomicI64::new(0);
static HELD: AtomicI64 = AtomicI64::new(0);

pub(crate) fn start_counting() -> Counts {
    COUNTING.store(true, Relaxed);
    counts()
}

pub(crate) fn counts() -> Counts {
    Counts { asked: ASKED.load(Relaxed), held: HELD.load(Relaxed) }
}

/// [`System`], with the counts above.
#[derive(Debug)]
pub(crate) struct Counting;

#[cold]
fn count(pointer: *mut u8, layout: Layout, sign: i64) {
    if !pointer.is_null() {
        // SAFETY: `pointer` came from `System` for this `layout` and has not been freed: callers count after allocating
        // and before freeing. `System` is malloc and its kin on this platform.
        let usable = unsafe { libc::malloc_usable_size(pointer.cast()) };
        ASKED.fetch_add(sign * layout.size() as i64, Relaxed);
        HELD.fetch_add(sign * (usable + size_of::<usize>()) as i64, Relaxed);
    }
}

// SAFETY: every call goes to `System` unchanged; counting neither allocates nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very method.
        let pointer = unsafe { System.alloc(layout) };
        if COUNTING.load(Relaxed) {
            count(pointer, layout, 1);
        }
        pointer
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very method.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if COUNTING.load(Relaxed) {
            count(pointer, layout, 1);
        }
        pointer
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTING.load(Relaxed) {
            count(pointer, layout, -1);
        }
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.dealloc(pointer, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let counting = COUNTING.load(Relaxed);
        if counting {
            count(pointer, layout, -1);
        }
        // SAFETY: the caller keeps the contract of this very method.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        if counting {
            let now = Layout::from_size_align(size, layout.align()).unwrap_or(layout);
            if moved.is_null() { count(pointer, layout, 1) } else { count(moved, now, 1) }
        }
        moved
    }
}
