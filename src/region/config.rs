//! [`RegionConfig`]: a region's settings as data, from a URL, from a flat map as dogpile.cache has it, or by serde from a file.
//!
//! All three read the same names ([`SETTINGS`]) and the same values ([`Setting`]); what they don't know is an error that names
//! it. Nothing here opens a backend.
//!
//! # Invariants
//! - **C1, printed and read again it is equal.** For what serde writes and reads.
//! - **C2, once.** A setting that is given twice, be it in the URL of `backend` and beside it, is an error.
#![forbid(unsafe_code)]

use super::{Mangler, OnBackendError};
use crate::backend::{A_TIME, Address, Arguments, Setting, duration_text, shown};
use crate::codec::Codec;
use crate::error::{Error, ErrorKind};
use crate::gate::Early;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

/// The names of settings, as messages list them. `fresh` and `expiration_time` are one.
const SETTINGS: &[&str] = &[
    "backend",
    "expiration_time",
    "fresh",
    "stale",
    "stale_if_error",
    "wait",
    "soft_timeout",
    "error_ttl",
    "jitter",
    "early",
    "max_creations",
    "prefix",
    "codec",
    "mangler",
    "on_backend_error",
    "shared_invalidation",
    "replace_existing_backend",
    "wrap",
    "arguments",
];

/// Those that stand in a URL's query, for messages: all but the backend itself, and what only maps need.
const IN_URLS: &[&str] = &[
    "fresh",
    "stale",
    "stale_if_error",
    "wait",
    "soft_timeout",
    "error_ttl",
    "jitter",
    "early",
    "max_creations",
    "prefix",
    "codec",
    "mangler",
    "on_backend_error",
    "shared_invalidation",
    "replace_existing_backend",
    "wrap",
];

/// A region's settings as data.
///
/// What is `None` was not said: the region's builder decides.
///
/// ```
/// use dogpile::region::RegionConfig;
/// use std::time::Duration;
///
/// let url = RegionConfig::from_url("memory://?max_entries=1000&fresh=5m&stale=1h")?;
/// assert_eq!(url.fresh, Some(Duration::from_secs(300)));
///
/// let map = [
///     ("cache.local.backend", "dogpile.cache.memory"),
///     ("cache.local.expiration_time", "300"),
///     ("cache.local.arguments.max_entries", "1000"),
/// ];
/// let map = RegionConfig::from_map(map, "cache.local.")?;
/// assert_eq!(map.fresh, url.fresh);
///
/// let json: RegionConfig = serde_json::from_str(
///     r#"{"backend": "memory", "fresh": "5m", "stale": 3600, "arguments": {"max_entries": 1000}}"#,
/// ).unwrap();
/// assert_eq!(json.stale, url.stale);
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RegionConfig {
    /// The store, by name or URL.
    pub backend: Option<Address>,
    /// How long values are fresh: dogpile.cache's `expiration_time`. [`Duration::MAX`]: for ever, which is also what −1 means.
    pub fresh: Option<Duration>,
    /// How long after that they are served while another makes a new one.
    pub stale: Option<Duration>,
    /// How long after that they are served in an error's place.
    pub stale_if_error: Option<Duration>,
    /// How long callers wait for another's creation.
    pub wait: Option<Duration>,
    /// How long callers with a stale value wait for the newer one.
    pub soft_timeout: Option<Duration>,
    /// How long errors are remembered.
    pub error_ttl: Option<Duration>,
    /// The part of their time that values end early, at random.
    pub jitter: Option<f64>,
    /// When values are made anew ahead of their time: `0.8`, `xfetch`, `xfetch:1.5`.
    pub early: Option<Early>,
    /// How many creators run at once.
    pub max_creations: Option<NonZeroUsize>,
    /// What stands before each key in the store.
    pub prefix: Option<String>,
    /// The codec, by URL. A name becomes one: `json` is `json://`.
    pub codec: Option<String>,
    /// What is made of each key.
    pub mangler: Option<ManglerConfig>,
    /// What a region does when its backend fails.
    pub on_backend_error: Option<OnBackendError>,
    /// Under which name invalidations are kept in the store, for all processes.
    pub shared_invalidation: Option<String>,
    /// Whether a region that has been configured may be so again.
    pub replace_existing_backend: bool,
    /// Proxies around the backend by name, the outermost first.
    pub wrap: Vec<String>,
    /// The backend's own settings.
    pub arguments: BTreeMap<String, Setting>,
}

