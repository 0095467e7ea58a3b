//! Runs the models on the shipped sources, then on planted bugs that they must find.
//!
//! Each file of `mutants/` is a patch that plants one bug behind a switch, `if crate::sync::mutant("name")`. All are
//! applied to a copy of the sources, which is built once; each then runs in a process of its own, with its switch on. A
//! bug is found when one of the models that its patch names fails, aborts, or does not end. Prints what it did, and ends
//! with 1 if a model is red on the shipped sources, if a bug survives, or if a property has no bug that tests it.
//!
//! `--weaken` instead drops each named ordering to `Relaxed`, one after another, and prints which model notices: for
//! whoever changes an ordering. It takes long, and fails for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

/// A model that has not ended by then has found something, or lost its way.
const PATIENCE: Duration = Duration::from_secs(240);

/// The properties that must have a bug planted against them.
const PROPERTIES: &[&str] = &[
    "I1", "I2", "I3", "I4", "I5", "R1", "R2", "R3", "L1", "H1", "E1", "E3", "W2", "C3", "C4", "H2", "H3",
    "H5", "H7",
];

/// The hook that patches switch on, added to the copy of `sync.rs`.
const HOOK: &str = r#"
/// Whether this process was started to run with the named bug.
pub(crate) fn mutant(name: &str) -> bool {
    static MUTANT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    MUTANT.get_or_init(|| std::env::var("DOGPILE_MUTANT").ok()).as_deref() == Some(name)
}
"#;

type Failure = Box<dyn std::error::Error>;

/// A planted bug, from the first lines of its patch: `property: I1, C4` and `models: name, name`.
struct Mutant {
    name: String,
    properties: Vec<String>,
    models: Vec<String>,
    patch: PathBuf,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Green,
    Red,
    Late,
}

fn main() -> ExitCode {
    let weaken = env::args().any(|argument| argument == "--weaken");
    match run(weaken) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(weaken: bool) -> Result<bool, Failure> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("this package stands in the workspace")?;
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("mutants");
    let mutants = read_mutants(&root.join("loom-tests/mutants"))?;

    let clean = Suite::build(root, &target.join("clean"), &target.join("target"), &[])?;
    println!("the shipped sources:");
    let green = clean.run_all()?;
    if weaken {
        return clean.weaken(root).map(|()| green);
    }

    let planted = Suite::build(root, &target.join("planted"), &target.join("target"), &mutants)?;
    println!("\n{:<10} {:<40} {:<42} seconds", "property", "planted bug", "found by");
    let mut survivors = 0;
    let mut tested = BTreeSet::new();
    for mutant in &mutants {
        let start = now();
        let mut found = None;
        for model in &mutant.models {
            if planted.run_one(model, "DOGPILE_MUTANT", &mutant.name)? != End::Green {
                found = Some(model);
                break;
            }
        }
        survivors += usize::from(found.is_none());
        tested.extend(mutant.properties.iter().cloned());
        let found = found.map_or("NOBODY", String::as_str);
        let seconds = start.elapsed().as_secs_f64();
        println!("{:<10} {:<40} {found:<42} {seconds:7.1}", mutant.properties.join(", "), mutant.name);
    }
    let untested: Vec<&&str> = PROPERTIES.iter().filter(|property| !tested.contains(**property)).collect();
    println!("\n{} planted bugs, {survivors} survived; properties without one: {untested:?}", mutants.len());
    Ok(green && survivors == 0 && untested.is_empty())
}

fn read_mutants(folder: &Path) -> Result<Vec<Mutant>, Failure> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(folder)? {
        let patch = entry?.path();
        let Some(name) = patch.file_stem().and_then(|name| name.to_str()).map(String::from) else { continue };
        if patch.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = fs::read_to_string(&patch)?;
        let list = |key: &str| -> Result<Vec<String>, Failure> {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let line = line.ok_or_else(|| format!("{name}.patch has no line `{key} …`"))?;
            Ok(line.split(',').map(|item| item.trim().to_owned()).collect())
        };
        let (properties, models) = (list("property:")?, list("models:")?);
        mutants.push(Mutant { name, properties, models, patch });
    }
    mutants.sort_by(|a, b| (&a.properties, &a.name).cmp(&(&b.properties, &b.name)));
    Ok(mutants)
}

/// The models, built.
struct Suite {
    /// Which binary holds a model.
    models: BTreeMap<String, PathBuf>,
}

