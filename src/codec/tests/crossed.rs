//! No stored type is ever read as another.
#![forbid(unsafe_code)]

use super::*;
use std::collections::{BTreeSet, HashMap, VecDeque};

mod before {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct User {
        pub(super) name: String,
        pub(super) age: u32,
    }
}

mod after {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct User {
        pub(super) name: String,
        pub(super) years: u32,
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Coin {
    Heads,
    Tails,
}

#[derive(Debug, Serialize, Deserialize)]
enum Side {
    Heads,
    Tails,
}

#[derive(Debug, Serialize, Deserialize)]
struct Meters(f64);

#[derive(Debug, Serialize, Deserialize)]
struct Feet(f64);

#[derive(Debug, Serialize, Deserialize)]
struct Nothing;

#[derive(Debug, Serialize, Deserialize)]
struct Generic<T>(T);

type Write = fn(&Codec) -> Vec<u8>;
type Read = fn(&Codec, &[u8]) -> Result<(), Undecodable>;

macro_rules! types {
    ($($of:ty = $value:expr;)+) => {
        fn types() -> Vec<(&'static str, Write, Read)> {
            vec![$((
                stringify!($of),
                |codec| codec.encode::<$of>("key", &Meta::default(), &$value).unwrap(),
                |codec, bytes| codec.decode::<$of>("key", bytes).map(|_| ()),
            )),+]
        }
    };
}

types! {
    () = ();
    bool = true;
    u8 = 1;
    u16 = 1;
    u32 = 1;
    u64 = 1;
    u128 = 1;
    i8 = 1;
    i16 = 1;
    i32 = 1;
    i64 = 1;
    f32 = 1.0;
    f64 = 1.0;
    char = 'a';
    String = String::from("a");
    Box<str> = Box::from("a");
    Option<u8> = Some(1);
    Option<u16> = Some(1);
    Option<Option<u8>> = Some(Some(1));
    Vec<u8> = vec![1];
    Vec<u16> = vec![1];
    Vec<String> = vec![String::from("a")];
    VecDeque<u8> = VecDeque::from([1]);
    BTreeSet<u8> = BTreeSet::from([1]);
    BTreeMap<String, u8> = BTreeMap::from([(String::from("a"), 1)]);
    HashMap<String, u8> = HashMap::from([(String::from("a"), 1)]);
    BTreeMap<String, u16> = BTreeMap::from([(String::from("a"), 1)]);
    [u8; 1] = [1];
    [u8; 2] = [1, 1];
    (u8,) = (1,);
    (u8, u8) = (1, 1);
    (u8, String) = (1, String::from("a"));
    Result<u8, String> = Ok(1);
    std::time::Duration = Duration::from_secs(1);
    std::net::Ipv4Addr = std::net::Ipv4Addr::LOCALHOST;
    before::User = before::User { name: String::from("a"), age: 1 };
    after::User = after::User { name: String::from("a"), years: 1 };
    Coin = if types().is_empty() { Coin::Tails } else { Coin::Heads };
    Side = if types().is_empty() { Side::Tails } else { Side::Heads };
    Meters = Meters(1.0);
    Feet = Feet(1.0);
    Nothing = Nothing;
    Generic<u8> = Generic(1);
    Generic<u16> = Generic(1);
    std::num::NonZeroU8 = std::num::NonZeroU8::MIN;
    std::path::PathBuf = PathBuf::from("a");
}

#[test]
fn no_type_is_read_as_another() {
    let types = types();
    assert!(types.len() >= 40);
    for codec in [Codec::json(), Codec::msgpack(), Codec::postcard(), Codec::postcard().zstd(1).unwrap()] {
        for (writes, write, _) in &types {
            let bytes = write(&codec);
            for (reads, _, read) in &types {
                let expected = if writes == reads { Ok(()) } else { Err(Undecodable::Schema) };
                assert_eq!(read(&codec, &bytes), expected, "{codec:?}: a {writes} read as {reads}");
            }
        }
    }
}
