//! Drops each named ordering to `Relaxed`, one after another, each in a process of its own, and looks which model
//! notices. One of acquire and release is dropped to either half, too: `table.SWITCH=Release`.
//!
//! `loom-tests/weakening.txt` has a line for each: who notices it, or why nobody can. It ends with 1 if an ordering is
//! noticed by nobody and has no reason there. An ordering that nothing notices was too strong, or lacks a model.
//!
//! | argument        | what it does                                                                                     |
//! |-----------------|--------------------------------------------------------------------------------------------------|
//! | `gate. alone.`  | only those whose names begin like that                                                           |
//! | `--changed REV` | only those that the change since that revision touches: of the rooms that a changed file declares, or else its folder does; and those whose known model stands in a changed file |
//! | `--known`       | asks nobody but the model that the file names                                                    |
//! | `--explained`   | asks for those, too, of which the file says why nobody notices: all models, which takes long      |
//! | `--seconds N`   | begins nothing new after so many seconds, and says what was left out; begins anywhere in the list |
//! | `--write`       | writes the file anew; reasons stay                                                               |
//!
//! A room's models are asked first: those that the file names for the room, then those that stand beside them.

use super::Failure;
use super::suite::{End, PATIENCE, Suite, in_turn, is_named, now};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// So long each model is asked before any is asked to its end.
const MOMENT: Duration = Duration::from_secs(10);
const FILE: &str = "loom-tests/weakening.txt";
/// Where named orderings are declared.
const FOLDERS: [&str; 2] = ["src/engine", "src/gate"];

/// What is asked for.
#[derive(Default)]
pub(crate) struct Asked {
    names: Vec<String>,
    since: Option<String>,
    limit: Option<Duration>,
    known: bool,
    explained: bool,
    writes: bool,
}

impl Asked {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut asked = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--changed" => asked.since = Some(arguments.next().ok_or("--changed REV")?),
                "--seconds" => {
                    let seconds = arguments.next().ok_or("--seconds N")?;
                    asked.limit = Some(Duration::from_secs(seconds.parse()?));
                }
                "--known" => asked.known = true,
                "--explained" => asked.explained = true,
                "--write" => asked.writes = true,
                name if !name.starts_with('-') => asked.names.push(argument),
                other => {
                    return Err(format!(
                        "{other} is none of --changed, --known, --explained, --seconds, --write"
                    )
                    .into());
                }
            }
        }
        Ok(asked)
    }
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    NoticedBy(String),
    Nobody { reason: String },
}

/// What came of one ordering.
enum Came {
    NoticedBy(String),
    /// And the models that did not end.
    Nobody(Vec<String>),
    /// As the file says it.
    Explained,
    /// The model that the file names did not notice it.
    NotByTheKnown,
    NoTime,
}