impl Suite {
    /// Copies the sources to `tree`, applies the patches, and builds the models.
    fn build(root: &Path, tree: &Path, target: &Path, mutants: &[Mutant]) -> Result<Self, Failure> {
        if tree.exists() {
            fs::remove_dir_all(tree)?;
        }
        for part in ["src", "examples", "loom-tests", "Cargo.lock"] {
            copy(&root.join(part), &tree.join(part))?;
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
        let members =
            manifest.lines().find(|line| line.starts_with("members =")).ok_or("a workspace has members")?;
        let defaults =
            manifest.lines().find(|line| line.starts_with("default-members =")).ok_or("and defaults")?;
        let manifest = manifest.replace(members, "members = [\".\", \"loom-tests\"]").replace(defaults, "");
        fs::write(tree.join("Cargo.toml"), manifest)?;
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
        let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "test",
                "--release",
                "-p",
                "dogpile-loom-tests",
                "--tests",
                "--no-run",
                "--message-format=json",
            ])
            .current_dir(tree)
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
            .env("RUSTFLAGS", "--cfg dogpile_loom -A warnings")
            .stderr(Stdio::inherit())
            .output()?;
        if !built.status.success() {
            return Err("the models do not build".into());
        }
        let mut models = BTreeMap::new();
        // Only integration tests: this program itself is built along with them.
        for line in
            String::from_utf8(built.stdout)?.lines().filter(|line| line.contains("\"kind\":[\"test\"]"))
        {
            let Some(path) = line.split("\"executable\":\"").nth(1).and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            // Both trees build to one place, so that dependencies are built once: keep what this one built.
            let kept = tree.join(Path::new(path).file_name().ok_or("an executable has a name")?);
            fs::copy(path, &kept)?;
            let listed = Command::new(&kept).args(["--list", "--format", "terse"]).output()?;
            for line in String::from_utf8(listed.stdout)?.lines() {
                if let Some(model) = line.strip_suffix(": test") {
                    models.insert(model.to_owned(), kept.clone());
                }
            }
        }
        if models.is_empty() { Err("no models were built".into()) } else { Ok(Self { models }) }
    }

    /// Every model, each in a process of its own: a deadlock ends the process.
    fn run_all(&self) -> Result<bool, Failure> {
        let start = now();
        let mut red = Vec::new();
        for model in self.models.keys() {
            if self.run_one(model, "DOGPILE_MODEL", "clean")? != End::Green {
                red.push(model);
            }
        }
        println!("{} models, {} red, {:.1} s", self.models.len(), red.len(), start.elapsed().as_secs_f64());
        red.iter().for_each(|model| println!("  red: {model}"));
        Ok(red.is_empty())
    }

    /// Runs one model with one variable set. On the shipped sources what it prints is passed on.
    fn run_one(&self, model: &str, key: &str, value: &str) -> Result<End, Failure> {
        let binary = self.models.get(model).ok_or_else(|| format!("there is no model {model}"))?;
        let mut child = Command::new(binary)
            .args([model, "--exact", "--test-threads", "1"])
            .env(key, value)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = child.stderr.take().ok_or("stderr is piped")?;
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            said
        });
        let start = now();
        let end = loop {
            if let Some(status) = child.try_wait()? {
                break if status.success() { End::Green } else { End::Red };
            }
            if start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                break End::Late;
            }
            // Not to let time pass for a test: to look after a process now and then.
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let said = said.join().map_err(|_| "a reader of stderr does not panic")?;
        if value == "clean" {
            said.lines()
                .filter(|line| line.starts_with("model "))
                .for_each(|line| println!("  {}", &line[6..]));
            if end != End::Green {
                println!("{said}");
            }
        }
        Ok(end)
    }

    /// Drops each named ordering to `Relaxed`.
    fn weaken(&self, root: &Path) -> Result<(), Failure> {
        println!("\n{:<24} noticed by", "ordering");
        for name in orderings(&root.join("src"))? {
            let mut noticed = None;
            for model in self.models.keys() {
                if self.run_one(model, "DOGPILE_WEAKEN", &name)? != End::Green {
                    noticed = Some(model);
                    break;
                }
            }
            println!("{name:<24} {}", noticed.map_or("nobody", String::as_str));
        }
        Ok(())
    }
}

/// The names that the sources give to orderings that are not `Relaxed` already: `room.NAME`.
fn orderings(folder: &Path) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            names.extend(orderings(&path)?);
            continue;
        }
        let text = fs::read_to_string(&path)?;
        for declared in text.split("\norderings! {").skip(1) {
            let body = declared.split('}').next().unwrap_or("");
            let (room, list) = body.split_once(':').ok_or("orderings! { room: NAME = Order }")?;
            for item in list.split(',') {
                if let Some((name, order)) = item.split_once('=')
                    && order.trim() != "Relaxed"
                {
                    names.insert(format!("{}.{}", room.trim(), name.trim()));
                }
            }
        }
    }
    Ok(names)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else {
        fs::copy(from, to).map(drop)
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a process takes is for the reader, and for its end")]
fn now() -> Instant {
    Instant::now()
}
