//! The rows of the table, done by regions.

use super::Row;
use super::common::until;
use dogpile::backend::{Backend, MemoryBackend, NullBackend, Proxy, Put, Stored};
use dogpile::codec::{Codec, Envelope};
use dogpile::gate::{Job, Runner};
use dogpile::region::{CachedItem, GetOptions, How, Mangler, RegionBuilder, Scope, SetOptions};
use dogpile::time::{Instant, ManualClock};
use dogpile::{CreateError, Error, ErrorKind, Region, RegionPolicy};

use pollster::block_on;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// When rows are done, by the manual clock, and by the time of day.
const START: f64 = 2_000.0;
const START_UNIX: f64 = 1_000_000_000.0 + START;

/// What one row has come to, in the table's own words.
pub(crate) type Outcome = Map<String, Value>;

/// A creator's refusal.
#[derive(Debug)]
struct Refused;

/// Keeps creations until they are asked for.
#[derive(Clone, Default)]
struct Later(Arc<Mutex<Vec<Job>>>);

impl Runner for Later {
    fn run(&self, job: Job) {
        self.0.lock().unwrap().push(job);
    }
}

/// Stands between, and does nothing.
struct Transparent;

impl Proxy for Transparent {}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    Threads,
    Tasks,
}

struct Ours<'r> {
    row: &'r Row,
    face: Face,
    region: Region,
    /// Where the values are; none for the null backend.
    store: Option<MemoryBackend>,
    base: RegionPolicy,
    clock: ManualClock,
    later: Later,
    calls: Arc<Mutex<Vec<Value>>>,
    seen: RefCell<Option<Value>>,
}

fn seconds(value: &Value) -> Option<Duration> {
    match value.as_f64()? {
        -1.0 => Some(Duration::MAX),
        seconds => Some(Duration::from_secs_f64(seconds)),
    }
}

fn value_of(found: Option<Arc<Value>>) -> Value {
    Value::Array(found.into_iter().map(|value| (*value).clone()).collect())
}

fn raises(what: &str) -> Value {
    json!({ "raises": what })
}

fn told(error: &Error) -> Value {
    match error.kind() {
        ErrorKind::NotConfigured => raises("not configured"),
        ErrorKind::AlreadyConfigured => raises("already configured"),
        _ => raises(&error.to_string()),
    }
}

fn attempt(result: Result<Value, Error>) -> Value {
    result.unwrap_or_else(|error| told(&error))
}

fn created<T>(result: Result<T, CreateError<Refused>>, show: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(value) => show(value),
        Err(CreateError::Creator(_)) => raises("creator"),
        Err(CreateError::Backend(error)) => told(&error),
        Err(CreateError::Reentrant) => raises("re-entrant"),
        Err(CreateError::TimedOut) => raises("waits"),
        Err(CreateError::WrongCount { .. }) => raises("wrong count"),
        Err(error) => raises(&error.to_string()),
    }
}

/// When a key of such a state was set, before the row's time.
fn set_ago(state: &str) -> Option<f64> {
    Some(match state {
        "fresh" | "none" | "clock put back" => 10.0,
        "young" => 0.25,
        "just set" => 0.0,
        "deadline" => 60.0,
        "stale" => 100.0,
        "soft" | "hard" | "soft, then hard" | "hard, then soft" => 30.0,
        _ => return None,
    })
}

fn invalidated(state: &str) -> &'static [(f64, How)] {
    match state {
        "soft" => &[(20.0, How::Soft)],
        "hard" => &[(20.0, How::Hard)],
        "soft, then hard" => &[(25.0, How::Soft), (20.0, How::Hard)],
        "hard, then soft" => &[(25.0, How::Hard), (20.0, How::Soft)],
        "clock put back" => &[(1_010.0, How::Hard)],
        _ => &[],
    }
}

/// Bytes that no region of ours has written.
fn raw(state: &str) -> Option<String> {
    Some(match state {
        "other version" => format!("{{\"ct\": {:?}, \"v\": 1}}|1", START_UNIX - 10.0),
        "undecodable" => format!("{{\"ct\": {:?}, \"v\": 2}}|not json", START_UNIX - 10.0),
        "malformed" => String::from("no metadata|1"),
        "from the future" => format!("{{\"ct\": {:?}, \"v\": 2}}|\"old k\"", START_UNIX + 50.0),
        _ => return None,
    })
}

