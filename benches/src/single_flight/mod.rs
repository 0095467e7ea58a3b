//! What happens when several callers want one absent key, in `dogpile` and its peers.
//!
//! Each cell is the word that a child process prints, so that one that hangs is a word too.

#![forbid(unsafe_code)]

mod cached;
mod cases;
mod foyer;
mod moka;
mod ours;
mod quick_cache;
mod rig;
mod script;
mod subject;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use self::cases::{Case, HANGS, PLANS, Plan};
use self::rig::{Rig, Tasks, Threads};
use crate::args::{SingleFlightOptions, is_wanted};
use crate::report::Format;
use crate::{machine, report};

/// The subcommand of a child.
pub(crate) const CHILD: &str = "single-flight-case";

/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(5);

/// Children at work at once. Most of the time that the table takes is waiting for those that hang.
const AT_ONCE: usize = 4;

/// The cell of a child that could not finish its own work.
const BROKEN: &str = "broken";

/// The package whose cells have to be good.
const OURS: &str = "dogpile";

/// A library in one of its forms.
struct Subject {
    name: &'static str,
    package: &'static str,
    calls: &'static str,
    answer: fn(Case) -> String,
}

const fn subject<R: Rig>() -> Subject {
    Subject { name: R::NAME, package: R::PACKAGE, calls: R::CALLS, answer: cases::answer::<R> }
}

/// All subjects, in the order of the table.
const SUBJECTS: &[Subject] = &[
    subject::<Threads<moka::Sync>>(),
    subject::<Tasks<moka::Future>>(),
    subject::<Threads<quick_cache::Sync>>(),
    subject::<Tasks<quick_cache::Async>>(),
    subject::<Tasks<foyer::Foyer>>(),
    subject::<Threads<cached::Sync>>(),
    subject::<Tasks<cached::Async>>(),
    subject::<Threads<ours::Sync>>(),
    subject::<Tasks<ours::Async>>(),
];

/// Asks all subjects all questions, or those whose `subject/case` contains one of the words.
pub(crate) fn run(options: &SingleFlightOptions) -> ExitCode {
    let is_asked = |subject: &Subject, plan: &Plan| {
        is_wanted(&options.words, &format!("{}/{}", subject.name, plan.name))
    };
    let subjects: Vec<&Subject> =
        SUBJECTS.iter().filter(|subject| PLANS.iter().any(|plan| is_asked(subject, plan))).collect();
    let plans: Vec<&Plan> =
        PLANS.iter().filter(|plan| SUBJECTS.iter().any(|subject| is_asked(subject, plan))).collect();
    if plans.is_empty() {
        eprintln!("no subject or case is called like that; the whole table has the names");
        return ExitCode::from(2);
    }
    let questions: Vec<(&Subject, &Plan)> =
        plans.iter().flat_map(|plan| subjects.iter().map(move |subject| (*subject, *plan))).collect();
    let cells = all(
        &questions,
        |(subject, plan)| {
            if is_asked(subject, plan) { ask(subject, plan) } else { String::new() }
        },
    );
    println!("### What happens around one creation\n\n{}\n", machine::describe());
    println!("{}Cells:", table(&subjects, &plans, &cells));
    println!("{}\nCases:\n", cases::LEGEND);
    plans.iter().for_each(|plan| println!("- **{}**: {}", plan.name, plan.question));
    println!("\nWhat is called:\n");
    subjects.iter().for_each(|subject| println!("- **{}**: {}", subject.name, subject.calls));
    let complaints = complaints(questions.iter().copied().zip(&cells));
    complaints.iter().for_each(|complaint| eprintln!("error: {complaint}"));
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The child's side: prints one cell.
pub(crate) fn run_case(subject: &str, case: &str) {
    let subject = SUBJECTS.iter().find(|known| known.name == subject).expect("a subject of the table");
    let plan = PLANS.iter().find(|known| known.name == case).expect("a case of the table");
    println!("{}", (subject.answer)(plan.case));
}

/// Works on all questions, [`AT_ONCE`] at a time; the answers are in the order of the questions.
fn all<Q: Sync>(questions: &[Q], answer: impl Fn(&Q) -> String + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(vec![String::new(); questions.len()]);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((place, question)) = {
                    // Which of them takes which question is all that matters.
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    questions.get(place).map(|question| (place, question))
                } {
                    let answer = answer(question);
                    answers.lock().expect("nothing panics while it holds this lock")[place] = answer;
                }
            });
        }
    });
    answers.into_inner().expect("nothing panics while it holds this lock")
}

/// Asks in a child process, and ends it when it hangs.
fn ask(subject: &Subject, plan: &Plan) -> String {
    let program = std::env::current_exe().expect("the running program has a path");
    let mut child = Command::new(program)
        .args([CHILD, subject.name, plan.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program can start itself");
    let mut pipe = child.stdout.take().expect("the output is piped");
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("the child writes text");
        // If nobody listens any more, the child hangs.
        let _ = sender.send(text);
    });
    let text = receiver.recv_timeout(LIMIT).ok();
    if text.is_none() {
        child.kill().expect("a child may be ended by its parent");
    }
    let status = child.wait().expect("a child can be waited for");
    reader.join().expect("reading the output of a child that has ended ends");
    match (text, status.code()) {
        (None, _) => String::from(HANGS),
        (Some(text), Some(0)) => String::from(text.trim()),
        (Some(_), None) => String::from("aborts"),
        (Some(_), Some(_)) => String::from(BROKEN),
    }
}

fn table(subjects: &[&Subject], plans: &[&Plan], cells: &[String]) -> String {
    let mut head = vec![String::from("case")];
    head.extend(
        subjects.iter().map(|subject| format!("{} {}", subject.name, machine::version_of(subject.package))),
    );
    head.push(String::from("good"));
    let body: Vec<Vec<String>> = plans
        .iter()
        .zip(cells.chunks(subjects.len()))
        .map(|(plan, cells)| {
            let mut line = vec![String::from(plan.name)];
            line.extend(cells.iter().cloned());
            line.push(plan.good_words());
            line
        })
        .collect();
    report::grid(&head, &body, Format::Markdown)
}

/// What `dogpile` does not do as it has to, and which cells say nothing.
fn complaints<'q>(answers: impl Iterator<Item = ((&'q Subject, &'q Plan), &'q String)>) -> Vec<String> {
    answers
        .filter(|(_, cell)| !cell.is_empty())
        .filter_map(|((subject, plan), cell)| {
            let (subject_name, case) = (subject.name, plan.name);
            if cell == BROKEN {
                return Some(format!(
                    "{subject_name}: {case} itself failed; see `dogpile-benches {CHILD} '{subject_name}' {case}`"
                ));
            }
            let is_good = subject.package != OURS || plan.good.contains(&cell.as_str());
            (!is_good).then(|| format!("{subject_name}: {case}: {cell}, not {}", plan.good_words()))
        })
        .collect()
}
