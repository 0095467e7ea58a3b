//! What `dogpile replay` and `dogpile pack` print and write.

mod common;

use std::{fmt::Write, fs, io::Read, process::Stdio};

use common::{ctr, dogpile, file, folder, row, run, run_with, zstd};

/// One thread and one shard, and a seed: what such a run finds can be repeated.
const FIXED: [&str; 6] = ["--threads", "1", "--shards", "1", "--seed", "7"];

fn replay(arguments: &[&str]) -> Vec<String> {
    let mut all = vec![String::from("replay")];
    all.extend(arguments.iter().chain(&FIXED).map(|argument| (*argument).to_owned()));
    all
}

#[track_caller]
fn fixed(arguments: &[&str], input: &[u8]) -> String {
    run_with(&replay(arguments).iter().map(String::as_str).collect::<Vec<_>>(), input).ok()
}

fn lines(keys: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut text = String::new();
    for key in keys {
        writeln!(text, "key {key}").expect("a string takes everything");
    }
    text.into_bytes()
}

/// Each of 500 keys, and then noise over them with loops between; `length` requests in all.
fn mixed(length: u64) -> Vec<u64> {
    let mut state = 1_u64;
    (0..length)
        .map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if i < 500 {
                i
            } else if i % 1000 < 300 {
                i % 300
            } else {
                (state >> 33) % (1 + (state >> 50) % 500)
            }
        })
        .collect()
}

/// Known by heart: a loop over ten keys defeats LRU below ten entries, and the optimum keeps as many keys of it as it
/// has entries.
#[test]
fn lru_and_the_optimum_on_a_loop() {
    let out = fixed(&["-", "--capacity", "4,9,10,100"], &lines((0..50).map(|i| i % 10)));
    assert!(out.contains("standard input: 50 requests, 10 distinct keys"), "{out}");
    for (capacity, lru, optimum) in [
        (4, "0.00 %", "32.00 %"),
        (9, "0.00 %", "72.00 %"),
        (10, "80.00 %", "80.00 %"),
        (100, "80.00 %", "80.00 %"),
    ] {
        let row = row(&out, capacity);
        assert_eq!([&row[5], &row[6]], [lru, optimum], "{out}");
    }
}

/// Sweeps forth and back: LRU hits what it holds at each turn, 2 * c - 1 of 2 * 20 - 2 requests a round for small c.
#[test]
fn lru_and_the_optimum_on_a_zigzag() {
    let round = (0..20).chain((1..19).rev());
    let out = fixed(&["-", "--capacity", "5"], &lines(round.cycle().take(38 * 100)));
    let row = row(&out, 5);
    // 99 turns back at 19 with 4 hits behind each and 99 at 0; the first of either needs its keys stored.
    let hits = 100 * 4 + 99 * 4;
    assert_eq!(row[5], format!("{:.2} %", f64::from(hits) / 38.0));
}

#[test]
fn a_cache_that_holds_everything_misses_each_key_once() {
    let keys = mixed(5000);
    let distinct = keys.iter().collect::<std::collections::HashSet<_>>().len();
    let out = fixed(&["-", "--capacity", "5000"], &lines(keys));
    let hits = format!("{:.2} %", (5000 - distinct) as f64 / 50.0);
    assert_eq!(row(&out, 5000)[4..7], [hits.clone(), hits.clone(), hits]);
}

#[test]
fn the_bounds_hold_and_the_usual_capacities_are_taken() {
    let out = fixed(&["-"], &lines(mixed(20_000)));
    assert!(out.contains("20000 requests, 500 distinct keys"), "{out}");
    for capacity in [50, 100, 200] {
        let row = row(&out, capacity);
        let ratio = |cell: &str| cell.trim_end_matches(" %").parse::<f64>().expect("a ratio");
        let (ours, lru, optimal) = (ratio(&row[4]), ratio(&row[5]), ratio(&row[6]));
        assert!(0.0 < ours && ours <= optimal && lru <= optimal, "{out}");
        let closure = (ours - lru) / (optimal - lru);
        assert!((row[7].parse::<f64>().expect("a closure") - closure).abs() < 0.01, "{out}");
        assert!(row[8].ends_with(" M"), "{out}");
    }
    assert!(out.contains("miss-ratio curve (1 thread)"), "{out}");
}