/// A [`Mangler`] by name: `none`, `sha1`, or `length:200` (keys of 200 characters and more by their SHA-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManglerConfig {
    /// [`Mangler::none`].
    None,
    /// [`Mangler::sha1`].
    Sha1,
    /// [`Mangler::long_keys`] with `sha1`.
    Length(usize),
}

impl ManglerConfig {
    /// The mangler.
    ///
    /// ```
    /// use dogpile::region::ManglerConfig;
    /// assert_eq!(ManglerConfig::Length(4).mangler().mangle("keys").len(), 40);
    /// ```
    #[must_use]
    pub fn mangler(self) -> Mangler {
        match self {
            Self::None => Mangler::none(),
            Self::Sha1 => Mangler::sha1(),
            Self::Length(length) => Mangler::long_keys(length, Mangler::sha1()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "sha1" => Some(Self::Sha1),
            _ => text.strip_prefix("length:")?.parse().ok().map(Self::Length),
        }
    }
}

impl fmt::Display for ManglerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Sha1 => f.write_str("sha1"),
            Self::Length(length) => write!(f, "length:{length}"),
        }
    }
}

impl RegionConfig {
    /// Settings by a URL: its scheme names the backend, its query has the region's settings and the backend's own.
    ///
    /// In a query a `+` is a blank, and a plus is `%2B`: `codec=json%2Bzstd`.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), that names the part or the setting that is malformed. What the region does
    /// not know is the backend's; it says so when it is opened.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let mut reading = Reading::new("");
        reading.address("url", url)?;
        Ok(reading.config)
    }

    /// Settings from a flat map, of those names that begin with `prefix`: dogpile.cache's `configure_from_config`.
    ///
    /// Values are texts, or what they are in a configuration that has been read. As there, texts are trimmed, integers,
    /// floats, `true` and `false` in letters of any case are understood where one is wanted, `None` is nothing, −1 for a
    /// time to expire is never. The backend's own settings are `arguments.…`. Unlike there, an unknown name is an error.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), that names the setting.
    pub fn from_map<K, V>(map: impl IntoIterator<Item = (K, V)>, prefix: &str) -> Result<Self, Error>
    where
        K: AsRef<str>,
        V: Into<Setting>,
    {
        let mut reading = Reading::new(prefix);
        for (name, value) in map {
            if let Some(name) = name.as_ref().strip_prefix(prefix) {
                reading.trimmed(name, value.into())?;
            }
        }
        if reading.config.backend.is_none() {
            return Err(reading.bad("backend", "missing: give a name, as memory, or a URL"));
        }
        Ok(reading.config)
    }

    /// What the backend's factory gets. `None`: no backend is named.
    #[must_use]
    pub fn backend_arguments(&self) -> Option<Arguments> {
        let address = self.backend.clone()?;
        Some(Arguments::new(address, self.arguments.clone()).beside(IN_URLS))
    }
}

/// A configuration that is being read.
struct Reading<'a> {
    config: RegionConfig,
    prefix: &'a str,
    given: Vec<&'static str>,
}

impl<'a> Reading<'a> {
    fn new(prefix: &'a str) -> Self {
        Self { config: RegionConfig::default(), prefix, given: Vec::new() }
    }

