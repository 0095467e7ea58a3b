//! Runs the command, and writes traces without the command's own code.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the command left.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// The output of a run that must have succeeded in silence.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// Asserts that the run failed in the documented way, with all of `parts` in its one line.
    #[track_caller]
    pub(crate) fn fails_with(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.err.starts_with("error: ") && self.err.ends_with('\n'), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in {self:?}");
        }
    }
}

/// The command, ready to run.
pub(crate) fn dogpile(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dogpile"));
    command.args(arguments);
    command
}

/// Runs the command with nothing on standard input.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, b"")
}

/// Runs the command with `input` on standard input.
pub(crate) fn run_with(arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = dogpile(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    // A command that stops reading closes the pipe, which is no failure of the test.
    let _written = child.stdin.take().expect("standard input is piped").write_all(input);
    let output = child.wait_with_output().expect("the command ends");
    let text = |bytes| String::from_utf8(bytes).expect("the command speaks UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A folder of the calling test's own, empty at first.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _absent = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder for tests is writable");
    folder
}

/// Writes a file into `folder` and returns its name.
pub(crate) fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::write(&path, content).expect("the folder for tests is writable");
    path.into_os_string().into_string().expect("the folder's name is UTF-8")
}

/// A compact trace whose header may lie.
pub(crate) fn ctr(requests: u64, distinct: u64, keys: &[u64]) -> Vec<u8> {
    let mut bytes = b"CTR1".to_vec();
    bytes.extend(requests.to_le_bytes());
    bytes.extend(distinct.to_le_bytes());
    let mut previous = 0_i64;
    for &key in keys {
        let difference = (key as i64).wrapping_sub(previous);
        let mut code =
            if difference >= 0 { difference as u64 * 2 } else { (-(difference + 1)) as u64 * 2 + 1 };
        while code > 127 {
            bytes.push((code % 128) as u8 + 128);
            code /= 128;
        }
        bytes.push(code as u8);
        previous = key as i64;
    }
    bytes
}

/// `bytes` as one zstd stream.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("a vector takes everything")
}

/// The cells of the first table row of `out` that begins with `capacity` (and has as many more cells as it has).
pub(crate) fn row(out: &str, capacity: u64) -> Vec<String> {
    let capacity = capacity.to_string();
    let mut rows = out.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()));
    let row = rows.find(|row| row.clone().next() == Some(&*capacity)).expect("the capacity has a row");
    row.map(String::from).collect()
}