#[test]
fn all_formats_and_standard_input_say_the_same() {
    let folder = folder("formats");
    let keys = mixed(3000);
    let tail = |out: String| out.split_once("miss-ratio").expect("there is a curve").1.to_owned();
    let expected = tail(fixed(&["-", "--capacity", "20,100"], &lines(keys.iter().copied())));

    let no_newline = lines(keys.iter().copied());
    let mut windows = String::from_utf8(no_newline.clone()).expect("text").replace('\n', "\r\n");
    windows.truncate(windows.len() - 2);
    let mut csv = String::from("\u{feff}time,\"the \"\"key\"\"\",size\r\n");
    for key in &keys {
        writeln!(csv, "1,\"key,\n\"\"{key}\"\"\",2\r").expect("a string takes everything");
    }
    for (name, content) in [
        ("windows.txt", windows.into_bytes()),
        ("lines.zst", zstd(&no_newline)),
        ("numbered.ctr.zst", {
            let mut seen = Vec::new();
            let number = |key| {
                seen.iter().position(|k| *k == key).unwrap_or_else(|| {
                    seen.push(key);
                    seen.len() - 1
                }) as u64
            };
            let numbers: Vec<u64> = keys.iter().copied().map(number).collect();
            zstd(&ctr(3000, seen.len() as u64, &numbers))
        }),
    ] {
        let out = fixed(&[&file(&folder, name, content), "--capacity", "20,100"], b"");
        assert_eq!(tail(out), expected, "{name}");
    }
    let out = fixed(&["-", "--capacity", "20,100", "--column", "the \"key\""], csv.as_bytes());
    assert_eq!(tail(out), expected);
}

#[test]
fn a_seed_repeats_and_several_are_summed_up() {
    let folder = folder("seeds");
    let trace = file(&folder, "t.txt", lines(mixed(20_000)));
    let svg = folder.join("t.svg").into_os_string().into_string().expect("UTF-8");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let arguments = ["replay", &trace, "--threads", "1", "--shards", "8", "--seed", "42", "--svg", &svg];
        let out = run(&arguments).ok();
        let ratios: Vec<String> =
            [50, 100, 200].iter().flat_map(|&c| row(&out, c).into_iter().take(8)).collect();
        seen.push((ratios, fs::read_to_string(&svg).expect("the SVG was written")));
    }
    assert_eq!(seen[0].0, seen[1].0, "two processes");
    assert!(seen[0].1 == seen[1].1, "the drawings differ");
    assert_eq!(seen[0].0[2], "8", "shards");
    let out = run(&["replay", &trace, "--threads", "1", "--shards", "8", "--seed", "1,2,3"]).ok();
    assert!(out.contains("least") && out.contains("most"), "{out}");
    let row = row(&out, 100);
    assert!(row[5] <= row[4] && row[4] <= row[6], "{out}");
}

#[test]
fn several_threads_have_rows_of_their_own() {
    let out = run_with(&["replay", "-", "--threads", "1,3", "--capacity", "50%"], &lines(mixed(10_000))).ok();
    let rows: Vec<&str> = out.lines().filter(|line| line.trim_start().starts_with("250 ")).collect();
    assert_eq!(rows.len(), 3, "two of hits and one of the curve: {out}");
    let threads =
        |row: &str| row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).nth(3) == Some("3");
    assert!(threads(rows[1]), "{out}");
}

#[test]
fn the_curve_is_drawn() {
    let folder = folder("svg");
    let trace = file(&folder, "a<b&c.txt", lines(mixed(5000)));
    let svg = folder.join("curve.svg");
    fixed(&[&trace, "--points", "12", "--svg", svg.to_str().expect("UTF-8")], b"");
    let svg = fs::read_to_string(svg).expect("the SVG was written");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
    for text in ["LRU", "dogpile", "optimal", "miss ratio (%)", "capacity (entries)", "a&lt;b&amp;c"] {
        assert!(svg.contains(text), "no `{text}` in {svg}");
    }
    for colour in ["#D55E00", "#0072B2", "#009E73"] {
        let lines = svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(colour));
        assert_eq!(lines.count(), 2, "a curve and its sample in the legend: {svg}");
    }
}

