//! The questions, each asked of every subject in the same words.
//!
//! Order is forced: creators are held behind gates, a caller is started when the log or [`settle`] says that the one before it
//! is where it has to be. Whatever hangs is ended by the parent process.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::time::Duration;
use std::{panic, slice};

use super::rig::{Call, Rig, settle};
use super::script::{Gate, Log, Script};
use super::subject::{Ending, Setup, Unbuilt};

/// The cell of a subject that has no such call or setting.
pub(super) const LACKING: &str = "-";

/// The cell of a child that had to be ended.
pub(super) const HANGS: &str = "hangs";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Stampede,
    PanicsOnce,
    PanicsAlways,
    FailsAlways,
    LeaderDropped,
    LeaderParked,
    ReEntry,
    Circle,
    Insert,
    Remove,
    Clear,
    LongestTimeToLive,
    NoTimeToLive,
    NoRoom,
    Stale,
}

/// What stands in the table about a case.
pub(super) struct Plan {
    pub(super) case: Case,
    pub(super) name: &'static str,
    pub(super) question: &'static str,
    /// What `dogpile` has to answer, in one of these words.
    pub(super) good: &'static [&'static str],
}

impl Plan {
    /// As in the table.
    pub(super) fn good_words(&self) -> String {
        let words: Vec<&str> = self.good.iter().copied().filter(|word| *word != LACKING).collect();
        words.join(" or ")
    }
}