/// When a value of cachetory's was set, and with what time to live.
fn life(state: &str) -> Option<(f64, Option<f64>)> {
    Some(match state {
        "for ever" => (30.0, None),
        "fresh" | "none" => (10.0, Some(60.0)),
        "deadline" => (60.0, Some(60.0)),
        "expired" => (100.0, Some(60.0)),
        _ => return None,
    })
}

fn old_value(state: &str, key: &str) -> Value {
    if state == "none" { Value::Null } else { json!(format!("old {key}")) }
}

impl<'r> Ours<'r> {
    fn new(row: &'r Row, face: Face) -> Self {
        let clock = ManualClock::new();
        let is_dogpile = row.package == "dogpile.cache";
        let later = Later::default();
        let mut policy = RegionPolicy::builder().runner(later.clone());
        if row.settings.contains_key("locked") && !row.settings.contains_key("other") {
            // Who would wait is told so.
            policy = policy.wait(Duration::ZERO);
        }
        if is_dogpile {
            if let Some(fresh) = row.settings.get("expiration_time").and_then(seconds) {
                policy = policy.fresh(fresh);
            }
        } else {
            policy = policy.stale(Duration::ZERO);
        }
        let store = (row.backend != "null").then(|| {
            let builder = MemoryBackend::builder().clock(clock.clone());
            builder.serialized(row.backend == "serialized").build().unwrap()
        });
        let ours = Self {
            row,
            face,
            region: Region::new("oracle"),
            store,
            base: policy.build().unwrap(),
            clock,
            later,
            calls: Arc::default(),
            seen: RefCell::default(),
        };
        if row.settings.get("configured").is_none() {
            ours.region.configure(ours.settings("prefix")).unwrap();
        }
        if is_dogpile {
            ours.prepare()
        } else {
            ours.prepare_cachetory()
        }
        ours.set_clock(START);
        ours
    }

    fn settings(&self, prefix: &str) -> RegionBuilder {
        let envelope = if self.row.package == "dogpile.cache" { Envelope::Dogpile } else { Envelope::Plain };
        let mut builder = Region::builder()
            .codec(Codec::json().envelope(envelope))
            .policy(self.base.clone())
            .clock(self.clock.clone());
        builder = match &self.store {
            Some(store) => builder.backend(store.clone()),
            None => builder.backend(NullBackend::new()),
        };
        if let Some(prefix) = self.row.settings.get(prefix) {
            builder = builder.prefix(prefix.as_str().unwrap());
        }
        if self.row.settings.get("mangler").is_some() {
            builder = builder.mangler(Mangler::sha1());
        }
        builder
    }

    fn set_clock(&self, seconds: f64) {
        self.clock.set(Instant::from_nanos((seconds * 1e9) as u64));
    }

    fn now_unix(&self) -> f64 {
        use dogpile::time::Clock;
        self.clock.unix().as_secs_f64()
    }

    fn prepare(&self) {
        // Earlier first; of one moment the values before what invalidates them.
        let mut events: Vec<(f64, bool, Box<dyn Fn()>)> = Vec::new();
        for (key, state) in &self.row.states {
            if let Some(ago) = set_ago(state) {
                let set = || self.region.set(key, old_value(state, key)).unwrap();
                events.push((START - ago, false, Box::new(set)));
            }
            for (ago, how) in invalidated(state) {
                let invalidate = || self.region.invalidate(Scope::Region, *how).unwrap();
                events.push((START - ago, true, Box::new(invalidate)));
            }
            if let (Some(bytes), Some(store)) = (raw(state), &self.store) {
                let stored = match self.row.backend.as_str() {
                    "serialized" => Stored::from(bytes.as_bytes()),
                    // As an object: what no region has put in.
                    _ => Stored::Object(Arc::new(bytes)),
                };
                Backend::set(store, Put::new(key, &stored)).unwrap();
            }
        }
        if !self.row.states.values().any(|state| state == "clock put back") {
            events.sort_by(|a, b| (a.0, a.1).partial_cmp(&(b.0, b.1)).unwrap());
        }
        for (when, _, act) in events {
            self.set_clock(when);
            act();
        }
    }