#[test]
fn a_curve_of_one_point_is_drawn() {
    let svg = folder("svg-point").join("curve.svg");
    let svg = svg.to_str().expect("UTF-8");
    for capacity in ["0", "7", "18446744073709551615"] {
        fixed(&["-", "--capacity", capacity, "--svg", svg], b"a\nb\na\n");
        assert!(fs::read_to_string(svg).expect("the SVG was written").contains("LRU"));
    }
}

#[test]
fn a_folder_is_replayed_and_closures_are_summed_up() {
    let folder = folder("several");
    let traces = folder.join("traces");
    fs::create_dir(&traces).expect("the folder for tests is writable");
    file(&traces, "b.ctr.zst", zstd(&ctr(50, 10, &(0..50).map(|i| i % 10).collect::<Vec<_>>())));
    file(&traces, "a.ctr", ctr(3, 3, &[1, 2, 3]));
    file(&traces, "README.md", "not a trace");
    let reference = "trace,requests,distinct,frac,size,policy,hits\n\
                     b,50,10,0.4,4,opt,16\nb,50,10,0.4,4,lru,0\nb,50,10,0.4,4,mine,8\nb,50,10,0.4,4,third,0\n";
    let reference = file(&folder, "reference.csv", reference);
    let svgs = folder.join("svgs");
    let (traces, svg) = (traces.to_str().expect("UTF-8"), svgs.to_str().expect("UTF-8"));
    let arguments = [traces, "--capacity", "4", "--svg", svg, "--reference", &reference];
    let out = fixed(&arguments, b"");
    let (a, b) = (out.find("a: 3 requests"), out.find("b: 50 requests"));
    assert!(a.is_some() && a < b, "by name: {out}");
    assert!(out.contains("mean closure of 1 row: ") && out.contains("closure of"), "{out}");
    assert!(!out.contains("miss-ratio curve"), "the curves of a folder are the tables again: {out}");
    assert!(out.contains("lru and optimal: equal to the reference's on 1 of 1 rows"), "{out}");
    assert!(out.contains("mine") && out.contains("0.500") && out.contains("third"), "{out}");
    for name in ["a.svg", "b.svg"] {
        assert!(svgs.join(name).exists());
    }
    let out = fixed(&[traces, "--capacity", "4", "--reference", &reference, "--policy", "mine"], b"");
    let listed = out.lines().find(|line| line.starts_with("b ") && line.contains("16.00 %"));
    assert!(listed.is_some_and(|line| line.contains("difference") || line.contains(['+', '-'])), "{out}");
    assert!(!out.contains("third"), "{out}");
}

/// The line of `out` that begins with `start`, without it.
#[track_caller]
fn after<'a>(out: &'a str, start: &str) -> &'a str {
    let line = out.lines().find_map(|line| line.strip_prefix(start));
    line.unwrap_or_else(|| panic!("no line begins with `{start}`: {out}"))
}

