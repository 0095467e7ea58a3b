//! Codecs: any bytes through every format, envelope and compression, into types of every kind; and what is written is read
//! again.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of every kind, and nested without end if the bytes say so.
#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Number(i64),
    Text(String),
    Option(Option<Box<Tree>>),
    Branches(Vec<Tree>),
    Both { left: Box<Tree>, right: Box<Tree> },
    Pair(u8, char),
    Map(BTreeMap<String, Tree>),
}

#[derive(Arbitrary, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    bytes: Vec<u8>,
    nothing: Vec<()>,
    text: String,
    wide: Vec<Option<[u64; 16]>>,
    map: BTreeMap<u16, (bool, i32)>,
}

#[derive(Arbitrary, Debug)]
struct Chain {
    format: u8,
    steps: [u8; 3],
    envelope: u8,
    what: u8,
}

/// Plain builds only compile this: the door to the codecs is open with `cfg(fuzzing)`, which `cargo fuzz` sets.
#[cfg(not(fuzzing))]
fn run(chain: &Chain, mut rest: Unstructured<'_>) -> arbitrary::Result<()> {
    let Chain { format, steps, envelope, what } = chain;
    let (tree, flat) = (Tree::arbitrary(&mut rest)?, Flat::arbitrary(&mut rest)?);
    println!("{format} {steps:?} {envelope} {what} {tree:?} {flat:?}");
    Ok(())
}

#[cfg(fuzzing)]
fn run(chain: &Chain, mut rest: Unstructured<'_>) -> arbitrary::Result<()> {
    use dogpile::__codec::{decode, encode, forge};
    use dogpile::codec::{Codec, Limits, Storable, Undecodable};

    fn into_any<T: Storable>(codec: &Codec, bytes: &[u8]) {
        // As an entry, and as what stands in one.
        let _ = decode::<T>(codec, "key", bytes);
        let _ = decode::<T>(codec, "key", &forge::<T>(codec, "key", bytes));
    }

    fn and_back<T: Storable + PartialEq + std::fmt::Debug>(codec: &Codec, key: &str, value: &T) {
        let Ok(bytes) = encode(codec, key, value) else { return };
        match decode::<T>(codec, key, &bytes) {
            Ok(back) => assert_eq!(back, *value),
            // What it takes in memory is not measured when it is written; and JSON has its own idea of depth.
            Err(Undecodable::TooLarge | Undecodable::TooMany | Undecodable::TooDeep) => {}
            Err(why) => panic!("{codec:?} can't read what it wrote: {why}"),
        }
    }

    let format = ["json", "msgpack", "postcard", "noop"][usize::from(chain.format % 4)];
    let step = |step: &u8| ["", "", "+zlib", "+zstd", "+lz4"][usize::from(step % 5)];
    let steps: String = chain.steps.iter().map(step).collect();
    let envelope = ["own", "dogpile", "plain"][usize::from(chain.envelope % 3)];
    let limits =
        Limits::new().max_bytes(1 << 20).max_decompressed(1 << 20).max_memory(1 << 22).max_elements(1 << 12);
    let url = format!("{format}{steps}://?envelope={envelope}");
    let codec = Codec::from_url(&url).expect("a good URL").limits(limits);
    match chain.what % 8 {
        0 => into_any::<Tree>(&codec, rest.take_rest()),
        1 => into_any::<Flat>(&codec, rest.take_rest()),
        2 => into_any::<Vec<()>>(&codec, rest.take_rest()),
        3 => into_any::<serde_json::Value>(&codec, rest.take_rest()),
        4 => into_any::<(String, Vec<u8>, Option<Box<Tree>>)>(&codec, rest.take_rest()),
        5 => into_any::<Vec<u8>>(&codec, rest.take_rest()),
        6 => and_back(&codec, <&str>::arbitrary(&mut rest)?, &Tree::arbitrary(&mut rest)?),
        _ => and_back(&codec, <&str>::arbitrary(&mut rest)?, &Flat::arbitrary(&mut rest)?),
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut rest = Unstructured::new(data);
    if let Ok(chain) = Chain::arbitrary(&mut rest) {
        // Too few bytes for a value are no value.
        let _ = run(&chain, rest);
    }
});
