//! What the command says when it cannot go on.

use std::{fmt, io};

/// Why the command stops before its end.
#[derive(Debug)]
pub(crate) enum Error {
    /// Whoever read our output has gone (`| head`): nothing is wrong and nobody is left to tell.
    ClosedPipe,
    /// A message for standard error.
    Failed(String),
}

impl Error {
    /// Three parts that every message here has: where it happened, what it is, and what to do about it.
    pub(crate) fn new(
        place: impl fmt::Display,
        problem: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self::Failed(format!("{place}: {problem}; {remedy}"))
    }

    /// A failure to write to standard output.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::new(
            "standard output",
            format_args!("cannot be written ({error})"),
            "check the disk or the reader of the pipe",
        )
    }

    /// A failure to create or to write the file `path`.
    pub(crate) fn write(path: &std::path::Path, error: io::Error) -> Self {
        Self::new(
            path.display(),
            format_args!("cannot be written ({error})"),
            "name a file in a folder that exists and may be written",
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedPipe => f.write_str("the reader of the output has gone"),
            Self::Failed(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}
