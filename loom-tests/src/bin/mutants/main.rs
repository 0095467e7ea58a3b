//! Runs the models on the shipped sources, then on planted bugs that they must find.
//!
//! Each file of `mutants/` is a patch that plants one bug behind a switch, `if crate::sync::mutant("name")`. All are
//! applied to a copy of the sources, which is built once; each then runs in a process of its own, with its switch on. A
//! bug is found when one of the models that its patch names fails, aborts, or does not end. Prints what it did, and ends
//! with 1 if a model is red on the shipped sources, if a bug survives, or if a property has no bug that tests it.
//!
//! `--weaken` instead drops each named ordering to `Relaxed`, one after another: see `weaken.rs`.
//!
//! `--deep` instead explores the models on the shipped sources further: more threads, more preemptions, each for at most
//! ten minutes. It takes hours. `--deep gate_` does so with the models whose names begin like that.

mod suite;
mod weaken;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};
use suite::{End, PATIENCE, Suite, in_turn, now};

/// The properties that must have a bug planted against them.
const PROPERTIES: &[&str] = &[
    "I1", "I2", "I3", "I4", "I5", "R1", "R2", "R3", "A1", "A2", "A3", "L1", "H1", "E1", "E3", "W2", "C3",
    "C4", "H2", "H3", "H5", "H7", // and of the gate:
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "H4", "H6", "M10", "M11",
];

pub(crate) type Failure = Box<dyn std::error::Error>;

/// A planted bug, from the first lines of its patch: `property: I1, C4` and `models: name, name`.
pub(crate) struct Mutant {
    pub(crate) name: String,
    properties: Vec<String>,
    models: Vec<String>,
    pub(crate) patch: PathBuf,
}

/// What is asked for.
enum Task {
    /// The models, then the planted bugs.
    Test,
    Weaken(weaken::Asked),
    /// The models whose names begin like one of these; all if there is none.
    Deep(Vec<String>),
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let task = match arguments.next().as_deref() {
        None => Task::Test,
        Some("--weaken") => match weaken::Asked::parse(arguments) {
            Ok(asked) => Task::Weaken(asked),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        },
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
    if let Task::Weaken(asked) = task {
        return weaken::run(&clean, root, asked);
    }
    println!("the shipped sources:");
    if let Task::Deep(names) = task {
        return clean.run_all(names, true);
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
