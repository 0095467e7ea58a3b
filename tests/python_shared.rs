//! Regions shared with Python: two processes of this and two of dogpile.cache over one memcached or Redis; values both ways,
//! and cachetory's. Needs servers (`apt-get install --no-install-recommends redis-server memcached`), Python 3 with venv, and
//! for the first run the network (`scripts/python.sh`).
//!
//! `DOGPILE_LONG=1 cargo test --release --features redis,memcached --test python_shared -- --nocapture` makes 200 generations
//! in the place of 24, and kills ten holders of each kind.

mod servers;

use dogpile::backend::{MemcachedBackend, Schemes};
use dogpile::region::RegionConfig;
use dogpile::time::{Clock, CoarseClock, Instant};
use dogpile::{Region, RegionPolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use servers::memcached::Memcached;
use servers::{Folder, Process, Redis, Timer, pass, until};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

const LEASE: u64 = 2;
/// Python's locks, which are not renewed: memcached may end them up to two seconds early.
const LOCK_TIMEOUT: u64 = 3;
const FRESH: u64 = 600;

fn is_long() -> bool {
    std::env::var_os("DOGPILE_LONG").is_some()
}

/// What is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Made {
    generation: u64,
    by: String,
}

/// A server that is shared, and how it is named on both sides.
enum Store {
    Memcached(Memcached),
    Redis(Redis),
}

impl Store {
    fn backend(&self) -> &'static str {
        match self {
            Self::Memcached(_) => "dogpile.cache.pymemcache",
            Self::Redis(_) => "dogpile.cache.redis",
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Memcached(server) => server.address(),
            Self::Redis(server) => format!("{}/0", server.url()),
        }
    }
}

/// A region as Python configures it.
fn region(backend: &str, url: &str, clock: impl Clock + 'static) -> Region {
    let map = [
        ("backend", backend),
        ("expiration_time", &FRESH.to_string()),
        ("arguments.url", url),
        ("arguments.distributed_lock", "True"),
        ("arguments.lock_timeout", &LEASE.to_string()),
    ];
    let config = RegionConfig::from_map(map, "").unwrap();
    Region::builder().config(&config, &Schemes::new()).unwrap().clock(clock).build().unwrap()
}

/// The time of day an hour ago.
struct AnHourAgo;

impl Clock for AnHourAgo {
    fn now(&self) -> Instant {
        CoarseClock.now()
    }
    fn unix(&self) -> Duration {
        CoarseClock.unix() - Duration::from_secs(3_600)
    }
}

/// A process that does what it is told.
struct Peer {
    process: Process,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut peer = Self { process: Process::of(child), to, from: BufReader::new(from).lines() };
        assert_eq!(peer.answer(), json!("ready"));
        peer
    }

    fn rust(backend: &str, url: &str, log: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = command.args(["child", "--exact", "--nocapture"]);
        Self::start(command.env("DOGPILE_TEST_PEER", json!([backend, url, log]).to_string()))
    }

    fn python(arguments: &[&str]) -> Self {
        static INSTALLED: Once = Once::new();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/python.sh");
        INSTALLED.call_once(|| {
            let done = Command::new(script).status().unwrap();
            assert!(done.success(), "the Python packages are there: python3 with venv, and once the network");
        });
        Self::start(Command::new(script).arg("shared").args(arguments))
    }

    fn tell(&mut self, command: &Value) {
        writeln!(self.to, "{command}").unwrap();
    }

    fn answer(&mut self) -> Value {
        for line in &mut self.from {
            // Of what the harness prints, nothing begins so.
            let line = line.unwrap();
            if let Some(answer) = line.strip_prefix("ANSWER ") {
                return serde_json::from_str(answer).unwrap();
            }
            if let Ok(answer) = serde_json::from_str(&line) {
                return answer;
            }
        }
        panic!("the process has ended")
    }

    fn ask(&mut self, command: &Value) -> Value {
        self.tell(command);
        self.answer()
    }
}