const fn plan(case: Case, name: &'static str, good: &'static [&'static str], question: &'static str) -> Plan {
    Plan { case, name, question, good }
}

/// All cases, in the order of the table.
pub(super) const PLANS: &[Plan] = &[
    plan(
        Case::Stampede,
        "stampede",
        &["1 call"],
        "64 callers of one cold key: how often is a creator called?",
    ),
    plan(
        Case::PanicsOnce,
        "panic-once",
        &["2 calls"],
        "the leader's creator panics while 7 wait, then one more comes: how many calls, and who gets no value?",
    ),
    plan(
        Case::PanicsAlways,
        "panic-always",
        // One waiter tries in the leader's place. When that fails too, the others are told, and don't all try.
        &["2 calls, 6 errors"],
        "8 callers, and each brings a creator that panics: how many calls, and does anybody get something else than a panic?",
    ),
    plan(
        Case::FailsAlways,
        "fail-always",
        &["1 call"],
        "8 callers, and each brings a creator that returns an error: how many calls, and does each get the creator's own error?",
    ),
    plan(
        Case::LeaderDropped,
        "leader-dropped",
        // Threads can't be dropped.
        &["taken over", LACKING],
        "the leader's future is dropped while 7 wait: does one of them lead with its own creator, or does the creation go on?",
    ),
    plan(
        Case::LeaderParked,
        "leader-parked",
        &["gets away"],
        "the leader's future was polled once and never again (a thread: its creator blocks for ever): does a caller with a limit of \
         200 ms get away?",
    ),
    plan(Case::ReEntry, "re-entry", &["error"], "a creator asks for its own key"),
    plan(Case::Circle, "circle", &["error"], "the creator of A asks for B while the creator of B asks for A"),
    plan(
        Case::Insert,
        "insert",
        &["newer stays"],
        "`insert` while the value is being created: which of the two is in the cache afterwards?",
    ),
    plan(
        Case::Remove,
        "remove",
        &["none"],
        "`remove` while the value is being created: what is in the cache afterwards?",
    ),
    plan(
        Case::Clear,
        "clear",
        &["none"],
        "`clear` while the value is being created: what is in the cache afterwards?",
    ),
    plan(
        Case::LongestTimeToLive,
        "ttl-max",
        &["kept"],
        "a time to live of `Duration::MAX`: is what was created found again?",
    ),
    plan(
        Case::NoTimeToLive,
        "ttl-zero",
        &["not kept", "refused"],
        "a time to live of zero: does the caller get the value, and is it found again?",
    ),
    plan(
        Case::NoRoom,
        "capacity-zero",
        &["not kept", "refused"],
        "a capacity of zero: does the caller get the value, and is it found again?",
    ),
    plan(
        Case::Stale,
        "stale",
        &["served"],
        "an expired value is being made anew: does a second caller get the old one at once?",
    ),
];

/// The words of the cells.
pub(super) const LEGEND: &str = "
- `good`: what is wanted, and what `dogpile` is held to
- `-`: the library has no such call or setting
- `hangs`: it had not ended after 5 s
- `panics`: a panic that is not the creator's; `refused`: an error when the cache is built; `aborts`: the process ended by a signal
- `n calls`: of creators, by all callers together; after the comma those who did not get what they should have, and `poisoned` if
  the next caller got no value
- `taken over`: a waiter led, with its own creator; `goes on`: the creation went on without the caller that had begun it
- `gets away`: the call ended when its limit had passed; `gets value`: somebody else went on with the parked creation
- `newer stays`: what was inserted meanwhile; `older wins`: the creation overwrites it; `value is back`: the creation undoes the removal;
  `(waits)`: the write did not return before the creation had ended
- `served`: the old value, at once; `waits`: for the new one
";

const KEY: u64 = 1;
const OTHER_KEY: u64 = 2;

/// Asks a subject, within this process.
pub(super) fn answer<R: Rig>(case: Case) -> String {
    let cell = match case {
        Case::Stampede => stampede::<R>(),
        Case::PanicsOnce => panics_once::<R>(),
        Case::PanicsAlways => panics_always::<R>(),
        Case::FailsAlways => fails_always::<R>(),
        Case::LeaderDropped => leader_dropped::<R>(),
        Case::LeaderParked => leader_parked::<R>(),
        Case::ReEntry => re_entry::<R>(),
        Case::Circle => circle::<R>(),
        Case::Insert => insert_meanwhile::<R>(),
        Case::Remove => remove_meanwhile::<R>(R::remove),
        Case::Clear => remove_meanwhile::<R>(|rig, _| rig.clear()),
        Case::LongestTimeToLive => kept::<R>(Setup::TimeToLive(Duration::MAX)),
        Case::NoTimeToLive => kept::<R>(Setup::TimeToLive(Duration::ZERO)),
        Case::NoRoom => kept::<R>(Setup::NoRoom),
        Case::Stale => stale::<R>(),
    };
    match cell {
        Ok(cell) => cell,
        Err(Unbuilt::Lacking) => String::from(LACKING),
        Err(Unbuilt::Refused) => String::from("refused"),
        Err(Unbuilt::Panicked) => String::from("panics"),
    }
}

type Cell = Result<String, Unbuilt>;

fn build<R: Rig>(setup: Setup) -> Result<R, Unbuilt> {
    panic::catch_unwind(|| R::build(setup)).unwrap_or(Err(Unbuilt::Panicked))
}

fn stampede<R: Rig>() -> Cell {
    let (rig, log, gate) = (build::<R>(Setup::Plain)?, Log::default(), Gate::default());
    let callers: Vec<_> = (0..64).map(|_| rig.create(KEY, log.giving(7).behind(&gate))).collect();
    log.wait_for(1);
    settle(&callers);
    gate.open();
    let endings = end(callers);
    Ok(format!("{}{}", calls(&log), others(&endings, Ending::Value(7))))
}

/// A leader in its creator, and 7 that wait for it; then the leader's creator goes on. All creators are behind one gate, so that
/// nobody has a value before everybody asks.
fn crowd<R: Rig>(rig: &R, log: &Log, leader: Script, script: impl Fn() -> Script) -> (Ending, Vec<Ending>) {
    let gate = Gate::default();
    let leader = rig.create(KEY, leader.behind(&gate));
    log.wait_for(1);
    let waiters: Vec<_> = (0..7).map(|_| rig.create(KEY, script().behind(&gate))).collect();
    settle(&waiters);
    gate.open();
    (leader.end(), end(waiters))
}

fn panics_once<R: Rig>() -> Cell {
    let (rig, log) = (build::<R>(Setup::Plain)?, Log::default());
    let (_, waiters) = crowd(&rig, &log, log.panicking(), || log.giving(7));
    let late = rig.create(KEY, log.giving(7)).end();
    let poisoned = if late == Ending::Value(7) { "" } else { ", then poisoned" };
    Ok(format!("{}{}{poisoned}", calls(&log), others(&waiters, Ending::Value(7))))
}

fn panics_always<R: Rig>() -> Cell {
    let (rig, log) = (build::<R>(Setup::Plain)?, Log::default());
    let (leader, mut endings) = crowd(&rig, &log, log.panicking(), || log.panicking());
    endings.push(leader);
    Ok(format!("{}{}{}", calls(&log), others(&endings, Ending::Panicked), poisoned(&rig)))
}

fn fails_always<R: Rig>() -> Cell {
    let (rig, log) = (build::<R>(Setup::Plain)?, Log::default());
    let (leader, mut endings) = crowd(&rig, &log, log.failing(), || log.failing());
    endings.push(leader);
    Ok(format!("{}{}{}", calls(&log), others(&endings, Ending::Failed), poisoned(&rig)))
}

fn leader_dropped<R: Rig>() -> Cell {
    let (rig, log, gate) = (build::<R>(Setup::Plain)?, Log::default(), Gate::default());
    let leader = rig.create(KEY, log.giving(1).behind(&gate));
    log.wait_for(1);
    let waiters: Vec<_> = (0..7).map(|_| rig.create(KEY, log.giving(2).behind(&gate))).collect();
    settle(&waiters);
    if rig.abandon(leader).is_none() {
        return Ok(String::from(LACKING));
    }
    gate.open();
    let endings = end(waiters);
    Ok(match (endings[0], log.calls()) {
        (Ending::Value(2), 2) => format!("taken over{}", others(&endings, Ending::Value(2))),
        (Ending::Value(1), 1) => format!("goes on{}", others(&endings, Ending::Value(1))),
        _ => format!("{}{}", calls(&log), others(&endings, Ending::Value(2))),
    })
}

fn leader_parked<R: Rig>() -> Cell {
    let (rig, log) = (build::<R>(Setup::Plain)?, Log::default());
    let _leader = rig.create_parked(KEY, log.giving(1), &Gate::default());
    log.wait_for(1);
    let ending = rig.create_within(Duration::from_millis(200), KEY, log.giving(2)).end();
    Ok(String::from(match ending {
        Ending::TimedOut => "gets away",
        Ending::Value(1) => "gets value",
        other => word(other),
    }))
}

fn re_entry<R: Rig>() -> Cell {
    let (rig, log) = (build::<R>(Setup::Plain)?, Log::default());
    let ending = rig.create(KEY, log.giving(1).asking(KEY, log.giving(2))).end();
    Ok(told(&log, &[ending]))
}

fn circle<R: Rig>() -> Cell {
    let (rig, log) = (build::<R>(Setup::Plain)?, Log::default());
    // Both ask when both are in their creators, and nobody goes on before both have asked.
    let (ask, go_on) = (Gate::default(), Gate::default());
    let begin = |key, value, other_key| {
        let answer = log.giving(value + 2).behind(&go_on);
        rig.create(key, log.giving(value).behind(&ask).asking(other_key, answer))
    };
    let callers = vec![begin(KEY, 1, OTHER_KEY), begin(OTHER_KEY, 2, KEY)];
    log.wait_for(2);
    ask.open();
    settle(&callers);
    go_on.open();
    Ok(told(&log, &end(callers)))
}

/// What creators that asked the cache were told.
fn told(log: &Log, endings: &[Ending]) -> String {
    let answers = log.answers();
    let unlucky = answers.iter().chain(endings).find(|ending| !matches!(ending, Ending::Value(_)));
    unlucky.map_or_else(|| calls(log), |ending| String::from(word(*ending)))
}

/// Begins a creation, does `write` meanwhile, and lets the creation end. Returns whether the write waited for that.
fn meanwhile<R: Rig>(rig: &R, write: impl FnOnce() -> Call<()>) -> &'static str {
    let (log, gate) = (Log::default(), Gate::default());
    let leader = rig.create(KEY, log.giving(1).behind(&gate));
    log.wait_for(1);
    let write = write();
    settle(slice::from_ref(&write));
    let waits = if write.has_ended() { "" } else { " (waits)" };
    gate.open();
    leader.end();
    write.finish();
    rig.rest();
    waits
}