/// Loops over twice as many keys as there is room for: LRU has none, the optimum 45 of 100 and 20 of 50. What ours has is
/// read from the output, since the test is not about it.
#[test]
fn ours_is_judged_by_the_best_other_policy_of_each_row() {
    let folder = folder("rivals");
    let traces = folder.join("traces");
    fs::create_dir(&traces).expect("the folder for tests is writable");
    for (name, length) in [("loop.ctr", 100), ("taped.ctr", 50), ("unknown.ctr", 10)] {
        file(&traces, name, ctr(length, 10, &(0..length).map(|i| i % 10).collect::<Vec<_>>()));
    }
    let reference = "trace,size,policy,hits\n\
                     loop,5,opt,45\nloop,5,lru,0\nloop,5,early,9\nloop,5,late,36\nloop,5,moka-lazy,90\n\
                     taped,5,opt,20\ntaped,5,lru,0\ntaped,5,early,15\ntaped,5,reuse-interval,40\n";
    let reference = file(&folder, "reference.csv", reference);
    let traces = traces.to_str().expect("UTF-8");
    let judged =
        |more: &[&str]| fixed(&[&[traces, "--capacity", "5", "--reference", &reference], more].concat(), b"");
    let row = |out: &str, title: &str, capacity: &str| {
        let cells = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        let mut rows = out.lines().map(cells);
        rows.find(|cells| cells.len() > 2 && cells[..2] == [title, capacity]).expect("the row is there")
    };
    let out = judged(&[]);
    let ours = ["loop", "taped"].map(|title| row(&out, title, "5")[2].parse::<f64>().expect("a ratio"));
    let closures = [ours[0] / 45.0, ours[1] / 40.0];
    let [on_loop, on_taped] = [ours[0] - 36.0, ours[1] - 30.0];
    let [first, second] = closures.map(|closure| format!("{closure:.3}"));
    let behind = format!("{on_loop:+.2}");
    assert_eq!(row(&out, "loop", "5")[3..], ["%", &first, "late", "0.800", &behind], "{out}");
    assert_eq!(row(&out, "loop", "mean")[2..], [&first, "0.800"], "{out}");
    let behind = format!("{on_taped:+.2}");
    assert_eq!(row(&out, "taped", "5")[3..], ["%", &second, "early", "0.750", &behind], "{out}");
    assert_eq!(row(&out, "unknown", "5")[5..], ["-", "-", "-"], "{out}");
    let mean = format!("{:.3}; of the best other on each: 0.775", (closures[0] + closures[1]) / 2.0);
    assert_eq!(after(&out, "mean closure of 2 rows: "), mean);
    let near = [on_loop, on_taped].iter().filter(|difference| **difference >= -1.0).count();
    let share = format!("{near} of 2 rows ({:.2} %)", near as f64 * 50.0);
    assert_eq!(after(&out, "within 1 point of the best other: "), share);
    assert_eq!(after(&out, "worst recorded row: "), format!("{on_taped:+.2} points at taped/5 (early)"));
    assert_eq!(after(&out, "worst synthetic row: "), format!("{on_loop:+.2} points at loop/5 (late)"));
    assert_eq!(after(&out, "lru and optimal: "), "equal to the reference's on 2 of 2 rows");

    let out = judged(&["--leave-out", "late", "--synthetic", "taped"]);
    let [on_loop, on_taped] = [ours[0] - 90.0, ours[1] - 80.0];
    assert_eq!(after(&out, "worst recorded row: "), format!("{on_loop:+.2} points at loop/5 (moka-lazy)"));
    let worst = format!("{on_taped:+.2} points at taped/5 (reuse-interval)");
    assert_eq!(after(&out, "worst synthetic row: "), worst);
}

/// Jobs change when a row is replayed, not what it finds.
#[test]
fn replays_side_by_side_find_the_same() {
    let folder = folder("jobs");
    let trace = file(&folder, "t.txt", lines(mixed(20_000)));
    let hits = |jobs| {
        let out = fixed(&[&trace, "--jobs", jobs], b"");
        [50, 100, 200].map(|capacity| row(&out, capacity)[..8].to_vec())
    };
    assert_eq!(hits("1"), hits("3"));
    assert_eq!(run_with(&["replay", "-", "--jobs", "0"], b"a\n").code, Some(2));
}

#[test]
fn references_that_do_not_fit() {
    let folder = folder("reference");
    let head = "trace,size,policy,hits\n";
    let good = file(&folder, "good.csv", format!("{head}x,1,fifo,1\n"));
    run_with(&["replay", "-", "--reference", &good, "--policy", "mru"], b"a\n").fails_with(&[
        "good.csv",
        "no policy `mru`",
        "choose from fifo",
    ]);
    let out = run_with(&["replay", "-", "--reference", &good], b"a\n").ok();
    assert!(out.contains("the reference has none of these traces"), "{out}");
    let word = file(&folder, "word.csv", format!("{head}x,1,fifo,1\nx,one,fifo,1\n"));
    run_with(&["replay", "-", "--reference", &word], b"a\n").fails_with(&[
        "word.csv: line 3",
        "`one` is no number",
        "mend",
    ]);
    let column = file(&folder, "column.csv", "trace,size,hits\n");
    run_with(&["replay", "-", "--reference", &column], b"a\n").fails_with(&[
        "column.csv: line 1",
        "no column `policy`",
        "trace, size, hits",
    ]);
}

