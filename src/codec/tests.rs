//! Codecs from inside: envelopes, golden bytes, what is a miss, and what bytes may cost.
#![forbid(unsafe_code)]

use super::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

mod crossed;
mod golden;
mod hostile;

/// Our times are exact in our own envelope only.
const CREATED: u64 = 1_795_193_926_394_547_013;

fn full() -> Meta {
    Meta {
        created: Some(CREATED),
        epoch: Some(CREATED - 1),
        ttl: Some(Duration::MAX),
        cut: 999,
        cost: Some(Duration::from_nanos(1)),
        tags: vec![String::from("user:7"), String::new(), String::from("naïve|\0")],
    }
}

fn all_chains() -> impl Iterator<Item = Codec> {
    let formats = ["json", "msgpack", "postcard"];
    let chains = ["", "+zlib", "+zstd", "+lz4", "+lz4+zstd+zlib+zstandard"];
    let envelopes = ["own", "dogpile", "plain"];
    formats.into_iter().flat_map(move |format| {
        chains.into_iter().flat_map(move |chain| {
            envelopes.into_iter().map(move |envelope| {
                Codec::from_url(&format!("{format}{chain}://?envelope={envelope}")).unwrap()
            })
        })
    })
}

#[test]
fn every_chain_gives_back_what_it_got() {
    let value = (String::from("Ada"), vec![1_u32, 2, 300_000], Some(-7_i64), vec![0_u8; 500]);
    for codec in all_chains() {
        let bytes = codec.encode("key", &full(), &value).unwrap();
        let (meta, back) = codec.decode::<(String, Vec<u32>, Option<i64>, Vec<u8>)>("key", &bytes).unwrap();
        assert_eq!(back, value, "{codec:?}");
        assert_eq!(codec.decode_meta("key", &bytes).unwrap(), meta, "{codec:?}");
        match codec.has_envelope() {
            Envelope::Own => assert_eq!(meta, full()),
            Envelope::Dogpile => {
                assert!(meta.created.unwrap().abs_diff(CREATED) < 256, "as exact as Python's floats");
                assert_eq!(meta, Meta { created: meta.created, epoch: meta.created, ..Meta::default() });
            }
            Envelope::Plain => assert_eq!(meta, Meta::default()),
        }
    }
}

#[test]
fn what_an_entry_carries_is_each_there_or_not() {
    let codec = Codec::postcard();
    let full = full();
    for which in 0..64 {
        let has = |bit: u32| which & (1 << bit) != 0;
        let meta = Meta {
            created: full.created.filter(|_| has(0)),
            epoch: full.epoch.filter(|_| has(1)),
            ttl: full.ttl.filter(|_| has(2)),
            cut: if has(3) { full.cut } else { 0 },
            cost: full.cost.filter(|_| has(4)),
            tags: if has(5) { full.tags.clone() } else { Vec::new() },
        };
        let bytes = codec.encode("", &meta, &7_u8).unwrap();
        assert_eq!(codec.decode::<u8>("", &bytes).unwrap(), (meta, 7));
    }
}

#[test]
fn tags_that_have_no_room_are_an_error() {
    let tags = |count: usize, bytes: usize| Meta { tags: vec!["x".repeat(bytes); count], ..Meta::default() };
    let codec = Codec::postcard();
    for meta in [tags(65535, 0), tags(1, 65535)] {
        let bytes = codec.encode("key", &meta, &()).unwrap();
        assert_eq!(codec.decode_meta("key", &bytes).unwrap(), meta);
    }
    let error = codec.encode("key", &tags(65536, 0), &()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "codec encode: the value can't be encoded: too many tags: an entry has room for 65535"
    );
    let error = codec.encode("key", &tags(1, 65536), &()).unwrap_err();
    assert!(error.to_string().contains("a tag has too many bytes"), "{error}");
}

#[test]
fn compression_may_change_and_nothing_is_lost() {
    let value = "dogpile ".repeat(1000);
    let codecs = ["", "+zlib", "+zstd", "+lz4", "+zlib+lz4"]
        .map(|chain| (chain, Codec::from_url(&format!("json{chain}://")).unwrap()));
    let plain = codecs[0].1.encode("key", &Meta::default(), &value).unwrap().len();
    for (chain, writer) in &codecs {
        let bytes = writer.encode("key", &Meta::default(), &value).unwrap();
        assert!(chain.is_empty() || bytes.len() < plain / 10, "{chain}: {} of {plain}", bytes.len());
        for (_, reader) in &codecs {
            assert_eq!(reader.decode::<String>("key", &bytes).unwrap().1, value);
        }
    }
}