/// Returns whether nothing survived that has no reason to.
pub(crate) fn run(suite: &Suite, root: &Path, asked: &Asked) -> Result<bool, Failure> {
    let start = now();
    let path = root.join(FILE);
    let text = fs::read_to_string(&path)?;
    let mut known = read(&text)?;
    let (mut all, mut declared) = (BTreeSet::new(), BTreeMap::new());
    for folder in FOLDERS {
        orderings(root, folder, &mut all, &mut declared)?;
    }
    let mut chosen: Vec<&String> = all.iter().filter(|name| is_named(&asked.names, name)).collect();
    if let Some(since) = &asked.since {
        let touched = touched(suite, root, since, &declared, &known)?;
        chosen.retain(|name| touched.contains(room(name)) || touched.contains(*name));
        println!("touched since {since}: {}", touched.into_iter().collect::<Vec<_>>().join(", "));
    }
    if asked.limit.is_some() && !chosen.is_empty() {
        let first = RandomState::new().hash_one(0) as usize % chosen.len();
        chosen.rotate_left(first);
    }

    println!("{:<28} {:<52} seconds", "ordering", "noticed by");
    let is_over = |start: Instant| asked.limit.is_some_and(|limit| start.elapsed() >= limit);
    let look = |name: &&String| -> Result<(Came, f64), String> {
        let began = now();
        let came = look(suite, name, &known, asked, || is_over(start))?;
        Ok((came, began.elapsed().as_secs_f64()))
    };
    let (mut found, mut bad, mut left) = (Vec::new(), Vec::new(), Vec::new());
    in_turn(&chosen, look, |name, (came, seconds)| {
        let said = match &came {
            Came::NoticedBy(model) => model.clone(),
            Came::Nobody(late) if late.is_empty() => String::from("NOBODY"),
            Came::Nobody(late) => format!("NOBODY; did not end: {}", late.join(", ")),
            Came::Explained => String::from("nobody, as explained"),
            Came::NotByTheKnown => String::from("NOT BY THE MODEL THAT THE FILE NAMES"),
            Came::NoTime => String::from("not looked at: the time was over"),
        };
        println!("{name:<28} {said:<52} {seconds:7.1}");
        match came {
            Came::NoticedBy(model) => found.push(((*name).clone(), Line::NoticedBy(model))),
            Came::Nobody(_) => {
                let reason = match known.get(*name) {
                    Some(Line::Nobody { reason }) => reason.clone(),
                    _ => String::new(),
                };
                if reason.is_empty() {
                    bad.push((*name).clone());
                }
                found.push(((*name).clone(), Line::Nobody { reason }));
            }
            Came::Explained => {}
            Came::NotByTheKnown => bad.push((*name).clone()),
            Came::NoTime => left.push((*name).clone()),
        }
    })?;

    // What is red anyway notices nothing. With `--known` and `--changed` the models have just been run.
    let mut red = Vec::new();
    if asked.since.is_none() && !asked.known {
        let models: BTreeSet<&String> = found.iter().filter_map(|(_, line)| noticer(line)).collect();
        let models: Vec<&String> = models.into_iter().collect();
        let run = |model: &&String| suite.run_one(model, &[], PATIENCE);
        in_turn(&models, run, |model, (end, _)| {
            if end != End::Green {
                red.push((*model).clone());
            }
        })?;
    }

    known.extend(found);
    let gone: Vec<String> = known.keys().filter(|name| !all.contains(*name)).cloned().collect();
    if asked.writes {
        known.retain(|name, _| all.contains(name));
        fs::write(&path, written(&text, &known))?;
    }
    println!(
        "\n{} of {} orderings, {:.0} s",
        chosen.len() - left.len(),
        all.len(),
        start.elapsed().as_secs_f64()
    );
    red.iter().for_each(|model| println!("  red without weakening anything: {model}"));
    bad.iter().for_each(|name| println!("  too strong, or lacks a model: {name}"));
    left.iter().for_each(|name| println!("  no time for {name}"));
    if !asked.writes {
        gone.iter()
            .for_each(|name| println!("  {FILE} has a line for {name}, which is no ordering any more"));
    }
    Ok(red.is_empty() && bad.is_empty() && (asked.writes || gone.is_empty()))
}

fn look(
    suite: &Suite,
    name: &str,
    known: &BTreeMap<String, Line>,
    asked: &Asked,
    is_over: impl Fn() -> bool,
) -> Result<Came, String> {
    let mut models = candidates(suite, name, known);
    match known.get(name) {
        Some(Line::Nobody { reason }) if !reason.is_empty() && !asked.explained => {
            return Ok(Came::Explained);
        }
        Some(Line::NoticedBy(_)) if asked.known => models.truncate(1),
        _ if asked.known => models.clear(),
        _ => {}
    }
    // What notices at all mostly does so soon: all are asked for a moment first, and then those that had more to say.
    let mut late = Vec::new();
    for model in &models {
        if is_over() {
            return Ok(Came::NoTime);
        }
        let patience = if models.len() == 1 { PATIENCE } else { MOMENT };
        match suite.run_one(model, &[("DOGPILE_WEAKEN", name)], patience)?.0 {
            End::Red => return Ok(Came::NoticedBy((*model).clone())),
            End::Late => late.push((*model).clone()),
            End::Green => {}
        }
    }
    let mut never = Vec::new();
    for model in late {
        if is_over() {
            return Ok(Came::NoTime);
        }
        match suite.run_one(&model, &[("DOGPILE_WEAKEN", name)], PATIENCE)?.0 {
            End::Red => return Ok(Came::NoticedBy(model)),
            End::Late => never.push(model),
            End::Green => {}
        }
    }
    Ok(if asked.known { Came::NotByTheKnown } else { Came::Nobody(never) })
}

