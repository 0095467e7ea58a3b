//! The store in memcached passes the suite for backends, on servers of its own:
//! `apt-get install --no-install-recommends memcached`.

mod servers;

use dogpile::backend::conformance::{Conformance, Outcome, Report};
use dogpile::backend::{Backend, MemcachedBackend, MemcachedBackendBuilder, OnThreads};
use dogpile::codec::Envelope;
use servers::memcached::Memcached;
use servers::pass;
use std::collections::HashSet;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// The server's clock is the only one, and ticks once a second: what is to live for one may be gone at once, so it is two.
const TICK: Duration = Duration::from_millis(200);

fn over(server: &str) -> MemcachedBackendBuilder {
    MemcachedBackend::builder().server(server).lease(2 * SECOND)
}

fn open(server: &str, envelope: Envelope) -> MemcachedBackend {
    let backend = over(server).build().unwrap();
    backend.attach(envelope).unwrap();
    backend
}

/// Of calls that block none can be given up.
const BLOCKING: &str = "a_call_that_is_given_up_harms_none";
/// Holders that live keep their locks.
const LEASE: &str = "mutex_ends_with_its_lease";
const NO_LIST: [&str; 3] =
    ["what_keeps_nothing_says_so", "len_counts_a_prefix", "clear_takes_the_prefix_only"];

fn conforms(conformance: &Conformance, not_applicable: &[&str]) {
    let report: Report = conformance.run();
    report.assert_passed();
    let is_so = |outcome: &Outcome| matches!(outcome, Outcome::NotApplicable(_));
    let left_out: HashSet<&str> =
        report.checks().iter().filter(|check| is_so(&check.outcome)).map(|check| check.name).collect();
    assert_eq!(left_out, [&NO_LIST, not_applicable].concat().into_iter().collect(), "{report}");
}

/// With all that takes time, both at once.
#[test]
fn conforms_in_both_layouts() {
    std::thread::scope(|scope| {
        for envelope in [Envelope::Own, Envelope::Dogpile] {
            scope.spawn(move || {
                let server = Memcached::start();
                let make = move || open(&server.address(), envelope);
                conforms(
                    &Conformance::new(make).advance(|span| pass(span + TICK)).ttl(2 * SECOND),
                    &[BLOCKING, LEASE],
                );
            });
        }
    });
}

/// What needs time to pass, without that.
const TIMES: [&str; 5] = [
    "expires_after_its_ttl",
    "the_newest_ttl_counts",
    "expire_rewrites",
    "set_multi_has_times_to_live",
    "if_absent_on_expired",
];

#[test]
fn conforms_over_two_servers() {
    let (one, two) = (Memcached::start(), Memcached::start());
    let make = move || over(&one.address()).server(two.address()).build().unwrap();
    conforms(&Conformance::new(make), &[&[BLOCKING, LEASE], &TIMES[..]].concat());
}

#[test]
fn conforms_for_tasks() {
    let server = Memcached::start();
    let make = move || OnThreads::new(open(&server.address(), Envelope::Own));
    conforms(&Conformance::for_tasks(make), &[&[LEASE], &TIMES[..]].concat());
}
