//! Comma-separated values with a header row, after RFC 4180.
//!
//! Written here and not taken from a crate because a cut-off file must be told: the reader we looked at (csv 1.4.0,
//! 2026-11) takes a quote that is never closed for a closed one. Quotes inside an unquoted field are ordinary bytes.
//! Empty rows are skipped, a byte order mark too.

use super::Input;
use crate::error::Error;

/// Longer rows are no rows, but a sign of a quote that was never closed.
const MAX_ROW: usize = 1 << 20;

/// Rows of a CSV file.
#[derive(Debug)]
pub(crate) struct Csv {
    input: Input,
    columns: Vec<String>,
    /// The fields of the current row one after the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Lines read so far; a quoted field may hold some.
    lines: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote in a quoted field: the field's end, or the first half of a quote that is meant.
    QuoteSeen,
}

impl Csv {
    /// Reads the header row.
    pub(crate) fn open(input: Input) -> Result<Self, Error> {
        let mut csv = Self { input, columns: Vec::new(), bytes: Vec::new(), ends: Vec::new(), lines: 0 };
        if !csv.parse()? {
            return Err(csv.fail("there is no header row", "name the columns in the first row"));
        }
        let text = |bytes| String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned();
        csv.columns = (0..csv.ends.len()).map(|index| text(csv.field(index))).collect();
        Ok(csv)
    }

    /// The position of the column called `name`.
    pub(crate) fn column(&self, name: &str) -> Result<usize, Error> {
        let found = self.columns.iter().position(|column| column == name);
        found.ok_or_else(|| {
            let remedy = format_args!("the columns are {}", self.columns.join(", "));
            self.fail(format_args!("there is no column `{name}`"), remedy)
        })
    }

    /// The position of the column that holds the keys, which the user must name.
    pub(crate) fn key_column(&self, name: Option<&str>) -> Result<usize, Error> {
        match name {
            Some(name) => self.column(name),
            None => {
                let remedy = format_args!("add --column NAME, one of {}", self.columns.join(", "));
                Err(self.fail("which column holds the keys is not said", remedy))
            }
        }
    }

    /// Moves on to the next row; `false` at the end.
    pub(crate) fn read_row(&mut self) -> Result<bool, Error> {
        while self.parse()? {
            if self.bytes.is_empty() && self.ends.len() == 1 {
                continue;
            }
            let (found, wanted) = (self.ends.len(), self.columns.len());
            if found != wanted {
                let problem = format_args!("{found} fields where the header has {wanted}");
                return Err(self.fail(problem, "mend the row, or copy the file again if it is cut off"));
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// A field of the current row.
    pub(crate) fn field(&self, index: usize) -> &[u8] {
        let begin = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[begin..self.ends[index]]
    }

    /// An error at the current row.
    pub(crate) fn fail(&self, problem: impl std::fmt::Display, remedy: impl std::fmt::Display) -> Error {
        self.input.fail(format_args!("line {}", self.lines.max(1)), problem, remedy)
    }

    /// Splits one row; `false` at the end of the file.
    fn parse(&mut self) -> Result<bool, Error> {
        self.bytes.clear();
        self.ends.clear();
        let mut state = State::FieldStart;
        let mut quoted_since = 0;
        let first = self.lines + 1;
        loop {
            if self.bytes.len() > MAX_ROW || self.ends.len() > MAX_ROW {
                self.lines = first;
                let problem = format_args!("a row of more than {MAX_ROW} bytes");
                return Err(self.fail(problem, "check that every quote is closed"));
            }
            match (state, self.input.byte()?) {
                (State::Quoted, None) => {
                    self.lines = quoted_since;
                    let problem = "the file ends before the quoted field that begins here";
                    return Err(
                        self.fail(problem, "close the quote, or copy the file again if it is cut off")
                    );
                }
                (State::Quoted, Some(b'"')) => state = State::QuoteSeen,
                (State::Quoted, Some(byte)) => {
                    self.lines += u64::from(byte == b'\n');
                    self.bytes.push(byte);
                }
                (State::QuoteSeen, Some(b'"')) => {
                    self.bytes.push(b'"');
                    state = State::Quoted;
                }
                (State::FieldStart, None) if self.ends.is_empty() => return Ok(false),
                (_, None) | (_, Some(b'\n')) => {
                    let field_begin = self.ends.last().copied().unwrap_or(0);
                    if state == State::Plain && self.bytes[field_begin..].last() == Some(&b'\r') {
                        self.bytes.pop();
                    }
                    self.ends.push(self.bytes.len());
                    self.lines += 1;
                    return Ok(true);
                }
                (_, Some(b',')) => {
                    self.ends.push(self.bytes.len());
                    state = State::FieldStart;
                }
                (State::FieldStart, Some(b'"')) => {
                    quoted_since = self.lines + 1;
                    state = State::Quoted;
                }
                (_, Some(byte)) => {
                    self.bytes.push(byte);
                    state = State::Plain;
                }
            }
        }
    }
}