    fn prepare_cachetory(&self) {
        let prefix = self.row.settings.get("prefix").and_then(Value::as_str).unwrap_or("");
        for (key, state) in &self.row.states {
            if let Some((ago, ttl)) = life(state) {
                self.set_clock(START - ago);
                let mut options = SetOptions::new();
                if let Some(ttl) = ttl {
                    options = options.ttl(Duration::from_secs_f64(ttl));
                }
                self.region.set_with(key, old_value(state, key), options).unwrap();
            } else if state == "undecodable" {
                let bytes = Stored::from(b"not json".as_slice());
                Backend::set(self.store.as_ref().unwrap(), Put::new(&format!("{prefix}{key}"), &bytes))
                    .unwrap();
            }
        }
        if self.row.settings.get("other").is_some() {
            self.other().set("k", json!("other's")).unwrap();
        }
    }

    /// Another region over the same store.
    fn other(&self) -> Region {
        self.settings("no prefix").prefix("other:").build().unwrap()
    }

    fn policy(&self, how: &Map<String, Value>) -> RegionPolicy {
        let mut policy = self.base.to_builder();
        let fresh = how.get("expiration_time").or(how.get("ttl")).and_then(seconds);
        if let Some(fresh) = fresh {
            policy = policy.fresh(fresh);
        }
        let excluded = how.get("exclude").map(|is| !is.as_bool().unwrap());
        if let Some(keeps) = how.get("should_cache").map(|is| is.as_bool().unwrap()).or(excluded) {
            policy = policy.should_cache(move |_| keeps);
        }
        policy.build().unwrap()
    }

    fn make(&self, key: &str, how: &Map<String, Value>) -> Result<Value, Refused> {
        self.calls.lock().unwrap().push(json!(key));
        if let Some(during) = how.get("during") {
            let nested = json!({ "makes": format!("inner {key}") });
            let seen = self.call(during.as_str().unwrap(), key, nested.as_object().unwrap());
            *self.seen.borrow_mut() = Some(seen);
        }
        if let Some(takes) = how.get("takes").and_then(seconds) {
            self.clock.advance(takes);
        }
        if how.get("raises").is_some() {
            return Err(Refused);
        }
        Ok(how.get("makes").cloned().unwrap_or_else(|| json!(format!("new {key}"))))
    }

