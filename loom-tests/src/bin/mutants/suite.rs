//! The models, built from a copy of the sources, and run one by one in processes of their own.

use super::{Failure, Mutant};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, io};

/// A model that has not ended by then has found something, or lost its way.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);
/// The same for one that is explored further: several crowds of callers, each to several bounds.
const DEEP_PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// So long a process has to end after a panic.
const AGONY: Duration = Duration::from_secs(5);

/// The hook that patches switch on, added to the copy of `sync.rs`.
const HOOK: &str = r#"
/// Whether this process was started to run with the named bug.
pub(crate) fn mutant(name: &str) -> bool {
    static MUTANT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    MUTANT.get_or_init(|| std::env::var("DOGPILE_MUTANT").ok()).as_deref() == Some(name)
}
"#;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Green,
    Red,
    Late,
}

/// The models, built.
pub(crate) struct Suite {
    /// Which binary holds a model.
    pub(crate) models: BTreeMap<String, PathBuf>,
    /// Models that are known to fail.
    ignored: BTreeSet<String>,
}

impl Suite {
    /// Copies the sources to `tree`, applies the patches, and builds the models.
    pub(crate) fn build(
        root: &Path,
        tree: &Path,
        target: &Path,
        mutants: &[Mutant],
    ) -> Result<Self, Failure> {
        // Without patches what is there and is the same stays as it is, and needs no building.
        if !mutants.is_empty() && tree.exists() {
            fs::remove_dir_all(tree)?;
        }
        for part in ["src", "docs", "examples", "macros", "tests", "loom-tests", "Cargo.lock"] {
            copy(&root.join(part), &tree.join(part))?;
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
        let members =
            manifest.lines().find(|line| line.starts_with("members =")).ok_or("a workspace has members")?;
        let defaults =
            manifest.lines().find(|line| line.starts_with("default-members =")).ok_or("and defaults")?;
        let manifest = manifest.replace(members, "members = [\".\", \"loom-tests\"]").replace(defaults, "");
        write(&tree.join("Cargo.toml"), manifest.as_bytes())?;
        if !mutants.is_empty() {
            let sync = tree.join("src/sync.rs");
            fs::write(&sync, fs::read_to_string(&sync)? + HOOK)?;
        }
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
    pub(crate) fn run_all(&self, names: &[String], deep: bool) -> Result<bool, Failure> {
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
    pub(crate) fn run_one(
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
}

/// Does `work` for all items, as many at once as there are processors, and `tell`s of each in the order of the list.
pub(crate) fn in_turn<I: Sync, T: Send>(
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

/// Whether a name begins like one of these, or all will do.
pub(crate) fn is_named(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|start| name.starts_with(start))
}

/// Makes `to` what `from` is, and touches nothing that is so already.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return write(to, &fs::read(from)?);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let old = entry?.path();
        if old.file_name().is_some_and(|name| !from.join(name).exists()) {
            if old.is_dir() { fs::remove_dir_all(old)? } else { fs::remove_file(old)? }
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn write(to: &Path, text: &[u8]) -> io::Result<()> {
    if fs::read(to).is_ok_and(|old| old == text) { Ok(()) } else { fs::write(to, text) }
}

#[expect(clippy::disallowed_methods, reason = "how long a process takes is for the reader, and for its end")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