    fn bad(&self, name: &str, detail: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Config, "configuration of a region").detail(format!(
            "`{}{}`: {detail}",
            shown(self.prefix),
            shown(name)
        ))
    }

    fn expected(&self, name: &str, what: &str) -> Error {
        self.bad(name, format_args!("expected {what}"))
    }

    /// A setting of a map of texts.
    fn trimmed(&mut self, name: &str, value: Setting) -> Result<(), Error> {
        match value.as_trimmed() {
            Some("None") => self.known(name).map(drop),
            Some(text) => self.set(name, text.into()),
            None => self.set(name, value),
        }
    }

    /// The name as the list has it; `None`: it is one of the backend's.
    fn known(&self, name: &str) -> Result<Option<&'static str>, Error> {
        if name.strip_prefix("arguments.").is_some_and(|name| !name.is_empty()) {
            return Ok(None);
        }
        let known = SETTINGS.iter().find(|known| **known == name);
        known.copied().map(Some).ok_or_else(|| {
            let remedy = match name {
                "region_invalidator" => " (give the builder an invalidation strategy)",
                "key_mangler" => " (here it is mangler)",
                "serializer" | "deserializer" => " (here it is codec)",
                "time_to_live" | "ttl" => " (here it is fresh)",
                _ => "",
            };
            self.bad(name, format_args!("unknown{remedy}: accepted are {}", SETTINGS.join(", ")))
        })
    }

    fn set(&mut self, name: &str, value: Setting) -> Result<(), Error> {
        match self.known(name)? {
            None => self.argument(&name["arguments.".len()..], value),
            Some("backend") => {
                let text = value.as_text().ok_or_else(|| self.expected(name, "a name or a URL"))?;
                self.address("backend", &text)
            }
            Some("arguments") => {
                let map = value
                    .into_map()
                    .ok_or_else(|| self.expected(name, "a map, or names as `arguments.max_entries`"))?;
                map.into_iter().try_for_each(|(name, value)| self.argument(&name, value))
            }
            Some(known) => self.option(known, &value),
        }
    }

    fn once(&mut self, name: &'static str) -> Result<(), Error> {
        if self.given.contains(&name) {
            return Err(self.bad(name, "given twice"));
        }
        self.given.push(name);
        Ok(())
    }

    fn argument(&mut self, name: &str, value: Setting) -> Result<(), Error> {
        if self.config.arguments.insert(name.to_owned(), value).is_some() {
            return Err(self.bad(&format!("arguments.{name}"), "given twice"));
        }
        Ok(())
    }

    /// A backend's name or URL. The region's settings in its query are taken, the others are the backend's.
    fn address(&mut self, setting: &'static str, text: &str) -> Result<(), Error> {
        self.once("backend")?;
        let (address, query) = Address::parse(setting, text)?;
        self.config.backend = Some(address);
        for (name, value) in query {
            match SETTINGS.iter().find(|known| **known == name) {
                Some(known @ (&"backend" | &"arguments")) => {
                    return Err(self.bad(known, "this is of maps: in a URL the scheme is the backend, and its settings have no prefix"));
                }
                Some(known) => self.option(known, &value.into())?,
                None => self.argument(&name, value.into())?,
            }
        }
        Ok(())
    }

    fn option(&mut self, name: &'static str, value: &Setting) -> Result<(), Error> {
        if matches!(name, "fresh" | "expiration_time") && self.config.fresh.is_some() {
            return Err(self.bad(name, "fresh and expiration_time are one setting: give one of them"));
        }
        self.once(name)?;
        let text = |what| value.as_text().ok_or_else(|| self.expected(name, what));
        let time = || value.as_duration().ok_or_else(|| self.expected(name, A_TIME)).map(Some);
        match name {
            "fresh" | "expiration_time" => self.config.fresh = Some(self.fresh(name, value)?),
            "stale" => self.config.stale = time()?,
            "stale_if_error" => self.config.stale_if_error = time()?,
            "wait" => self.config.wait = time()?,
            "soft_timeout" => self.config.soft_timeout = time()?,
            "error_ttl" => self.config.error_ttl = time()?,
            "jitter" => {
                let jitter = value.as_float().filter(|jitter| (0.0..1.0).contains(jitter));
                self.config.jitter =
                    Some(jitter.ok_or_else(|| self.expected(name, "a number from 0 to below 1"))?);
            }
            "early" => {
                let what = "a part between 0 and 1, as 0.8, or xfetch, or xfetch:1.5";
                self.config.early = Some(early(value).ok_or_else(|| self.expected(name, what))?);
            }
            "max_creations" => {
                let most =
                    value.as_int().and_then(|most| usize::try_from(most).ok()).and_then(NonZeroUsize::new);
                self.config.max_creations =
                    Some(most.ok_or_else(|| self.expected(name, "a whole number from 1 on"))?);
            }
            "prefix" => self.config.prefix = Some(text("a text")?),
            "codec" => {
                let codec = text("a codec's URL, as json or json+zstd://?compression-level=3")?;
                if codec.contains(' ') {
                    return Err(
                        self.bad(name, "there is a blank in it: in a URL's query a + is a blank, write %2B")
                    );
                }
                let codec = codec_url(codec);
                let _: Codec =
                    Codec::from_url(&codec).map_err(|error| self.bad(name, "malformed").because(error))?;
                self.config.codec = Some(codec);
            }
            "mangler" => {
                let what = "none, sha1 or length:200";
                let mangler = ManglerConfig::parse(&text(what)?);
                self.config.mangler = Some(mangler.ok_or_else(|| self.expected(name, what))?);
            }
            "on_backend_error" => {
                self.config.on_backend_error = Some(match value.as_text().as_deref() {
                    Some("degrade") => OnBackendError::Degrade,
                    Some("fail") => OnBackendError::Fail,
                    _ => return Err(self.expected(name, "degrade or fail")),
                });
            }
            "shared_invalidation" => self.config.shared_invalidation = Some(text("a text")?),
            "replace_existing_backend" => {
                let replace = value.as_bool().ok_or_else(|| self.expected(name, "true or false"))?;
                self.config.replace_existing_backend = replace;
            }
            "wrap" => {
                let names = value.as_list().ok_or_else(|| self.expected(name, "a list of proxies' names"))?;
                self.config.wrap = names;
            }
            _ => return Err(self.bad(name, "not a setting of a region")),
        }
        Ok(())
    }

    fn fresh(&self, name: &str, value: &Setting) -> Result<Duration, Error> {
        if value.as_float() == Some(-1.0) {
            return Ok(Duration::MAX);
        }
        value
            .as_duration()
            .ok_or_else(|| self.expected(name, format_args!("{A_TIME}, or -1 for ever").to_string().as_str()))
    }
}

