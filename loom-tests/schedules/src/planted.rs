//! Bugs that the schedules must find.
//!
//! Each file of `mutants/` is a patch that plants one behind a switch, `if crate::sync::mutant("name")`, as those of
//! `loom-tests` do. All are applied to a copy of the sources, which is built once; each then runs in a process of its own,
//! with its switch on, and has to be red. Before that the copy has to be green with all switches off.

use crate::runs::now;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs, io};

/// The hook that patches switch on, added to the copy of `sync.rs`.
const HOOK: &str = r#"
/// Whether this process was started to run with the named bug.
pub(crate) fn mutant(name: &str) -> bool {
    static MUTANT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    MUTANT.get_or_init(|| std::env::var("DOGPILE_MUTANT").ok()).as_deref() == Some(name)
}
"#;
/// As this program is built.
const FLAGS: &str = "--cfg dogpile_shuttle --cfg fuzzing";
const DEBUG: &str = "profile.release.package.dogpile.debug-assertions=true";
const PLANTED_NAME: &str = "dogpile-schedules-planted";
/// With all switches off.
const CLEAN: u64 = 2_000;
/// What a bug has to be found within.
const PLANTED: u64 = 20_000;

struct Mutant {
    name: String,
    /// From the patch's first line, `scenarios: name, name`: each has to find it.
    scenarios: Vec<String>,
    patch: PathBuf,
}

/// Whether all were found.
pub(crate) fn run() -> bool {
    match try_run() {
        Ok(all) => all,
        Err(error) => {
            println!("error: {error}");
            false
        }
    }
}

fn try_run() -> Result<bool, Box<dyn Error>> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("this package is two folders down")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let tree = target.join("planted");
    let mutants = read_mutants(&root.join("loom-tests/schedules/mutants"))?;
    let binary = build(root, &target, &tree, &mutants)?;
    let mut all = true;
    for scenario in ["crowd", "gate", "linear", "region"] {
        let clean = schedules(&binary, scenario, CLEAN, "none")?;
        if !clean.status.success() {
            println!("{}", String::from_utf8_lossy(&clean.stderr));
            println!("{scenario} is red without a planted bug");
            all = false;
        }
    }
    println!("{:<32} {:<8} {:>7}  what was said", "planted bug", "scenario", "seconds");
    for mutant in &mutants {
        for scenario in &mutant.scenarios {
            let start = now();
            let ended = schedules(&binary, scenario, PLANTED, &mutant.name)?;
            let said = String::from_utf8_lossy(&ended.stderr);
            // The line after the place of the first panic.
            let mut lines = said.lines().skip_while(|line| !line.contains("panicked at "));
            let said = lines.nth(1).unwrap_or("").chars().take(70).collect::<String>();
            let found = if ended.status.success() { "NOT FOUND" } else { &said };
            all &= !ended.status.success();
            println!("{:<32} {scenario:<8} {:7.1}  {found}", mutant.name, start.elapsed().as_secs_f64());
        }
    }
    Ok(all)
}

fn schedules(binary: &Path, scenario: &str, n: u64, mutant: &str) -> io::Result<Output> {
    Command::new(binary)
        .args([scenario, "--schedules", &n.to_string(), "--threads", "1"])
        .env("DOGPILE_MUTANT", mutant)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .output()
}

fn read_mutants(folder: &Path) -> Result<Vec<Mutant>, Box<dyn Error>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder)? {
        let patch = entry?.path();
        let name =
            patch.file_stem().and_then(|name| name.to_str()).ok_or("a patch has a plain name")?.to_owned();
        let text = fs::read_to_string(&patch)?;
        let scenarios = text.lines().find_map(|line| line.strip_prefix("scenarios:"));
        let scenarios = scenarios.ok_or_else(|| format!("{name}.patch has no line `scenarios: …`"))?;
        let scenarios = scenarios.split(',').map(|name| name.trim().to_owned()).collect();
        mutants.push(Mutant { name, scenarios, patch });
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    if mutants.is_empty() { Err("there are no planted bugs".into()) } else { Ok(mutants) }
}

/// Copies the sources to `tree`, applies the patches, and builds this program there.
fn build(root: &Path, target: &Path, tree: &Path, mutants: &[Mutant]) -> Result<PathBuf, Box<dyn Error>> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    for part in ["src", "docs", "examples", "macros", "tests", "loom-tests/schedules", "Cargo.lock"] {
        copy(&root.join(part), &tree.join(part))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let line =
        |start: &str| manifest.lines().find(|line| line.starts_with(start)).ok_or("a workspace has members");
    let (members, defaults) = (line("members =")?, line("default-members =")?);
    let manifest =
        manifest.replace(members, "members = [\".\", \"loom-tests/schedules\"]").replace(defaults, "");
    fs::write(tree.join("Cargo.toml"), manifest)?;
    // Under a name of its own, so that what is built takes the place of nothing.
    let package = tree.join("loom-tests/schedules/Cargo.toml");
    let manifest = fs::read_to_string(&package)?.replace("dogpile-schedules", PLANTED_NAME);
    fs::write(package, manifest)?;
    let sync = tree.join("src/sync.rs");
    fs::write(&sync, fs::read_to_string(&sync)? + HOOK)?;
    for mutant in mutants {
        let applied = Command::new("git")
            .args(["apply", "--recount"])
            .arg(&mutant.patch)
            .current_dir(tree)
            // Or git would take the paths for those of the repository around.
            .env("GIT_CEILING_DIRECTORIES", tree.parent().ok_or("a tree has a parent")?)
            .status()?;
        if !applied.success() {
            return Err(format!("{}.patch does not apply to the sources any more", mutant.name).into());
        }
    }
    // To where this program was built, so that what it depends on need not be built again.
    let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--quiet", "-p", PLANTED_NAME, "--config", DEBUG])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", FLAGS)
        .status()?;
    if !built.success() {
        return Err("the copy does not build".into());
    }
    Ok(target.join("release").join(PLANTED_NAME).with_extension(env::consts::EXE_EXTENSION))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).map(drop)
}
