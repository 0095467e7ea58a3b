//! What `dogpile stampede` prints and writes. Nothing here hangs on how fast the machine is: all that is asserted holds
//! also where no request is made at all.

mod common;

use std::{fs, time::Duration};

use common::{folder, run};

/// Short lives and many requests: entries expire again and again in the quarter of a second.
const SMALL: [&str; 14] = [
    "stampede",
    "--threads=3",
    "--tasks=20",
    "--pause=1ms",
    "--keys=5",
    "--latency=4ms",
    "--latency-spread=50%",
    "--limit=8",
    "--fresh=25ms",
    "--stale=25ms",
    "--jitter=50%",
    "--duration=250ms",
    "--seed=1",
    "--zipf=0.5",
];

const CALLERS: u64 = 23;

const KEYS: u64 = 5;

/// What each mode is called in options, and in tables.
const MODES: [(&str, &str); 5] = [
    ("no-gate", "no gate"),
    ("gate", "gate"),
    ("stale", "gate + stale"),
    ("early", "gate + stale + early"),
    ("jitter", "gate + stale + jitter"),
];

/// The rows of a table, each its title and its cells.
type Rows = Vec<(String, Vec<String>)>;

/// The tables of the report: the origin's and the callers'.
fn tables(out: &str) -> [Rows; 2] {
    let table = |heading: &str| {
        let rows = out.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
        rows.take_while(|line| !line.is_empty())
            .map(|line| {
                let mut cells =
                    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned);
                (cells.next().expect("a row has a title"), cells.collect())
            })
            .collect()
    };
    [table("the origin"), table("the callers")]
}

fn numbers(cells: &[String]) -> Vec<u64> {
    cells.iter().map(|cell| cell.parse().expect("a number")).collect()
}

/// Reads what the table calls `50.3 ms`.
fn latency(cell: &str) -> Duration {
    let (number, unit) = cell.split_once(' ').expect("a latency has a unit");
    let nanos = match unit {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => panic!("no unit: {other}"),
    };
    Duration::from_nanos((number.parse::<f64>().expect("a number") * nanos) as u64)
}

#[test]
fn what_must_hold_of_every_mode() {
    let folder = folder("stampede");
    let [csv, svg] =
        ["load.csv", "load.svg"].map(|name| folder.join(name).into_os_string().into_string().expect("UTF-8"));
    let out = run(&[&SMALL[..], &["--csv", &csv, "--plot", &svg]].concat()).ok();
    let csv = fs::read_to_string(csv).expect("the CSV was written");
    let svg = fs::read_to_string(svg).expect("the SVG was written");
    assert!(out.starts_with("3 threads and 20 tasks, pauses of 1ms; 250ms for each mode\n5 keys, "), "{out}");

    let [origin, callers] = tables(&out);
    let titles = |rows: &Rows| rows.iter().map(|(title, _)| title.clone()).collect::<Vec<_>>();
    assert_eq!(titles(&origin), MODES.map(|(_, title)| title), "{out}");
    assert_eq!(titles(&callers), titles(&origin), "{out}");
    for (title, cells) in &origin {
        let [calls, in_flight, of_one_key, in_window] = numbers(cells)[..] else { panic!("{out}") };
        assert!(of_one_key <= in_flight && in_flight <= calls && in_window <= calls, "{out}");
        if title == "no gate" {
            assert!(in_flight <= CALLERS, "{out}");
        } else {
            assert!(of_one_key <= 1 && in_flight <= KEYS, "{title}: {out}");
        }
        let curve = numbers_of(&csv, title);
        assert!(curve.len() >= 25, "a row for every 10 ms: {csv}");
        assert_eq!(curve.iter().map(|bin| bin[1]).sum::<u64>(), calls, "{title}: {out}{csv}");
        assert_eq!(curve.iter().map(|bin| bin[2]).max(), Some(in_flight), "{title}: {out}{csv}");
        assert!(svg.contains(title), "no {title} in {svg}");
    }
    for (title, cells) in &callers {
        let [_, waits, stale, failures] = numbers(&cells[..4])[..] else { panic!("{out}") };
        assert_eq!(failures, 0, "{out}");
        assert!(title != "no gate" || waits == 0, "{out}");
        assert!(title.contains("stale") || stale == 0, "{out}");
        assert!(cells[4..].iter().map(|cell| latency(cell)).is_sorted(), "{out}");
    }
    let lines =
        svg.lines().filter(|line| line.starts_with("<polyline") && line.contains("stroke-width=\"2\""));
    assert_eq!(lines.count(), 10, "each mode has a curve and its sample in the legend: {svg}");
}

/// Time, calls begun and calls in flight for each stretch of a mode's run.
fn numbers_of(csv: &str, title: &str) -> Vec<Vec<u64>> {
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("mode,milliseconds,calls_begun,most_in_flight"));
    let rows = lines.filter_map(|line| line.strip_prefix(title)?.strip_prefix(','));
    rows.map(|row| row.split(',').map(|cell| cell.parse().expect("a number")).collect()).collect()
}

#[test]
fn one_mode_alone_and_an_origin_that_always_fails() {
    let fails = ["--fail=100%", "--mode=no-gate", "--mode=gate"];
    let out = run(&[&SMALL[..], &fails].concat()).ok();
    let [origin, callers] = tables(&out);
    assert_eq!((origin.len(), callers.len()), (2, 2), "{out}");
    let [calls, failures] = [&origin[0].1[0], &callers[0].1[3]];
    assert_eq!(calls, failures, "without the gate every failure is one caller's own: {out}");
    let [calls, failures] =
        [&origin[1].1[0], &callers[1].1[3]].map(|cell| cell.parse::<u64>().expect("a number"));
    assert!(calls <= failures, "with it some share theirs: {out}");
}

#[test]
fn bad_options_are_told() {
    let reads = |arguments: &[&str], parts: &[&str]| {
        let ran = run(&[&["stampede"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert_eq!(ran.out, "");
        for part in parts {
            assert!(ran.err.contains(part), "no `{part}` in {ran:?}");
        }
    };
    reads(&["--latency", "50"], &["--latency", "50ms"]);
    reads(&["--fresh", "0s"], &["--fresh", "more than nothing"]);
    reads(&["--duration", "2h"], &["--duration", "unit"]);
    reads(&["--stale", "1000s"], &["--stale", "at most 600 s"]);
    reads(&["--fail", "2"], &["--fail", "0 to 1"]);
    reads(&["--latency-spread", "-5%"], &["-5"]);
    reads(&["--zipf", "nan"], &["--zipf", "from 0 to 10"]);
    reads(&["--keys", "0"], &["--keys", "1..=100000"]);
    reads(&["--threads", "1025"], &["--threads", "0..=1024"]);
    reads(&["--tasks", "x"], &["--tasks", "invalid digit"]);
    reads(&["--mode", "none"], &["--mode", "no-gate"]);
    run(&["stampede", "--threads", "0", "--tasks", "0"]).fails_with(&["nobody who asks", "give --threads"]);
}

#[test]
fn files_that_cannot_be_written_are_told_before_the_runs() {
    let missing = folder("stampede-missing").join("absent/load");
    let missing = missing.to_str().expect("UTF-8");
    for option in ["--plot", "--csv"] {
        // Ten minutes, were it not told at once.
        let ran = run(&["stampede", "--duration", "600s", option, missing]);
        ran.fails_with(&["absent/load", "cannot be written", "name a file"]);
        assert_eq!(ran.out, "");
    }
}
