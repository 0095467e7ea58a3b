//! What a backend is made from: where it is, and its settings. From a URL, or from a map.
//!
//! # Invariants
//! - **A1, no secrets.** Neither user names, passwords nor settings' values are in a `Debug` or an error's message: any of
//!   them may be a secret. (`url::Url` shows all it has, so none stands in the open.)
//! - **A2, no silence.** What nobody takes is an error that names it, and what could have been given.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;
use url::Url;

fn bad(setting: &str, detail: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Config, "configuration").detail(format!("`{}`: {detail}", shown(setting)))
}

/// A name that came from outside, fit to be shown.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String = name.chars().take(MOST).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// What a backend is called, and, if it was named by a URL, where it is: all of the URL but its query.
///
/// User name and password are in none of the texts that this type writes, but for the URL that serde gets.
///
/// ```
/// use dogpile::backend::Address;
///
/// let address: Address = "redis://ada:secret@cache.example:6379/0".parse()?;
/// assert_eq!(address.scheme(), "redis");
/// assert_eq!(address.to_string(), "redis://cache.example:6379/0");
/// assert_eq!("memory".parse::<Address>()?.scheme(), "memory");
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Name(Box<str>),
    /// A URL, and of the hosts that stand after its first one, behind commas, a URL each.
    Url(Box<Url>, Box<[Url]>),
}

/// Why a URL is malformed: its part.
fn malformed(cause: url::ParseError) -> &'static str {
    use url::ParseError as Of;
    match cause {
        Of::RelativeUrlWithoutBase => "the scheme is malformed: a URL begins with a name and ://",
        Of::InvalidPort => "the port is malformed: it is a number up to 65535",
        Of::EmptyHost => "the host is missing",
        Of::IdnaError | Of::InvalidIpv4Address | Of::InvalidIpv6Address | Of::InvalidDomainCharacter => {
            "the host is malformed"
        }
        _ => "the URL is malformed",
    }
}

/// A URL with its first host alone, and those that stand after that, behind commas. `None`: after its scheme stands no `://`,
/// though a parser may put one there.
fn hosts(text: &str) -> Option<(String, impl Iterator<Item = &str>)> {
    let begin = text.find(':')? + 1;
    let begin = begin + text[begin..].starts_with("//").then_some(2)?;
    let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |end| begin + end);
    let begin = text[begin..end].rfind('@').map_or(begin, |at| begin + at + 1);
    let mut hosts = text[begin..end].split(',');
    let first = hosts.next()?;
    Some((format!("{}{first}{}", &text[..begin], &text[end..]), hosts))
}

