//! Request traces: where they come from, and the one form in which the rest of the command sees them.

mod csv;
pub(crate) mod ctr;
mod input;
mod lines;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

pub(crate) use self::{csv::Csv, input::Input};
use crate::error::Error;

/// More requests than this are refused: a few bytes of a hostile file can stand for any number of them, and each
/// takes 12 bytes of memory here, 3 GiB for the longest trace.
pub(crate) const MAX_REQUESTS: usize = 1 << 28;

/// How a trace is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The compact format of `traces/README.md`, zstd-compressed or plain
    Ctr,
    /// One key per line
    Lines,
    /// A header row and then one request per row; `--column` names the key's column
    Csv,
}

/// The input of every subcommand that reads traces.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReadOptions {
    /// How the traces are written; without it the content decides between `ctr` and `lines`, and `--column` means `csv`
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,

    /// The CSV column that holds the keys
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
}

/// A trace: the keys in order, and for each request the position of the next one of the same key.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    keys: Vec<u64>,
    next: Vec<u32>,
    distinct: usize,
}

/// In [`Trace::next`]: the key is not requested again.
pub(crate) const NEVER: u32 = u32::MAX;

impl Trace {
    /// The keys in the order of the requests. Keys that were text are numbered from 0 in order of first appearance.
    pub(crate) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// For each request, the position of the next request of the same key, or [`NEVER`].
    pub(crate) fn next(&self) -> &[u32] {
        &self.next
    }

    /// Number of requests.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Number of distinct keys.
    pub(crate) fn distinct(&self) -> usize {
        self.distinct
    }
}

#[cfg(test)]
impl From<Vec<u64>> for Trace {
    fn from(keys: Vec<u64>) -> Self {
        let mut builder = Builder::default();
        for key in keys {
            assert!(builder.push(key));
        }
        builder.finish()
    }
}

/// Collects keys and links each request to the next of its key.
#[derive(Debug, Default)]
struct Builder {
    trace: Trace,
    /// Where each key was requested last. Randomly seeded as std's maps are, since the keys may be hostile.
    last: HashMap<u64, u32>,
}

impl Builder {
    /// Appends a request, or says `false` at [`MAX_REQUESTS`].
    #[must_use]
    fn push(&mut self, key: u64) -> bool {
        let position = self.trace.keys.len();
        if position == MAX_REQUESTS {
            return false;
        }
        // `MAX_REQUESTS` is far below `NEVER`.
        let position = position as u32;
        self.trace.keys.push(key);
        self.trace.next.push(NEVER);
        if let Some(previous) = self.last.insert(key, position) {
            self.trace.next[previous as usize] = position;
        }
        true
    }

    fn finish(self) -> Trace {
        Trace { distinct: self.last.len(), ..self.trace }
    }
}

/// Reads the trace at `path`, or standard input for `-`.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Trace, Error> {
    let mut input = Input::open(path)?;
    let mut builder = Builder::default();
    let format = match options.format {
        Some(format) => format,
        None => guess(&mut input, path, options)?,
    };
    match format {
        Format::Ctr => {
            let mut keys = ctr::Keys::open(input)?;
            while let Some(key) = keys.next_key()? {
                // The header was checked: no such trace is longer than `MAX_REQUESTS`.
                let _: bool = builder.push(key);
            }
            keys.check_distinct(builder.last.len() as u64)?;
            return Ok(builder.finish());
        }
        Format::Lines => {
            let mut lines = lines::Lines::new(input);
            let mut numbers = Numbers::default();
            while let Some(line) = lines.next_line()? {
                if !builder.push(numbers.of(line)) {
                    return Err(too_long(path));
                }
            }
        }
        Format::Csv => {
            let mut csv = Csv::open(input)?;
            let column = csv.key_column(options.column.as_deref())?;
            let mut numbers = Numbers::default();
            while csv.read_row()? {
                if !builder.push(numbers.of(csv.field(column))) {
                    return Err(too_long(path));
                }
            }
        }
    }
    let trace = builder.finish();
    if trace.len() == 0 {
        let problem = "holds no request";
        return Err(Error::new(name_of(path), problem, "name a trace with at least one key"));
    }
    Ok(trace)
}

