//! Codecs from inside: envelopes, limits, what is a miss.
#![forbid(unsafe_code)]

use super::*;

#[test]
fn every_chain_gives_back_what_it_got() {
    let value = (String::from("Ada"), vec![1_u32, 2, 300_000], Some(-7_i64));
    let meta = Meta { created: Some(1_795_193_926_394_547_000), ..Meta::default() };
    for format in ["json", "msgpack", "postcard"] {
        for chain in ["", "+zlib", "+zstd", "+lz4", "+lz4+zstd+zlib+zstandard"] {
            for envelope in ["own", "dogpile", "plain"] {
                let codec = Codec::from_url(&format!("{format}{chain}://?envelope={envelope}")).unwrap();
                let bytes = codec.encode("key", &meta, &value).unwrap();
                let (read, back) = codec.decode::<(String, Vec<u32>, Option<i64>)>("key", &bytes).unwrap();
                assert_eq!(back, value, "{codec:?}");
                assert_eq!(read.created.is_some(), envelope != "plain", "{codec:?}");
                assert_eq!(codec.decode_meta("key", &bytes), Ok(read), "{codec:?}");
            }
        }
    }
}