/// A codec's name is a URL without parameters.
fn codec_url(codec: String) -> String {
    if codec.contains("://") {
        return codec;
    }
    match codec.split_once('?') {
        Some((name, query)) => format!("{name}://?{query}"),
        None => codec + "://",
    }
}

fn early(value: &Setting) -> Option<Early> {
    if let Some(part) = value.as_float() {
        return (part > 0.0 && part < 1.0).then_some(Early::Fraction(part));
    }
    let text = value.as_text()?;
    let beta = match text.strip_prefix("xfetch")? {
        "" => 1.0,
        beta => Setting::from(beta.strip_prefix(':')?).as_float()?,
    };
    (beta > 0.0).then_some(Early::XFetch { beta })
}

/// Settings that were given, with their names, secrets included.
impl Serialize for RegionConfig {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        if let Some(backend) = &self.backend {
            map.serialize_entry("backend", backend)?;
        }
        for (name, time) in [
            ("fresh", self.fresh),
            ("stale", self.stale),
            ("stale_if_error", self.stale_if_error),
            ("wait", self.wait),
            ("soft_timeout", self.soft_timeout),
            ("error_ttl", self.error_ttl),
        ] {
            if let Some(time) = time {
                map.serialize_entry(name, &duration_text(time))?;
            }
        }
        if let Some(jitter) = self.jitter {
            map.serialize_entry("jitter", &jitter)?;
        }
        match self.early {
            Some(Early::Fraction(part)) => map.serialize_entry("early", &part)?,
            Some(Early::XFetch { beta }) => map.serialize_entry("early", &format!("xfetch:{beta}"))?,
            None => {}
        }
        if let Some(most) = self.max_creations {
            map.serialize_entry("max_creations", &most)?;
        }
        if let Some(prefix) = &self.prefix {
            map.serialize_entry("prefix", prefix)?;
        }
        if let Some(codec) = &self.codec {
            map.serialize_entry("codec", codec)?;
        }
        if let Some(mangler) = self.mangler {
            map.serialize_entry("mangler", &mangler.to_string())?;
        }
        if let Some(on_error) = self.on_backend_error {
            let on_error = match on_error {
                OnBackendError::Degrade => "degrade",
                OnBackendError::Fail => "fail",
            };
            map.serialize_entry("on_backend_error", on_error)?;
        }
        if let Some(name) = &self.shared_invalidation {
            map.serialize_entry("shared_invalidation", name)?;
        }
        if self.replace_existing_backend {
            map.serialize_entry("replace_existing_backend", &true)?;
        }
        if !self.wrap.is_empty() {
            map.serialize_entry("wrap", &self.wrap)?;
        }
        if !self.arguments.is_empty() {
            map.serialize_entry("arguments", &self.arguments)?;
        }
        map.end()
    }
}

/// From any format that has maps. A backend's settings stand in a map `arguments`, or flat as `arguments.max_entries`, or in
/// the query of its URL; what is null is not set.
impl<'de> Deserialize<'de> for RegionConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Settings;
        impl<'de> Visitor<'de> for Settings {
            type Value = RegionConfig;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of a region's settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RegionConfig, A::Error> {
                let mut reading = Reading::new("");
                while let Some((name, value)) = map.next_entry::<String, Option<Setting>>()? {
                    let is_read = match value {
                        Some(value) => reading.set(&name, value),
                        None => reading.known(&name).map(drop),
                    };
                    is_read.map_err(de::Error::custom)?;
                }
                Ok(reading.config)
            }
        }
        from.deserialize_map(Settings)
    }
}