impl Address {
    /// The address, and the parameters of the URL.
    pub(crate) fn parse(setting: &str, text: &str) -> Result<(Self, Vec<(String, String)>), Error> {
        let text = text.trim();
        if text.is_empty() {
            return Err(bad(
                setting,
                "empty: give a backend's name, as memory, or a URL, as memory://?max_entries=1000",
            ));
        }
        // These the parser would drop, or take for others.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad(
                setting,
                "there is a blank, a line end or another control character in it: write %20 for a blank",
            ));
        }
        // In some schemes it would stand for a /, in others for itself.
        if text.contains('\\') {
            return Err(bad(setting, "there is a \\ in it: write %5C"));
        }
        if !text.contains(':') {
            let is_name =
                text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'));
            if !is_name {
                return Err(bad(
                    setting,
                    "neither a backend's name nor a URL: a URL begins with a scheme and ://",
                ));
            }
            return Ok((Self(Place::Name(text.into())), Vec::new()));
        }
        let parse = |text: &str| Url::parse(text).map_err(|cause| bad(setting, malformed(cause)));
        let split = hosts(text);
        let mut url = parse(split.as_ref().map_or(text, |(first, _)| first))?;
        let no_slashes = split.is_none();
        let also = split.into_iter().flat_map(|(_, also)| also).map(|host| {
            let other = parse(&format!("{}://{host}", url.scheme()))?;
            let is_host = other.host_str().is_some_and(|host| !host.is_empty());
            if is_host { Ok(other) } else { Err(bad(setting, malformed(url::ParseError::EmptyHost))) }
        });
        let also = also.collect::<Result<Box<[Url]>, Error>>()?;
        if no_slashes || !url[..url::Position::BeforeUsername].ends_with("://") {
            return Err(bad(setting, "after the scheme stands no ://"));
        }
        // A host before a path that looks like a drive's is dropped when the URL is read once more.
        if Url::parse(url.as_str()).ok().as_ref() != Some(&url) {
            return Err(bad(setting, "the URL is another when it is read once more: leave out its host"));
        }
        // Their hosts are names of the web's, which are rewritten: a comma may come of it, or go.
        let is_of_the_web = matches!(url.scheme(), "http" | "https" | "ws" | "wss" | "ftp" | "file");
        if is_of_the_web && (!also.is_empty() || url.host_str().is_some_and(|host| host.contains(','))) {
            return Err(bad(setting, "there are several hosts: URLs of the web have one"));
        }
        // It ends a user name and password that had a / or ? in them: the rest would be taken for a path, and shown.
        if url.path().contains('@') {
            return Err(bad(
                setting,
                "there is an @ behind the host: write %40, and in a password %2F for a / and %3F for a ?",
            ));
        }
        if url.fragment().is_some() {
            return Err(bad(setting, "there is a fragment: write %23 for a #"));
        }
        let query = pairs(setting, url.query().unwrap_or(""))?;
        for (part, is_well) in [
            ("user name", decoded(url.username(), false).is_some()),
            ("password", url.password().is_none_or(|password| decoded(password, false).is_some())),
            ("path", decoded(url.path(), false).is_some()),
        ] {
            if !is_well {
                return Err(bad(
                    setting,
                    format_args!(
                        "the {part} has a % that two hexadecimal digits of UTF-8 don't follow: write %25 for it"
                    ),
                ));
            }
        }
        url.set_query(None);
        Ok((Self(Place::Url(Box::new(url), also)), query))
    }

    /// The backend's name: a URL's scheme.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match &self.0 {
            Place::Name(name) => name,
            Place::Url(url, _) => url.scheme(),
        }
    }

    fn url(&self) -> Option<&Url> {
        match &self.0 {
            Place::Name(_) => None,
            Place::Url(url, _) => Some(url),
        }
    }

    /// Of the hosts after the first one, a URL each.
    fn also(&self) -> &[Url] {
        match &self.0 {
            Place::Name(_) => &[],
            Place::Url(_, also) => also,
        }
    }

    fn host(&self) -> Option<&str> {
        self.url()?.host_str().filter(|host| !host.is_empty())
    }

    fn port(&self) -> Option<u16> {
        self.url()?.port()
    }

    fn path(&self) -> Option<String> {
        self.url()
            .map(Url::path)
            .filter(|path| !matches!(*path, "" | "/"))
            .and_then(|path| decoded(path, false))
    }

    fn user(&self) -> Option<String> {
        self.url().map(Url::username).filter(|user| !user.is_empty()).and_then(|user| decoded(user, false))
    }

    fn password(&self) -> Option<String> {
        self.url().and_then(Url::password).and_then(|password| decoded(password, false))
    }

    /// All of it.
    fn secret(&self) -> Cow<'_, str> {
        match &self.0 {
            Place::Name(name) => Cow::Borrowed(name),
            Place::Url(url, also) if also.is_empty() => Cow::Borrowed(url.as_str()),
            Place::Url(url, also) => {
                let (before, after) = (&url[..url::Position::AfterPort], &url[url::Position::BeforePath..]);
                let also: String = also.iter().map(|other| format!(",{}", host_and_port(other))).collect();
                Cow::Owned(format!("{before}{also}{after}"))
            }
        }
    }
}

/// As a URL has them.
fn host_and_port(url: &Url) -> &str {
    &url[url::Position::BeforeHost..url::Position::AfterPort]
}