#[test]
fn what_is_small_or_would_grow_stays_as_it_is() {
    let plain = Codec::noop();
    let codec = Codec::noop().lz4().unwrap().threshold(100);
    for (bytes, shrinks) in [(vec![7_u8; 99], false), (vec![7; 100], true), ((0..=255).collect(), false)] {
        let ours = codec.encode("key", &Meta::default(), &bytes).unwrap();
        let uncompressed = plain.encode("key", &Meta::default(), &bytes).unwrap();
        assert_eq!(ours.len() < uncompressed.len(), shrinks);
        assert_eq!(ours == uncompressed, !shrinks);
        assert_eq!(plain.decode::<Vec<u8>>("key", &ours).unwrap().1, bytes);
    }
    // Others could not tell.
    let codec = codec.envelope(Envelope::Plain);
    let bytes = codec.encode("key", &Meta::default(), &vec![1_u8]).unwrap();
    assert_ne!(bytes, [1]);
    assert_eq!(codec.decode::<Vec<u8>>("key", &bytes).unwrap().1, [1]);
}

/// Each has a value, and another one that has something else about it.
#[test]
fn another_key_type_format_or_schema_is_a_miss() {
    let codec = Codec::json();
    let bytes = codec.encode("key", &Meta::default(), &7_u32).unwrap();
    let read = |codec: &Codec, key| codec.decode::<u32>(key, &bytes).map(|(_, value)| value);
    assert_eq!(read(&codec, "key"), Ok(7));
    assert_eq!(read(&codec, "yek"), Err(Undecodable::Key));
    assert_eq!(codec.decode_meta("yek", &bytes), Err(Undecodable::Key));
    assert_eq!(codec.decode::<u64>("key", &bytes), Err(Undecodable::Schema));
    assert_eq!(read(&codec.clone().schema(1), "key"), Err(Undecodable::Schema));
    assert_eq!(read(&Codec::msgpack(), "key"), Err(Undecodable::Format));
    assert_eq!(
        read(&codec.clone().limits(Limits::new().max_bytes(bytes.len() - 1)), "key"),
        Err(Undecodable::TooLarge)
    );
    assert_eq!(read(&codec.limits(Limits::new().max_bytes(bytes.len())), "key"), Ok(7));
}

/// Two formats of one's own are told apart by their names.
struct Named(&'static str);

impl Format for Named {
    fn name(&self) -> &'static str {
        self.0
    }
    fn encode(&self, value: &Value<'_>) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(value)?)
    }
    fn decode(&self, bytes: &[u8], slot: Slot<'_>) -> Result<(), BoxError> {
        Ok(slot.fill(&mut serde_json::Deserializer::from_slice(bytes))?)
    }
}

/// Forgets to fill the slot.
struct Empty;

impl Format for Empty {
    fn name(&self) -> &'static str {
        "a"
    }
    fn encode(&self, _: &Value<'_>) -> Result<Vec<u8>, BoxError> {
        Err("no pen".into())
    }
    fn decode(&self, _: &[u8], _: Slot<'_>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn a_format_of_ones_own_takes_values_of_any_type() {
    let codec = Codec::own(Named("a")).zstd(3).unwrap();
    let value = BTreeMap::from([(String::from("k"), vec![Some(1.5)])]);
    let bytes = codec.encode("key", &full(), &value).unwrap();
    assert_eq!(codec.decode("key", &bytes).unwrap(), (full(), value));
    let bytes = codec.encode("key", &full(), &String::from("text")).unwrap();
    assert_eq!(Codec::own(Named("b")).decode::<String>("key", &bytes), Err(Undecodable::Schema));
    assert_eq!(Codec::own(Empty).decode::<String>("key", &bytes), Err(Undecodable::Malformed));
    let error = Codec::own(Empty).encode("key", &full(), &7).unwrap_err();
    assert_eq!(error.to_string(), "codec encode: the value can't be encoded: type i32");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no pen");
    // It counts levels as all do.
    let deep = Codec::own(Named("a")).limits(Limits::new().max_depth(2));
    let bytes = codec.encode("key", &full(), &vec![vec![vec![1_u8]]]).unwrap();
    assert_eq!(deep.decode::<Vec<Vec<Vec<u8>>>>("key", &bytes), Err(Undecodable::TooDeep));
}

