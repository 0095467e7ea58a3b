//! Where and with what the table was made.

#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;

use crate::clock;

/// The versions that were really built.
const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));

/// Version of `package` as locked; `-` if there is none. Of several the highest comes last in the file and is taken.
pub(crate) fn version_of(package: &str) -> String {
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK.lines();
    let mut version = String::from("-");
    while lines.by_ref().any(|line| line == name) {
        if let Some(found) = lines.next().and_then(|line| line.strip_prefix("version = ")) {
            version = String::from(found.trim_matches('"'));
        }
    }
    version
}

/// The lines at the head of the table.
pub(crate) fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let pages = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| String::from("unknown"));
    format!(
        "{model}, {cores} cores, {} {}; huge pages {}; load {}\n{}; {}, opt-level {}; commit {}",
        std::env::consts::OS,
        std::env::consts::ARCH,
        pages.trim(),
        load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        clock::civil(clock::since_unix_epoch()),
        env!("DOGPILE_BENCHES_RUSTC"),
        env!("DOGPILE_BENCHES_OPT_LEVEL"),
        commit.trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        assert!(version_of("moka").starts_with("0.12."));
        assert_eq!(version_of("no such package"), "-");
    }
}
