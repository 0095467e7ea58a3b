//! The conformance suite, on real servers.

use super::servers::{Cluster, Redis, Sentinel, pass};
use dogpile::AsyncRegion;
use dogpile::backend::conformance::{Conformance, Outcome};
use dogpile::backend::{Backend, RedisBackend, RedisBackendBuilder};
use dogpile::codec::Envelope;
use std::thread;
use std::time::Duration;

fn checked(conformance: Conformance) {
    let report =
        conformance.advance(pass).ttl(Duration::from_millis(200)).limit(Duration::from_secs(20)).run();
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

/// For threads and for tasks, with entries as hashes and as strings: all at once, since they wait most of the time, and each on
/// servers of its own.
fn keeps_the_contract<S: Send>(start: impl Fn() -> (S, RedisBackendBuilder) + Sync) {
    thread::scope(|scope| {
        for envelope in [Envelope::Own, Envelope::Dogpile] {
            for is_of_tasks in [false, true] {
                let start = &start;
                scope.spawn(move || {
                    let (servers, builder) = start();
                    let builder = builder.lease(Duration::from_millis(150)).timeout(Duration::from_secs(5));
                    let make = move || {
                        let backend = builder.clone().build().unwrap();
                        Backend::attach(&backend, envelope).unwrap();
                        backend
                    };
                    let conformance =
                        if is_of_tasks { Conformance::for_tasks(make) } else { Conformance::new(make) };
                    checked(conformance);
                    drop(servers);
                });
            }
        }
    });
}

#[test]
fn one_server() {
    keeps_the_contract(|| {
        let server = Redis::start();
        let builder = RedisBackend::builder("127.0.0.1", server.port());
        (server, builder)
    });
}

#[test]
fn one_server_by_its_socket_in_the_third_protocol() {
    keeps_the_contract(|| {
        let server = Redis::start();
        let builder = RedisBackend::over_socket(server.socket()).resp3(true).db(3);
        (server, builder)
    });
}

#[test]
fn the_master_of_a_sentinel() {
    keeps_the_contract(|| {
        let servers = Sentinel::start();
        let sentinels = [(String::from("127.0.0.1"), servers.sentinel.port())];
        (servers, RedisBackend::of_sentinels(sentinels, "mymaster"))
    });
}

#[test]
fn a_cluster() {
    keeps_the_contract(|| {
        let cluster = Cluster::start();
        let builder = RedisBackend::of_cluster(cluster.addresses());
        (cluster, builder)
    });
}

/// The connection of tasks is no runtime's: each may end, and the next one goes on with it.
#[test]
fn any_runtime_may_ask() {
    let server = Redis::start();
    let backend = RedisBackend::builder("127.0.0.1", server.port()).build().unwrap();
    let region = AsyncRegion::builder().async_backend(backend).build_async().unwrap();
    let asks = async |number: u32| {
        let key = number.to_string();
        assert_eq!(*region.get_or_create(&key, async { number }).await.unwrap(), number);
        assert_eq!(region.get::<u32>("0").await.unwrap().as_deref(), Some(&0));
    };
    for round in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(asks(4 * round));
        drop(runtime);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(asks(4 * round + 1));
        drop(runtime);
        pollster::block_on(asks(4 * round + 2));
        smol::block_on(asks(4 * round + 3));
    }
    let clients = server.ask(&["CLIENT", "LIST"]);
    // The one that asks, and ours.
    assert_eq!(clients.lines().filter(|line| !line.is_empty()).count(), 2, "{clients}");
}
