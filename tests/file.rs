//! The store in files: the contract of backends, over one folder, by threads and tasks.

mod folders;

use dogpile::backend::conformance::{Conformance, Outcome};
use dogpile::backend::{FileBackend, OnThreads};
use dogpile::time::ManualClock;
use folders::Folder;
use std::collections::HashSet;

/// What does not concern it: it keeps values, its locks end with their process, and who blocks can't be given up.
const NOT_ITS: [&str; 3] =
    ["what_keeps_nothing_says_so", "mutex_ends_with_its_lease", "a_call_that_is_given_up_harms_none"];

fn left_out(report: &dogpile::backend::conformance::Report) -> HashSet<&'static str> {
    let is_so = |outcome: &Outcome| matches!(outcome, Outcome::NotApplicable(_));
    report.checks().iter().filter(|check| is_so(&check.outcome)).map(|check| check.name).collect()
}

#[test]
fn the_contract_is_kept() {
    let folder = Folder::new();
    let path = folder.path().to_owned();
    let clock = ManualClock::new();
    let time = clock.clone();
    let make = move || FileBackend::builder(&path).clock(clock.clone()).build().unwrap();
    let report = Conformance::new(make).advance(move |span| time.advance(span)).run();
    report.assert_passed();
    assert_eq!(left_out(&report), NOT_ITS.into(), "{report}");
}

#[test]
fn the_contract_is_kept_for_tasks() {
    let folder = Folder::new();
    let path = folder.path().to_owned();
    let clock = ManualClock::new();
    let time = clock.clone();
    let make = move || OnThreads::new(FileBackend::builder(&path).clock(clock.clone()).build().unwrap());
    let report = Conformance::for_tasks(make).advance(move |span| time.advance(span)).run();
    report.assert_passed();
    println!("{report}");
}
