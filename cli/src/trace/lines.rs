//! One key per line.
//!
//! A key is any bytes but NUL, without the line's `\n` or `\r\n`. Empty lines are skipped. The last line needs no
//! line end, so a file cut off there cannot be told from a whole one.

use super::Input;
use crate::error::Error;

/// Longer lines are no keys, but a sign that the file is no list of keys.
const MAX_LINE: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct Lines {
    input: Input,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub(crate) fn new(input: Input) -> Self {
        Self { input, line: Vec::new(), number: 0 }
    }

    /// The next key, or `None` at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, Error> {
        loop {
            self.line.clear();
            self.number += 1;
            let begin = self.input.offset();
            self.input.until(b'\n', MAX_LINE, &mut self.line)?;
            if self.line.is_empty() {
                return Ok(None);
            }
            let place = |at| format!("line {}, {}", self.number, self.input.at_byte(at));
            if let Some(at) = self.line.iter().position(|&byte| byte == 0) {
                let remedy = "name its format with --format, or write one key per line as text";
                let place = place(begin + at as u64);
                return Err(self.input.fail(place, "a NUL byte: this is no text", remedy));
            }
            if self.line.len() as u64 == MAX_LINE && self.line.last() != Some(&b'\n') {
                let problem = format_args!("a line of more than {MAX_LINE} bytes");
                return Err(self.input.fail(place(begin), problem, "write one key per line"));
            }
            while self.line.last().is_some_and(|end| matches!(end, b'\n' | b'\r')) {
                self.line.pop();
            }
            if !self.line.is_empty() {
                return Ok(Some(&self.line));
            }
        }
    }
}