/// All models, the likeliest to notice it first.
fn candidates<'s>(suite: &'s Suite, name: &str, known: &BTreeMap<String, Line>) -> Vec<&'s String> {
    let own = known.get(name).and_then(noticer);
    let of_room: BTreeSet<&String> = known
        .iter()
        .filter(|(other, _)| room(other) == room(name))
        .filter_map(|(_, line)| noticer(line))
        .collect();
    let beside: BTreeSet<&str> = of_room.iter().filter_map(|model| file(suite, model)).collect();
    let mut models: Vec<&String> = suite.models.keys().collect();
    models.sort_by_key(|model| {
        let is_beside = file(suite, model).is_some_and(|file| beside.contains(file) || file == room(name));
        (own != Some(*model), !of_room.contains(model), !is_beside)
    });
    models
}

/// The rooms and orderings that the change touches.
fn touched(
    suite: &Suite,
    root: &Path,
    since: &str,
    declared: &BTreeMap<String, BTreeSet<String>>,
    known: &BTreeMap<String, Line>,
) -> Result<BTreeSet<String>, Failure> {
    let changed = Command::new("git")
        .args(["diff", "--name-only", since, "--", "loom-tests/tests"])
        .args(FOLDERS)
        .current_dir(root)
        .output()?;
    if !changed.status.success() {
        return Err(format!("git does not know what changed since {since}").into());
    }
    let mut touched = BTreeSet::new();
    for changed in String::from_utf8(changed.stdout)?.lines() {
        let (folder, name) = changed.rsplit_once('/').ok_or("it stands in a folder")?;
        if folder == "loom-tests/tests" {
            let stem = name.trim_end_matches(".rs");
            let by = known
                .iter()
                .filter(|(_, line)| noticer(line).and_then(|model| file(suite, model)) == Some(stem));
            touched.extend(by.map(|(name, _)| name.clone()));
        } else if let Some(rooms) = declared.get(changed) {
            touched.extend(rooms.iter().cloned());
        } else {
            let beside =
                declared.iter().filter(|(file, _)| file.rsplit_once('/').is_some_and(|(at, _)| at == folder));
            touched.extend(beside.flat_map(|(_, rooms)| rooms.iter().cloned()));
        }
    }
    Ok(touched)
}

fn noticer(line: &Line) -> Option<&String> {
    match line {
        Line::NoticedBy(model) => Some(model),
        Line::Nobody { .. } => None,
    }
}

/// Which file of `loom-tests/tests` a model stands in.
fn file<'s>(suite: &'s Suite, model: &str) -> Option<&'s str> {
    suite.models.get(model)?.file_name()?.to_str()?.split('-').next()
}

fn room(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn read(text: &str) -> Result<BTreeMap<String, Line>, Failure> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').ok_or_else(|| format!("{FILE}: {line}"))?;
            let line = match rest.trim().strip_prefix("nobody:") {
                Some(reason) => Line::Nobody { reason: reason.trim().to_owned() },
                None => Line::NoticedBy(rest.trim().to_owned()),
            };
            Ok((name.to_owned(), line))
        })
        .collect()
}

/// The file, with its head as it was.
fn written(old: &str, lines: &BTreeMap<String, Line>) -> String {
    let mut text: String =
        old.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let mut last = "";
    for (name, line) in lines {
        if room(name) != last {
            text.push('\n');
            last = room(name);
        }
        let said = match line {
            Line::NoticedBy(model) => model.clone(),
            Line::Nobody { reason } => format!("nobody: {reason}"),
        };
        writeln!(text, "{name:<24} {said}").expect("a string takes all");
    }
    text
}

/// Collects the names that the sources give to orderings that are not `Relaxed` already, `room.NAME`, and the rooms
/// that each file declares.
fn orderings(
    root: &Path,
    folder: &str,
    names: &mut BTreeSet<String>,
    declared: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<(), Failure> {
    for entry in fs::read_dir(root.join(folder))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a plain name")?;
        let at = format!("{folder}/{name}");
        if path.is_dir() {
            orderings(root, &at, names, declared)?;
            continue;
        }
        let text = fs::read_to_string(&path)?;
        for part in text.split("\norderings! {").skip(1) {
            let body = part.split('}').next().unwrap_or("");
            let (room, list) = body.split_once(':').ok_or("orderings! { room: NAME = Order }")?;
            declared.entry(at.clone()).or_default().insert(room.trim().to_owned());
            for (name, order) in list.split(',').filter_map(|item| item.split_once('=')) {
                let name = format!("{}.{}", room.trim(), name.trim());
                if order.trim() == "AcqRel" {
                    names.extend([format!("{name}=Acquire"), format!("{name}=Release")]);
                }
                if order.trim() != "Relaxed" {
                    names.insert(name);
                }
            }
        }
    }
    Ok(())
}
