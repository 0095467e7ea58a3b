//! Runs the models on the shipped sources, then on planted bugs that they must find.
//!
//! Each file of `mutants/` is a patch that plants one bug behind a switch, `if crate::sync::mutant("name")`. All are
//! applied to a copy of the sources, which is built once; each then runs in a process of its own, with its switch on. A
//! bug is found when one of the models that its patch names fails, aborts, or does not end. Prints what it did, and ends
//! with 1 if a model is red on the shipped sources, if a bug survives, or if a property has no bug that tests it.
//!
//! `--weaken` instead drops each named ordering to `Relaxed`, one after another, and prints which model notices: for
//! whoever changes an ordering. It takes long, and fails for nothing. `--weaken gate.LAND alone.BUMP` does so with these.
//!
//! `--deep` instead explores the models on the shipped sources further: more threads, more preemptions, each for at most
//! ten minutes. It takes hours. `--deep gate_` does so with the models whose names begin like that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, io};

/// A model that has not ended by then has found something, or lost its way.
const PATIENCE: Duration = Duration::from_secs(240);
/// The same for one that is explored further: several crowds of callers, each to several bounds.
const DEEP_PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// So long a process has to end after a panic.
const AGONY: Duration = Duration::from_secs(5);

/// The properties that must have a bug planted against them.
const PROPERTIES: &[&str] = &[
    "I1", "I2", "I3", "I4", "I5", "R1", "R2", "R3", "A1", "A2", "A3", "L1", "H1", "E1", "E3", "W2", "C3",
    "C4", "H2", "H3", "H5", "H7", // and of the gate:
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "H4", "H6", "M10", "M11",
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

/// What is asked for. Each list: only what begins like one of these; all if there is none.
enum Task {
    /// The models, then the planted bugs.
    Test,
    Weaken(Vec<String>),
    Deep(Vec<String>),
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let task = match arguments.next().as_deref() {
        None => Task::Test,
        Some("--weaken") => Task::Weaken(arguments.collect()),
        Some("--deep") => Task::Deep(arguments.collect()),
        Some(other) => {
            eprintln!("error: {other} is none of --weaken, --deep");
            return ExitCode::FAILURE;
        }
    };
    match run(&task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<bool, Failure> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("this package stands in the workspace")?;
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("mutants");
    let mutants = read_mutants(&root.join("loom-tests/mutants"))?;

    let clean = Suite::build(root, &target.join("clean"), &target.join("target"), &[])?;
    println!("the shipped sources:");
    match task {
        Task::Weaken(names) => return clean.weaken(root, names).map(|()| true),
        Task::Deep(names) => return clean.run_all(names, true),
        Task::Test => {}
    }
    let green = clean.run_all(&[], false)?;

    let planted = Suite::build(root, &target.join("planted"), &target.join("target"), &mutants)?;
    println!("\n{:<10} {:<50} {:<50} seconds", "property", "planted bug", "found by");
    let mut survivors = 0;
    let find = |mutant: &Mutant| -> Result<_, String> {
        let start = now();
        for model in &mutant.models {
            let end = planted.run_one(model, &[("DOGPILE_MUTANT", &mutant.name)], PATIENCE)?.0;
            if end != End::Green {
                return Ok((Some(model.clone()), start.elapsed()));
            }
        }
        Ok((None, start.elapsed()))
    };
    in_turn(&mutants, find, |mutant, (found, took)| {
        survivors += usize::from(found.is_none());
        let found = found.unwrap_or_else(|| String::from("NOBODY"));
        let (properties, seconds) = (mutant.properties.join(", "), took.as_secs_f64());
        println!("{properties:<10} {:<50} {found:<50} {seconds:7.1}", mutant.name);
    })?;
    let tested: BTreeSet<&String> = mutants.iter().flat_map(|mutant| &mutant.properties).collect();
    let untested: Vec<&&str> =
        PROPERTIES.iter().filter(|property| !tested.contains(&String::from(**property))).collect();
    println!("\n{} planted bugs, {survivors} survived; properties without one: {untested:?}", mutants.len());
    Ok(green && survivors == 0 && untested.is_empty())
}

/// Does `work` for all items, as many at once as there are processors, and `tell`s of each in the order of the list.
fn in_turn<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<T, String> + Sync,
    mut tell: impl FnMut(&I, T),
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((i, item)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    items.get(i).map(|item| (i, item))
                } {
                    if sender.send((i, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut told = 0;
        for (i, result) in results {
            early.insert(i, result);
            while let Some(result) = early.remove(&told) {
                tell(&items[told], result?);
                told += 1;
            }
        }
        Ok(())
    })
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
    /// Models that are known to fail.
    ignored: BTreeSet<String>,
}

impl Suite {
    /// Copies the sources to `tree`, applies the patches, and builds the models.
    fn build(root: &Path, tree: &Path, target: &Path, mutants: &[Mutant]) -> Result<Self, Failure> {
        if tree.exists() {
            fs::remove_dir_all(tree)?;
        }
        for part in ["src", "docs", "examples", "loom-tests", "Cargo.lock"] {
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
        let (mut models, mut ignored) = (BTreeMap::new(), BTreeSet::new());
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
            let list = |arguments: &[&str]| -> Result<BTreeSet<String>, Failure> {
                let listed =
                    Command::new(&kept).args(["--list", "--format", "terse"]).args(arguments).output()?;
                let listed = String::from_utf8(listed.stdout)?;
                Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(String::from).collect())
            };
            let known = list(&["--ignored"])?;
            let runs = list(&[])?.into_iter().filter(|model| !known.contains(model));
            models.extend(runs.map(|model| (model, kept.clone())));
            ignored.extend(known);
        }
        if models.is_empty() { Err("no models were built".into()) } else { Ok(Self { models, ignored }) }
    }

    /// Every model, each in a process of its own: a deadlock ends the process.
    fn run_all(&self, names: &[String], deep: bool) -> Result<bool, Failure> {
        let start = now();
        let models: Vec<&String> = self.models.keys().filter(|model| is_named(names, model)).collect();
        let (patience, variables) =
            if deep { (DEEP_PATIENCE, &[("DOGPILE_DEEP", "yes")][..]) } else { (PATIENCE, &[][..]) };
        let mut red = Vec::new();
        let run = |model: &&String| self.run_one(model, variables, patience);
        in_turn(&models, run, |model, (end, said)| {
            // How far it was explored.
            said.lines().filter_map(|line| line.strip_prefix("model ")).for_each(|line| println!("  {line}"));
            if end != End::Green {
                println!("{said}");
                red.push(*model);
            }
        })?;
        println!("{} models, {} red, {:.1} s", models.len(), red.len(), start.elapsed().as_secs_f64());
        red.iter().for_each(|model| println!("  red: {model}"));
        self.ignored.iter().for_each(|model| println!("  not run, see its reason: {model}"));
        Ok(red.is_empty())
    }

    /// Runs one model with variables set. Returns what it wrote, too.
    fn run_one(
        &self,
        model: &str,
        variables: &[(&str, &str)],
        patience: Duration,
    ) -> Result<(End, String), String> {
        let binary = self.models.get(model).ok_or_else(|| format!("there is no model {model}"))?;
        let failed = |error: io::Error| format!("{model}: {error}");
        let mut child = Command::new(binary)
            .args([model, "--exact", "--test-threads", "1", "--nocapture"])
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stderr = child.stderr.take().ok_or("stderr is piped")?;
        let (panicked, panics) = mpsc::channel();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                if line.contains("panicked at") {
                    let _ = panicked.send(());
                }
                said.push_str(&line);
                said.push('\n');
            }
            said
        });
        let start = now();
        let mut red = None;
        let end = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break if status.success() { End::Green } else { End::Red };
            }
            // After a deadlock in a model its destructors may stand still, too.
            red = red.or_else(|| panics.try_recv().is_ok().then(now));
            let is_stuck = red.is_some_and(|red: Instant| red.elapsed() > AGONY);
            if is_stuck || start.elapsed() > patience {
                child.kill().map_err(failed)?;
                child.wait().map_err(failed)?;
                break if is_stuck { End::Red } else { End::Late };
            }
            // Not to let time pass for a test: to look after a process now and then.
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let said = said.join().map_err(|_| "a reader of stderr does not panic")?;
        Ok((end, said))
    }

    /// Drops each named ordering to `Relaxed`.
    fn weaken(&self, root: &Path, names: &[String]) -> Result<(), Failure> {
        println!("{:<24} noticed by", "ordering");
        let all = orderings(&root.join("src"))?;
        let chosen: Vec<&String> = all.iter().filter(|name| is_named(names, name)).collect();
        let notice = |name: &&String| -> Result<Option<&String>, String> {
            for model in self.models.keys() {
                if self.run_one(model, &[("DOGPILE_WEAKEN", name)], PATIENCE)?.0 != End::Green {
                    return Ok(Some(model));
                }
            }
            Ok(None)
        };
        in_turn(&chosen, notice, |name, noticed| {
            println!("{name:<24} {}", noticed.map_or("nobody", String::as_str));
        })
    }
}

/// Whether a name begins like one of these, or all will do.
fn is_named(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|start| name.starts_with(start))
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