/// The content tells the compact format; a name that promises it is believed too, so that a damaged magic is an
/// error and not a file of one strange line.
fn guess(input: &mut Input, path: &Path, options: &ReadOptions) -> Result<Format, Error> {
    let by_name = |end: &str| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end));
    Ok(if options.column.is_some() {
        Format::Csv
    } else if input.starts_with(&ctr::MAGIC)? || by_name(".ctr") || by_name(".ctr.zst") {
        Format::Ctr
    } else if by_name(".csv") {
        Format::Csv
    } else {
        Format::Lines
    })
}

fn too_long(path: &Path) -> Error {
    let problem = format_args!("holds more than {MAX_REQUESTS} requests");
    Error::new(name_of(path), problem, "split it and replay the parts")
}

/// How messages and tables call the input `path`.
pub(crate) fn name_of(path: &Path) -> String {
    if path == Path::new("-") { String::from("standard input") } else { path.display().to_string() }
}

/// The short name of a trace: its file's name up to the first dot.
pub(crate) fn title_of(path: &Path) -> String {
    match path.file_name() {
        Some(name) if path != Path::new("-") => {
            let name = name.to_string_lossy();
            name.split('.').find(|part| !part.is_empty()).unwrap_or(&name).to_owned()
        }
        _ => name_of(path),
    }
}

/// The traces that `paths` stand for: a file for itself, a folder for the compact traces in it, by name.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut traces = Vec::new();
    for path in paths {
        if !path.is_dir() {
            traces.push(path.clone());
            continue;
        }
        let unreadable = |error| {
            Error::new(path.display(), format_args!("cannot be listed ({error})"), "check its permissions")
        };
        let mut inside = Vec::new();
        for entry in path.read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?.path();
            let name = entry.to_string_lossy();
            if name.ends_with(".ctr") || name.ends_with(".ctr.zst") {
                inside.push(entry);
            }
        }
        if inside.is_empty() {
            let problem = "is a folder without .ctr or .ctr.zst files";
            return Err(Error::new(path.display(), problem, "name trace files or a folder of them"));
        }
        inside.sort();
        traces.extend(inside);
    }
    if traces.iter().filter(|path| *path == Path::new("-")).count() > 1 {
        let problem = "is named twice but can be read only once";
        return Err(Error::new("standard input", problem, "name `-` once"));
    }
    Ok(traces)
}

/// Numbers texts from 0 in order of first appearance.
#[derive(Debug, Default)]
struct Numbers(HashMap<Box<[u8]>, u64>);

impl Numbers {
    fn of(&mut self, text: &[u8]) -> u64 {
        if let Some(&number) = self.0.get(text) {
            return number;
        }
        let number = self.0.len() as u64;
        self.0.insert(text.into(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_linked_by_key() {
        let trace = Trace::from(vec![7, 8, 7, 7, 9, 8]);
        assert_eq!(trace.next(), [2, 5, 3, NEVER, NEVER, NEVER]);
        assert_eq!((trace.len(), trace.distinct()), (6, 3));
    }

    #[test]
    fn texts_are_numbered_in_order_of_first_appearance() {
        let mut numbers = Numbers::default();
        assert_eq!([&b"b"[..], b"a", b"b", b""].map(|text| numbers.of(text)), [0, 1, 0, 2]);
    }

    #[test]
    fn titles_are_short() {
        for (path, title) in [
            ("a/web07.ctr.zst", "web07"),
            ("-", "standard input"),
            (".hidden.csv", "hidden"),
            ("plain", "plain"),
        ] {
            assert_eq!(title_of(Path::new(path)), title);
        }
    }
}
