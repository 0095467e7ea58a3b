//! Bytes that were damaged, or made to harm: a miss each, by the limit that is meant for it, and never a panic.
#![forbid(unsafe_code)]

use super::*;

/// A list of links, which nests.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Chain {
    next: Option<Box<Self>>,
}

pub(super) fn chain(links: u32) -> Chain {
    let mut chain = Chain::default();
    for _ in 0..links {
        chain = Chain { next: Some(Box::new(chain)) };
    }
    chain
}

impl Chain {
    pub(super) fn links(&self) -> u32 {
        let mut links = 0;
        let mut at = self;
        while let Some(next) = &at.next {
            links += 1;
            at = next;
        }
        links
    }
}

/// Link by link: a long chain would take the stack.
impl Drop for Chain {
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut link) = next {
            next = link.next.take();
        }
    }
}

/// As chains, in the two other ways to nest.
#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Branches(Vec<Tree>),
    Both { left: Box<Tree>, right: Box<Tree> },
}

/// Large in memory, small in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "that is what it is for")]
enum Wide {
    Nothing,
    Much([u64; 32]),
}

/// Why the payload is no `T`, in each envelope.
fn refused<T: Storable>(codec: &Codec, payload: &[u8]) -> Undecodable {
    let mut why = Vec::new();
    for envelope in [Envelope::Own, Envelope::Dogpile, Envelope::Plain] {
        let codec = codec.clone().envelope(envelope);
        let bytes = door::forge::<T>(&codec, "key", payload);
        why.push(codec.decode::<T>("key", &bytes).map(|_| ()).expect_err("a hostile payload was read"));
    }
    assert!(why.iter().all(|other| *other == why[0]), "{why:?}");
    why[0]
}

