//! Bytes per entry. Each subject fills itself in a process of its own, which counts what its allocator was asked for and
//! what it gave.

#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{Effort, grouped};
use crate::allocator;
use crate::keys::Key;
use crate::report::{self, COPY, Line, Row};
use crate::subjects::{
    Cached, DashMap, Dogpile, Foyer, Hashbrown, Moka, Papaya, QuickCache, SccCache, SccIndex, Setup, Subject,
    TinyUfo,
};

const DAY: Duration = Duration::from_secs(86_400);

/// Bytes asked of the allocator by identical subjects.
const BOUND: f64 = 0.02;

/// The argument that makes this program fill one subject and report.
pub(crate) const CHILD: &str = "child-memory";

/// A subject that can be weighed.
struct Weighed {
    /// Names the subject in the table and, without a copy's suffix, on the child's command line.
    name: String,
    package: &'static str,
    settings: String,
    /// Fills the subject with so many entries and prints its footprint; the child's part.
    fill: fn(Setup, u64, u64),
    setup: Setup,
    /// How often as many keys as there is room for are inserted, all of them new. Queues and ghosts of a cache that was
    /// filled once are not what they become.
    fillings: u64,
}

fn weigh<S: Subject<u64>>(suffix: &str, setup: Setup) -> Weighed {
    Weighed {
        name: format!("{}{suffix}", S::NAME),
        package: S::PACKAGE,
        settings: S::settings(&setup),
        fill: fill::<S>,
        setup,
        fillings: 1,
    }
}

fn turned<S: Subject<u64>>(suffix: &str, setup: Setup) -> Weighed {
    Weighed { fillings: 3, ..weigh::<S>(suffix, setup) }
}

fn weighed(entries: u64) -> Vec<Weighed> {
    let (bounded, growing) = (Setup::evicting(entries), Setup::growing());
    vec![
        weigh::<Hashbrown<u64>>("", growing),
        weigh::<Dogpile<u64>>(" unbounded", growing),
        weigh::<Dogpile<u64>>("", bounded),
        weigh::<Dogpile<u64>>(COPY, bounded),
        turned::<Dogpile<u64>>(" turned", bounded),
        turned::<Dogpile<u64>>(" with TTL, turned", bounded.expiring(DAY)),
        weigh::<QuickCache<u64>>("", bounded),
        turned::<QuickCache<u64>>(" turned", bounded),
        weigh::<Moka<u64>>("", bounded),
        turned::<Moka<u64>>(" turned", bounded),
        weigh::<Foyer<u64>>("", bounded),
        weigh::<Cached<u64>>("", bounded),
        weigh::<TinyUfo<u64>>("", bounded),
        weigh::<SccCache<u64>>("", bounded),
        weigh::<SccIndex<u64>>("", growing),
        weigh::<Papaya<u64>>("", growing),
        weigh::<DashMap<u64>>("", growing),
    ]
}

/// The parent's side.
pub(crate) fn per_entry(_: Effort, entries: u64) -> Row {
    let weighed = weighed(entries);
    let mut lines = Vec::new();
    let mut asked = Vec::new();
    for Weighed { name, package, settings, .. } in &weighed {
        let report = child(name, entries);
        let numbers: Vec<f64> = report
            .split_whitespace()
            .map(|number| number.parse().expect("the child reports numbers"))
            .collect();
        let [held_entries, bytes @ ..] = &numbers[..] else { panic!("the child reports four numbers") };
        asked.push(bytes[0] / held_entries);
        let mut cells: Vec<String> =
            bytes.iter().map(|bytes| format!("{:.1}", bytes / held_entries)).collect();
        cells.push(grouped(*held_entries as u64));
        lines.push(Line {
            subject: name.clone(),
            package,
            settings: settings.clone(),
            cells,
            samples: Vec::new(),
        });
    }
    let names: Vec<&str> = weighed.iter().map(|weighed| weighed.name.as_str()).collect();
    Row {
        title: format!("memory per entry, {}, u64 keys", grouped(entries)),
        about: String::from(
            "1 thread; bytes asked of the allocator, held by it (glibc: usable size + 8), and of resident memory; maps grow from \
             empty, caches are bounded by the number of entries; turned: three times as many keys were inserted",
        ),
        columns: &["asked", "held", "RSS", "entries"],
        headline: 1,
        lines,
        noise: report::noise(&names, &asked, "bytes asked", BOUND),
    }
}

fn child(name: &str, entries: u64) -> String {
    let program = std::env::current_exe().expect("the running program has a path");
    let output = Command::new(program)
        .args([CHILD, name, &entries.to_string()])
        .output()
        .expect("this program can start itself");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the child that weighs {name} failed: {errors}");
    String::from_utf8(output.stdout).expect("the child writes text")
}

/// The child's side: fills the subject called `name` with `entries` entries and prints what is in it and what that took.
pub(crate) fn report_footprint(name: &str, entries: u64) {
    let weighed = weighed(entries);
    let Weighed { fill, setup, fillings, .. } =
        weighed.iter().find(|weighed| weighed.name == name).expect("the parent names a known subject");
    fill(*setup, entries, *fillings);
}

fn fill<S: Subject<u64>>(setup: Setup, entries: u64, fillings: u64) {
    let resident = resident_bytes();
    let before = allocator::start_counting();
    let mut subject = S::build(&setup);
    (0..fillings * entries).for_each(|index| subject.put(u64::of(index), index));
    subject.settle();
    let after = allocator::counts();
    let resident = resident_bytes() - resident;
    let held = (0..fillings * entries).filter(|&index| subject.get(&u64::of(index)).is_some()).count() as u64;
    assert!(held >= entries / 2, "{} holds {held} of {entries} entries", S::NAME);
    println!("{held} {} {} {resident}", after.asked - before.asked, after.held - before.held);
}

fn resident_bytes() -> i64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages: i64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("the second field of statm is the resident set in pages");
    pages * i64::try_from(rustix::param::page_size()).expect("pages are small")
}