#[test]
fn two_functions_serve_their_type_only() {
    #[derive(Debug, PartialEq)]
    struct Raw(u8);
    let codec = Codec::from_fns(
        |raw: &InMemory<Raw>| if raw.0.0 < 100 { Ok(vec![raw.0.0]) } else { Err("too much") },
        |bytes: &[u8]| bytes.first().map(|byte| InMemory(Raw(*byte))).ok_or("too little"),
    );
    assert!(codec.takes::<InMemory<Raw>>().is_ok());
    let bytes = codec.encode("key", &full(), &InMemory(Raw(7))).unwrap();
    assert_eq!(codec.decode::<InMemory<Raw>>("key", &bytes).unwrap(), (full(), InMemory(Raw(7))));

    let error = codec.encode("key", &full(), &InMemory(Raw(100))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "too much");

    // Another type: both are named.
    for error in [codec.takes::<u32>().unwrap_err(), codec.encode("key", &full(), &7_u32).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::WrongType);
        let text = error.to_string();
        assert!(
            text.contains("InMemory<") && text.contains("Raw>") && text.contains("not for u32"),
            "{text}"
        );
    }
    let plain = codec.clone().envelope(Envelope::Plain);
    assert_eq!(plain.decode::<u32>("key", &[7]), Err(Undecodable::Type));
    assert_eq!(plain.decode::<InMemory<u32>>("key", &[7]), Err(Undecodable::Type));
    // What the function says no to is a miss.
    assert_eq!(plain.decode::<InMemory<Raw>>("key", &[]), Err(Undecodable::Malformed));
    assert_eq!(plain.decode::<InMemory<Raw>>("key", &[8]).unwrap().1, InMemory(Raw(8)));
}

#[test]
fn what_stays_in_memory_can_not_be_bytes() {
    const { assert!(!<InMemory<String> as Storable>::STORES_BYTES && String::STORES_BYTES) };
    for codec in [Codec::json(), Codec::msgpack(), Codec::postcard(), Codec::noop(), Codec::own(Empty)] {
        let value = InMemory(String::new());
        for error in
            [codec.takes::<InMemory<String>>().unwrap_err(), codec.encode("k", &full(), &value).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::WrongType);
            assert!(error.to_string().contains("InMemory<alloc::string::String>"), "{error}");
        }
        assert!(codec.takes::<String>().is_ok());
        let plain = codec.envelope(Envelope::Plain);
        assert_eq!(plain.decode::<InMemory<String>>("k", b"\"\""), Err(Undecodable::Type));
    }
}

/// A byte string, as `serde_bytes` has it.
#[derive(Debug, PartialEq)]
struct ByteBuf(Vec<u8>);

