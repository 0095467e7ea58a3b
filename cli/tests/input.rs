//! Every defect of an input ends with exit code 2 and one line that names file, position and remedy.

mod common;

use common::{ctr, file, folder, run, run_with, zstd};

/// Keys of the sound trace that the others are damaged copies of.
const KEYS: [u64; 6] = [5, 3, 300, 3, 5, u64::MAX];

fn sound() -> Vec<u8> {
    ctr(6, 4, &KEYS)
}

#[test]
fn the_sound_trace_is_read_packed_and_plain() {
    let folder = folder("sound");
    for (name, bytes) in [("a.ctr", sound()), ("a.ctr.zst", zstd(&sound())), ("a", zstd(&sound()))] {
        let out = run(&["replay", &file(&folder, name, bytes)]).ok();
        assert!(out.contains("a: 6 requests, 4 distinct keys"), "{out}");
    }
    let two_frames = [zstd(&sound()[..22]), zstd(&sound()[22..])].concat();
    run(&["replay", &file(&folder, "b.ctr.zst", two_frames)]).ok();
}

/// Checks the plain bytes, and the same as a zstd stream.
#[track_caller]
fn refused(test: &str, bytes: &[u8], parts: &[&str]) {
    let folder = folder(test);
    for (name, bytes) in [("bad.ctr", bytes.to_vec()), ("bad.ctr.zst", zstd(bytes))] {
        let ran = run(&["replay", &file(&folder, name, bytes)]);
        ran.fails_with(parts);
        ran.fails_with(&[name]);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn a_wrong_magic() {
    let mut bytes = sound();
    bytes[3] = b'2';
    refused("magic", &bytes, &["byte 3", "magic CTR1 is missing", "--format"]);
}

#[test]
fn a_cut_off_header() {
    refused("header", &sound()[..17], &["byte 17", "header is cut off: 17 bytes of 20", "again"]);
}

#[test]
fn a_body_cut_between_keys() {
    refused("between-keys", &sound()[..22], &["byte 22", "key 3 of 6", "cut off", "again"]);
}

#[test]
fn a_body_cut_within_a_key() {
    // +297 takes two bytes, from 22 on.
    refused("within-key", &sound()[..23], &["byte 23", "key 3 of 6", "cut off", "again"]);
}

#[test]
fn a_body_that_is_missing() {
    refused("no-body", &sound()[..20], &["byte 20", "key 1 of 6", "cut off"]);
}

#[test]
fn a_varint_of_more_than_64_bits() {
    let mut bytes = ctr(1, 1, &[]);
    bytes.extend([0xff; 9]);
    bytes.push(2);
    refused("varint-bits", &bytes, &["byte 29", "key 1 of 1", "overlong"]);
    bytes.pop();
    bytes.extend([0x81, 0]);
    refused("varint-bytes", &bytes, &["byte 29", "key 1 of 1", "overlong"]);
    bytes.truncate(29);
    bytes.push(1);
    let folder = folder("varint-whole");
    run(&["replay", &file(&folder, "whole.ctr", bytes)]).ok();
}

#[test]
fn a_varint_with_padding() {
    let mut bytes = ctr(1, 1, &[]);
    bytes.extend([0x80, 0]);
    refused("varint-padding", &bytes, &["byte 21", "key 1 of 1", "overlong"]);
}

#[test]
fn bytes_after_the_last_key() {
    let mut bytes = sound();
    let end = bytes.len();
    bytes.push(0);
    refused("trailing", &bytes, &[&format!("byte {end}"), "follow the last key, 6 of 6", "cut the file"]);
}

#[test]
fn a_wrong_number_of_distinct_keys() {
    refused("distinct", &ctr(6, 5, &KEYS), &["byte 12", "declares 5 distinct keys, 4 were found"]);
    refused("distinct-many", &ctr(6, 7, &KEYS), &["byte 12", "7 distinct keys in 6 requests"]);
    refused("distinct-none", &ctr(6, 0, &KEYS), &["byte 12", "0 distinct keys in 6 requests"]);
}

#[test]
fn no_request() {
    refused("none", &ctr(0, 0, &[]), &["byte 4", "holds no request"]);
}

#[test]
fn an_absurd_number_of_requests() {
    refused("absurd", &ctr(u64::MAX, 1, &[1]), &["byte 4", "18446744073709551615 requests", "split"]);
}

/// The greatest number that is believed would take 3 GiB, if it were.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_allocated_for_a_declared_number() {
    let folder = folder("declared");
    let trace = file(&folder, "long.ctr", ctr(1 << 28, 1 << 28, &[1, 2]));
    let script = format!("ulimit -v 400000 && exec {} replay {trace}", env!("CARGO_BIN_EXE_dogpile"));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("there is a shell");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("key 3 of 268435456"), "{output:?}");
}