/// The parameters of a query, each of which may stand there once.
fn pairs(setting: &str, query: &str) -> Result<Vec<(String, String)>, Error> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // With an @ it may be half a password, too.
        let name = decoded(name, true).filter(|name| !name.is_empty() && !name.contains('@'));
        let Some(name) = name else {
            return Err(bad(
                setting,
                "the name of a parameter in the query is empty, or has a malformed %, or an @",
            ));
        };
        let Some(value) = decoded(value, true) else {
            let detail =
                "the value has a % that two hexadecimal digits of UTF-8 don't follow: write %25 for it";
            return Err(bad(&name, detail));
        };
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(bad(&name, "given twice"));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Without the percent signs; in a query a plus is a blank. `None`: a percent sign that means nothing, or no UTF-8.
fn decoded(text: &str, is_query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl FromStr for Address {
    type Err = Error;

    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), that names the part that is malformed. A query has no place in an address.
    fn from_str(text: &str) -> Result<Self, Error> {
        match Self::parse("backend", text)? {
            (address, query) if query.is_empty() => Ok(address),
            _ => Err(bad("backend", "a URL with a query is for RegionConfig::from_url")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Name(name) => f.write_str(name),
            Place::Url(url, also) => {
                write!(f, "{}://{}", url.scheme(), host_and_port(url))?;
                also.iter().try_for_each(|other| write!(f, ",{}", host_and_port(other)))?;
                f.write_str(url.path())
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The whole URL, secrets included: what serde gets is kept somewhere.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.secret())
    }
}

/// The value of a setting, as a configuration has it: text, a number, a truth, or a list or map of such.
///
/// From files that know texts only, as from URLs and environments, a number comes as its text; it is understood as
/// dogpile.cache does it. Values are not shown.
///
/// ```
/// use dogpile::backend::Setting;
///
/// let text = Setting::from("1e3");
/// assert_eq!((text.as_float(), text.as_int(), text.as_text().as_deref()), (Some(1000.0), None, Some("1e3")));
/// assert_eq!(Setting::from("TRUE").as_bool(), Some(true));
/// assert_eq!(format!("{:?}", Setting::from("hunter2")), "***");
/// ```
#[derive(Clone, PartialEq)]
pub struct Setting(Value);

#[derive(Clone, PartialEq)]
enum Value {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Setting>),
    Map(BTreeMap<String, Setting>),
}

impl Setting {
    /// An integer, or a text that is one: digits, with a sign or without.
    #[must_use]
    pub fn as_int(&self) -> Option<i128> {
        match &self.0 {
            Value::Int(value) => Some(*value),
            Value::Text(text) => {
                let text = text.trim();
                is_int(text).then(|| text.parse().ok()).flatten()
            }
            _ => None,
        }
    }

    /// A number, or a text that is one: `1`, `0.5`, `.5`, `1e3`. Not infinity.
    #[must_use]
    pub fn as_float(&self) -> Option<f64> {
        let value = match &self.0 {
            Value::Float(value) => *value,
            #[expect(clippy::cast_precision_loss, reason = "whoever wants a float takes it")]
            Value::Int(value) => *value as f64,
            Value::Text(text) => {
                let text = text.trim();
                is_float(text).then(|| text.parse().ok()).flatten()?
            }
            _ => return None,
        };
        value.is_finite().then_some(value)
    }

    /// A truth, or `true` or `false` in letters of any case.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match &self.0 {
            Value::Bool(value) => Some(*value),
            Value::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// A text, or a number or truth as text.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        match &self.0 {
            Value::Text(text) => Some(text.clone()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// A time: seconds, whole or in parts, or a text as `5m`, `1h 30m`, `250ms`, `forever`.
    #[must_use]
    pub fn as_duration(&self) -> Option<Duration> {
        if let Some(seconds) = self.as_int() {
            return u64::try_from(seconds).ok().map(Duration::from_secs);
        }
        if let Some(seconds) = self.as_float() {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        match self.as_text().as_deref().map(str::trim) {
            Some(FOREVER) => Some(Duration::MAX),
            Some(text) => humantime::parse_duration(text).ok(),
            None => None,
        }
    }

    /// A size in bytes: a number, or a text with a unit: `64MiB`, `64 MiB`, `1GB`, `4096`.
    #[must_use]
    pub fn as_size(&self) -> Option<u64> {
        if let Some(bytes) = self.as_int() {
            return u64::try_from(bytes).ok();
        }
        let text = self.as_text()?;
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let (base, power): (u64, u32) = match unit.trim().to_ascii_lowercase().as_str() {
            "b" => (1, 1),
            "kb" => (1000, 1),
            "mb" => (1000, 2),
            "gb" => (1000, 3),
            "tb" => (1000, 4),
            "kib" => (1024, 1),
            "mib" => (1024, 2),
            "gib" => (1024, 3),
            "tib" => (1024, 4),
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(base.pow(power))
    }

    /// A text without the blanks around it, if it is one.
    pub(crate) fn as_trimmed(&self) -> Option<&str> {
        match &self.0 {
            // What Python's `strip` takes off.
            Value::Text(text) => {
                Some(text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)))
            }
            _ => None,
        }
    }

    /// A list of texts, or one text with commas between them.
    pub(crate) fn as_list(&self) -> Option<Vec<String>> {
        match &self.0 {
            Value::List(values) => values.iter().map(Self::as_text).collect(),
            _ => {
                let text = self.as_text()?;
                Some(
                    text.split(',')
                        .map(str::trim)
                        .filter(|part| !part.is_empty())
                        .map(str::to_owned)
                        .collect(),
                )
            }
        }
    }

    /// A text; of a list its parts with colons between them, as of Python's pairs of host and port.
    fn as_joined(&self) -> Option<String> {
        match &self.0 {
            Value::List(parts) => {
                Some(parts.iter().map(Self::as_text).collect::<Option<Vec<_>>>()?.join(":"))
            }
            _ => self.as_text(),
        }
    }

    pub(crate) fn into_map(self) -> Option<BTreeMap<String, Setting>> {
        match self.0 {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }
}

/// The text of [`Duration::MAX`].
const FOREVER: &str = "forever";

/// A time as text, that [`Setting::as_duration`] understands.
pub(crate) fn duration_text(duration: Duration) -> String {
    if duration == Duration::MAX {
        FOREVER.to_owned()
    } else {
        humantime::format_duration(duration).to_string()
    }
}

/// `[-+]?\d+`
fn is_int(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// `[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?`
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let are_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    are_digits(whole)
        && are_digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(is_int)
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Setting {
    fn from(text: &str) -> Self {
        Self(Value::Text(text.to_owned()))
    }
}

impl From<String> for Setting {
    fn from(text: String) -> Self {
        Self(Value::Text(text))
    }
}

impl From<bool> for Setting {
    fn from(value: bool) -> Self {
        Self(Value::Bool(value))
    }
}

impl From<i64> for Setting {
    fn from(value: i64) -> Self {
        Self(Value::Int(value.into()))
    }
}

impl From<u64> for Setting {
    fn from(value: u64) -> Self {
        Self(Value::Int(value.into()))
    }
}

impl From<i32> for Setting {
    fn from(value: i32) -> Self {
        Self(Value::Int(value.into()))
    }
}

impl From<f64> for Setting {
    fn from(value: f64) -> Self {
        Self(Value::Float(value))
    }
}

impl From<Duration> for Setting {
    fn from(value: Duration) -> Self {
        Self(Value::Text(duration_text(value)))
    }
}

/// As the configuration had it, secrets included.
impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Bool(value) => to.serialize_bool(*value),
            // Both, since formats differ in which of them is large.
            Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => to.serialize_i64(value),
                (_, Ok(value)) => to.serialize_u64(value),
                _ => to.serialize_i128(*value),
            },
            Value::Float(value) => to.serialize_f64(*value),
            Value::Text(text) => to.serialize_str(text),
            Value::List(values) => values.serialize(to),
            Value::Map(map) => map.serialize(to),
        }
    }
}

