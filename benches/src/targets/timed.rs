//! The targets that rows of the table answer.

#![forbid(unsafe_code)]

use super::check::Check;
use crate::report::{COPY, Row};
use crate::rows::tails::APART;

const OURS: &str = "dogpile";

/// Our time over a peer's.
fn ratio(row: &Row, ours: &str, theirs: &str, bound: f64) -> Check {
    let (figure, median) = row.ratio(ours, theirs);
    let what = format!("{}: {ours} / {theirs}", row.title);
    Check::at_most(what, figure, bound).with(format!("pairs {median:.2}"))
}

pub(super) fn get_hit_small(row: &Row) -> Vec<Check> {
    let bounds = [("hashbrown", 1.7), ("quick_cache", 0.6), ("papaya", 0.6), ("moka", 0.1)];
    bounds.map(|(theirs, bound)| ratio(row, OURS, theirs, bound)).into()
}

pub(super) fn get_hit_large(row: &Row) -> Vec<Check> {
    vec![ratio(row, OURS, "hashbrown", 1.6), ratio(row, "dogpile multi", "hashbrown", 0.6)]
}

pub(super) fn get_hit_string(row: &Row) -> Vec<Check> {
    vec![ratio(row, OURS, "hashbrown", 1.7)]
}

pub(super) fn hot_key(row: &Row) -> Vec<Check> {
    let limit = row.figure("hashbrown", "x 2");
    let both = format!("{:.2} and {limit:.2}", row.figure(OURS, "x 2"));
    // The samples of this row are factors: more is better.
    let (_, share) = row.ratio(OURS, "hashbrown");
    let over = row.figure(OURS, "8 over 2");
    let theirs = row.figure("hashbrown", "8 over 2");
    vec![
        Check::at_least("hot key, 2 threads: factor / hashbrown's factor", share, 0.95).with(both),
        Check::at_least("hot key, 8 threads: rate / its rate of 2 threads", over, 0.95)
            .with(format!("hashbrown {theirs:.2}")),
    ]
}

pub(super) fn replace(row: &Row) -> Vec<Check> {
    vec![ratio(row, OURS, "quick_cache", 1.0)]
}

pub(super) fn churn(row: &Row) -> Vec<Check> {
    vec![ratio(row, OURS, "quick_cache", 1.2), ratio(row, OURS, "moka", 0.15)]
}

/// Peers in a row, with their rates and hit ratios.
fn peers(row: &Row) -> impl Iterator<Item = (&str, f64, f64)> {
    let peers = row.lines.iter().map(|line| line.subject.as_str());
    let peers = peers.filter(|subject| *subject != OURS && !subject.ends_with(COPY));
    peers.map(|peer| (peer, row.figure(peer, "M/s"), row.figure(peer, "hit %")))
}

fn rate_and_hits(row: &Row, subject: &str) -> String {
    format!("{:.2} M/s, {:.2} %", row.figure(subject, "M/s"), row.figure(subject, "hit %"))
}

pub(super) fn zipf(row: &Row) -> Vec<Check> {
    let (rate, hits) = (row.figure(OURS, "M/s"), row.figure(OURS, "hit %"));
    let better: Vec<String> = peers(row)
        .filter(|(_, theirs, their_hits)| *theirs > rate && *their_hits > hits)
        .map(|(peer, ..)| format!("{peer} {}", rate_and_hits(row, peer)))
        .collect();
    let what = format!("{}: better in rate and hit ratio", row.title);
    vec![
        Check::nobody(what, rate_and_hits(row, OURS), &better),
        Check::shown(format!("{}: scc HashCache", row.title), rate_and_hits(row, "scc HashCache")),
    ]
}

pub(super) fn zipf_with_work(row: &Row) -> Vec<Check> {
    let rate = row.figure(OURS, "M/s");
    let faster: Vec<String> = peers(row)
        .filter(|(_, theirs, _)| *theirs > rate)
        .map(|(peer, ..)| format!("{peer} {}", rate_and_hits(row, peer)))
        .collect();
    vec![Check::nobody(format!("{}: faster", row.title), rate_and_hits(row, OURS), &faster)]
}

pub(super) fn reader_beside_writers(row: &Row) -> Vec<Check> {
    let of = |subject, column| row.figure(subject, column);
    let (stalls, limit) = (of(OURS, ">100 us/s"), of(APART, ">100 us/s"));
    let (writes, limit_writes) = (of(OURS, "M writes/s"), of(APART, "M writes/s"));
    vec![
        Check::at_most("reader beside 7 writers: p99.9 in ns", of(OURS, "p99.9"), 2_000.0)
            .with(format!("maps apart {:.0}", of(APART, "p99.9"))),
        Check::at_most("reader beside 7 writers: reads over 100 us / maps apart", stalls / limit, 1.5)
            .with(format!("{stalls:.0} and {limit:.0} a second")),
        Check::at_least("reader beside 7 writers: writes / maps apart", writes / limit_writes, 0.35)
            .with(format!("{writes:.2} and {limit_writes:.2} M/s")),
    ]
}

pub(super) fn growth(row: &Row) -> Vec<Check> {
    let note = |column| format!("timer alone {:.0}", row.figure("no map", column));
    vec![
        Check::at_most("growth to 10 M: slowest insert, ns of CPU", row.figure(OURS, "max"), 3e6)
            .with(note("max")),
        Check::at_most("growth to 10 M: p99 insert, ns of CPU", row.figure(OURS, "p99"), 5e3)
            .with(note("p99")),
    ]
}

pub(super) fn memory(row: &Row) -> Vec<Check> {
    let bytes = |subject: &str, bound| {
        let note = format!("asked {:.1}, RSS {}", row.figure(subject, "asked"), row.figure(subject, "RSS"));
        Check::at_most(format!("bytes held per entry, 1 M: {subject}"), row.figure(subject, "held"), bound)
            .with(note)
    };
    vec![
        bytes("dogpile unbounded", 84.0),
        bytes(OURS, 90.0),
        bytes("dogpile turned", 90.0),
        bytes("dogpile with TTL, turned", 106.0),
    ]
}

pub(super) fn expiry(row: &Row) -> Vec<Check> {
    vec![ratio(row, "dogpile with TTL", OURS, 1.1)]
}
