//! Codecs by URL: `json+zstd://?compression-level=3`.
#![forbid(unsafe_code)]

use super::steps::Step;
use super::{Codec, Envelope, Limits, config};
use crate::error::Error;
use url::Url;

const URL: &str = "codec URL";
const FORMATS: &str = "postcard, json, msgpack, noop, null";
const COMPRESSIONS: &str = "zlib, zstd, zstandard, lz4";
const PARAMETERS: &str = "compression-level, compression-threads, threshold, envelope, schema, max-bytes, \
                          max-decompressed, max-memory, max-depth, max-elements";

/// What the query says.
#[derive(Default)]
struct Settings {
    level: Option<i32>,
    threads: Option<u32>,
    threshold: Option<usize>,
    envelope: Option<Envelope>,
    schema: Option<u32>,
    limits: Limits,
}

impl Settings {
    fn read(url: &Url) -> Result<Self, Error> {
        let mut settings = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in url.query_pairs() {
            if seen.iter().any(|seen| *seen == name) {
                return Err(config(URL, format!("{name} is given twice: drop one")));
            }
            settings.set(&name, &value)?;
            seen.push(name.into_owned());
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "compression-level" => self.level = Some(number(name, value)?),
            "compression-threads" => self.threads = Some(number(name, value)?),
            "threshold" => self.threshold = Some(size(name, value)?),
            "envelope" => {
                self.envelope = Some(match value {
                    "own" => Envelope::Own,
                    "dogpile" => Envelope::Dogpile,
                    "plain" => Envelope::Plain,
                    _ => return Err(malformed(name, "own, dogpile or plain")),
                });
            }
            "schema" => self.schema = Some(number(name, value)?),
            "max-bytes" => self.limits = self.limits.max_bytes(size(name, value)?),
            "max-decompressed" => self.limits = self.limits.max_decompressed(size(name, value)?),
            "max-memory" => self.limits = self.limits.max_memory(size(name, value)?),
            "max-depth" => self.limits = self.limits.max_depth(number(name, value)?),
            "max-elements" => self.limits = self.limits.max_elements(number(name, value)?),
            "pickle-protocol" => {
                return Err(config(
                    URL,
                    "pickle-protocol is unknown: there is no pickle here, use json or msgpack",
                ));
            }
            _ => return Err(config(URL, format!("{name} is unknown: the parameters are {PARAMETERS}"))),
        }
        Ok(())
    }
}

fn malformed(name: &str, accepted: &str) -> Error {
    config(URL, format!("{name} is malformed: it must be {accepted}"))
}

fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, Error> {
    value.parse().map_err(|_| malformed(name, "a whole number that is not too large"))
}

/// A number of bytes: `1024`, `64KiB`, `1MiB`, `1GiB`.
fn size(name: &str, value: &str) -> Result<usize, Error> {
    let (digits, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()));
    let unit = match unit.trim_start() {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    unit.and_then(|unit| digits.parse::<usize>().ok()?.checked_mul(unit))
        .ok_or_else(|| malformed(name, "a number of bytes, as 4096, 64KiB, 1MiB or 1GiB"))
}

