//! What hostile bytes may cost in memory: no single allocation is more than twice the configured limit.
//!
//! The sources of the codecs are compiled into this binary, which counts all allocations of Rust's. What zstd allocates by
//! itself is bounded by its window, which `codec::tests::hostile` tests.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    missing_docs,
    reason = "the library uses the rest of its sources"
)]

#[path = "../src/codec/mod.rs"]
mod codec;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/sync.rs"]
mod sync;

use codec::{Codec, Envelope, Limits, Meta, Storable};
use serde::{Deserialize, Serialize};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(size: usize) {
    LARGEST.fetch_max(size, Relaxed);
    let live = LIVE.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: all is done by `System`; counting touches atomics only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const LIMIT: usize = 1 << 16;

#[derive(Serialize, Deserialize)]
enum Tree {
    Leaf,
    Branches(Vec<Tree>),
    Both { left: Box<Tree>, right: Box<Tree> },
}

#[derive(Clone, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "that is what it is for")]
enum Wide {
    Nothing,
    Much([u64; 32]),
}

/// Runs through all, and keeps the worst.
#[derive(Default)]
struct Tally {
    inputs: usize,
    refused: usize,
    largest: usize,
    peak: usize,
}

impl Tally {
    fn decode<T: Storable>(&mut self, codec: &Codec, bytes: &[u8]) {
        let before = LIVE.load(Relaxed);
        LARGEST.store(0, Relaxed);
        PEAK.store(before, Relaxed);
        let refused = codec.decode::<T>("key", bytes).is_err();
        let largest = LARGEST.load(Relaxed);
        let peak = PEAK.load(Relaxed) - before;
        assert!(
            largest <= 2 * LIMIT,
            "{codec:?}: {largest} bytes at once for a {}",
            std::any::type_name::<T>()
        );
        self.inputs += 1;
        self.refused += usize::from(refused);
        self.largest = self.largest.max(largest);
        self.peak = self.peak.max(peak);
    }

    /// As each of the types.
    fn all(&mut self, codec: &Codec, bytes: &[u8]) {
        self.decode::<Tree>(codec, bytes);
        self.decode::<Vec<()>>(codec, bytes);
        self.decode::<Vec<u8>>(codec, bytes);
        self.decode::<Vec<u64>>(codec, bytes);
        self.decode::<Vec<Wide>>(codec, bytes);
        self.decode::<Vec<Box<Wide>>>(codec, bytes);
        self.decode::<Vec<[[u64; 16]; 8]>>(codec, bytes);
        self.decode::<Vec<Vec<Option<Box<Wide>>>>>(codec, bytes);
        self.decode::<String>(codec, bytes);
        self.decode::<Vec<String>>(codec, bytes);
        self.decode::<BTreeMap<String, Wide>>(codec, bytes);
        self.decode::<HashMap<u64, Vec<Wide>>>(codec, bytes);
        self.decode::<HashMap<(), ()>>(codec, bytes);
        self.decode::<Option<(String, serde_json::Value)>>(codec, bytes);
    }
}

fn codecs() -> Vec<Codec> {
    let limits = Limits::new().max_bytes(LIMIT).max_decompressed(LIMIT).max_memory(LIMIT).max_elements(LIMIT);
    let mut codecs = Vec::new();
    for format in ["json", "msgpack", "postcard", "noop"] {
        for chain in ["", "+zlib", "+zstd", "+lz4", "+zlib+zlib"] {
            for envelope in ["plain", "own", "dogpile"] {
                let url = format!("{format}{chain}://?envelope={envelope}");
                codecs.push(Codec::from_url(&url).expect("a good URL").limits(limits));
            }
        }
    }
    codecs
}

fn main() {
    let mut tally = Tally::default();
    let plain = || codecs().into_iter().filter(|codec| format!("{codec:?}").ends_with("plain)"));

    // Lengths that the bytes do not have, and elements that take none.
    let mut lengths: Vec<Vec<u8>> = vec![
        vec![0xff, 0xff, 0xff, 0xff, 0x0f],
        vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        vec![0xff, 0xff, 0xff, 0xff, 0x00],
        vec![0xff, 0xff, 0x0f, 0x00, 0x00],
        vec![0x00, 0x00, 0x10, 0x00, 0x00],
    ];
    for marker in [0xc6, 0xc9, 0xdb, 0xdd, 0xdf] {
        lengths.push(vec![marker, 0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
    }
    for bytes in &lengths {
        for codec in plain() {
            tally.all(&codec, bytes);
        }
    }

    // Long ones: nested, or of parts that are large in memory.
    for part in
        [&[0_u8][..], &[1], &[2], &[0x91], &[0xc0], &[0x80], b"[", b"[],", b"{\"Branches\":[", b"\"\","]
    {
        let mut bytes = part.repeat((LIMIT - 20) / part.len());
        for codec in plain().filter(|codec| !format!("{codec:?}").contains('+')) {
            tally.all(&codec, &bytes);
        }
        // After the length of a list, as postcard, msgpack and JSON have it.
        let parts = u32::try_from((LIMIT - 20) / part.len()).expect("small");
        bytes.splice(0..0, [0xff, 0xff, 0x03]);
        tally.all(&Codec::postcard().envelope(Envelope::Plain).limits(limits()), &bytes);
        bytes.splice(0..3, [&[0xdd][..], &parts.to_be_bytes()].concat());
        tally.all(&Codec::msgpack().envelope(Envelope::Plain).limits(limits()), &bytes);
        bytes.splice(0..5, *b"[");
        tally.all(&Codec::json().envelope(Envelope::Plain).limits(limits()), &bytes);
    }

    // Bombs.
    let bomb = vec![0_u8; 32 * LIMIT];
    for codec in plain() {
        let writer = codec.clone().limits(Limits::new());
        if let Ok(bytes) = writer.encode("key", &Meta::default(), &bomb) {
            tally.all(&codec, &bytes);
        }
    }
    drop(bomb);

    // Good ones, damaged: a xorshift chooses where.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let tree = Tree::Branches(vec![
        Tree::Leaf,
        Tree::Both { left: Box::new(Tree::Leaf), right: Box::new(Tree::Branches(vec![])) },
    ]);
    let wide = vec![Wide::Nothing, Wide::Much([7; 32]), Wide::Nothing];
    for codec in codecs() {
        for good in
            [codec.encode("key", &Meta::default(), &tree), codec.encode("key", &Meta::default(), &wide)]
        {
            let Ok(good) = good else { continue };
            for _ in 0..60 {
                let mut bytes = good.clone();
                for _ in 0..=next() % 3 {
                    let at = next() as usize % bytes.len();
                    bytes[at] = if next() % 2 == 0 { 0xff } else { next() as u8 };
                }
                tally.all(&codec, &bytes);
            }
        }
    }

    let Tally { inputs, refused, largest, peak } = tally;
    println!(
        "{inputs} decodings, {refused} refused; largest allocation {largest}, peak {peak}, limit {LIMIT} bytes"
    );
    assert!(refused > inputs / 2 && refused < inputs, "both happen");
    assert!(largest > LIMIT / 2, "the limit is reached, or nothing was tested");
}

fn limits() -> Limits {
    Limits::new().max_bytes(LIMIT).max_decompressed(LIMIT).max_memory(LIMIT).max_elements(LIMIT)
}
