use std::collections::HashMap;
use std::sync::Mutex;

use super::cases::others;
use super::rig::settle;
use super::script::{Creation, Failure, Gate, Log};
use super::subject::{Blocking, Ending, Polled, Setup, Unbuilt};
use super::*;

/// A map in which every caller creates for itself: what the cases must be able to tell from a cache that knows better.
#[derive(Default)]
struct Naive(Mutex<HashMap<u64, u64>>);

impl Naive {
    fn look(&self, key: u64) -> Option<u64> {
        self.0.lock().unwrap().get(&key).copied()
    }
    fn store(&self, key: u64, result: Result<u64, Failure>) -> Ending {
        if let Ok(value) = result {
            self.0.lock().unwrap().insert(key, value);
        }
        Ending::of(result)
    }
}

impl Blocking for Naive {
    const NAME: &'static str = "naive";
    const PACKAGE: &'static str = "none";
    const CALLS: &'static str = "";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        match setup {
            Setup::Plain => Ok(Naive::default()),
            Setup::NoRoom => panic!("it does not know what to do without room"),
            Setup::TimeToLive(_) | Setup::Stale => Err(Unbuilt::Lacking),
        }
    }
    fn get_or_create(
        &self,
        key: u64,
        creator: impl FnOnce() -> Result<u64, Failure> + Send + 'static,
    ) -> Ending {
        match self.look(key) {
            Some(value) => Ending::Value(value),
            None => self.store(key, creator()),
        }
    }
    fn get(&self, key: u64) -> Option<u64> {
        self.look(key)
    }
    fn insert(&self, key: u64, value: u64) {
        self.store(key, Ok(value));
    }
    fn remove(&self, key: u64) {
        self.0.lock().unwrap().remove(&key);
    }
    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Polled for Naive {
    const NAME: &'static str = "naive async";
    const PACKAGE: &'static str = "none";
    const CALLS: &'static str = "";

    fn build(setup: Setup) -> Result<Self, Unbuilt> {
        <Naive as Blocking>::build(setup)
    }
    async fn get_or_create(&self, key: u64, creator: Creation) -> Ending {
        match self.look(key) {
            Some(value) => Ending::Value(value),
            None => self.store(key, creator.await),
        }
    }
    async fn get(&self, key: u64) -> Option<u64> {
        self.look(key)
    }
    async fn insert(&self, key: u64, value: u64) {
        self.store(key, Ok(value));
    }
    async fn remove(&self, key: u64) {
        Blocking::remove(self, key);
    }
    async fn clear(&self) {
        Blocking::clear(self);
    }
}

fn check<R: Rig>(expected: &[(Case, &str)]) {
    for (case, cell) in expected {
        assert_eq!(cases::answer::<R>(*case), *cell, "{case:?}");
    }
}

/// What the cases say of a cache in which nobody waits for anybody.
const OF_NAIVE: &[(Case, &str)] = &[
    (Case::Stampede, "64 calls"),
    (Case::PanicsOnce, "8 calls"),
    (Case::PanicsAlways, "8 calls"),
    (Case::FailsAlways, "8 calls"),
    (Case::ReEntry, "2 calls"),
    (Case::Circle, "4 calls"),
    (Case::Insert, "older wins"),
    (Case::Remove, "value is back"),
    (Case::Clear, "value is back"),
    (Case::LongestTimeToLive, "-"),
    (Case::NoRoom, "panics"),
    (Case::Stale, "-"),
];

#[test]
fn threads_that_do_not_wait_are_told() {
    check::<Threads<Naive>>(OF_NAIVE);
    check::<Threads<Naive>>(&[(Case::LeaderDropped, "-"), (Case::LeaderParked, "-")]);
}

#[test]
fn tasks_that_do_not_wait_are_told() {
    check::<Tasks<Naive>>(OF_NAIVE);
    check::<Tasks<Naive>>(&[(Case::LeaderDropped, "8 calls"), (Case::LeaderParked, "other value")]);
}

/// Of callers behind a gate, those count as waiting that have come to it, and no others.
fn waits_are_seen<R: Rig>() {
    let (Ok(rig), log, gate) = (R::build(Setup::Plain), Log::default(), Gate::default()) else {
        panic!("a plain cache is built")
    };
    let callers: Vec<_> = (0..20).map(|key| rig.create(key, log.giving(key).behind(&gate))).collect();
    settle(&callers);
    assert_eq!(log.calls(), 20);
    assert!(callers.iter().all(|caller| !caller.has_ended()));
    gate.open();
    settle(&callers);
    assert!(callers.iter().all(super::rig::Call::has_ended));
}

#[test]
fn waits_of_threads_are_seen() {
    waits_are_seen::<Threads<Naive>>();
}

#[test]
fn waits_of_tasks_are_seen() {
    waits_are_seen::<Tasks<Naive>>();
}

#[test]
fn those_who_fare_otherwise_are_counted() {
    let (value, failed) = (Ending::Value(7), Ending::Failed);
    assert_eq!(others(&[value, value], value), "");
    assert_eq!(others(&[value, failed, Ending::Refused], value), ", 2 errors");
    assert_eq!(others(&[failed, Ending::Panicked, value], value), ", 1 errors, 1 panics");
}

fn ours() -> Subject {
    Subject { name: "dogpile", package: OURS, calls: "", answer: |_| String::new() }
}

fn complaints_about(subject: &Subject, cell: &str) -> Vec<String> {
    complaints([((subject, &PLANS[0]), &String::from(cell))].into_iter())
}

#[test]
fn only_we_are_held_to_what_is_good() {
    let peer = Subject { name: "peer", package: "peer", ..ours() };
    assert!(complaints_about(&ours(), "1 call").is_empty());
    assert_eq!(complaints_about(&ours(), HANGS), ["dogpile: stampede: hangs, not 1 call"]);
    assert!(complaints_about(&ours(), "").is_empty(), "it was not asked");
    assert!(complaints_about(&peer, HANGS).is_empty());
    assert_eq!(complaints_about(&peer, BROKEN).len(), 1);
}

#[test]
fn answers_come_in_the_order_of_the_questions() {
    let questions: Vec<usize> = (0..50).collect();
    let expected: Vec<String> = questions.iter().map(usize::to_string).collect();
    assert_eq!(all(&questions, usize::to_string), expected);
}

#[test]
fn a_line_has_a_cell_for_each_subject() {
    let (ours, plans) = (ours(), [&PLANS[0], &PLANS[1]]);
    let cells = ["1 call", "2 calls", "hangs", "-"].map(String::from);
    let text = table(&[&ours, &ours], &plans, &cells);
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    assert_eq!(lines[2], ["stampede", "1 call", "2 calls", "1 call"]);
    assert_eq!(lines[3], ["panic-once", "hangs", "-", "2 calls"]);
}

#[test]
fn names_are_unique() {
    let names: Vec<&str> = SUBJECTS.iter().map(|subject| subject.name).collect();
    let cases: Vec<&str> = PLANS.iter().map(|plan| plan.name).collect();
    for names in [names, cases] {
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