impl Codec {
    /// A codec by its URL, as cachetory has them: a format, compressions in the order of their doing, and parameters.
    ///
    /// | part | accepted |
    /// |---|---|
    /// | format | `postcard`, `json`, `msgpack`, `noop` or `null` |
    /// | compressions | `zlib`, `zstd` or `zstandard`, `lz4`; up to four |
    /// | `compression-level` | -1 to 9 for `zlib` (-1 is its default, 6), up to 22 for `zstd` (0 is its default, 3); not for `lz4` |
    /// | `compression-threads` | 0: it is done by the calling thread |
    /// | `threshold` | [bytes from which on to compress](Codec::threshold) |
    /// | `envelope` | `own`, `dogpile`, `plain` |
    /// | `schema` | [the version of the stored types](Codec::schema) |
    /// | `max-bytes`, `max-decompressed`, `max-memory`, `max-depth`, `max-elements` | [the limits](Limits) |
    ///
    /// Bytes may be said as `4096`, `64KiB`, `1MiB`, `1GiB`.
    ///
    /// # Errors
    /// Of the kind [`Config`](crate::ErrorKind::Config), naming the part that is unknown, malformed or contradicts
    /// another, and what is accepted. Python's `pickle` is refused: it runs what it reads, and other languages can't.
    ///
    /// ```
    /// use dogpile::codec::Codec;
    ///
    /// let codec = Codec::from_url("postcard+lz4://?threshold=1KiB")?;
    /// assert_eq!(format!("{codec:?}"), "Codec(postcard+lz4, envelope own)");
    ///
    /// let error = Codec::from_url("yaml://").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "codec URL: bad configuration: the format yaml is unknown: the formats are postcard, json, msgpack, noop, null",
    /// );
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let url = Url::parse(url).map_err(|error| {
            config(URL, "it is malformed: it must be as json+zstd://?compression-level=3").because(error)
        })?;
        if url.has_authority() && url.authority() != ""
            || !matches!(url.path(), "" | "/")
            || url.fragment().is_some()
        {
            return Err(config(
                URL,
                "there is nothing to stand between :// and ?: parameters come after the ?",
            ));
        }
        let settings = Settings::read(&url)?;
        let mut names = url.scheme().split('+');
        let mut codec = match names.next().unwrap_or_default() {
            "postcard" => Self::postcard(),
            "json" => Self::json(),
            "msgpack" => Self::msgpack(),
            "noop" | "null" => Self::noop(),
            "pickle" => {
                return Err(config(
                    URL,
                    "the format pickle is Python's own, and runs what it reads: use json or msgpack, there as here",
                ));
            }
            "zlib" | "zstd" | "zstandard" | "lz4" => {
                return Err(config(
                    URL,
                    format!("a compression stands first: begin with a format, one of {FORMATS}"),
                ));
            }
            other => {
                return Err(config(URL, format!("the format {other} is unknown: the formats are {FORMATS}")));
            }
        };
        for name in names {
            codec = match name {
                "zlib" => match settings.level {
                    None | Some(-1) => codec.zlib(6),
                    Some(level) => u32::try_from(level).ok().filter(|level| *level <= 9).map_or_else(
                        || Err(malformed("compression-level", "between -1 and 9 for zlib")),
                        |level| codec.zlib(level),
                    ),
                },
                "zstd" | "zstandard" => match settings.level.unwrap_or(3) {
                    level @ -131_072..=22 => codec.zstd(level),
                    _ => Err(malformed("compression-level", "between -131072 and 22 for zstd")),
                },
                "lz4" => codec.lz4(),
                other => Err(config(
                    URL,
                    format!("the compression {other} is unknown: the compressions are {COMPRESSIONS}"),
                )),
            }?;
        }
        settings.apply(codec)
    }
}

impl Settings {
    fn apply(self, codec: Codec) -> Result<Codec, Error> {
        let steps = &codec.inner.steps;
        if self.level.is_some() && !steps.iter().any(|step| matches!(step, Step::Zlib(_) | Step::Zstd(_))) {
            return Err(config(URL, "compression-level has nothing to set: add zlib or zstd, or drop it"));
        }
        if self.threads.is_some() && !steps.iter().any(|step| matches!(step, Step::Zstd(_))) {
            return Err(config(URL, "compression-threads has nothing to set: add zstd, or drop it"));
        }
        if self.threads.is_some_and(|threads| threads != 0) {
            return Err(malformed("compression-threads", "0: the calling thread compresses"));
        }
        if self.threshold.is_some() && steps.is_empty() {
            return Err(config(URL, "threshold has nothing to set: add zlib, zstd or lz4, or drop it"));
        }
        let envelope = self.envelope.unwrap_or_default();
        if envelope != Envelope::Own {
            for (name, given) in [("threshold", self.threshold.is_some()), ("schema", self.schema.is_some())]
            {
                if given {
                    return Err(config(
                        URL,
                        format!(
                            "{name} and envelope={envelope} contradict each other: that envelope has no room for it"
                        ),
                    ));
                }
            }
        }
        Ok(codec
            .threshold(self.threshold.unwrap_or(0))
            .schema(self.schema.unwrap_or(0))
            .envelope(envelope)
            .limits(self.limits))
    }
}