#[test]
fn zstd_streams_that_are_cut_off_or_damaged() {
    let folder = folder("zstd");
    // No pattern, so that the stream has several blocks and some come out before the cut.
    let keys: Vec<u64> = (0..200_000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let whole = zstd(&ctr(200_000, 200_000, &keys));
    let cut = file(&folder, "cut.ctr.zst", &whole[..whole.len() * 3 / 4]);
    let at = format!("byte {}", whole.len() * 3 / 4);
    run(&["replay", &cut]).fails_with(&["cut.ctr.zst", &at, "of 200000", "zstd stream is cut off", "again"]);
    let end = file(&folder, "end.ctr.zst", &whole[..whole.len() - 1]);
    run(&["replay", &end]).fails_with(&["end.ctr.zst", "zstd stream is cut off", "again"]);
    let start = file(&folder, "start.ctr.zst", &whole[..7]);
    run(&["replay", &start]).fails_with(&["start.ctr.zst", "byte 7", "zstd stream is cut off", "again"]);

    let mut damaged = whole.clone();
    damaged[5..12].fill(0xff);
    let damaged = file(&folder, "damaged.ctr.zst", damaged);
    run(&["replay", &damaged]).fails_with(&["damaged.ctr.zst", "byte", "zstd stream is damaged", "again"]);
    let followed = file(&folder, "followed.ctr.zst", [&zstd(&sound())[..], b"more"].concat());
    run(&["replay", &followed]).fails_with(&["followed.ctr.zst", "after key 6 of 6", "damaged"]);
}

#[test]
fn other_packers_are_named() {
    for (magic, tool) in [(&b"\x1f\x8b\x08\0\0\0"[..], "gzip"), (b"\xfd7zXZ\0", "xz")] {
        run_with(&["replay", "-"], magic).fails_with(&["standard input", "byte 0", tool, "unpack it first"]);
    }
}

#[test]
fn files_that_are_missing_or_empty_or_folders() {
    let folder = folder("files");
    run(&["replay", "no-such-file"]).fails_with(&["no-such-file", "cannot be opened", "check the name"]);
    run(&["replay", &file(&folder, "empty", "")]).fails_with(&[
        "empty",
        "byte 0",
        "is empty",
        "name a trace",
    ]);
    run(&["replay", &file(&folder, "packed", zstd(b""))]).fails_with(&["packed", "holds no request"]);
    run(&["replay", &file(&folder, "blank", "\n\r\n\n")]).fails_with(&["blank", "holds no request"]);
    let bare = folder.to_str().expect("the folder's name is UTF-8");
    run(&["replay", bare]).fails_with(&["a folder without .ctr"]);
    run(&["pack", bare, "-o", "nothing"]).fails_with(&["byte 0", "cannot be read", "check"]);
    run(&["replay", "-", "-"]).fails_with(&["standard input", "named twice"]);
}

#[test]
fn lines_that_are_no_text() {
    run_with(&["replay", "-"], b"one\nt\0wo\n").fails_with(&[
        "standard input: line 2, byte 5",
        "NUL",
        "--format",
    ]);
    let long = [&b"one\n"[..], &[b'x'; 70_000]].concat();
    run_with(&["replay", "-"], &long).fails_with(&[
        "line 2, byte 4",
        "more than 65536 bytes",
        "one key per line",
    ]);
    run_with(&["replay", "-", "--format", "ctr"], b"one\n").fails_with(&["byte 0", "magic"]);
}

#[test]
fn csv_without_the_column() {
    let folder = folder("csv");
    let csv = file(&folder, "log.csv", "time,key\n1,a\n2,b\n");
    run(&["replay", &csv]).fails_with(&["log.csv: line 1", "--column", "time, key"]);
    run(&["replay", &csv, "--column", "Key"]).fails_with(&["line 1", "no column `Key`", "time, key"]);
    run_with(&["replay", "-", "--column", "key"], b"key\n").fails_with(&["holds no request"]);
}

#[test]
fn csv_rows_that_are_cut_off() {
    let key = ["replay", "-", "--column", "key"];
    run_with(&key, b"time,key\n1,a\n2").fails_with(&["line 3", "1 fields where the header has 2", "cut off"]);
    run_with(&key, b"time,key\n1,a,b\n").fails_with(&["line 2", "3 fields where the header has 2"]);
    run_with(&key, b"time,key\n\"1\n\",a\n2,\"b\n").fails_with(&[
        "line 4",
        "quoted field",
        "close the quote",
    ]);
    let long = [&b"time,key\n1,\""[..], &vec![b'x'; 2 << 20]].concat();
    run_with(&key, &long).fails_with(&["line 2", "a row of more than", "quote"]);
    let wide = [&b"time,key\n"[..], &vec![b','; 2 << 20]].concat();
    run_with(&key, &wide).fails_with(&["line 2", "a row of more than"]);
}
