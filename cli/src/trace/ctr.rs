//! The compact trace format.
//!
//! One zstd stream (the plain bytes are taken too) of:
//!
//! | bytes | content                                                                               |
//! |-------|---------------------------------------------------------------------------------------|
//! | 4     | the magic `CTR1`                                                                      |
//! | 8     | number of requests n, u64 little-endian                                               |
//! | 8     | number of distinct keys, u64 little-endian                                            |
//! | rest  | n keys, each as its difference `d` from the one before (the first from 0, wrapping),  |
//! |       | zigzag-coded (`d >= 0` as `2d`, `d < 0` as `-2d - 1`), as a little-endian base-128    |
//! |       | varint in its shortest form (7 bits a byte, high bit = more follow)                   |
//!
//! A reader believes the header only as far as it can check it: nothing is allocated for what it declares.

use std::io::{self, Write};

use super::{Input, MAX_REQUESTS, Trace};
use crate::error::Error;

pub(crate) const MAGIC: [u8; 4] = *b"CTR1";

const AGAIN: &str = "copy, download or record it again";

/// The keys of a compact trace, checked on the way.
#[derive(Debug)]
pub(crate) struct Keys {
    input: Input,
    requests: u64,
    distinct: u64,
    done: u64,
    previous: u64,
}

impl Keys {
    /// Reads the header.
    pub(crate) fn open(mut input: Input) -> Result<Self, Error> {
        let mut header = [0; 20];
        for have in 0..header.len() {
            match input.byte_at(", in the header")? {
                Some(byte) => header[have] = byte,
                None => {
                    let problem = format_args!("the header is cut off: {have} bytes of 20");
                    return Err(input.fail(input.at_byte(have as u64), problem, AGAIN));
                }
            }
            if have < 4 && header[have] != MAGIC[have] {
                let remedy = "name the format with --format, or download the trace again";
                let problem = "this is no compact trace: the magic CTR1 is missing";
                return Err(input.fail(input.at_byte(have as u64), problem, remedy));
            }
        }
        let number = |at: usize| {
            u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes were sliced out"))
        };
        let (requests, distinct) = (number(4), number(12));
        if requests == 0 {
            let remedy = "name a trace with at least one key";
            return Err(input.fail(input.at_byte(4), "the trace holds no request", remedy));
        }
        if requests > MAX_REQUESTS as u64 {
            let problem = format_args!("the header declares {requests} requests, more than {MAX_REQUESTS}");
            return Err(input.fail(input.at_byte(4), problem, "split the trace and replay the parts"));
        }
        if distinct == 0 || distinct > requests {
            let problem = format_args!("the header declares {distinct} distinct keys in {requests} requests");
            return Err(input.fail(input.at_byte(12), problem, AGAIN));
        }
        Ok(Self { input, requests, distinct, done: 0, previous: 0 })
    }

    /// The next key, or `None` after the last, when nothing follows it.
    pub(crate) fn next_key(&mut self) -> Result<Option<u64>, Error> {
        let Self { input, requests, done, .. } = self;
        if done == requests {
            let begin = input.offset();
            return match input.byte_at(format_args!(", after key {done} of {requests}"))? {
                None => Ok(None),
                Some(_) => {
                    let problem = format_args!("bytes follow the last key, {done} of {requests}");
                    let remedy = "cut the file there, or record it again";
                    Err(input.fail(input.at_byte(begin), problem, remedy))
                }
            };
        }
        let place = format_args!(", key {} of {requests}", *done + 1);
        let mut code = 0_u64;
        for shift in (0..).step_by(7) {
            let begin = input.offset();
            let at = |input: &Input| format!("{}{place}", input.at_byte(begin));
            let Some(byte) = input.byte_at(place)? else {
                return Err(input.fail(at(input), "the trace is cut off", AGAIN));
            };
            // A u64 takes ten bytes, and one bit of the tenth. A last byte of zero says nothing.
            if (shift == 63 && byte > 1) || (shift > 0 && byte == 0) {
                return Err(input.fail(at(input), "the key's varint is overlong", AGAIN));
            }
            code |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        let difference = (code >> 1) ^ (code & 1).wrapping_neg();
        self.previous = self.previous.wrapping_add(difference);
        self.done += 1;
        Ok(Some(self.previous))
    }

    /// Compares the number of distinct keys that were `found` with the header's.
    pub(crate) fn check_distinct(&self, found: u64) -> Result<(), Error> {
        if found == self.distinct {
            return Ok(());
        }
        let problem = format_args!("the header declares {} distinct keys, {found} were found", self.distinct);
        Err(self.input.fail(self.input.at_byte(12), problem, AGAIN))
    }
}

/// Writes `trace` as one zstd stream, with zstd's own checksum in it.
pub(crate) fn write(trace: &Trace, target: impl Write) -> io::Result<()> {
    let mut target = zstd::Encoder::new(target, 19)?;
    target.include_checksum(true)?;
    target.write_all(&encode(trace))?;
    target.finish()?.flush()
}

fn encode(trace: &Trace) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend((trace.len() as u64).to_le_bytes());
    bytes.extend((trace.distinct() as u64).to_le_bytes());
    let mut previous = 0_u64;
    for &key in trace.keys() {
        let difference = key.wrapping_sub(previous);
        let mut code = (difference << 1) ^ (difference >> 63).wrapping_neg();
        while code >= 128 {
            bytes.push(code as u8 | 128);
            code >>= 7;
        }
        bytes.push(code as u8);
        previous = key;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = encode(&Trace::from(vec![5, 3, 3, 300]));
        assert_eq!(&bytes[..4], b"CTR1");
        assert_eq!(bytes[4..20], [4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        // +5 is 10, -2 is 3, 0 is 0, +297 is 594 = 4 * 128 + 82.
        assert_eq!(bytes[20..], [10, 3, 0, 0xd2, 4]);
    }
}
