//! Bytes of a file or of standard input, unpacked if they are zstd, with their position for messages.

use std::{
    cell::Cell,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    rc::Rc,
};

use super::name_of;
use crate::error::Error;

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const GZIP: [u8; 2] = [0x1f, 0x8b];
const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];

/// An open trace.
pub(crate) struct Input {
    name: String,
    reader: BufReader<Box<dyn Read>>,
    /// Bytes handed out, after unpacking.
    offset: u64,
    /// Bytes taken from the file, if it is packed.
    packed: Option<Rc<Cell<u64>>>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("name", &self.name)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Input {
    /// Opens `path`, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let name = name_of(path);
        if path == Path::new("-") {
            return Self::over(name, io::stdin());
        }
        let file = File::open(path).map_err(|error| {
            let problem = format_args!("cannot be opened ({error})");
            Error::new(&name, problem, "check the name and the permissions")
        })?;
        Self::over(name, file)
    }

    fn over(name: String, source: impl Read + 'static) -> Result<Self, Error> {
        let mut input = Self { name, reader: BufReader::new(Box::new(io::empty())), offset: 0, packed: None };
        let (head, source) = peek(source).map_err(|error| input.broken(&error))?;
        for (magic, tool) in [(&GZIP[..], "gzip"), (&XZ[..], "xz")] {
            if head.starts_with(magic) {
                let remedy = format_args!("unpack it first: `{tool} -dc FILE | dogpile … -`");
                return Err(input.fail("byte 0", format_args!("is packed with {tool}"), remedy));
            }
        }
        if head.is_empty() {
            return Err(input.fail("byte 0", "is empty", "name a trace with at least one key"));
        }
        if head.starts_with(&ZSTD) {
            let taken = Rc::new(Cell::new(0));
            input.packed = Some(Rc::clone(&taken));
            let source =
                zstd::Decoder::new(Counted { source, taken }).map_err(|error| input.broken(&error))?;
            let (_, source) = peek(source).map_err(|error| input.broken(&error))?;
            input.reader = BufReader::with_capacity(1 << 16, Box::new(source));
        } else {
            input.reader = BufReader::with_capacity(1 << 16, Box::new(source));
        }
        Ok(input)
    }

    /// Whether the (unpacked) content begins with `magic`. To be asked before anything is read.
    pub(crate) fn starts_with(&mut self, magic: &[u8; 4]) -> Result<bool, Error> {
        debug_assert_eq!(self.offset, 0);
        // The first piece is what `peek` took in, or all there is.
        match self.reader.fill_buf() {
            Ok(head) => Ok(head.starts_with(magic)),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// The next byte, or `None` at the end.
    pub(crate) fn byte(&mut self) -> Result<Option<u8>, Error> {
        self.byte_at("")
    }

    /// As [`byte`](Self::byte); a failure also names `place`, as in "byte 40, key 3 of 7".
    pub(crate) fn byte_at(&mut self, place: impl fmt::Display) -> Result<Option<u8>, Error> {
        match (&mut self.reader).bytes().next().transpose() {
            Ok(byte) => {
                self.offset += u64::from(byte.is_some());
                Ok(byte)
            }
            Err(error) => Err(self.broken_at(place, &error)),
        }
    }

    /// Appends the bytes up to and with `end`, at most `limit`, to `buffer`. Nothing is appended at the end.
    pub(crate) fn until(&mut self, end: u8, limit: u64, buffer: &mut Vec<u8>) -> Result<(), Error> {
        match (&mut self.reader).take(limit).read_until(end, buffer) {
            Ok(length) => {
                self.offset += length as u64;
                Ok(())
            }
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Bytes read so far, after unpacking.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// A byte position for messages.
    pub(crate) fn at_byte(&self, offset: u64) -> String {
        if self.packed.is_some() { format!("byte {offset} unpacked") } else { format!("byte {offset}") }
    }

    /// An error of this input.
    pub(crate) fn fail(
        &self,
        place: impl fmt::Display,
        problem: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Error {
        Error::new(format_args!("{}: {place}", self.name), problem, remedy)
    }

    fn broken(&self, error: &io::Error) -> Error {
        self.broken_at("", error)
    }

    fn broken_at(&self, place: impl fmt::Display, error: &io::Error) -> Error {
        let again = "copy, download or record it again";
        let Some(packed) = &self.packed else {
            let at = format_args!("byte {}{place}", self.offset);
            let remedy = "check that it is a readable file";
            return self.fail(at, format_args!("cannot be read ({error})"), remedy);
        };
        let at = format_args!("byte {} ({} unpacked){place}", packed.get(), self.offset);
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.fail(at, "the zstd stream is cut off", again);
        }
        self.fail(at, format_args!("the zstd stream is damaged ({})", lower(error)), again)
    }
}

/// Messages of ours are lower case, zstd's are not.
fn lower(error: &io::Error) -> String {
    error.to_string().to_lowercase()
}

/// The first bytes of `source`, and `source` with them put back.
fn peek<R: Read>(mut source: R) -> io::Result<(Vec<u8>, impl Read)> {
    let mut head = Vec::new();
    source.by_ref().take(XZ.len() as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(source)))
}

/// Counts the bytes that pass.
struct Counted<R> {
    source: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.taken.set(self.taken.get() + length as u64);
        Ok(length)
    }
}