impl<'de> de::Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Setting;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true, false, a list or a map")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Setting, E> {
                Ok(Setting(Value::Bool(value)))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Setting, E> {
                Ok(Setting(Value::Int(value.into())))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Setting, E> {
                Ok(Setting(Value::Int(value.into())))
            }
            fn visit_i128<E: de::Error>(self, value: i128) -> Result<Setting, E> {
                Ok(Setting(Value::Int(value)))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Setting, E> {
                if !value.is_finite() {
                    return Err(E::custom("no setting is infinite, or no number"));
                }
                Ok(Setting(Value::Float(value)))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Setting, E> {
                Ok(Setting(Value::Text(value.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Setting, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Setting(Value::List(values)))
            }
            /// What has no value is not set.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Setting, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Option<Setting>>()? {
                    if values.contains_key(&name) {
                        return Err(de::Error::custom(bad(&name, "given twice")));
                    }
                    values.extend(value.map(|value| (name, value)));
                }
                Ok(Setting(Value::Map(values)))
            }
        }
        from.deserialize_any(Any)
    }
}

/// What a backend's factory gets: it takes what it knows, and what is left over is an error.
///
/// ```
/// use dogpile::ErrorKind;
/// use dogpile::backend::Arguments;
///
/// let mut arguments = Arguments::from_url("ram://?room=64MiB&speed=9")?;
/// assert_eq!(arguments.take_size("room")?, Some(64 << 20));
/// assert_eq!(arguments.take_bool("fast")?, None);
/// let error = arguments.finish().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert_eq!(error.to_string(), "backend `ram`: bad configuration: `speed` is unknown: accepted are room, fast");
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Debug)]
pub struct Arguments {
    address: Address,
    settings: BTreeMap<String, Setting>,
    /// Whatever has been asked for.
    accepted: Vec<&'static str>,
    /// Whether the address is that of tiers, and the one behind them is asked for now.
    is_behind: bool,
    /// Of the address.
    taken: Vec<Part>,
    /// What else stands in the same place as these settings, for the message.
    beside: &'static [&'static str],
}