/// The processes of ours: this binary, with a variable set.
#[test]
fn child() {
    let Ok(peer) = std::env::var("DOGPILE_TEST_PEER") else { return };
    let [backend, url, log]: [String; 3] = serde_json::from_str(&peer).unwrap();
    let region = match backend.as_str() {
        "own" => {
            let lease = Duration::from_secs(LEASE);
            let backend = MemcachedBackend::builder().server(url).lease(lease).build().unwrap();
            let policy = RegionPolicy::builder().fresh(Duration::from_secs(FRESH)).build().unwrap();
            Region::builder().backend(backend).policy(policy).build().unwrap()
        }
        backend => region(backend, &url, CoarseClock),
    };
    let answer = |answer: Value| {
        // The harness may not have ended its own line.
        println!("\nANSWER {answer}");
        std::io::stdout().flush().unwrap();
    };
    answer(json!("ready"));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let command: Vec<Value> = serde_json::from_str(&line).unwrap();
        let key = command[1].as_str().unwrap();
        match command[0].as_str().unwrap() {
            "create" => {
                let (seconds, generation) = (command[3].as_f64().unwrap(), command[4].as_u64().unwrap());
                let made = region.get_or_create(key, || {
                    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
                    log.write_all(format!("{generation} rust\n").as_bytes()).unwrap();
                    pass(Duration::from_secs_f64(seconds));
                    Made { generation, by: String::from("rust") }
                });
                answer(serde_json::to_value(&*made.unwrap()).unwrap());
            }
            "hold" => {
                let _ = region.get_or_create(key, || {
                    answer(json!("holding"));
                    pass(Duration::from_secs(3_600));
                    Made { generation: 0, by: String::new() }
                });
            }
            other => panic!("{other}?"),
        }
    }
    // Not to be said of a test that has passed.
    std::process::exit(0);
}