    fn call(&self, method: &str, key: &str, how: &Map<String, Value>) -> Value {
        let region = &self.region;
        let keys: Vec<&str> = match how.get("keys") {
            Some(keys) => keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect(),
            None => Vec::new(),
        };
        let mut options = GetOptions::new();
        if let Some(fresh) = how.get("expiration_time").and_then(seconds) {
            options = options.fresh(fresh);
        }
        if how.get("ignore_expiration").is_some() {
            options = options.ignore_expiration();
        }
        let policy = self.policy(how);
        let nothing = |()| Value::Null;
        let or_key_error = |found: Value| if found == json!([]) { raises("KeyError") } else { found };
        // The same method, of the region for threads or of that for tasks.
        macro_rules! ask {
            ($method:ident($($argument:expr),*)) => {
                match self.face {
                    Face::Threads => region.$method($($argument),*),
                    Face::Tasks => region.for_tasks().and_then(|region| block_on(region.$method($($argument),*))),
                }
            };
        }
        attempt(match method {
            "get" => ask!(get_with(key, options)).map(value_of),
            "getitem" => ask!(get(key)).map(value_of).map(or_key_error),
            "get of another prefix" => self
                .other()
                .get("k")
                .map(|found: Option<Arc<Value>>| json!([found.map(|value| (*value).clone())])),
            "get_value_metadata" => ask!(get_value_metadata_with(key, options)).map(|found| {
                found.map_or(json!([]), |found: CachedItem<Value>| {
                    let set = found.cached_time.unwrap().as_secs_f64() - START_UNIX;
                    json!([*found.payload, set, found.age.as_secs_f64()])
                })
            }),
            "get_multi" | "get_many" => {
                ask!(get_multi_with(&keys, options)).map(|found| found.into_iter().map(value_of).collect())
            }
            "get_or_create" | "cached" | "refresh" => {
                Ok(created(self.create(method, key, how, &policy), |value| json!([*value])))
            }
            "get_or_create_multi" => {
                let made = self.create_multi(&keys, how, &policy);
                Ok(created(made, |values| values.into_iter().map(|value| value_of(Some(value))).collect()))
            }
            "set" | "setitem" => {
                let mut options = SetOptions::new();
                if let Some(ttl) = how.get("ttl").and_then(seconds) {
                    options = options.ttl(ttl);
                }
                if how.get("if_not_exists").is_some() {
                    options = options.if_absent();
                }
                let value = how.get("value").cloned().unwrap_or_else(|| json!("put"));
                ask!(set_with(key, value, options)).map(drop).map(nothing)
            }
            "set_multi" | "set_many" => {
                ask!(set_multi(keys.iter().map(|key| (*key, json!(format!("put {key}")))))).map(nothing)
            }
            "expire_in" => ask!(expire_in(key, how.get("ttl").and_then(seconds))).map(drop).map(nothing),
            "delete" | "purge" if self.row.package == "cachetory" => ask!(delete(key)).map(Value::Bool),
            "delitem" => {
                ask!(delete(key)).map(|was_there| if was_there { Value::Null } else { raises("KeyError") })
            }
            "delete" => ask!(delete(key)).map(drop).map(nothing),
            "delete_multi" | "delete_many" => ask!(delete_multi(&keys)).map(nothing),
            "clear" => ask!(clear()).map(nothing),
            "invalidate hard" => ask!(invalidate(Scope::Region, How::Hard)).map(nothing),
            "invalidate soft" => ask!(invalidate(Scope::Region, How::Soft)).map(nothing),
            "key_is_locked" => ask!(key_is_locked(key)).map(Value::Bool),
            "is_configured" => Ok(Value::Bool(region.is_configured())),
            "configure" => {
                let mut builder = self.settings("prefix");
                if how["replace_existing_backend"] == true {
                    builder = builder.replace_existing_backend();
                }
                region.configure(builder).map(drop).map(nothing)
            }
            "actual_backend" => self.actual_backend(how).map(Value::Bool),
            other => panic!("the method {other} has no counterpart here"),
        })
    }

    fn create(
        &self,
        method: &str,
        key: &str,
        how: &Map<String, Value>,
        policy: &RegionPolicy,
    ) -> Result<Arc<Value>, CreateError<Refused>> {
        let (calls, name) = (Arc::clone(&self.calls), key.to_owned());
        let detached = move || {
            calls.lock().unwrap().push(json!(name));
            Ok(json!(format!("new {name}")))
        };
        let is_detached = self.row.settings.get("runner").is_some();
        match self.face {
            Face::Threads => {
                let with = self.region.with(policy);
                match method {
                    "refresh" => with.try_refresh(key, || self.make(key, how)),
                    _ if is_detached => with.try_get_or_create_detached(key, detached),
                    _ => with.try_get_or_create(key, || self.make(key, how)),
                }
            }
            Face::Tasks => {
                let tasks = self.region.for_tasks().map_err(CreateError::Backend)?;
                let with = tasks.with(policy);
                block_on(async {
                    match method {
                        "refresh" => with.try_refresh(key, async { self.make(key, how) }).await,
                        _ if is_detached => {
                            with.try_get_or_create_detached(key, async move { detached() }).await
                        }
                        _ => with.try_get_or_create(key, async { self.make(key, how) }).await,
                    }
                })
            }
        }
    }

    fn create_multi(
        &self,
        keys: &[&str],
        how: &Map<String, Value>,
        policy: &RegionPolicy,
    ) -> Result<Vec<Arc<Value>>, CreateError<Refused>> {
        let make = |keys: &[&str]| {
            self.calls.lock().unwrap().push(json!(keys));
            if how.get("raises").is_some() {
                return Err(Refused);
            }
            let mut made: Vec<Value> = keys.iter().map(|key| json!(format!("new {key}"))).collect();
            let short = how.get("short").map_or(0, |short| short.as_u64().unwrap() as usize);
            made.truncate(made.len() - short);
            Ok(made)
        };
        match self.face {
            Face::Threads => self.region.with(policy).try_get_or_create_multi(keys, make),
            Face::Tasks => {
                let tasks = self.region.for_tasks().map_err(CreateError::Backend)?;
                let make = |keys: Vec<&str>| std::future::ready(make(&keys));
                block_on(tasks.with(policy).try_get_or_create_multi(keys, make))
            }
        }
    }

