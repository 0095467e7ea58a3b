//! Measures regions over stores that processes share, beside what such a store's own client costs, and beside dogpile.cache.
//!
//! Servers are started here, on free ports, and stopped at the end. What is compared takes turns, a batch each; ratios are
//! medians of the pairs of batches, since the machine is noisy. Compare within a line.

#![deny(unsafe_code)]

#[path = "../../tests/servers/mod.rs"]
mod servers;

use std::process::{Command, ExitCode};
use std::sync::Arc;

use dogpile::time::{Clock as _, PreciseClock};
use dogpile::{AsyncRegion, Region};
use redis::Commands as _;

const HELP: &str = "\
usage: shared [--python PYTHON]

Times of regions over Redis, memcached, files and tiers, in microseconds and as ratios to the client `redis` itself. With
a Python that has dogpile.cache (scripts/python.sh makes one) also beside that.
";

/// How often each batch is run.
const ROUNDS: usize = 41;
/// Of what a value has.
const LENGTH: usize = 100;
const BATCH: usize = 32;
/// A hit of a region over Redis may take this much longer than the client's own GET.
const BOUND: f64 = 1.15;

type Value = String;
type Step<'a> = Box<dyn FnMut() + 'a>;

/// Nanoseconds of one call, by a batch of `calls`.
fn time(calls: u32, step: &mut Step<'_>) -> f64 {
    let begun = PreciseClock.now();
    for _ in 0..calls {
        step();
    }
    PreciseClock.now().saturating_duration_since(begun).as_nanos() as f64 / f64::from(calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Rows that take turns: the first is what the others are compared with. Prints them; returns the ratios.
fn compare(title: &str, calls: u32, mut rows: Vec<(&str, Step<'_>)>) -> Vec<f64> {
    for (_, step) in &mut rows {
        time(calls / 4 + 1, step);
    }
    let mut times: Vec<Vec<f64>> = rows.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (i, (_, step)) in rows.iter_mut().enumerate() {
            times[i].push(time(calls, step));
        }
    }
    println!("\n{title}");
    let mut ratios = Vec::new();
    for (i, (name, _)) in rows.iter().enumerate() {
        let ratio = median(times[i].iter().zip(&times[0]).map(|(time, base)| time / base).collect());
        println!("  {name:<52} {:>10.2} us   {ratio:>6.2} x", median(times[i].clone()) / 1000.0);
        ratios.push(ratio);
    }
    ratios
}

fn region(url: &str) -> Region {
    let between = if url.contains('?') { '&' } else { '?' };
    Region::from_url(&format!("{url}{between}fresh=10m&stale=1h")).unwrap()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let python = match &arguments[..] {
        [] => None,
        [option, python] if option == "--python" => Some(python.clone()),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    let server = servers::Redis::start();
    let memcached = servers::memcached::Memcached::start();
    let folder = servers::Folder::new();
    let url = server.url();
    let value: Value = "v".repeat(LENGTH);

    let client = redis::Client::open(url.as_str()).unwrap();
    let mut raw = client.get_connection().unwrap();
    let bytes = value.as_bytes();
    let over_redis = region(&url);
    over_redis.set("key", value.clone()).unwrap();
    let () = raw.set("raw", bytes).unwrap();
    let () = raw.hset("hash", "v", bytes).unwrap();

    let mut second = client.get_connection().unwrap();
    let read = compare(
        "a hit over Redis",
        200,
        vec![
            (
                "client: GET",
                Box::new(|| {
                    let found: Vec<u8> = raw.get("raw").unwrap();
                    assert_eq!(found.len(), LENGTH);
                }),
            ),
            (
                "client: HGET",
                Box::new(|| {
                    let found: Vec<u8> = second.hget("hash", "v").unwrap();
                    assert_eq!(found.len(), LENGTH);
                }),
            ),
            ("region.get", Box::new(|| assert!(over_redis.get::<Value>("key").unwrap().is_some()))),
            (
                "region.get_or_create, a hit",
                Box::new(|| assert_eq!(over_redis.get_or_create("key", String::new).unwrap().len(), LENGTH)),
            ),
        ],
    );

    let mut raw = client.get_connection().unwrap();
    let mut number = 0_u64;
    compare(
        "a write over Redis",
        200,
        vec![
            ("client: SET with PX", Box::new(|| raw.pset_ex::<_, _, ()>("raw", bytes, 600_000).unwrap())),
            ("region.set", Box::new(|| over_redis.set("key", value.clone()).unwrap())),
        ],
    );
    let mut raw = client.get_connection().unwrap();
    compare(
        "a creation over Redis: read, lock, write and release",
        100,
        vec![
            (
                "client: GET, SET NX PX, SET PX, DEL: four commands",
                Box::new(|| {
                    let found: Option<Vec<u8>> = raw.get("absent").unwrap();
                    assert!(found.is_none());
                    let options = redis::SetOptions::default()
                        .conditional_set(redis::ExistenceCheck::NX)
                        .with_expiration(redis::SetExpiry::PX(30_000));
                    let () = raw.set_options("_lock", "token", options).unwrap();
                    let () = raw.pset_ex("raw", bytes, 600_000).unwrap();
                    let () = raw.del("_lock").unwrap();
                }),
            ),
            (
                "region.get_or_create, a miss",
                Box::new(|| {
                    number += 1;
                    let made = over_redis.get_or_create(&format!("new:{number}"), || value.clone()).unwrap();
                    assert_eq!(made.len(), LENGTH);
                }),
            ),
        ],
    );

    let keys: Vec<String> = (0..BATCH).map(|i| format!("many:{i}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut raw = client.get_connection().unwrap();
    for key in &names {
        over_redis.set(key, value.clone()).unwrap();
        let () = raw.set(format!("raw:{key}"), bytes).unwrap();
    }
    let raw_keys: Vec<String> = keys.iter().map(|key| format!("raw:{key}")).collect();
    compare(
        "32 keys at once over Redis",
        50,
        vec![
            (
                "client: MGET",
                Box::new(|| {
                    let found: Vec<Vec<u8>> = raw.mget(&raw_keys).unwrap();
                    assert_eq!(found.len(), BATCH);
                }),
            ),
            (
                "region.get_multi",
                Box::new(|| {
                    let found = over_redis.get_multi::<Value>(&names).unwrap();
                    assert!(found.iter().all(Option::is_some));
                }),
            ),
        ],
    );

    let tasks = AsyncRegion::from_url(&format!("{url}?fresh=10m&stale=1h")).unwrap();
    let mut multiplexed = smol::block_on(client.get_multiplexed_async_connection()).unwrap();
    compare(
        "a hit over Redis, by a task",
        200,
        vec![
            (
                "client: GET, multiplexed",
                Box::new(|| {
                    let found: Vec<u8> =
                        smol::block_on(redis::cmd("GET").arg("raw").query_async(&mut multiplexed)).unwrap();
                    assert_eq!(found.len(), LENGTH);
                }),
            ),
            (
                "AsyncRegion::get",
                Box::new(|| assert!(smol::block_on(tasks.get::<Value>("key")).unwrap().is_some())),
            ),
        ],
    );

    let memory = Region::in_memory();
    let serialized = region("memory+serialized://");
    let tiered = region(&format!("tiered+{url}"));
    let files = region(&format!("file://{}", folder.path().display()));
    let lookups = region(&format!("memcached://{}", memcached.address()));
    for region in [&memory, &serialized, &tiered, &files, &lookups] {
        region.set("hit", value.clone()).unwrap();
    }
    let hit = |region: &Region| assert!(region.get::<Value>("hit").unwrap().is_some());
    compare(
        "a hit, by store",
        2_000,
        vec![
            ("memory", Box::new(|| hit(&memory))),
            ("tiers: memory over Redis", Box::new(|| hit(&tiered))),
            ("serialised memory", Box::new(|| hit(&serialized))),
        ],
    );
    over_redis.set("hit", value.clone()).unwrap();
    compare(
        "a hit, by store",
        100,
        vec![
            ("serialised memory", Box::new(|| hit(&serialized))),
            ("files", Box::new(|| hit(&files))),
            ("memcached", Box::new(|| hit(&lookups))),
            ("Redis", Box::new(|| hit(&over_redis))),
        ],
    );
    if let Some(python) = python {
        by_python(&python, server.port(), &over_redis, &value);
    }

    let verdict = if read[2] <= BOUND { "met" } else { "missed" };
    println!("\nregion.get over Redis / client's GET: {:.2} of {BOUND}: {verdict}", read[2]);
    ExitCode::SUCCESS
}

/// dogpile.cache does the same operations on the same server, by turns with ours.
fn by_python(python: &str, port: u16, region: &Region, value: &Value) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/bench_shared.py");
    let output = Command::new(python).arg(script).arg(port.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = String::from_utf8(output.stdout).unwrap();
    let number = Arc::new(std::sync::atomic::AtomicU64::new(0));
    println!("\nbeside dogpile.cache 1.5.0, redis-py, JSON, the same server");
    for line in theirs.lines() {
        let (name, nanos) = line.split_once(' ').unwrap();
        let nanos: f64 = nanos.parse().unwrap();
        let mut step: Step<'_> = match name {
            "get" => Box::new(|| assert!(region.get::<Value>("key").unwrap().is_some())),
            "set" => Box::new(|| region.set("key", value.clone()).unwrap()),
            "create" => {
                let number = Arc::clone(&number);
                Box::new(move || {
                    let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    region.get_or_create(&format!("python:{number}"), || value.clone()).unwrap();
                })
            }
            _ => panic!("{name}"),
        };
        let ours = median((0..ROUNDS).map(|_| time(100, &mut step)).collect());
        println!(
            "  {name:<10} theirs {:>8.1} us   ours {:>8.1} us   {:>5.2} x",
            nanos / 1000.0,
            ours / 1000.0,
            ours / nanos
        );
    }
}
