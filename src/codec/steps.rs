//! Compression: steps that bytes go through after the format, and back through in reverse.
//!
//! Nothing asks for more memory than the limit allows, whatever the bytes say of their length: streams are read up to the
//! limit, and lz4's length is looked at before it is believed.
#![forbid(unsafe_code)]

use super::Undecodable;
use flate2::bufread::{ZlibDecoder, ZlibEncoder};
use std::io::{self, Read};

/// One step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// With a level from 0 to 9.
    Zlib(u32),
    /// With a level; 0 is the default one.
    Zstd(i32),
    /// A block, after its length in four bytes, the lowest first.
    Lz4,
}

/// lz4 makes at most this many bytes of one.
const LZ4_MOST: usize = 255;

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zlib(_) => "zlib",
            Self::Zstd(_) => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// What stands for it in an envelope.
    pub(super) fn tag(self) -> u16 {
        match self {
            Self::Zlib(_) => 1,
            Self::Zstd(_) => 2,
            Self::Lz4 => 3,
        }
    }

    /// The step of a tag; its level does not matter for reading.
    pub(super) fn tagged(tag: u16) -> Option<Self> {
        match tag {
            1 => Some(Self::Zlib(0)),
            2 => Some(Self::Zstd(0)),
            3 => Some(Self::Lz4),
            _ => None,
        }
    }

    pub(super) fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zlib(level) => {
                let mut out = Vec::new();
                ZlibEncoder::new(bytes, flate2::Compression::new(level)).read_to_end(&mut out)?;
                Ok(out)
            }
            Self::Zstd(level) => zstd::bulk::compress(bytes, level),
            Self::Lz4 => Ok(lz4_flex::block::compress_prepend_size(bytes)),
        }
    }

    pub(super) fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, Undecodable> {
        match self {
            Self::Zlib(_) => {
                let mut stream = ZlibDecoder::new(bytes);
                let out = read_up_to(&mut stream, limit)?;
                // What stands behind the stream is not ours.
                if stream.total_in() == bytes.len() as u64 { Ok(out) } else { Err(Undecodable::Malformed) }
            }
            Self::Zstd(_) => {
                // Most frames say how much they hold; those that say less than they do are read up to the limit.
                let says =
                    zstd::zstd_safe::get_frame_content_size(bytes).map_err(|_| Undecodable::Malformed)?;
                if says.is_some_and(|says| says > limit as u64) {
                    return Err(Undecodable::TooLarge);
                }
                let mut stream = zstd::stream::read::Decoder::with_buffer(bytes)
                    .and_then(|mut stream| stream.window_log_max(window_log(limit)).map(|()| stream))
                    .map_err(|_| Undecodable::Malformed)?;
                read_up_to(&mut stream, limit)
            }
            Self::Lz4 => {
                let (length, block) =
                    lz4_flex::block::uncompressed_size(bytes).map_err(|_| Undecodable::Malformed)?;
                if length > limit {
                    return Err(Undecodable::TooLarge);
                }
                if length / LZ4_MOST > block.len() {
                    return Err(Undecodable::Malformed);
                }
                let out = lz4_flex::block::decompress(block, length).map_err(|_| Undecodable::Malformed)?;
                if out.len() == length { Ok(out) } else { Err(Undecodable::Malformed) }
            }
        }
    }
}

/// All that a stream gives, if it is not more than `limit` bytes.
fn read_up_to(stream: &mut impl Read, limit: usize) -> Result<Vec<u8>, Undecodable> {
    let mut out = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(most).read_to_end(&mut out).map_err(|_| Undecodable::Malformed)?;
    if out.len() > limit { Err(Undecodable::TooLarge) } else { Ok(out) }
}

/// The largest window that a stream of at most `limit` bytes has a use for, as a power of two.
fn window_log(limit: usize) -> u32 {
    limit.max(1).next_power_of_two().trailing_zeros().clamp(10, 27)
}
