//! Codecs as their users see them: URLs, settings, messages.
#![cfg(feature = "region")]

use dogpile::ErrorKind;
use dogpile::codec::{
    BoxError, Codec, Envelope, Format, InMemory, Limits, Slot, Storable, Undecodable, Value,
};

fn accepted(url: &str) -> String {
    format!("{:?}", Codec::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}")))
}

fn refused(url: &str) -> String {
    let error = Codec::from_url(url).map(|codec| panic!("{url} is {codec:?}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{url}");
    let text = error.to_string();
    text.strip_prefix("codec URL: bad configuration: ").unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn chains_of_cachetory_by_url() {
    for (url, chain) in [
        ("json://", "json"),
        ("json:", "json"),
        ("JSON://", "json"),
        ("msgpack://", "msgpack"),
        ("noop://", "noop"),
        ("null://", "noop"),
        ("postcard://", "postcard"),
        ("json+zlib://", "json+zlib"),
        ("json+zlib://?compression-level=-1", "json+zlib"),
        ("json+zlib://?compression-level=0", "json+zlib"),
        ("json+zlib://?compression-level=9", "json+zlib"),
        ("msgpack+zstd://?compression-level=22", "msgpack+zstd"),
        ("msgpack+zstd://?compression-level=-131072", "msgpack+zstd"),
        ("msgpack+zstandard://?compression-level=3&compression-threads=0", "msgpack+zstd"),
        ("json+zlib+zstd://?compression-level=3", "json+zlib+zstd"),
        ("postcard+lz4://?threshold=1024", "postcard+lz4"),
        ("postcard+lz4+lz4+lz4+lz4://", "postcard+lz4+lz4+lz4+lz4"),
        ("json://?schema=4294967295&max-depth=7&max-elements=0", "json"),
        ("json://?max-bytes=0&max-decompressed=64KiB&max-memory=1GiB", "json"),
    ] {
        assert_eq!(accepted(url), format!("Codec({chain}, envelope own)"), "{url}");
    }
    for envelope in ["own", "dogpile", "plain"] {
        assert_eq!(
            accepted(&format!("json://?envelope={envelope}")),
            format!("Codec(json, envelope {envelope})")
        );
    }
}

/// Each message names the part, and what is accepted; none repeats a value.
#[test]
fn what_is_wrong_with_a_url_is_named() {
    const FORMATS: &str = "postcard, json, msgpack, noop, null";
    for (url, message) in [
        ("yaml://", format!("the format yaml is unknown: the formats are {FORMATS}")),
        (
            "json+brotli://",
            String::from(
                "the compression brotli is unknown: the compressions are zlib, zstd, zstandard, lz4",
            ),
        ),
        (
            "json+json://",
            String::from("the compression json is unknown: the compressions are zlib, zstd, zstandard, lz4"),
        ),
        (
            "json+://",
            String::from("the compression  is unknown: the compressions are zlib, zstd, zstandard, lz4"),
        ),
        ("zstd://", format!("a compression stands first: begin with a format, one of {FORMATS}")),
        (
            "pickle+zstd://?compression-level=3",
            String::from(
                "the format pickle is Python's own, and runs what it reads: use json or msgpack, there as here",
            ),
        ),
        (
            "json://?pickle-protocol=4",
            String::from("pickle-protocol is unknown: there is no pickle here, use json or msgpack"),
        ),
        ("json://?schema=1&schema=1", String::from("schema is given twice: drop one")),
        (
            "json+zlib://?compression-level=10",
            String::from("compression-level is malformed: it must be between -1 and 9 for zlib"),
        ),
        (
            "json+zlib://?compression-level=-2",
            String::from("compression-level is malformed: it must be between -1 and 9 for zlib"),
        ),
        (
            "json+zstd://?compression-level=23",
            String::from("compression-level is malformed: it must be between -131072 and 22 for zstd"),
        ),
        (
            "json+zstd://?compression-level=s3cret",
            String::from("compression-level is malformed: it must be a whole number that is not too large"),
        ),
        (
            "json+lz4://?compression-level=3",
            String::from("compression-level has nothing to set: add zlib or zstd, or drop it"),
        ),
        (
            "json+zlib://?compression-threads=0",
            String::from("compression-threads has nothing to set: add zstd, or drop it"),
        ),
        (
            "json+zstd://?compression-threads=4",
            String::from("compression-threads is malformed: it must be 0: the calling thread compresses"),
        ),
        (
            "json://?threshold=1",
            String::from("threshold has nothing to set: add zlib, zstd or lz4, or drop it"),
        ),
        (
            "json+lz4://?threshold=s3cret",
            String::from(
                "threshold is malformed: it must be a number of bytes, as 4096, 64KiB, 1MiB or 1GiB",
            ),
        ),
        (
            "json+lz4://?threshold=99999999999GiB",
            String::from(
                "threshold is malformed: it must be a number of bytes, as 4096, 64KiB, 1MiB or 1GiB",
            ),
        ),
        (
            "json+lz4://?threshold=1&envelope=plain",
            String::from(
                "threshold and envelope=plain contradict each other: that envelope has no room for it",
            ),
        ),
        (
            "json://?schema=1&envelope=dogpile",
            String::from(
                "schema and envelope=dogpile contradict each other: that envelope has no room for it",
            ),
        ),
        ("json://?envelope=s3cret", String::from("envelope is malformed: it must be own, dogpile or plain")),
        (
            "json://?schema=-1",
            String::from("schema is malformed: it must be a whole number that is not too large"),
        ),
        (
            "json://user:s3cret@host/",
            String::from("there is nothing to stand between :// and ?: parameters come after the ?"),
        ),
        (
            "json://host?schema=1",
            String::from("there is nothing to stand between :// and ?: parameters come after the ?"),
        ),
        (
            "json:///path",
            String::from("there is nothing to stand between :// and ?: parameters come after the ?"),
        ),
        (
            "json://#part",
            String::from("there is nothing to stand between :// and ?: parameters come after the ?"),
        ),
        ("", String::from("it is malformed: it must be as json+zstd://?compression-level=3")),
        ("json", String::from("it is malformed: it must be as json+zstd://?compression-level=3")),
    ] {
        let text = refused(url);
        assert_eq!(text, message, "{url}");
        assert!(!text.contains("s3cret"), "{url}");
    }
    let unknown = refused("json://?compression=3");
    assert!(
        unknown.starts_with("compression is unknown: the parameters are compression-level, "),
        "{unknown}"
    );
    let error = Codec::from_url("json+lz4+lz4+lz4+lz4+lz4://").unwrap_err();
    assert_eq!(error.to_string(), "codec: bad configuration: an entry has room for 4 compressions: drop one");
}

#[test]
fn settings_out_of_range_are_errors() {
    for error in [
        Codec::json().zlib(10).unwrap_err(),
        Codec::json().zstd(23).unwrap_err(),
        Codec::json().zstd(i32::MIN).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("the level is out of range: it must be between"), "{error}");
    }
    let four = || Codec::json().lz4()?.lz4()?.zlib(0)?.zstd(0);
    assert!(four().is_ok());
    for fifth in [Codec::lz4, |codec: Codec| codec.zlib(6), |codec: Codec| codec.zstd(3)] {
        assert_eq!(fifth(four().unwrap()).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn debug_shows_chains_and_limits_and_no_values() {
    struct Named;
    impl Format for Named {
        fn name(&self) -> &'static str {
            "named"
        }
        fn encode(&self, _: &Value<'_>) -> Result<Vec<u8>, BoxError> {
            Ok(Vec::new())
        }
        fn decode(&self, _: &[u8], _: Slot<'_>) -> Result<(), BoxError> {
            Ok(())
        }
    }
    let codec = Codec::own(Named).zstd(3).unwrap().envelope(Envelope::Plain).schema(7).limits(Limits::new());
    assert_eq!(format!("{codec:?}"), "Codec(named+zstd, envelope plain)");
    assert_eq!(format!("{:?}", codec.clone()), format!("{codec:?}"));
    let limits = format!("{:?}", Limits::default().max_depth(7));
    assert!(limits.contains("max_depth: 7") && limits.contains("max_bytes: 67108864"), "{limits}");
}

/// A clone is not changed by what becomes of the other.
#[test]
fn codecs_are_values() {
    let codec = Codec::json();
    let other = codec.clone().lz4().unwrap().envelope(Envelope::Dogpile);
    assert_eq!(format!("{codec:?}"), "Codec(json, envelope own)");
    assert_eq!(format!("{other:?}"), "Codec(json+lz4, envelope dogpile)");
}

#[test]
fn every_reason_has_a_text() {
    let all = [
        Undecodable::Malformed,
        Undecodable::Version,
        Undecodable::Schema,
        Undecodable::Format,
        Undecodable::Key,
        Undecodable::Checksum,
        Undecodable::TooLarge,
        Undecodable::TooDeep,
        Undecodable::TooMany,
        Undecodable::Type,
        Undecodable::Panicked,
    ];
    let mut texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), all.len());
}

#[test]
fn what_can_be_stored() {
    fn storable<T: Storable>() {}
    storable::<()>();
    storable::<Option<Vec<(String, f64)>>>();
    storable::<serde_json::Value>();
    storable::<InMemory<fn() -> u8>>();
    storable::<InMemory<std::sync::Mutex<u8>>>();

    let mut value = InMemory(vec![1]);
    value.0.push(2);
    assert_eq!(value.len(), 2, "it is what it wraps");
    assert_eq!(value, InMemory(vec![1, 2]));
}