fn lines(log: &str) -> Vec<String> {
    std::fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// One key, missing and stale by turns: each time that all want it at once one of them makes it.
fn one_creation_per_generation(name: &str, mut peers: Vec<Peer>, log: &str, ours: &Region, old: &Region) {
    let generations = if is_long() { 200 } else { 24 };
    let key = "shared";
    let begun = Timer::start();
    let (mut stale, mut by_python) = (0, 0);
    for generation in 1..=generations {
        let is_cold = generation % 3 == 1;
        if is_cold {
            ours.delete(key).unwrap();
        } else {
            old.set(key, Made { generation: 0, by: String::from("old") }).unwrap();
        }
        // Each of them is the first one once.
        let peers_now = peers.len();
        peers.rotate_left(generation as usize % peers_now);
        for peer in &mut peers {
            peer.tell(&json!(["create", key, FRESH, 0.05, generation]));
        }
        for peer in &mut peers {
            let made: Made = serde_json::from_value(peer.answer()).unwrap();
            let is_old = made.generation == 0 && !is_cold;
            assert!(made.generation == generation || is_old, "{name}, generation {generation}: {made:?}");
            stale += u64::from(is_old);
        }
        let lines = lines(log);
        assert_eq!(lines.len() as u64, generation, "{name}, generation {generation}: {lines:?}");
        by_python += u64::from(lines.last().unwrap().ends_with("python"));
        assert_eq!(ours.get::<Made>(key).unwrap().unwrap().generation, generation, "{name}: it is stored");
    }
    println!(
        "{name}: {generations} generations, {} creations ({by_python} by Python), {stale} served stale, {:?}",
        lines(log).len(),
        begun.elapsed()
    );
}

fn two_and_two(store: &Store) {
    let folder = Folder::new();
    let log = folder.path().join("log").display().to_string();
    let (backend, url) = (store.backend(), store.url());
    let lease = (10 * LOCK_TIMEOUT).to_string();
    let peers = vec![
        Peer::rust(backend, &url, &log),
        Peer::python(&[backend, &url, &lease, &log]),
        Peer::rust(backend, &url, &log),
        Peer::python(&[backend, &url, &lease, &log]),
    ];
    let (ours, old) = (region(backend, &url, CoarseClock), region(backend, &url, AnHourAgo));
    one_creation_per_generation(backend, peers, &log, &ours, &old);
}

#[test]
fn one_creation_per_generation_over_memcached() {
    two_and_two(&Store::Memcached(Memcached::start()));
}

#[test]
fn one_creation_per_generation_over_redis() {
    two_and_two(&Store::Redis(Redis::start()));
}

/// Four processes of ours, in our own layout.
#[test]
fn one_creation_per_generation_among_ourselves() {
    let (server, folder) = (Memcached::start(), Folder::new());
    let log = folder.path().join("log").display().to_string();
    let peers = (0..4).map(|_| Peer::rust("own", &server.address(), &log)).collect();
    let open = || {
        let policy = RegionPolicy::builder().fresh(Duration::from_secs(FRESH)).build().unwrap();
        let backend = MemcachedBackend::builder().server(server.address()).build().unwrap();
        Region::builder().backend(backend).policy(policy)
    };
    let (ours, old) = (open().build().unwrap(), open().clock(AnHourAgo).build().unwrap());
    one_creation_per_generation("memcached, our own layout", peers, &log, &ours, &old);
}

/// The holder is killed by signal 9: the next is ours, or Python.
fn killed(store: &Store, after: Duration) {
    let folder = Folder::new();
    let log = folder.path().join("log").display().to_string();
    let (backend, url, lease) = (store.backend(), store.url(), LOCK_TIMEOUT.to_string());
    let rounds = if is_long() { 10 } else { 1 };
    let python = || Peer::python(&[backend, &url, &lease, &log]);
    let (mut next_rust, mut next_python) = (Peer::rust(backend, &url, &log), python());
    for by_python in [false, true] {
        let mut waits: Vec<Duration> = Vec::new();
        for round in 0..rounds {
            let key = format!("held-{by_python}-{round}");
            let mut holder = if by_python { python() } else { Peer::rust(backend, &url, &log) };
            assert_eq!(holder.ask(&json!(["hold", key])), json!("holding"));
            assert_eq!(next_python.ask(&json!(["locked", key])), json!(true), "Python sees it");
            holder.process.kill();
            let killed = Timer::start();
            let made = next_rust.ask(&json!(["create", key, FRESH, 0, 7]));
            waits.push(killed.elapsed());
            assert_eq!(made["by"], "rust");
            assert_eq!(next_python.ask(&json!(["create", key, FRESH, 0, 8])), made, "Python has it, too");
        }
        let longest = *waits.iter().max().unwrap();
        let (who, lease) = if by_python { ("Python", LOCK_TIMEOUT) } else { ("Rust", LEASE) };
        println!(
            "{backend}: {rounds} of {who} killed, the next after {longest:?} at the most, lease {lease} s"
        );
        assert!(longest <= Duration::from_secs(lease) + after, "{waits:?}");
    }
    // Python's own patience grows: on memcached by naps of up to 2, 4, 8 parts of a second and so on.
    let mut holder = Peer::rust(backend, &url, &log);
    assert_eq!(holder.ask(&json!(["hold", "for-python"])), json!("holding"));
    holder.process.kill();
    let made = next_python.ask(&json!(["create", "for-python", FRESH, 0, 9]));
    assert_eq!(made["by"], "python", "Python is not blocked by a holder of ours that died");
}

#[test]
fn a_killed_holder_blocks_for_its_lease_on_memcached() {
    killed(&Store::Memcached(Memcached::start()), Duration::from_millis(1_100));
}

#[test]
fn a_killed_holder_blocks_for_its_lease_on_redis() {
    killed(&Store::Redis(Redis::start()), Duration::from_millis(200));
}

/// A holder that is stopped for longer than its lease, as by a laptop's lid: its caller has its value, and what was made
/// meanwhile stays.
fn stopped(store: &Store) {
    let folder = Folder::new();
    let log = folder.path().join("log").display().to_string();
    let (backend, url) = (store.backend(), store.url());
    let (ours, old) = (region(backend, &url, CoarseClock), region(backend, &url, AnHourAgo));
    let (mut late, mut next) = (Peer::rust(backend, &url, &log), Peer::rust(backend, &url, &log));
    for (generation, is_cold) in [(1, true), (3, false)] {
        let key = format!("stopped-{generation}");
        if !is_cold {
            old.set(&key, Made { generation: 0, by: String::from("old") }).unwrap();
        }
        late.tell(&json!(["create", key, FRESH, 0.1, generation]));
        until("the creator runs", || lines(&log).contains(&format!("{generation} rust")));
        late.process.signal("STOP");
        let begun = Timer::start();
        until("another makes it when the lease has ended", || {
            let made = next.ask(&json!(["create", key, FRESH, 0, generation + 1]));
            assert!(made["generation"] == generation + 1 || (!is_cold && made["generation"] == 0), "{made}");
            made["generation"] == generation + 1
        });
        assert!(begun.elapsed() < Duration::from_millis(1_500 + 1_000 * LEASE), "{:?}", begun.elapsed());
        late.process.signal("CONT");
        let made = late.answer();
        assert_eq!(made["generation"], generation, "{backend}: its caller has what it made, and no error");
        let stored = ours.get::<Made>(&key).unwrap().unwrap();
        assert_eq!(stored.generation, generation + 1, "{backend}: what is newer stays");
        assert!(!ours.key_is_locked(&key).unwrap());
    }
}

#[test]
fn a_stopped_holder_writes_nothing_on_memcached() {
    stopped(&Store::Memcached(Memcached::start()));
}

#[test]
fn a_stopped_holder_writes_nothing_on_redis() {
    stopped(&Store::Redis(Redis::start()));
}

/// What Python writes while we make a value stays: in all cases but a delete of nothing, which leaves no trace.
fn python_wins(store: &Store) {
    let (backend, url) = (store.backend(), store.url());
    let ours = region(backend, &url, CoarseClock);
    let old = region(backend, &url, AnHourAgo);
    let mut python = Peer::python(&[backend, &url, "30", "/dev/null"]);
    for (key, is_there, command, stays) in [
        ("cold-set", false, json!(["set", "cold-set", 7]), json!(7)),
        ("old-set", true, json!(["set", "old-set", 7]), json!(7)),
        ("old-delete", true, json!(["delete", "old-delete"]), json!(null)),
    ] {
        if is_there {
            old.set(key, json!(1)).unwrap();
        }
        let made = ours.get_or_create(key, || {
            python.ask(&command);
            json!(2)
        });
        assert_eq!(*made.unwrap(), json!(2), "it is the caller's all the same");
        let found = python.ask(&json!(["get", key]));
        let found = found.get(0).cloned().unwrap_or(json!(null));
        assert_eq!(found, stays, "{backend}: {key}");
    }
    assert_eq!(ours.stats().refused_late_writes, 3);
}

#[test]
fn what_python_writes_meanwhile_stays_on_memcached() {
    python_wins(&Store::Memcached(Memcached::start()));
}

#[test]
fn what_python_writes_meanwhile_stays_on_redis() {
    python_wins(&Store::Redis(Redis::start()));
}

/// The chapter's two halves, one after the other: Python writes, and we read.
#[test]
fn the_chapter_does_what_it_says() {
    let chapter = include_str!("../docs/sharing-with-python.md");
    let (memcached, redis) = (Memcached::start(), Redis::start());
    let blocks: Vec<&str> =
        chapter.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2, "one for each kind of server");
    for block in blocks {
        let code = block
            .replace("cache.example:11211", &memcached.address())
            .replace("redis://cache.example:6379", &redis.url());
        assert!(!code.contains("example"), "{code}");
        let mut python = Peer::python(&["run"]);
        assert_eq!(python.ask(&json!(["run", code])), json!(null));
    }
    for (backend, url) in [
        ("dogpile.cache.pymemcache", memcached.address()),
        ("dogpile.cache.redis", format!("{}/0", redis.url())),
    ] {
        let ours = region(backend, &url, CoarseClock);
        let user = ours.get_or_create("user:7", || -> Value { panic!("Python has made it") });
        assert_eq!(*user.unwrap(), json!({"name": "Ada"}), "{backend}");
    }
}