/// What stands before the scheme of a store that has memory before it.
const TIERED: &str = "tiered+";

/// A part of an address that a backend may have no use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Host,
    /// Those after the first.
    Hosts,
    Port,
    Path,
    User,
    Password,
}

impl Arguments {
    /// Of an address and settings.
    #[must_use]
    pub fn new(address: Address, settings: BTreeMap<String, Setting>) -> Self {
        Self { address, settings, accepted: Vec::new(), is_behind: false, taken: Vec::new(), beside: &[] }
    }

    /// The same, for messages: whoever wrote these settings may as well have meant one of those.
    pub(crate) fn beside(mut self, names: &'static [&'static str]) -> Self {
        self.beside = names;
        self
    }

    /// Of a URL: its query has the settings.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), that names the part that is malformed.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let (address, query) = Address::parse("url", url)?;
        Ok(Self::new(address, query.into_iter().map(|(name, value)| (name, value.into())).collect()))
    }

    /// Under which name the backend was asked for.
    #[must_use]
    pub fn scheme(&self) -> &str {
        let scheme = self.address.scheme();
        if self.is_behind { &scheme[TIERED.len()..] } else { scheme }
    }

    /// Whether these are of tiers; from now on of the store behind them.
    pub(crate) fn go_behind(&mut self) -> bool {
        let scheme = self.address.scheme();
        let is_tiered = scheme.get(..TIERED.len()).is_some_and(|start| start.eq_ignore_ascii_case(TIERED));
        self.is_behind |= is_tiered;
        is_tiered
    }

    fn operation(&self) -> String {
        format!("backend `{}`", shown(self.scheme()))
    }

    /// An error about one of these settings. Its value is not to be in `detail`.
    #[must_use]
    pub fn error(&self, name: &str, detail: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Config, self.operation()).detail(format!("`{}`: {detail}", shown(name)))
    }

    fn take<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Setting) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, Error> {
        self.accepted.push(name);
        let Some(setting) = self.settings.remove(name) else { return Ok(None) };
        read(&setting).map(Some).ok_or_else(|| self.error(name, format_args!("expected {expected}")))
    }

    /// Takes a text.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), if it is none; so have the others.
    pub fn take_str(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        self.take(name, Setting::as_text, "a text")
    }

    /// Takes a list of texts, or one text with commas between them. A list in it is one text, with colons: so Python has hosts
    /// and ports.
    ///
    /// # Errors
    /// As `take_str`.
    pub fn take_list(&mut self, name: &'static str) -> Result<Option<Vec<String>>, Error> {
        let read = |setting: &Setting| match &setting.0 {
            Value::List(values) => values.iter().map(Setting::as_joined).collect(),
            _ => setting.as_list(),
        };
        self.take(name, read, "a list of texts, or one text with commas")
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// As `take_str`.
    pub fn take_u64(&mut self, name: &'static str) -> Result<Option<u64>, Error> {
        let read = |setting: &Setting| setting.as_int().and_then(|value| u64::try_from(value).ok());
        self.take(name, read, "a whole number that is not negative")
    }

    /// Takes a number.
    ///
    /// # Errors
    /// As `take_str`.
    pub fn take_f64(&mut self, name: &'static str) -> Result<Option<f64>, Error> {
        self.take(name, Setting::as_float, "a number")
    }

    /// Takes a truth.
    ///
    /// # Errors
    /// As `take_str`.
    pub fn take_bool(&mut self, name: &'static str) -> Result<Option<bool>, Error> {
        self.take(name, Setting::as_bool, "true or false")
    }

    /// Takes a time, see [`Setting::as_duration`].
    ///
    /// # Errors
    /// As `take_str`.
    pub fn take_duration(&mut self, name: &'static str) -> Result<Option<Duration>, Error> {
        self.take(name, Setting::as_duration, A_TIME)
    }

    /// Takes a size in bytes, see [`Setting::as_size`].
    ///
    /// # Errors
    /// As `take_str`.
    pub fn take_size(&mut self, name: &'static str) -> Result<Option<u64>, Error> {
        self.take(name, Setting::as_size, "a size: bytes, or a number and one of kB, MB, GB, KiB, MiB, GiB")
    }

    /// Takes the URL's host.
    pub fn take_host(&mut self) -> Option<String> {
        self.taken.push(Part::Host);
        self.address.host().map(str::to_owned)
    }

    /// Takes the URL's port.
    pub fn take_port(&mut self) -> Option<u16> {
        self.taken.push(Part::Port);
        self.address.port()
    }

    /// Takes all hosts of a URL that may have several, `scheme://one:1,two:2`, each with its port.
    ///
    /// ```
    /// use dogpile::backend::Arguments;
    ///
    /// let mut arguments = Arguments::from_url("shared://a.example:1,b.example")?;
    /// assert_eq!(arguments.take_hosts(), [("a.example".into(), Some(1)), ("b.example".into(), None)]);
    /// arguments.finish()?;
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    pub fn take_hosts(&mut self) -> Vec<(String, Option<u16>)> {
        self.taken.extend([Part::Host, Part::Port, Part::Hosts]);
        let first = self.address.host().map(|host| (host.to_owned(), self.address.port()));
        let others = self.address.also().iter();
        let others = others.map(|url| (url.host_str().unwrap_or("").to_owned(), url.port()));
        first.into_iter().chain(others).collect()
    }

    /// Takes the URL's path, with its first slash. `None` if there is no more than that.
    pub fn take_path(&mut self) -> Option<String> {
        self.taken.push(Part::Path);
        self.address.path()
    }

    /// Takes the URL's user name. Not to be shown.
    pub fn take_user(&mut self) -> Option<String> {
        self.taken.push(Part::User);
        self.address.user()
    }

    /// Takes the URL's password. Not to be shown.
    pub fn take_password(&mut self) -> Option<String> {
        self.taken.push(Part::Password);
        self.address.password()
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// Of the kind [`Config`](ErrorKind::Config), if a setting or a part of the URL was not taken. It names the first one,
    /// and what was asked for.
    pub fn finish(self) -> Result<(), Error> {
        let left = [
            (Part::Host, "host", self.address.host().is_some()),
            (Part::Hosts, "second host", !self.address.also().is_empty()),
            (Part::Port, "port", self.address.port().is_some()),
            (Part::Path, "path", self.address.path().is_some()),
            (Part::User, "user name", self.address.user().is_some()),
            (Part::Password, "password", self.address.password().is_some()),
        ];
        for (part, name, is_there) in left {
            if is_there && !self.taken.contains(&part) {
                let detail = format!("it has no {name}: write the URL without one");
                return Err(Error::new(ErrorKind::Config, self.operation()).detail(detail));
            }
        }
        let Some(name) = self.settings.keys().next() else { return Ok(()) };
        let mut detail = format!("`{}` is unknown", shown(name));
        if let Some((_, remedy)) = FOREIGN.iter().find(|(foreign, _)| foreign == name) {
            let _ = write!(detail, " (in dogpile.cache it is not; here {remedy})");
        }
        if self.accepted.is_empty() {
            detail.push_str(": this backend has no settings");
        } else {
            let _ = write!(detail, ": accepted are {}", self.accepted.join(", "));
        }
        if !self.beside.is_empty() {
            detail.push_str("; of a region: ");
            detail.push_str(&self.beside.join(", "));
        }
        Err(Error::new(ErrorKind::Config, self.operation()).detail(detail))
    }
}

/// What a time looks like, for messages.
pub(crate) const A_TIME: &str = "a time: seconds, or a text as 5m, 1h 30m, 250ms or forever";

/// Arguments of dogpile.cache's backends that the backends here don't have, and what is there in their place.
const FOREIGN: &[(&str, &str)] = &[
    ("cache_dict", "give the region MemoryBackend::over(cache)"),
    ("distributed_lock", "a store that has locks of its own uses them"),
    ("lock_timeout", "leases end by themselves, and are renewed while their holder lives"),
    ("lock_sleep", "whoever waits is woken"),
    ("lock_blocking", "use the region's `wait`"),
    ("lock_blocking_timeout", "use the region's `wait`"),
    ("lock_prefix", "use the region's `prefix`"),
    ("thread_local_lock", "locks belong to a creation, not to a thread"),
    ("redis_expiration_time", "the time in the store follows from the region's `fresh` and `stale`"),
    ("valkey_expiration_time", "the time in the store follows from the region's `fresh` and `stale`"),
    ("memcached_expire_time", "the time in the store follows from the region's `fresh` and `stale`"),
    ("min_compress_len", "use a codec that compresses, with its threshold"),
    ("serde", "use the region's `codec`"),
    ("filename", "give the path in the URL"),
    ("rw_lockfile", "there is no lock around the whole file"),
    ("dogpile_lockfile", "there is no lock around the whole file"),
    ("lock_factory", "give the region a backend of your own with its `mutex`"),
    ("url", "give the URL as the backend"),
    ("host", "give it in the URL"),
    ("port", "give it in the URL"),
    ("db", "give it in the URL's path"),
    ("username", "give it in the URL"),
    ("password", "give it in the URL"),
    ("connection_pool", "the backend has its own"),
    ("connection_kwargs", "give the settings themselves"),
    ("sentinel_kwargs", "give the settings themselves"),
    ("sentinels", "give the hosts in the URL"),
    ("service_name", "give it in the URL"),
    ("startup_nodes", "give the hosts in the URL"),
    ("ssl", "use the scheme with TLS"),
    ("tls_context", "use the scheme with TLS"),
];