#[test]
fn packing_keeps_the_order_and_no_names() {
    let folder = folder("pack");
    let packed = folder.join("packed.ctr.zst");
    let name = packed.to_str().expect("UTF-8");
    let out = run_with(&["pack", "-", "--output", name], b"secret\nb\nsecret\nc\nb\n").ok();
    assert!(out.contains("5 requests, 3 distinct keys"), "{out}");
    let bytes = zstd::decode_all(fs::File::open(&packed).expect("the trace was written")).expect("zstd");
    assert_eq!(bytes, ctr(5, 3, &[0, 1, 0, 2, 1]));

    let sparse = ctr(4, 3, &[u64::MAX, 0, 1 << 63, 0]);
    run_with(&["pack", "-", "--output", name], &sparse).ok();
    let bytes = zstd::decode_all(fs::File::open(&packed).expect("the trace was written")).expect("zstd");
    assert_eq!(bytes, sparse, "numbers are kept");
}

#[test]
fn files_that_cannot_be_written() {
    run_with(&["replay", "-", "--svg", "no/such/folder.svg"], b"a\n").fails_with(&[
        "no/such/folder.svg",
        "cannot be written",
        "name a file",
    ]);
    run_with(&["pack", "-", "-o", "no/such/folder.ctr.zst"], b"a\n")
        .fails_with(&["cannot be written", "name a file"]);
}

#[test]
fn options_that_make_no_sense() {
    for options in [
        &["--threads", "0"][..],
        &["--threads", "100000"],
        &["--capacity", "x"],
        &["--capacity", "101%"],
        &["--points", "3", "--capacity", "1"],
        &["--points", "0"],
        &["--shards", "0"],
        &["--policy", "lru"],
        &["--seed", "-1"],
    ] {
        let ran = run_with(&[&["replay", "-"], options].concat(), b"a\n");
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.starts_with("error: "), "{ran:?}");
    }
    assert_eq!(run(&[]).code, Some(2));
}

#[test]
fn help_and_version_are_no_errors() {
    for options in [&["--help"][..], &["replay", "--help"], &["--version"]] {
        run(options).ok();
    }
}

/// `dogpile replay … | head -1`.
#[test]
fn a_closed_pipe_is_no_panic() {
    let folder = folder("pipe");
    let traces: Vec<String> =
        (0..20).map(|i| file(&folder, &format!("{i}.txt"), lines(mixed(2000 + i)))).collect();
    let mut command = dogpile(&["replay"]);
    command.args(traces).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut out = child.stdout.take().expect("standard output is piped");
    out.read_exact(&mut [0; 10]).expect("something is printed");
    drop(out);
    let output = child.wait_with_output().expect("the command ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

/// The trace that the project ships is whole, and is what its description says.
#[test]
fn the_shipped_trace_is_the_described_one() {
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../traces");
    let trace = format!("{traces}/build-opens.ctr.zst");
    let out = fixed(&[&trace, "--points", "3"], b"");
    let said = out.lines().next().and_then(|line| line.strip_prefix("build-opens: "));
    let number = |word: &str| word.parse::<u64>().ok();
    let numbers: Vec<u64> = said.into_iter().flat_map(str::split_whitespace).filter_map(number).collect();
    let bytes = fs::metadata(&trace).expect("the trace is there").len();
    let [requests, distinct] = numbers[..] else { panic!("{out}") };
    let row = format!("| {requests} | {distinct} | {bytes} |");
    let readme = fs::read_to_string(format!("{traces}/README.md")).expect("the description is there");
    assert!(readme.replace(',', "").contains(&row), "no `{row}` in it");
    assert!(bytes < 1 << 20);
}