/// Each side reads what the other has written, and when; by itself and in batches.
fn both_ways(backend: &str, pythons: &str, url: &str) {
    let log = "/dev/null";
    let ours = region(backend, url, CoarseClock);
    let mut python = Peer::python(&[pythons, url, "30", log]);
    for (i, value) in [
        json!(null),
        json!(7),
        json!(-0.5),
        json!("naïve | {\"ct\": 1}"),
        json!({"generation": 1, "by": "a"}),
        json!([[], "", {"a": [1, 2.5, null]}]),
    ]
    .into_iter()
    .enumerate()
    {
        let (mine, theirs) = (format!("mine-{i}"), format!("theirs-{i}"));
        ours.set(&mine, value.clone()).unwrap();
        let read = python.ask(&json!(["get", mine]));
        assert_eq!(read[0], value, "{pythons} reads ours");
        let ct = Duration::from_secs_f64(read[1].as_f64().unwrap());
        assert!(ct.abs_diff(CoarseClock.unix()) < Duration::from_secs(5), "{ct:?}");

        assert_eq!(python.ask(&json!(["set", theirs, value])), json!(null));
        let found = ours.get_value_metadata::<Value>(&theirs).unwrap().unwrap();
        assert_eq!(*found.payload, value, "we read what {pythons} wrote");
        let ct = found.cached_time.expect("dogpile.cache tells when");
        assert!(ct.abs_diff(CoarseClock.unix()) < Duration::from_secs(5), "{ct:?}");

        assert_eq!(python.ask(&json!(["delete", mine])), json!(null));
        assert!(ours.get::<Value>(&mine).unwrap().is_none(), "a delete of Python's is one");
        ours.delete(&theirs).unwrap();
        assert_eq!(python.ask(&json!(["get", theirs])), json!(null), "and one of ours");
    }
    ours.set_multi([("m1", json!(1)), ("m2", json!(2))]).unwrap();
    assert_eq!(python.ask(&json!(["get_multi", ["m2", "none", "m1"]])), json!([2, null, 1]));
    python.ask(&json!(["set_multi", {"m3": 3, "m4": 4}]));
    let found = ours.get_multi::<Value>(&["m4", "none", "m3"]).unwrap();
    let found: Vec<Option<Value>> =
        found.into_iter().map(|found| found.map(|found| (*found).clone())).collect();
    assert_eq!(found, [Some(json!(4)), None, Some(json!(3))]);
}

