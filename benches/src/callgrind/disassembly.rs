//! Which instructions of a program are locked, fences or system calls, and whose source they come from. Both by binutils.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

/// What makes an instruction worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A `lock` prefix, or an exchange with memory, which needs none.
    Locked,
    Fence,
    SystemCall,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Locked => "locked",
            Kind::Fence => "fence",
            Kind::SystemCall => "system call",
        }
    }

    /// The kind of an instruction in AT&T syntax.
    fn of(instruction: &str) -> Option<Kind> {
        let (mnemonic, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
        match mnemonic {
            "lock" => Some(Kind::Locked),
            _ if mnemonic.starts_with("xchg") && operands.contains('(') => Some(Kind::Locked),
            "mfence" | "lfence" | "sfence" => Some(Kind::Fence),
            "syscall" | "sysenter" | "int" => Some(Kind::SystemCall),
            _ => None,
        }
    }
}

/// Addresses of the instructions of `object` that are of some [`Kind`].
pub(super) fn special_instructions(object: &str) -> Result<BTreeMap<u64, Kind>, String> {
    let listing = run("objdump", &["--disassemble", "--no-show-raw-insn", "--wide", object])?;
    Ok(listing.lines().filter_map(special_instruction).collect())
}

fn special_instruction(line: &str) -> Option<(u64, Kind)> {
    let (address, instruction) = line.trim_start().split_once(":\t")?;
    let kind = Kind::of(instruction.trim_end())?;
    u64::from_str_radix(address, 16).ok().map(|address| (address, kind))
}

/// Whose code an instruction is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// The innermost function, inlined or not, outside of Rust's own library.
    pub(super) function: String,
    /// Its crate and line.
    pub(super) source: String,
    /// Whether it is part of the library this workspace is about.
    pub(super) is_ours: bool,
}

/// Looks up whose code lies at `addresses` of `object`, as far as debug information tells.
pub(super) fn owners(object: &str, addresses: &BTreeSet<u64>) -> Result<BTreeMap<u64, Owner>, String> {
    let hex: Vec<String> = addresses.iter().map(|address| format!("{address:#x}")).collect();
    let mut arguments = vec!["--addresses", "--functions", "--demangle", "--inlines", "--exe", object];
    arguments.extend(hex.iter().map(String::as_str));
    let listing = run("addr2line", &arguments)?;
    Ok(parse_owners(&listing))
}

fn parse_owners(listing: &str) -> BTreeMap<u64, Owner> {
    let mut owners = BTreeMap::new();
    let mut lines = listing.lines().peekable();
    while let Some(address) = lines.next() {
        let Some(address) = address.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok())
        else {
            continue;
        };
        let mut frames = Vec::new();
        while lines.peek().is_some_and(|line| !line.starts_with("0x")) {
            let (Some(function), Some(file)) = (lines.next(), lines.next()) else { break };
            frames.push((function, file));
        }
        let own = frames.iter().find(|(_, file)| !is_standard_library(file)).or(frames.first());
        if let Some((function, file)) = own.filter(|(function, _)| *function != "??") {
            let (function, source, is_ours) = (shortened(function), source(file), ours(file).is_some());
            owners.insert(address, Owner { function, source, is_ours });
        }
    }
    owners
}

/// A source file's place within the library, if it is one of its.
fn ours(file: &str) -> Option<&str> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.to_str()?;
    file.strip_prefix(workspace)?.strip_prefix("/src/")
}

fn is_standard_library(file: &str) -> bool {
    file.contains("/library/core/") || file.contains("/library/alloc/") || file.contains("/library/std/")
}

/// A function's name without its generic arguments' insides and the hash at its end.
pub(super) fn shortened(function: &str) -> String {
    let mut name = String::new();
    let mut depth = 0;
    for letter in function.chars() {
        match letter {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth == 0 => name.push(letter),
            _ => {}
        }
    }
    let name = name.trim_start_matches(':').replace("::::", "::");
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 => String::from(name),
        _ => name,
    }
}

/// `crossbeam-epoch-0.9.21 internal.rs:410`: crate and file of a source line, without the folders above.
fn source(file: &str) -> String {
    let file = file.split(" (discriminator").next().unwrap_or(file);
    if let Some(ours) = ours(file) {
        return format!("dogpile {ours}");
    }
    match file.rsplit_once("/src/") {
        Some((folders, rest)) => format!("{} {rest}", folders.rsplit('/').next().unwrap_or(folders)),
        None => String::from(file.rsplit('/').next().unwrap_or(file)),
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .map_err(|error| format!("{program} (of binutils) does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} failed on {}", arguments.last().unwrap_or(&"")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_instructions_are_seen() {
        let line = |text| special_instruction(text);
        assert_eq!(line("   51a0:\tlock incq (%rax)"), Some((0x51a0, Kind::Locked)));
        assert_eq!(line("   51a4:\txchg   %rax,(%rbx)"), Some((0x51a4, Kind::Locked)));
        assert_eq!(line("   51a8:\txchg   %ax,%ax"), None);
        assert_eq!(line("   51ac:\tmfence"), Some((0x51ac, Kind::Fence)));
        assert_eq!(line("   51b0:\tsyscall "), Some((0x51b0, Kind::SystemCall)));
        assert_eq!(line("   51b4:\tmov    %rax,%rbx"), None);
        assert_eq!(line("0000000000005190 <block>:"), None);
    }

    #[test]
    fn an_inlined_atomic_belongs_to_who_called_it() {
        let listing = "\
0x0000000000005190
core::sync::atomic::atomic_compare_exchange::h0123456789abcdef
/rustc/abc/library/core/src/sync/atomic.rs:4000
<crossbeam_epoch::internal::Local>::pin
/registry/src/index/crossbeam-epoch-0.9.21/src/internal.rs:410 (discriminator 2)
dogpile_benches::main
/project/benches/src/main.rs:1
0x0000000000005200
malloc
??:0
";
        let owners = parse_owners(listing);
        let pin = Owner {
            function: String::from("pin"),
            source: String::from("crossbeam-epoch-0.9.21 internal.rs:410"),
            is_ours: false,
        };
        assert_eq!(owners[&0x5190], pin);
        assert_eq!(owners[&0x5200].function, "malloc");
        let file = format!("{}/src/engine/mod.rs:7", env!("CARGO_MANIFEST_DIR").trim_end_matches("/benches"));
        assert_eq!(source(&file), "dogpile engine/mod.rs:7");
    }
}