fn insert_meanwhile<R: Rig>() -> Cell {
    let rig = build::<R>(Setup::Plain)?;
    let waits = meanwhile(&rig, || rig.insert(KEY, 2));
    let outcome = match rig.get(KEY) {
        Some(2) => "newer stays",
        Some(_) => "older wins",
        None => "none",
    };
    Ok(format!("{outcome}{waits}"))
}

fn remove_meanwhile<R: Rig>(remove: impl FnOnce(&R, u64) -> Call<()>) -> Cell {
    let rig = build::<R>(Setup::Plain)?;
    let waits = meanwhile(&rig, || remove(&rig, KEY));
    let outcome = if rig.get(KEY).is_some() { "value is back" } else { "none" };
    Ok(format!("{outcome}{waits}"))
}

fn kept<R: Rig>(setup: Setup) -> Cell {
    let (rig, log) = (build::<R>(setup)?, Log::default());
    let ending = rig.create(KEY, log.giving(7)).end();
    rig.rest();
    Ok(String::from(match (ending, rig.get(KEY)) {
        (Ending::Value(7), Some(7)) => "kept",
        (Ending::Value(7), None) => "not kept",
        (ending, _) => word(ending),
    }))
}

fn stale<R: Rig>() -> Cell {
    let (rig, log, gate) = (build::<R>(Setup::Stale)?, Log::default(), Gate::default());
    rig.create(KEY, log.giving(1)).end();
    rig.expire(KEY);
    let leader = rig.create(KEY, log.giving(2).behind(&gate));
    log.wait_for(2);
    let second = rig.create(KEY, log.giving(3));
    settle(slice::from_ref(&second));
    let waits = !second.has_ended();
    gate.open();
    leader.end();
    Ok(match second.end() {
        Ending::Value(1) if !waits => String::from("served"),
        Ending::Value(2) if waits => String::from("waits"),
        Ending::Value(_) => calls(&log),
        other => String::from(word(other)),
    })
}

