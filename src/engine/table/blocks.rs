//! Blocks of memory for nodes, kept for the next node of the same size by the thread that frees one.
//!
//! Each version of an entry is a node of its own, so a write frees one for each that it takes, though not at once: garbage
//! is freed by the bag. The general allocator keeps only a few freed blocks at hand for a thread (glibc: seven of a size)
//! and takes a slower way for the rest of the bag. Here a thread keeps up to 8 KiB of each size up to 264 bytes.
//!
//! # Invariants
//! - **B1, one size a shelf.** Every block on shelf `k` was allocated with the layout `Shelf::layout(k)`, and so is
//!   whatever is taken from there. Which shelf a layout belongs to follows from the layout alone, so a block may be given
//!   back by another thread than took it.
//! - **B2, own thread.** A shelf is touched by its thread only; when the thread ends, its blocks go to the allocator.
//!
//! # Cost
//! Taking and giving back: a look at a thread-local and two stores each. glibc's malloc and free took 225 instructions of a
//! replacement (callgrind, x86-64, 2026-11-21).
//!
//! Not used where each block must come from the allocator to be looked after: in models, under fuzzing, and with
//! `--cfg dogpile_plain_blocks`, as the sanitizers want it.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Sizes of blocks: `16 k + 8`, which is what glibc serves without waste.
const STEP: usize = 16;
const ALIGNMENT: usize = 8;
const SHELVES: usize = 17;
/// How much a thread keeps of each size.
const MOST_BYTES: usize = 8192;

const PLAIN: bool = cfg!(any(
    dogpile_loom,
    dogpile_shuttle,
    dogpile_plain_blocks,
    fuzzing,
    miri,
    target_pointer_width = "32"
));

struct Block {
    next: *mut Block,
}

struct Shelf {
    first: Cell<*mut Block>,
    len: Cell<usize>,
}

struct Shelves([Shelf; SHELVES]);

std::thread_local! {
    static SHELVES_HERE: Shelves =
        const { Shelves([const { Shelf { first: Cell::new(ptr::null_mut()), len: Cell::new(0) } }; SHELVES]) };
}

/// The shelf for a layout, if there is one.
#[inline(always)]
const fn shelf_of(layout: Layout) -> Option<usize> {
    // Rounded up to the next size there is: 1..=24 is shelf 1.
    let shelf = (layout.size() + STEP - ALIGNMENT - 1) / STEP;
    if PLAIN || layout.align() > ALIGNMENT || shelf == 0 || shelf >= SHELVES { None } else { Some(shelf) }
}

#[inline(always)]
const fn layout_of(shelf: usize) -> Layout {
    match Layout::from_size_align(shelf * STEP + ALIGNMENT, ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("sizes are small"),
    }
}

impl Shelf {
    #[inline]
    fn take(&self) -> Option<NonNull<Block>> {
        let block = NonNull::new(self.first.get())?;
        // SAFETY: what is on a shelf was written by `give`, and is touched by nobody else (B2).
        self.first.set(unsafe { block.as_ref() }.next);
        self.len.set(self.len.get() - 1);
        Some(block)
    }

    /// # Safety
    /// - Nobody uses the block any more; it was allocated for this shelf (B1), so it has room for a `Block`.
    #[inline]
    unsafe fn give(&self, block: NonNull<Block>) {
        // SAFETY: the caller's promise.
        unsafe { block.write(Block { next: self.first.get() }) };
        self.first.set(block.as_ptr());
        self.len.set(self.len.get() + 1);
    }
}

impl Drop for Shelves {
    fn drop(&mut self) {
        for (number, shelf) in self.0.iter().enumerate() {
            while let Some(block) = shelf.take() {
                // SAFETY: allocated with this layout (B1), and off the shelf.
                unsafe { dealloc(block.as_ptr().cast(), layout_of(number)) };
            }
        }
    }
}

/// A block for `layout`, not initialised.
///
/// # Panics
/// Never; where there is no memory the process ends, as by `Box::new`.
#[inline]
pub(super) fn take(layout: Layout) -> NonNull<u8> {
    let Some(shelf) = shelf_of(layout) else { return allocate(layout) };
    match SHELVES_HERE.try_with(|shelves| shelves.0[shelf].take()) {
        Ok(Some(block)) => block.cast(),
        _ => allocate(layout_of(shelf)),
    }
}

#[cold]
#[inline(never)]
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: nodes have a header, so no layout is empty.
    match NonNull::new(unsafe { alloc(layout) }) {
        Some(block) => block,
        None => handle_alloc_error(layout),
    }
}

/// Gives a block back.
///
/// # Safety
/// - It came from `take` with the same layout, and nobody uses it any more.
#[inline]
pub(super) unsafe fn give(block: NonNull<u8>, layout: Layout) {
    let Some(shelf) = shelf_of(layout) else {
        // SAFETY: `take` allocated it with this very layout.
        return unsafe { dealloc(block.as_ptr(), layout) };
    };
    let kept = SHELVES_HERE.try_with(|shelves| {
        let own = &shelves.0[shelf];
        let has_room = own.len.get() * layout_of(shelf).size() < MOST_BYTES;
        if has_room {
            // SAFETY: the caller's promise; `shelf_of` chose the same shelf when it was taken (B1).
            unsafe { own.give(block.cast()) };
        }
        has_room
    });
    if !matches!(kept, Ok(true)) {
        // SAFETY: blocks for a shelf are allocated with the shelf's layout (B1).
        unsafe { dealloc(block.as_ptr(), layout_of(shelf)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_fits_its_shelf() {
        for size in ALIGNMENT + 1..400 {
            let layout = Layout::from_size_align(size, ALIGNMENT).expect("a small layout");
            match shelf_of(layout) {
                Some(shelf) => {
                    let room = layout_of(shelf).size();
                    assert!(room >= size && room < size + STEP + ALIGNMENT, "{size} in {room}");
                }
                None => assert!(PLAIN || size > layout_of(SHELVES - 1).size(), "{size} has a shelf"),
            }
        }
        let aligned = Layout::from_size_align(64, 64).expect("a small layout");
        assert_eq!(shelf_of(aligned), None, "B1: blocks on shelves are aligned to {ALIGNMENT}");
    }

    #[test]
    fn a_block_is_used_again_and_no_more_than_some_are_kept() {
        let layout = Layout::from_size_align(40, ALIGNMENT).expect("a small layout");
        let many: Vec<_> = (0..1000).map(|_| take(layout)).collect();
        // SAFETY: each came from `take` with this layout, and is given back once.
        many.iter().for_each(|block| unsafe { give(*block, layout) });
        let Some(shelf) = shelf_of(layout) else { return };
        let kept = SHELVES_HERE.with(|shelves| shelves.0[shelf].len.get());
        assert_eq!(kept, MOST_BYTES.div_ceil(40));
        let again = take(layout);
        assert!(many.contains(&again), "the last that was kept is the first to be used again");
        // SAFETY: as above.
        unsafe { give(again, layout) };
    }
}