/// "Length 2^63 / 2^32 in a few bytes."
#[test]
fn lengths_that_the_bytes_do_not_have() {
    for length in [
        &[0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[0xff; 9],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
    ] {
        let mut bytes = length.to_vec();
        bytes.extend_from_slice(b"abc");
        let codec = Codec::postcard();
        assert_eq!(refused::<String>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<ByteBuf>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<Vec<u64>>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<BTreeMap<String, u64>>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<Vec<Vec<String>>>(&codec, &bytes), Undecodable::Malformed);
    }
    for marker in [0xc6, 0xc9, 0xdb, 0xdd, 0xdf] {
        let bytes = [marker, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let codec = Codec::msgpack();
        assert_eq!(refused::<String>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<ByteBuf>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<Vec<u64>>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<BTreeMap<u8, u64>>(&codec, &bytes), Undecodable::Malformed);
        assert_eq!(refused::<Tree>(&codec, &bytes), Undecodable::Malformed);
    }
}

/// "Nested recursive enum, 2 MiB stack": the figures at which the formats alone abort the process, and ten times more.
#[test]
fn nesting_without_end() {
    for levels in [101, 5_000, 20_000, 100_000, 1_000_000] {
        let nested = |part: &[u8]| part.repeat(levels);
        assert_eq!(refused::<Chain>(&Codec::postcard(), &nested(&[1])), Undecodable::TooDeep);
        // A variant, with one branch.
        assert_eq!(refused::<Tree>(&Codec::postcard(), &nested(&[1, 1])), Undecodable::TooDeep);
        assert_eq!(refused::<Tree>(&Codec::postcard(), &nested(&[2])), Undecodable::TooDeep);

        assert_eq!(refused::<Chain>(&Codec::msgpack(), &nested(b"\x81\xa4next")), Undecodable::TooDeep);
        assert_eq!(refused::<Chain>(&Codec::msgpack(), &nested(&[0x91])), Undecodable::TooDeep);
        assert_eq!(
            refused::<Tree>(&Codec::msgpack(), &nested(b"\x81\xa8Branches\x91")),
            Undecodable::TooDeep
        );
        assert_eq!(refused::<serde_json::Value>(&Codec::msgpack(), &nested(&[0x91])), Undecodable::TooDeep);
        // What nobody asked for is nested, too.
        let unknown = [b"\x82\xa7unknown".as_slice(), &nested(&[0x91])].concat();
        assert_eq!(refused::<Chain>(&Codec::msgpack(), &unknown), Undecodable::TooDeep);

        assert_eq!(refused::<Chain>(&Codec::json(), &nested(b"{\"next\":")), Undecodable::TooDeep);
        assert_eq!(refused::<Tree>(&Codec::json(), &nested(b"{\"Branches\":[")), Undecodable::TooDeep);
        assert_eq!(refused::<serde_json::Value>(&Codec::json(), &nested(b"[")), Undecodable::TooDeep);
        let unknown = [b"{\"unknown\":".as_slice(), &nested(b"[")].concat();
        let why = refused::<Chain>(&Codec::json(), &unknown);
        assert!(matches!(why, Undecodable::TooDeep | Undecodable::Malformed), "{why}");

        let own = Codec::own(Named("json"));
        assert_eq!(refused::<Tree>(&own, &nested(b"{\"Branches\":[")), Undecodable::TooDeep);
    }
}

/// "postcard `Vec<()>`, length u64::MAX, 10 bytes": elements without bytes.
#[test]
fn elements_that_take_no_bytes() {
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(refused::<Vec<()>>(&Codec::postcard(), &most), Undecodable::TooMany);
    assert_eq!(refused::<BTreeMap<(), ()>>(&Codec::postcard(), &most), Undecodable::TooMany);
    // 16 lists of 2^20 each: all of a value's elements count.
    let codec = Codec::postcard().limits(Limits::new().max_elements(1000));
    let lists = [&[16][..], &[0xe7, 0x07].repeat(16)].concat();
    assert_eq!(refused::<Vec<Vec<()>>>(&codec, &lists), Undecodable::TooMany);
    let plain = codec.envelope(Envelope::Plain);
    assert_eq!(plain.decode::<Vec<()>>("key", &[0xe8, 0x07]).unwrap().1.len(), 1000);
    assert_eq!(plain.decode::<Vec<()>>("key", &[0xe9, 0x07]), Err(Undecodable::TooMany));
    // More elements than the limit are well if there are bytes for them.
    let bytes = plain.encode("key", &Meta::default(), &vec![1_u8; 5000]).unwrap();
    assert_eq!(plain.decode::<Vec<u8>>("key", &bytes).unwrap().1.len(), 5000);
}

/// One byte each, and 264 bytes of memory.
#[test]
fn elements_that_take_much_memory() {
    let codec = Codec::postcard().limits(Limits::new().max_memory(1 << 20));
    let plain = codec.clone().envelope(Envelope::Plain);
    let many = |count: usize| plain.encode("key", &Meta::default(), &vec![Wide::Nothing; count]).unwrap();
    let fits = (1 << 20) / size_of::<Wide>() - 1;
    assert_eq!(plain.decode::<Vec<Wide>>("key", &many(fits)).unwrap().1.len(), fits);
    assert_eq!(refused::<Vec<Wide>>(&codec, &many(100_000)), Undecodable::TooLarge);
    // The same in boxes, whose elements are small.
    assert_eq!(refused::<Vec<Box<Wide>>>(&codec, &many(100_000)), Undecodable::TooLarge);
    assert_eq!(
        refused::<Vec<Vec<Vec<Box<Wide>>>>>(&codec, &[&[1, 1], &many(100_000)[..]].concat()),
        Undecodable::TooLarge
    );
    let map: BTreeMap<u32, Wide> = (0..10_000).map(|key| (key, Wide::Nothing)).collect();
    let bytes = plain.encode("key", &Meta::default(), &map).unwrap();
    assert_eq!(refused::<BTreeMap<u32, Wide>>(&codec, &bytes), Undecodable::TooLarge);
    let much = plain.encode("key", &Meta::default(), &Wide::Much([7; 32])).unwrap();
    assert!(plain.decode::<Wide>("key", &much).is_ok());
}

/// "lz4_flex `decompress_size_prepended`, 5 bytes."
#[test]
fn lengths_that_lz4_promises() {
    let codec = Codec::noop().lz4().unwrap();
    assert_eq!(refused::<Vec<u8>>(&codec, &[0xff, 0xff, 0xff, 0xff, 0]), Undecodable::TooLarge);
    assert_eq!(refused::<Vec<u8>>(&codec, &[0xff, 0xff, 0xff, 0, 0]), Undecodable::Malformed);
    assert_eq!(refused::<Vec<u8>>(&codec, &[0xff, 0, 0, 0, 0]), Undecodable::Malformed);
    assert_eq!(refused::<Vec<u8>>(&codec, &[1, 0, 0]), Undecodable::Malformed);
}

/// "zstd 32 KB -> 1 GiB": and the same by the others, and by two in a row.
#[test]
fn bombs() {
    let limit = 1 << 20;
    let bomb = vec![0_u8; 64 << 20];
    for chain in ["zlib", "zstd", "lz4", "zlib+zstd", "lz4+zlib"] {
        let codec = Codec::from_url(&format!("noop+{chain}://")).unwrap();
        let plain = codec.clone().envelope(Envelope::Plain);
        let bytes = plain.encode("key", &Meta::default(), &bomb).unwrap();
        assert!(bytes.len() < limit, "{chain}: {} bytes", bytes.len());
        assert_eq!(plain.decode::<Vec<u8>>("key", &bytes).unwrap().1.len(), bomb.len(), "{chain}");
        let codec = codec.limits(Limits::new().max_decompressed(limit));
        assert_eq!(refused::<Vec<u8>>(&codec, &bytes), Undecodable::TooLarge, "{chain}");
    }
    // Exactly at the limit.
    for chain in ["zlib", "zstd", "lz4"] {
        let codec =
            Codec::from_url(&format!("noop+{chain}://?envelope=plain&max-decompressed=1000")).unwrap();
        let bytes = codec.encode("key", &Meta::default(), &vec![7_u8; 1000]).unwrap();
        assert_eq!(codec.decode::<Vec<u8>>("key", &bytes).unwrap().1.len(), 1000);
        let more =
            codec.clone().limits(Limits::new()).encode("key", &Meta::default(), &vec![7_u8; 1001]).unwrap();
        assert_eq!(codec.decode::<Vec<u8>>("key", &more), Err(Undecodable::TooLarge), "{chain}");
    }
}

/// A zstd frame may ask for a window far larger than what it holds.
#[test]
fn windows_that_zstd_asks_for() {
    let codec = Codec::noop().zstd(3).unwrap().limits(Limits::new().max_decompressed(1 << 20));
    // Magic; no content size, no single segment; a window of 2^(10+21) bytes; a last raw block of one byte.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x09, 0x00, 0x00, b'x'];
    assert_eq!(refused::<Vec<u8>>(&codec, &frame), Undecodable::Malformed);
    // The same with 2^20.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3, 0x09, 0x00, 0x00, b'x'];
    let plain = codec.envelope(Envelope::Plain);
    assert_eq!(plain.decode::<Vec<u8>>("key", &frame).unwrap().1, b"x");
}

#[test]
fn what_stands_behind_a_value_makes_it_none() {
    for codec in all_chains() {
        let codec = codec.envelope(Envelope::Plain);
        let mut bytes = codec.encode("key", &Meta::default(), &vec![1_u8, 2, 3]).unwrap();
        bytes.push(0);
        assert_eq!(codec.decode::<Vec<u8>>("key", &bytes), Err(Undecodable::Malformed), "{codec:?}");
    }
}

/// "Each byte flipped, truncation at each length."
#[test]
fn every_flip_and_every_cut_is_a_miss() {
    let value = (String::from("Ada"), 7_u32);
    for codec in
        [Codec::postcard(), Codec::json(), Codec::msgpack().zstd(3).unwrap(), Codec::json().lz4().unwrap()]
    {
        let good = codec.encode("key", &full(), &value).unwrap();
        assert!(codec.decode::<(String, u32)>("key", &good).is_ok());
        for at in 0..good.len() {
            assert!(codec.decode::<(String, u32)>("key", &good[..at]).is_err(), "cut at {at}");
            assert!(codec.decode_meta("key", &good[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let why = codec.decode::<(String, u32)>("key", &bytes).unwrap_err();
                assert_eq!(codec.decode_meta("key", &bytes), Err(why), "bit {bit} of byte {at}");
                let expected = match at {
                    0..3 => Undecodable::Malformed,
                    3 => Undecodable::Version,
                    _ => Undecodable::Checksum,
                };
                assert_eq!(why, expected, "bit {bit} of byte {at}");
            }
        }
        let longer = [&good[..], &[0]].concat();
        assert_eq!(codec.decode::<(String, u32)>("key", &longer), Err(Undecodable::Checksum));
    }
}

/// The other envelopes have no checksum: what is damaged is a miss or another value, and never a panic.
#[test]
fn damaged_bytes_without_a_checksum_are_survived() {
    for codec in all_chains() {
        let good = codec.encode("key", &full(), &(String::from("Ada"), vec![Some(7_u32); 20])).unwrap();
        for at in 0..good.len() {
            let _ = codec.decode::<(String, Vec<Option<u32>>)>("key", &good[..at]);
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let read = codec.decode::<(String, Vec<Option<u32>>)>("key", &bytes);
                assert!(codec.has_envelope() != Envelope::Own || read.is_err(), "{codec:?}");
            }
        }
    }
}

/// With a checksum that is right, each part of the head that is not.
#[test]
fn forged_heads_are_misses() {
    let codec = Codec::postcard();
    let forge = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = codec.encode("key", &full(), &7_u8).unwrap();
        change(&mut bytes);
        let steps = u16::from_le_bytes([bytes[6], bytes[7]]);
        envelope::end(&codec, steps, &mut bytes);
        codec.decode::<u8>("key", &bytes).unwrap_err()
    };
    assert_eq!(forge(&|bytes| bytes[4] |= 64), Undecodable::Malformed);
    assert_eq!(forge(&|bytes| bytes[4] |= 128), Undecodable::Malformed);
    assert_eq!(forge(&|bytes| bytes[5] = 1), Undecodable::Format);
    assert_eq!(forge(&|bytes| bytes[5] = 200), Undecodable::Format);
    assert_eq!(forge(&|bytes| bytes[6] = 4), Undecodable::Malformed, "a compression that is none");
    assert_eq!(forge(&|bytes| bytes[6] = 1), Undecodable::Malformed, "zlib that is none");
    assert_eq!(forge(&|bytes| bytes[12] ^= 1), Undecodable::Key);
    assert_eq!(forge(&|bytes| bytes[20] ^= 1), Undecodable::Schema);
    // The time to live's nanoseconds, which would carry into seconds that are full.
    assert_eq!(forge(&|bytes| bytes[52..56].fill(0xff)), Undecodable::Malformed);
    // The number of tags, and the length of the first.
    assert_eq!(forge(&|bytes| bytes[70..72].fill(0xff)), Undecodable::Malformed);
    assert_eq!(forge(&|bytes| bytes[72..74].fill(0xff)), Undecodable::Malformed);
    assert_eq!(forge(&|bytes| bytes[74] = 0xff), Undecodable::Malformed, "a tag that is not UTF-8");
    assert_eq!(forge(&|bytes| bytes.truncate(75)), Undecodable::Malformed);
}
