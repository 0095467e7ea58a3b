//! `dogpile inspect`, `locks` and `invalidate`: what stands in a store that processes share, and taking it out.

use crate::error::Error;
use dogpile::Region;
use dogpile::backend::{Backend, LockInfo, Schemes};
use dogpile::region::{How, InspectedEntry, RegionConfig, Scope};
use std::{fmt::Write as _, io::Write, sync::Arc, time::Duration};

/// Show what a store has for a key, how old it is, and who makes it anew
///
/// The value itself is shown with --value only. The codec and the prefix must be those of the regions that use the store.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectOptions {
    #[command(flatten)]
    place: Place,

    /// The key, as the region's callers know it
    #[arg(value_name = "KEY")]
    key: String,

    /// What stands before the region's keys in the store
    #[arg(long)]
    prefix: Option<String>,

    /// Show the value too: as text if it is text, else in hexadecimal digits
    #[arg(long)]
    value: bool,
}

/// List the locks that are held in a store: which values are being made, and by whom
#[derive(Debug, clap::Args)]
pub(crate) struct LocksOptions {
    #[command(flatten)]
    place: Place,

    /// Only those of keys that begin so
    #[arg(long, default_value = "")]
    prefix: String,
}

/// Invalidate a key, a tag, a prefix or all of a region, for all processes
///
/// A key is deleted from the store, and so is what has a prefix, where the store can find it. Tags, --soft, and prefixes in
/// other stores are noted in the store: for regions that have `shared_invalidation`, which the URL then must name, too.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct InvalidateOptions {
    #[command(flatten)]
    place: Place,

    /// This key
    #[arg(long, group = "what")]
    key: Option<String>,

    /// All values with this tag
    #[arg(long, group = "what")]
    tag: Option<String>,

    /// All keys that begin so
    #[arg(long, group = "what")]
    prefix: Option<String>,

    /// The whole region: all keys with the prefix that the URL gives it, or all that there are
    #[arg(long, group = "what")]
    all: bool,

    /// Values stay, as stale ones, until they have been made anew
    #[arg(long)]
    soft: bool,
}

/// Which store.
#[derive(Debug, clap::Args)]
struct Place {
    /// The store and the region's settings: redis://host:6379/0?prefix=pages:&codec=json
    #[arg(value_name = "URL")]
    url: String,

    /// The region's codec: json, msgpack+zstd, json://?envelope=dogpile
    #[arg(long)]
    codec: Option<String>,
}

/// A region over the store.
struct Opened {
    region: Region,
    store: Arc<dyn Backend>,
    prefix: String,
    /// Whether its invalidations reach other processes.
    is_shared: bool,
    has_mangler: bool,
}

fn failed(error: dogpile::Error) -> Error {
    let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    Error::Failed(format!("{error}{cause}"))
}

impl Place {
    fn open(&self, prefix: Option<&str>) -> Result<Opened, Error> {
        let mut config = RegionConfig::from_url(&self.url).map_err(failed)?;
        let scheme = config.backend.as_ref().map_or("", |address| address.scheme()).to_owned();
        if ["memory", "null", "dummy"].iter().any(|own| scheme.starts_with(own)) {
            return Err(Error::new(
                format_args!("the store `{scheme}`"),
                "each process has its own",
                "name one that processes share, as file:///path or redis://host",
            ));
        }
        if scheme == "file" || scheme.ends_with("dbm") {
            // Who only looks makes no folders.
            config.arguments.entry(String::from("create")).or_insert_with(|| false.into());
        }
        if let Some(codec) = &self.codec {
            config.codec = Some(if codec.contains("://") { codec.clone() } else { format!("{codec}://") });
        }
        if let Some(prefix) = prefix {
            config.prefix = Some(prefix.to_owned());
        }
        config.on_backend_error = Some(dogpile::region::OnBackendError::Fail);
        let builder = Region::builder().config(&config, &Schemes::new()).map_err(failed)?;
        let region = builder.build().map_err(failed)?;
        let store = region.actual_backend().map_err(failed)?;
        let store = store.ok_or_else(|| {
            Error::new(
                format_args!("the store `{scheme}`"),
                "it is for tasks only",
                "use one for threads too",
            )
        })?;
        Ok(Opened {
            region,
            store,
            prefix: config.prefix.unwrap_or_default(),
            is_shared: config.shared_invalidation.is_some(),
            has_mangler: config.mangler.is_some(),
        })
    }
}

/// A text from outside, on one line.
fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).collect()
}

/// A time for people: three digits are enough.
fn time(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{time:.1?}"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn lock(info: &LockInfo) -> String {
    let mut text = format!("held by {}", shown(info.holder.as_deref().unwrap_or("somebody")));
    // Writing to a `String` can't fail.
    if let Some(since) = info.held_for {
        let _ = write!(text, ", since {}", time(since));
    }
    if let Some(left) = info.left {
        let _ = write!(text, ", ends in {} unless it is renewed", time(left));
    }
    text
}

