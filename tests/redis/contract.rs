//! The conformance suite, on real servers.

use super::servers::{Cluster, Redis, Sentinel, pass};
use dogpile::backend::conformance::{Conformance, Outcome};
use dogpile::backend::{Backend, RedisBackend, RedisBackendBuilder};
use dogpile::codec::Envelope;
use std::time::Duration;

fn checked(conformance: Conformance) {
    let report =
        conformance.advance(pass).ttl(Duration::from_millis(60)).limit(Duration::from_secs(20)).run();
    report.assert_passed();
    for name in [
        "set_unless_is_one_step",
        "len_counts_a_prefix",
        "clear_takes_the_prefix_only",
        "mutex_excludes",
        "mutex_wakes_who_waits",
        "expires_after_its_ttl",
    ] {
        assert_eq!(report.outcome(name), Some(&Outcome::Passed), "{name}: {report}");
    }
}

/// For threads and for tasks, with entries as hashes and as strings.
fn keeps_the_contract(builder: &RedisBackendBuilder) {
    for envelope in [Envelope::Own, Envelope::Dogpile] {
        let builder = builder.clone().lease(Duration::from_millis(150)).timeout(Duration::from_secs(5));
        let make = move || {
            let backend = builder.clone().build().unwrap();
            Backend::attach(&backend, envelope).unwrap();
            backend
        };
        checked(Conformance::new(make.clone()));
        checked(Conformance::for_tasks(make));
    }
}

#[test]
fn one_server() {
    let server = Redis::start();
    keeps_the_contract(&RedisBackend::builder("127.0.0.1", server.port()));
}

#[test]
fn one_server_by_its_socket_in_the_third_protocol() {
    let server = Redis::start();
    keeps_the_contract(&RedisBackend::over_socket(server.socket()).resp3(true).db(3));
}

#[test]
fn the_master_of_a_sentinel() {
    let servers = Sentinel::start();
    let sentinels = [(String::from("127.0.0.1"), servers.sentinel.port())];
    keeps_the_contract(&RedisBackend::of_sentinels(sentinels, "mymaster"));
}

#[test]
fn a_cluster() {
    let cluster = Cluster::start();
    keeps_the_contract(&RedisBackend::of_cluster(cluster.addresses()));
}
