//! A power of two of shards, chosen by bits of a hash.

use std::ops::Deref;

/// # Invariants
/// - **S2, a power of two.** `mask` is the number of shards less one, times the size of one if that is a power of two, too,
///   for good. So what is masked by it is one's index, or its distance in bytes.
pub(crate) struct Shards<T> {
    all: Box<[T]>,
    mask: usize,
}

/// A shard's number, from bits of the hash that choose neither bucket nor tag.
const SHIFT: u32 = 40;

impl<T> Shards<T> {
    /// # Panics
    /// If their number is not a power of two.
    pub(crate) fn new(all: Box<[T]>) -> Self {
        assert!(all.len().is_power_of_two(), "S2");
        Self { mask: (all.len() - 1) << Self::SCALE, all }
    }

    /// Saves the multiplication of an index.
    const SCALE: u32 = if size_of::<T>().is_power_of_two() && size_of::<T>() < 1 << SHIFT {
        size_of::<T>().trailing_zeros()
    } else {
        0
    };

    #[inline]
    fn masked(&self, hash: u64) -> usize {
        (hash >> (SHIFT - Self::SCALE)) as usize & self.mask
    }

    #[inline]
    pub(crate) fn number(&self, hash: u64) -> usize {
        self.masked(hash) >> Self::SCALE
    }

    /// The shard of a hash.
    #[inline]
    pub(crate) fn of(&self, hash: u64) -> &T {
        if Self::SCALE == 0 {
            // SAFETY: the number is masked to less than there are (S2).
            return unsafe { self.all.get_unchecked(self.number(hash)) };
        }
        // SAFETY: the distance is masked to that of one of them (S2).
        let shard = unsafe { self.all.as_ptr().byte_add(self.masked(hash)) };
        // SAFETY: as above; shared as the slice is.
        unsafe { &*shard }
    }
}

impl<T> Deref for Shards<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.all
    }
}