    /// Whether it is the backend that values go to.
    fn actual_backend(&self, how: &Map<String, Value>) -> Result<bool, Error> {
        let proxies = how["proxies"].as_u64().unwrap();
        let wrapped = (0..proxies).fold(self.settings("prefix"), |builder, _| builder.wrap(Transparent));
        self.region.configure(wrapped.replace_existing_backend())?;
        if how["replaced"] == true {
            assert!(self.region.actual_backend()?.is_some());
            let new = MemoryBackend::builder().clock(self.clock.clone()).build()?;
            self.region.configure(self.settings("prefix").backend(new).replace_existing_backend())?;
        }
        self.region.set("mark", 1)?;
        Ok(self.region.actual_backend()?.expect("it blocks").get("mark")?.is_some())
    }

    fn stored(&self, key: &str) -> Value {
        if self.row.package == "cachetory" {
            return attempt(self.region.get(key).map(value_of));
        }
        let options = GetOptions::new().ignore_expiration();
        let found = self.region.get_value_metadata_with::<Value>(key, options);
        attempt(found.map(|found| {
            found.map_or(json!([]), |found| {
                json!([*found.payload, self.now_unix() - found.cached_time.unwrap().as_secs_f64()])
            })
        }))
    }
}

/// Does a row over again.
pub(crate) fn run(row: &Row, face: Face) -> Outcome {
    let ours = Ours::new(row, face);
    let locked: Vec<&str> = match row.settings.get("locked") {
        Some(keys) => keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect(),
        None => Vec::new(),
    };
    let other = row.settings.get("other").and_then(Value::as_str);
    let keeps = other != Some("made, and not to be stored");
    let policy = ours.base.to_builder().should_cache(move |_| keeps);
    let policy = policy.build().unwrap();
    thread::scope(|scope| {
        // Each of these keys is being made by a thread, which goes on when its sender is dropped.
        let mut makers: Vec<mpsc::Sender<()>> = locked
            .into_iter()
            .map(|key| {
                let (begun, has_begun) = mpsc::channel();
                let (ends, end) = mpsc::channel::<()>();
                let others = ours.region.with(&policy);
                scope.spawn(move || {
                    others.try_refresh(key, || {
                        begun.send(()).unwrap();
                        let _ = end.recv();
                        if other == Some("raised") { Err(Refused) } else { Ok(json!("another's")) }
                    })
                });
                has_begun.recv().expect("it begins");
                ends
            })
            .collect();
        if other.is_some() {
            let makers = std::mem::take(&mut makers);
            let region = &ours.region;
            scope.spawn(move || {
                until("waits", || region.stats().waits > 0);
                drop(makers);
            });
        }
        let out = outcome(row, &ours);
        drop(makers);
        out
    })
}

fn outcome(row: &Row, ours: &Ours<'_>) -> Outcome {
    let mut out = Outcome::new();
    out.insert("result".into(), ours.call(&row.method, "k", &row.arguments));
    let jobs: Vec<Job> = std::mem::take(&mut *ours.later.0.lock().unwrap());
    for job in jobs {
        job();
    }
    if let Some(seen) = ours.seen.take() {
        out.insert("seen".into(), seen);
    }
    if let Some(then) = row.arguments.get("then") {
        ours.clock.advance(Duration::from_secs_f64(then[0].as_f64().unwrap()));
        out.insert("then".into(), ours.call(then[1].as_str().unwrap(), "k", &Map::new()));
    }
    let calls = ours.calls.lock().unwrap().clone();
    if !calls.is_empty() {
        out.insert("calls".into(), Value::Array(calls));
    }
    let mut keys: BTreeSet<&str> = row.states.keys().map(String::as_str).collect();
    if let Some(named) = row.arguments.get("keys") {
        keys.extend(named.as_array().unwrap().iter().map(|key| key.as_str().unwrap()));
    }
    let stored: BTreeMap<&str, Value> = keys.into_iter().map(|key| (key, ours.stored(key))).collect();
    if !stored.is_empty() && row.settings.get("configured").is_none() {
        out.insert("stored".into(), json!(stored));
    }
    out
}
