//! What a region's hit asks of the allocator: nothing.

use dogpile::Region;
use dogpile::backend::MemoryBackend;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! { static ASKED: Cell<u64> = const { Cell::new(0) } }

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(call: impl FnOnce()) -> u64 {
    let before = ASKED.get();
    call();
    ASKED.get() - before
}

#[test]
fn a_hit_on_memory_allocates_nothing() {
    let region = Region::in_memory();
    region.set("key", 7_u64).unwrap();
    // The thread's own records are made at its first read.
    region.get::<u64>("key").unwrap();
    assert_eq!(allocations(|| assert_eq!(region.get::<u64>("key").unwrap().as_deref(), Some(&7))), 0);
    let made = || region.get_or_create::<u64>("key", || unreachable!("it is there")).unwrap();
    assert_eq!(allocations(|| assert_eq!(*made(), 7_u64)), 0);
    assert_eq!(allocations(|| assert_eq!(region.get::<u64>("other").unwrap(), None)), 0, "nor does a miss");
}

#[test]
fn a_region_with_a_prefix_composes_its_key() {
    let backend = MemoryBackend::new();
    let region = Region::builder().backend(backend).prefix("app:").build().unwrap();
    region.set("key", 7_u64).unwrap();
    region.get::<u64>("key").unwrap();
    assert_eq!(
        allocations(|| assert_eq!(region.get::<u64>("key").unwrap().as_deref(), Some(&7))),
        1,
        "the key"
    );
}