/// Shows what a key has.
pub(crate) fn inspect(options: &InspectOptions, out: &mut impl Write) -> Result<(), Error> {
    let opened = options.place.open(options.prefix.as_deref())?;
    let told = opened.region.inspect(&options.key).map_err(failed)?;
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<9} {text}").map_err(Error::output);
    line("key", &shown(&told.key))?;
    line("store", told.backend)?;
    line("state", &told.state.to_string())?;
    if let Some(entry) = &told.entry {
        for (name, text) in fields(entry) {
            line(name, &text)?;
        }
    }
    let held = if told.is_locked { "held; the store does not tell by whom" } else { "free" };
    line("lock", &told.lock.as_ref().map_or_else(|| held.to_owned(), lock))?;
    if options.value
        && let Some(entry) = &told.entry
    {
        let text = match entry.payload() {
            None => String::from("can't be read by this codec"),
            Some(payload) => value(payload),
        };
        line("value", &text)?;
    }
    Ok(())
}

fn fields(entry: &InspectedEntry) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    if let (Some(bytes), Some(envelope)) = (entry.bytes, entry.envelope) {
        let mut text = format!("{bytes} bytes in the envelope {envelope}");
        if let Some(payload) = entry.payload() {
            let _ = write!(text, ", {} of the value's own when decompressed", payload.len());
        }
        fields.push(("size", text));
    }
    if let Some(created) = entry.created {
        let mut text = format!("{} s after 1970", created.as_secs());
        if let Some(age) = entry.age {
            let _ = write!(text, ", {} ago", time(age));
        }
        if let Some(cost) = entry.cost {
            let _ = write!(text, ", which took {}", time(cost));
        }
        fields.push(("made", text));
    }
    if let Some(ttl) = entry.ttl {
        fields.push(("lives", time(ttl)));
    }
    if !entry.tags.is_empty() {
        fields.push(("tags", shown(&entry.tags.join(", "))));
    }
    fields
}

fn value(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => shown_value(text),
        Err(_) => payload.iter().fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        }),
    }
}

/// As it is, but for what a terminal would obey.
fn shown_value(text: &str) -> String {
    let escaped = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().fold(String::new(), |mut shown, c| {
        if escaped(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Lists locks.
pub(crate) fn locks(options: &LocksOptions, out: &mut impl Write) -> Result<(), Error> {
    let opened = options.place.open(None)?;
    let prefix = [&*opened.prefix, &*options.prefix].concat();
    let Some(mut locks) = opened.store.locks(&prefix).map_err(failed)? else {
        return Err(Error::new(
            format_args!("the store `{}`", opened.store.name()),
            "it can't list its locks",
            "use `dogpile inspect` for one key",
        ));
    };
    locks.sort_by(|a, b| a.key.cmp(&b.key));
    for info in &locks {
        writeln!(out, "{}: {}", shown(&info.key), lock(info)).map_err(Error::output)?;
    }
    let count = match locks.len() {
        0 => String::from("no lock is held"),
        1 => String::from("1 lock is held"),
        many => format!("{many} locks are held"),
    };
    writeln!(out, "{count}").map_err(Error::output)
}

/// Invalidates.
pub(crate) fn invalidate(options: &InvalidateOptions, out: &mut impl Write) -> Result<(), Error> {
    let opened = options.place.open(None)?;
    let scope = match (&options.key, &options.tag, &options.prefix) {
        (Some(key), _, _) => Scope::Key(key),
        (_, Some(tag), _) => Scope::Tag(tag),
        (_, _, Some(prefix)) => Scope::Prefix(prefix),
        _ => Scope::Region,
    };
    let done = match (scope, options.soft) {
        (Scope::Key(key), false) => {
            if opened.region.delete(key).map_err(failed)? {
                "deleted"
            } else {
                "there was nothing"
            }
        }
        (_, is_soft) if opened.is_shared => {
            let how = if is_soft { How::Soft } else { How::Hard };
            opened.region.invalidate(scope, how).map_err(failed)?;
            "noted in the store, for all processes"
        }
        (Scope::Prefix(prefix), false) => opened.clear(prefix)?,
        (Scope::Region, false) => opened.clear("")?,
        _ => return Err(opened.not_shared("tags and --soft are notes that processes share")),
    };
    writeln!(out, "{done}").map_err(Error::output)
}

impl Opened {
    fn not_shared(&self, why: &str) -> Error {
        Error::new(
            format_args!("the store `{}`", self.store.name()),
            format_args!("{why}, and the region has none"),
            "give the URL the `shared_invalidation` that the regions have",
        )
    }

    /// Takes out what begins so.
    fn clear(&self, prefix: &str) -> Result<&'static str, Error> {
        if self.has_mangler && !prefix.is_empty() {
            return Err(Error::new("--prefix", "the region mangles its keys", "use --tag, --key or --all"));
        }
        match self.store.clear(&[&*self.prefix, prefix].concat()).map_err(failed)? {
            true => Ok("taken out of the store"),
            false => Err(self.not_shared("it can't find keys by their beginning, so that must be noted")),
        }
    }
}