fn end(callers: Vec<Call<Ending>>) -> Vec<Ending> {
    callers.into_iter().map(Call::end).collect()
}

fn poisoned<R: Rig>(rig: &R) -> &'static str {
    let late = rig.create(KEY, Log::default().giving(9)).end();
    if late == Ending::Value(9) { "" } else { ", then poisoned" }
}

fn calls(log: &Log) -> String {
    match log.calls() {
        1 => String::from("1 call"),
        calls => format!("{calls} calls"),
    }
}

/// How many ended otherwise than `wanted`, and how: `, 6 errors, 1 panics`.
pub(super) fn others(endings: &[Ending], wanted: Ending) -> String {
    let mut text = String::new();
    for kind in ["values", "errors", "panics", "without"] {
        let is_of_kind = |ending: &&Ending| **ending != wanted && plural(**ending) == kind;
        let count = endings.iter().filter(is_of_kind).count();
        if count > 0 {
            write!(text, ", {count} {kind}").expect("writing to a string");
        }
    }
    text
}

fn plural(ending: Ending) -> &'static str {
    match ending {
        Ending::Value(_) => "values",
        Ending::Failed | Ending::Refused => "errors",
        Ending::Panicked => "panics",
        Ending::TimedOut | Ending::Lacking => "without",
    }
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Value(_) => "other value",
        Ending::Failed => "creator's error",
        Ending::Refused => "error",
        Ending::TimedOut => "times out",
        Ending::Lacking => LACKING,
        Ending::Panicked => "panics",
    }
}
