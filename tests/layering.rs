//! The rooms and the arrows between them, as `ARCHITECTURE.md` draws them: read from the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use. A room is a file or folder of `src`; `lib` and `model` list what is public.
const ARROWS: &[(&str, &[&str])] = &[
    ("sync", &[]),
    ("error", &["sync"]),
    ("hash", &[]),
    ("guide", &[]),
    ("time", &["sync"]),
    ("engine", &["sync", "time", "error"]),
    ("gate", &["sync", "time", "error"]),
    ("codec", &["sync", "error"]),
    ("cache", &["engine", "gate", "sync", "time", "error", "hash"]),
    ("backend", &["cache", "codec", "hash", "sync", "time", "error"]),
    ("region", &["backend", "cache", "codec", "gate", "hash", "sync", "time", "error"]),
    ("memoised", &["region", "cache", "codec", "gate", "sync", "error"]),
];

/// The rooms in which `unsafe` may stand.
const UNSAFE_ROOMS: &[&str] = &["engine/table/", "engine/reclaim/"];

/// What only one file may name.
const DOORS: &[(&str, &[&str])] = &[
    ("std::sync", &["sync.rs"]),
    ("std::thread", &["sync.rs"]),
    ("std::time::Instant", &["time.rs"]),
    ("SystemTime", &["time.rs"]),
    (
        "loom::",
        &["sync.rs", "engine/reclaim/record.rs", "engine/reclaim/asymmetric.rs", "engine/reclaim/epoch.rs"],
    ),
    ("shuttle::", &["sync.rs"]),
    ("crossbeam_epoch", &["engine/reclaim/epoch.rs"]),
];

/// Where an ordering stands in place, because it has no partner that a weaker one would lose. All others have names, so
/// that they can be weakened one by one.
const UNNAMED: &[(&str, &[&str], &str)] =
    &[("engine/reclaim/barrier.rs", &["SeqCst"], "a fence of the compiler's, which models have no word for")];

struct Source {
    /// Relative to `src`, with slashes.
    name: String,
    /// Without comments, and without `#[cfg(test)]` modules.
    code: String,
    /// The first lines, comments and all.
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        self.name.split('/').next().expect("a name has a first part").trim_end_matches(".rs")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 15, "the sources were found");
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is readable");
            let name = path
                .strip_prefix(&root)
                .expect("below src")
                .to_str()
                .expect("a plain name")
                .replace('\\', "/");
            Source { name, code: strip(&text), text }
        })
        .filter(|source| !source.name.ends_with("tests.rs"))
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("an entry is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Cuts the unit tests off (they stand last in a file) and drops comments.
fn strip(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    shipped.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a piece of code names by `crate::…`.
fn used(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or("").split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let room: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            rooms.insert(room);
        }
    }
    rooms
}

#[test]
fn arrows_point_down_only() {
    for source in sources() {
        let room = source.room();
        if matches!(room, "lib" | "model") {
            continue;
        }
        let (_, allowed) = ARROWS
            .iter()
            .find(|(known, _)| *known == room)
            .unwrap_or_else(|| panic!("{}: room {room} is not in the table: draw it", source.name));
        for other in used(&source.code) {
            // Macros are exported at the root; public types are re-exported there.
            let is_type = other.chars().next().is_some_and(char::is_uppercase);
            assert!(
                other == room || is_type || allowed.contains(&other.as_str()),
                "{}: {room} must not use {other}",
                source.name
            );
        }
    }
}

#[test]
fn the_page_of_rooms_names_them_all() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"))
        .expect("ARCHITECTURE.md is there");
    for (room, uses) in ARROWS {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{room}` |")))
            .unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {room}"));
        for other in *uses {
            assert!(row.contains(&format!("`{other}`")), "ARCHITECTURE.md, row {room}: it may use {other}");
        }
    }
}

#[test]
fn unsafe_stands_in_its_rooms_only() {
    for source in sources() {
        let has_unsafe = source.code.contains("unsafe ") || source.code.contains("unsafe{");
        let may = UNSAFE_ROOMS.iter().any(|room| source.name.starts_with(room));
        assert!(!has_unsafe || may, "{}: unsafe outside of {UNSAFE_ROOMS:?}", source.name);
        // A `forbid` reaches into submodules, so the files above the two rooms can't have one.
        let above = matches!(source.name.as_str(), "lib.rs" | "model.rs" | "engine/mod.rs");
        if !may && !above {
            assert!(source.text.contains("#![forbid(unsafe_code)]"), "{}: forbid unsafe code", source.name);
        }
    }
}

#[test]
fn each_door_has_its_keeper() {
    for source in sources() {
        for (name, keepers) in DOORS {
            let names_it = source.code.lines().any(|line| {
                line.contains(name) && !(*name == "std::thread" && line.contains("std::thread_local!"))
            });
            let may = keepers.contains(&source.name.as_str());
            assert!(!names_it || may, "{}: {name} goes through {keepers:?}", source.name);
        }
    }
}

/// What loom weakens it must be able to name; a list that names too much is out of date.
#[test]
fn every_ordering_has_a_name() {
    let mut used = BTreeSet::new();
    for source in sources() {
        if !matches!(source.room(), "engine" | "gate") {
            continue;
        }
        let mut code = String::new();
        for (i, part) in source.code.split("orderings! {").enumerate() {
            code.push_str(if i == 0 { part } else { part.split_once('}').map_or("", |(_, rest)| rest) });
        }
        for word in code.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if !matches!(word, "Acquire" | "Release" | "AcqRel" | "SeqCst") {
                continue;
            }
            let listed =
                UNNAMED.iter().find(|(file, words, _)| *file == source.name && words.contains(&word));
            let (file, ..) = listed.unwrap_or_else(|| {
                panic!(
                    "{}: {word} has no name: declare it by `orderings!`, or list it here with its reason",
                    source.name
                )
            });
            used.insert((*file, word.to_owned()));
        }
    }
    for (file, words, _) in UNNAMED {
        for word in *words {
            assert!(used.contains(&(*file, (*word).to_owned())), "{file} does not use {word} any more");
        }
    }
}