impl Serialize for ByteBuf {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ByteBuf {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteBuf;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<ByteBuf, E> {
                Ok(ByteBuf(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[test]
fn noop_takes_bytes_and_text_as_they_are() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(String);

    fn same<T: Storable + PartialEq + fmt::Debug>(value: &T, bytes: &[u8]) {
        let codec = Codec::noop().envelope(Envelope::Plain);
        assert_eq!(codec.encode("key", &Meta::default(), value).unwrap(), bytes);
        assert_eq!(codec.decode::<T>("key", bytes).unwrap().1, *value);
    }
    fn refused<T: Storable + fmt::Debug + PartialEq>(value: &T) {
        let codec = Codec::noop().envelope(Envelope::Plain);
        let error = codec.encode("key", &Meta::default(), value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
        assert!(error.to_string().ends_with(type_name::<T>()), "{error}");
        assert_eq!(codec.decode::<T>("key", b"1"), Err(Undecodable::Malformed));
    }
    same(&vec![0_u8, 255, 7], &[0, 255, 7]);
    same(&Vec::<u8>::new(), &[]);
    same(&vec![1_u8, 2].into_boxed_slice(), &[1, 2]);
    same(&ByteBuf(vec![255]), &[255]);
    same(&String::from("naïve"), "naïve".as_bytes());
    same(&Wrapped(String::from("a|b")), b"a|b");
    same(&Box::<str>::from("x"), b"x");
    refused(&7_u8);
    refused(&vec![7_u16]);
    refused(&Some(String::from("x")));
    refused(&(String::from("x"),));
    refused(&());
    let codec = Codec::noop().envelope(Envelope::Plain);
    assert_eq!(codec.decode::<String>("key", &[0xff]), Err(Undecodable::Malformed));
}

/// What could not be read again is not written.
#[test]
fn what_is_too_large_or_too_deep_is_not_written() {
    let small = Limits::new().max_bytes(1000).max_decompressed(1000).max_depth(5);
    let message = |codec: &Codec, error: Error| {
        assert_eq!(error.kind(), ErrorKind::Encode, "{codec:?}");
        error.to_string()
    };
    for codec in all_chains() {
        let codec = codec.limits(small);
        let error = codec.encode("key", &Meta::default(), &"x".repeat(2000)).map(|_| ()).unwrap_err();
        let text = message(&codec, error);
        assert!(text.contains("alloc::string::String is larger than max_"), "{text}");

        let fits = vec![vec![vec![vec![vec![1_u8]]]]];
        let bytes = codec.encode("key", &Meta::default(), &fits).unwrap();
        assert_eq!(codec.decode::<Vec<Vec<Vec<Vec<Vec<u8>>>>>>("key", &bytes).unwrap().1, fits, "{codec:?}");
        let text = message(&codec, codec.encode("key", &Meta::default(), &vec![fits]).unwrap_err());
        assert!(text.contains("is nested deeper than max_depth allows, which is 5"), "{text}");
    }
    let text = message(
        &Codec::json(),
        Codec::json()
            .limits(Limits::new().max_depth(10_000))
            .encode("key", &Meta::default(), &hostile::chain(127))
            .unwrap_err(),
    );
    assert!(text.contains("which is 126"), "JSON has a limit of its own: {text}");
}

/// To the last bit, and their way through text included.
#[test]
fn floats_come_back_as_they_were() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut floats = vec![f64::MIN_POSITIVE, f64::MAX, f64::EPSILON, -0.0, 5e-324];
    while floats.len() < 1000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        floats.extend(Some(f64::from_bits(random)).filter(|float| float.is_finite()));
    }
    let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    for codec in all_chains() {
        let bytes = codec.encode("key", &Meta::default(), &floats).unwrap();
        let back = codec.decode::<Vec<f64>>("key", &bytes).unwrap().1;
        assert_eq!(bits(&back), bits(&floats), "{codec:?}");
    }
}

/// Elements that take no bytes count as they do when they are read.
#[test]
fn what_has_too_many_elements_is_not_written() {
    let codec = Codec::postcard().limits(Limits::new().max_elements(1000));
    for (value, fits) in
        [(vec![vec![(); 499]; 2], true), (vec![vec![(); 500]; 2], false), (vec![vec![]; 1000], true)]
    {
        match codec.encode("key", &Meta::default(), &value) {
            Ok(bytes) => {
                assert!(fits);
                assert_eq!(codec.decode::<Vec<Vec<()>>>("key", &bytes).unwrap().1, value);
            }
            Err(error) => {
                assert!(!fits);
                assert!(
                    error.to_string().contains("more elements than max_elements allows, which is 1000"),
                    "{error}"
                );
            }
        }
    }
    assert!(codec.encode("key", &Meta::default(), &vec![1_u8; 5000]).is_ok(), "there are bytes for them");
}

/// The deepest value that is written is read again, in each format, in a thread's usual stack.
#[test]
fn what_is_written_is_read_again_at_the_limit_of_depth() {
    for (format, levels) in
        [("json", 126), ("msgpack", 100), ("postcard", 100), ("msgpack", 400), ("postcard", 400)]
    {
        let codec = Codec::from_url(&format!("{format}://?max-depth={levels}")).unwrap();
        // A `Some` and a struct for each link.
        let deepest = (0..=levels).rev().find_map(|links| {
            codec.encode("key", &Meta::default(), &hostile::chain(links)).ok().map(|bytes| (links, bytes))
        });
        let (links, bytes) = deepest.unwrap();
        assert!(links >= levels / 2 - 1, "{format}: {links} links in {levels} levels");
        let (_, chain) = codec.decode::<hostile::Chain>("key", &bytes).unwrap();
        assert_eq!(chain.links(), links);
    }
}

#[test]
fn a_panic_of_the_values_own_code_is_a_miss() {
    #[derive(Debug, PartialEq)]
    struct Moody;
    impl Serialize for Moody {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u8(1)
        }
    }
    impl<'de> Deserialize<'de> for Moody {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u8::deserialize(deserializer)?;
            panic!("not today");
        }
    }
    for codec in all_chains() {
        let bytes = codec.encode("key", &full(), &Moody).unwrap();
        assert_eq!(codec.decode::<Moody>("key", &bytes), Err(Undecodable::Panicked), "{codec:?}");
    }
    let codec = Codec::from_fns(|_: &u8| Ok::<_, BoxError>(vec![1]), |_| panic!("nor tomorrow"));
    let bytes = codec.encode("key", &full(), &7_u8).unwrap();
    assert_eq!(codec.decode::<u8>("key", &bytes), Err(Undecodable::Panicked));
}

#[test]
fn values_weigh_about_what_they_take() {
    assert_eq!(7_u64.weight(), 8);
    assert_eq!(InMemory([0_u8; 100]).weight(), 100);
    let text = String::from("x").repeat(1000);
    assert_eq!(text.weight(), 1024);
    assert_eq!(vec![0_u32; 1000].weight(), 4024);
    assert!(vec![text.clone(), text].weight() > 2000);
    assert_eq!([0_u64; 4].weight(), 32);
    // Its measure ends, and with it the weight; nothing overflows.
    assert!(hostile::chain(100_000).weight() > 0);
}

/// What metadata of dogpile.cache may look like.
#[test]
fn metadata_of_dogpile_cache_are_read_with_care() {
    let codec = Codec::json().envelope(Envelope::Dogpile);
    let read =
        |text: &str| codec.decode::<u8>("key", text.as_bytes()).map(|(meta, value)| (meta.created, value));
    assert_eq!(read(r#"{"ct": 1.5, "v": 2}|7"#), Ok((Some(1_500_000_000), 7)));
    assert_eq!(read(r#" {"v":2,"x":[{}],"ct":0} |7"#), Ok((Some(0), 7)));
    assert_eq!(read(r#"{"ct": 1e-9, "v": 2.0}|7"#), Ok((Some(1), 7)));
    assert_eq!(read(r#"{"ct": 1.5, "v": 1}|7"#), Err(Undecodable::Version));
    assert_eq!(read(r#"{"ct": 1.5, "v": 3}|rubbish"#), Err(Undecodable::Version));
    for malformed in [
        "",
        "|",
        "7",
        "|7",
        r#"{"ct": 1.5, "v": 2}"#,
        r#"{"ct": 1.5, "v": 2}|"#,
        r#"{"ct": 1.5, "v": 2}|7x"#,
        r#"{"ct": 1.5}|7"#,
        r#"{"v": 2}|7"#,
        r#"{"ct": "1.5", "v": 2}|7"#,
        r#"{"ct": -1, "v": 2}|7"#,
        r#"{"ct": 1e300, "v": 2}|7"#,
        r#"{"ct": NaN, "v": 2}|7"#,
        r#"{"ct": 1.5, "ct": 2, "v": 2}|7"#,
        r#"[1.5, 2]|"#,
        r#"{"ct": 1.5, "v": 2, "x": "|"}|7"#,
    ] {
        assert_eq!(read(malformed), Err(Undecodable::Malformed), "{malformed}");
    }
}

#[test]
fn debug_shows_the_chain_and_nothing_else() {
    let codec = Codec::from_url("msgpack+zlib+zstd://?envelope=plain").unwrap();
    assert_eq!(format!("{codec:?}"), "Codec(msgpack+zlib+zstd, envelope plain)");
    assert_eq!(format!("{:?}", Value(&"secret")), "Value");
}

#[test]
fn codecs_go_everywhere() {
    fn shared<T: Send + Sync + Unpin>() {}
    shared::<Codec>();
    shared::<Limits>();
    shared::<Undecodable>();
}