#[test]
fn values_go_both_ways_over_memcached() {
    let server = Memcached::start();
    for pythons in ["dogpile.cache.pymemcache", "dogpile.cache.memcached"] {
        both_ways(pythons, pythons, &server.address());
    }
}

#[test]
fn values_go_both_ways_over_redis() {
    let server = Redis::start();
    both_ways("dogpile.cache.redis", "dogpile.cache.redis", &format!("{}/0", server.url()));
}

#[test]
fn values_of_cachetory_go_both_ways() {
    let server = Redis::start();
    let url = server.url();
    let config =
        RegionConfig::from_url(&format!("{url}/0?codec=json%3A%2F%2F%3Fenvelope%3Dplain&fresh=1h")).unwrap();
    let ours = Region::builder().config(&config, &Schemes::new()).unwrap().build().unwrap();
    let mut python = Peer::python(&["cachetory", &format!("{url}/0")]);
    let value = json!({"generation": 3, "by": ["a", 1.5, null, "é"]});
    ours.set("mine", value.clone()).unwrap();
    assert_eq!(python.ask(&json!(["get", "mine"])), value);
    python.ask(&json!(["set", "theirs", value]));
    assert_eq!(ours.get::<Value>("theirs").unwrap().as_deref(), Some(&value));
    assert_eq!(*ours.get_or_create("theirs", || json!(0)).unwrap(), value);
    python.ask(&json!(["delete", "theirs"]));
    assert_eq!(*ours.get_or_create("theirs", || json!(0)).unwrap(), json!(0));
    assert_eq!(python.ask(&json!(["get", "theirs"])), json!(0));
}
