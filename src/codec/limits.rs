//! Limits: how much bytes from a store may make us do.
#![forbid(unsafe_code)]

/// How much a stored entry may cost to read. What is beyond a limit is a miss when it is read, and an error when it is
/// written, since it would not be read again; but what a value takes in memory is only known when it is read.
///
/// A store is shared with others, and bytes can be damaged. So lengths are looked at before memory is asked for, nesting is
/// counted before the stack is used, and what decompresses is stopped at its limit.
///
/// ```
/// use dogpile::codec::{Codec, Limits};
///
/// let codec = Codec::json().limits(Limits::new().max_bytes(1 << 20).max_depth(32));
/// assert!(format!("{codec:?}").contains("json"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(super) max_bytes: usize,
    pub(super) max_decompressed: usize,
    pub(super) max_memory: usize,
    pub(super) max_depth: u32,
    pub(super) max_elements: usize,
}

impl Limits {
    /// The defaults: 64 MiB as stored, 64 MiB decompressed, 256 MiB in memory, 100 levels, 1,048,576 elements.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_decompressed: 64 << 20,
            max_memory: 256 << 20,
            max_depth: 100,
            max_elements: 1 << 20,
        }
    }

    /// Bytes of an entry as it is stored, its envelope included. Default: 64 MiB.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Bytes that each decompression may give. Default: 64 MiB.
    #[must_use]
    pub const fn max_decompressed(mut self, bytes: usize) -> Self {
        self.max_decompressed = bytes;
        self
    }

    /// Bytes of memory that the parts of one value may take, apart from its text and byte strings, which are as long as
    /// they are in the bytes. Counted as the sizes of its elements and of what is boxed; a `Vec` may have twice as much
    /// room as it needs. Default: 256 MiB.
    #[must_use]
    pub const fn max_memory(mut self, bytes: usize) -> Self {
        self.max_memory = bytes;
        self
    }

    /// How deep a value may be nested: lists, maps, structs, variants, options and newtypes each count one level. `json`
    /// has at most 126, whatever is set here. How much stack a level takes is the type's affair: at the default, 100, an
    /// enum of 264 bytes takes less than 768 KiB in a build without optimisation.
    #[must_use]
    pub const fn max_depth(mut self, levels: u32) -> Self {
        self.max_depth = levels;
        self
    }

    /// Elements of all lists and maps of a value together, if they are more than its bytes: elements may take no byte at
    /// all, as those of a `Vec<()>`. Default: 1,048,576.
    #[must_use]
    pub const fn max_elements(mut self, elements: usize) -> Self {
        self.max_elements = elements;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
