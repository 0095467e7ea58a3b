//! The store in files: the contract of backends, over one folder, by threads and tasks; fences and locks; what is swept; what
//! is damaged. What several processes do is in `file_processes.rs`.

mod folders;

use dogpile::backend::conformance::{Conformance, Outcome};
use dogpile::backend::{
    Arguments, Backend, CacheMutex, Fence, FileBackend, OnDamage, OnThreads, Put, Schemes, Store, Stored,
    TieredBackend,
};
use dogpile::time::ManualClock;
use dogpile::{ErrorKind, Region};
use folders::Folder;
use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// What does not concern it: it keeps values, its locks end with their process, and who blocks can't be given up.
const NOT_ITS: [&str; 3] =
    ["what_keeps_nothing_says_so", "mutex_ends_with_its_lease", "a_call_that_is_given_up_harms_none"];

fn left_out(report: &dogpile::backend::conformance::Report) -> HashSet<&'static str> {
    let is_so = |outcome: &Outcome| matches!(outcome, Outcome::NotApplicable(_));
    report.checks().iter().filter(|check| is_so(&check.outcome)).map(|check| check.name).collect()
}

#[test]
fn the_contract_is_kept() {
    let folder = Folder::new();
    let path = folder.path().to_owned();
    let clock = ManualClock::new();
    let time = clock.clone();
    let make = move || FileBackend::builder(&path).clock(clock.clone()).build().unwrap();
    let report = Conformance::new(make).advance(move |span| time.advance(span)).run();
    report.assert_passed();
    assert_eq!(left_out(&report), NOT_ITS.into(), "{report}");
}

#[test]
fn the_contract_is_kept_for_tasks() {
    let folder = Folder::new();
    let path = folder.path().to_owned();
    let clock = ManualClock::new();
    let time = clock.clone();
    let make = move || OnThreads::new(FileBackend::builder(&path).clock(clock.clone()).build().unwrap());
    let report = Conformance::for_tasks(make).advance(move |span| time.advance(span)).run();
    report.assert_passed();
    println!("{report}");
}

/// With memory before it, locks and fences included.
#[test]
fn the_contract_is_kept_by_tiers() {
    let folder = Folder::new();
    let path = folder.path().to_owned();
    let clock = ManualClock::new();
    let time = clock.clone();
    let make = move || {
        let far = FileBackend::builder(&path).clock(clock.clone()).build().unwrap();
        TieredBackend::builder(Store::blocking(far)).clock(clock.clone()).build().unwrap()
    };
    let report = Conformance::new(make).advance(move |span| time.advance(span)).run();
    report.assert_passed();
    assert_eq!(left_out(&report), NOT_ITS.into(), "{report}");
}

fn set(backend: &FileBackend, key: &str, value: &str) {
    backend.set(Put::new(key, &stored(value))).unwrap();
}

fn stored(value: &str) -> Stored {
    Stored::from(value.as_bytes())
}

fn get(backend: &FileBackend, key: &str) -> Option<String> {
    let found = backend.get(key).unwrap()?;
    Some(String::from_utf8(found.bytes().unwrap().to_vec()).unwrap())
}

/// Two backends over one folder, as two processes have them.
fn two(folder: &Folder) -> [FileBackend; 2] {
    [(), ()].map(|()| FileBackend::open(folder.path()).unwrap())
}

fn lock(backend: &FileBackend, key: &str) -> Box<dyn CacheMutex> {
    let lock = backend.mutex(key).unwrap();
    assert!(lock.acquire(Duration::ZERO).unwrap(), "nobody has it");
    lock
}

/// What was made under a lock. Whether it was written.
fn publish(backend: &FileBackend, lock: &dyn CacheMutex, key: &str) -> bool {
    let (value, fence) = (stored("made"), lock.fence().expect("it is held"));
    let put = Put::new(key, &value).fence(Some(&fence));
    let keeps = |_: usize, _: Option<&Stored>| panic!("what has a fence is not asked about");
    backend.set_unless(&[put], &keeps).unwrap().unwrap() == [true]
}

#[test]
fn what_was_made_is_written_unless_something_newer_has_come() {
    type Meanwhile = fn(&FileBackend);
    let newer: [(&str, Meanwhile, Option<&str>); 7] = [
        ("set", |other| set(other, "key", "newer"), Some("newer")),
        ("deleted", |other| assert!(other.delete("key").is_ok()), None),
        ("deleted twice", |other| (0..2).for_each(|_| assert!(other.delete("key").is_ok())), None),
        ("cleared", |other| assert!(other.clear("k").unwrap()), None),
        ("cleared whole", |other| assert!(other.clear("").unwrap()), None),
        (
            "set to end at once",
            |other| other.set(Put::new("key", &stored("x")).ttl(Some(Duration::ZERO))).unwrap(),
            None,
        ),
        (
            "deleted, and swept",
            |other| {
                other.delete("key").unwrap();
                other.sweep().unwrap();
            },
            None,
        ),
    ];
    for before in [None, Some("before")] {
        for (what, meanwhile, left) in newer {
            let folder = Folder::new();
            let [ours, other] = two(&folder);
            if let Some(before) = before {
                set(&other, "key", before);
            }
            let own = lock(&ours, "key");
            let found = own.found().unwrap();
            assert_eq!(found.as_ref().and_then(Stored::bytes), before.map(str::as_bytes));
            meanwhile(&other);
            assert!(!publish(&ours, &*own, "key"), "{what} meanwhile, over {before:?}");
            assert_eq!(get(&other, "key").as_deref(), left, "{what}");
            own.release().unwrap();
            // The next one begins after that.
            let next = lock(&other, "key");
            assert!(publish(&other, &*next, "key"), "{what}, and made anew");
            assert_eq!(get(&ours, "key").as_deref(), Some("made"));
        }
        // What is not newer state.
        let older: [(&str, Meanwhile); 4] = [
            ("nothing", |_| {}),
            ("other keys", |other| set(other, "other", "x")),
            ("another end", |other| assert!(other.expire("key", Some(Duration::from_secs(60))).is_ok())),
            ("another prefix is cleared", |other| assert!(other.clear("kex").unwrap())),
        ];
        for (what, meanwhile) in older {
            let folder = Folder::new();
            let [ours, other] = two(&folder);
            if let Some(before) = before {
                set(&other, "key", before);
            }
            let own = lock(&ours, "key");
            meanwhile(&other);
            assert!(publish(&ours, &*own, "key"), "{what} meanwhile, over {before:?}");
            assert_eq!(get(&other, "key").as_deref(), Some("made"), "{what}");
        }
    }
}

#[test]
fn a_fence_is_for_its_lock_and_its_key() {
    let folder = Folder::new();
    let [ours, other] = two(&folder);
    let own = lock(&ours, "key");
    assert!(!publish(&ours, &*own, "another"), "of another key");
    let fence = own.fence().unwrap();
    own.release().unwrap();
    assert!(own.fence().is_none() && own.found().is_none());
    let value = stored("late");
    let late = [Put::new("key", &value).fence(Some(&fence))];
    assert_eq!(ours.set_unless(&late, &|_, _| false).unwrap().unwrap(), [false], "it was given back");
    let next = lock(&other, "key");
    assert_eq!(ours.set_unless(&late, &|_, _| false).unwrap().unwrap(), [false], "and taken by another");
    assert!(publish(&other, &*next, "key"));
    let foreign = Fence::new("another store's");
    let put = [Put::new("key", &value).fence(Some(&foreign))];
    let error = ours.set_unless(&put, &|_, _| false).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

/// L3: under a lock even what has expired stays, so that the fence can tell.
#[test]
fn what_expires_under_a_lock_is_no_newer_state() {
    let folder = Folder::new();
    let clock = ManualClock::new();
    let open = || FileBackend::builder(folder.path()).clock(clock.clone()).build().unwrap();
    let (ours, other) = (open(), open());
    let second = Some(Duration::from_secs(1));
    other.set(Put::new("key", &stored("before")).ttl(second)).unwrap();
    let own = lock(&ours, "key");
    clock.advance(Duration::from_secs(2));
    assert_eq!((get(&other, "key"), other.sweep().unwrap()), (None, 0));
    assert!(publish(&ours, &*own, "key"), "it has expired, and nobody has written since");
    drop(own);
    // Something newer that has expired since is newer all the same.
    let own = lock(&ours, "key");
    other.set(Put::new("key", &stored("newer")).ttl(second)).unwrap();
    clock.advance(Duration::from_secs(2));
    assert_eq!(other.sweep().unwrap(), 0);
    assert!(!publish(&ours, &*own, "key"));
    drop(own);
    assert_eq!(other.sweep().unwrap(), 1);
}

#[test]
fn locks_are_told_and_leave_nothing_behind() {
    let folder = Folder::new();
    let [ours, other] = two(&folder);
    assert_eq!(ours.locks("").unwrap(), Some(Vec::new()));
    let held: Vec<_> = ["a:1", "a:2\nb", "b:1"].map(|key| lock(&ours, key)).into();
    let locks = other.locks("a:").unwrap().unwrap();
    let mut keys: Vec<&str> = locks.iter().map(|lock| lock.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a:1", "a:2\nb"]);
    for lock in &locks {
        assert_eq!(lock.holder, Some(format!("process {}", std::process::id())));
        assert!(lock.held_for.is_some_and(|time| time < Duration::from_secs(60)) && lock.left.is_none());
    }
    assert_eq!(folder.files("lock"), 3);
    assert!(other.mutex("a:1").unwrap().locked().unwrap());
    assert!(!other.mutex("a:3").unwrap().locked().unwrap());
    // Whoever looks takes nothing, and who looks away leaves nothing.
    assert_eq!(folder.files("lock"), 3);
    drop(held);
    assert_eq!((folder.files("lock"), folder.files("tmp")), (0, 0));
    assert!(!other.mutex("a:1").unwrap().locked().unwrap());
}

/// R30 without a process: a file that nobody has locked.
#[test]
fn a_lock_file_that_nobody_holds_is_no_lock() {
    let folder = Folder::new();
    let [ours, other] = two(&folder);
    let held = lock(&ours, "key");
    let name = fs::read_dir(folder.path().join("lock")).unwrap().next().unwrap().unwrap().path();
    drop(held);
    for content in ["", "no lock of ours", "1 2\nkey"] {
        fs::write(&name, content).unwrap();
        assert!(!ours.mutex("key").unwrap().locked().unwrap());
        assert_eq!(ours.locks("").unwrap(), Some(Vec::new()));
        let held = lock(&other, "key");
        assert!(publish(&other, &*held, "key"));
        drop(held);
        assert_eq!(folder.files("lock"), 0);
        fs::write(&name, content).unwrap();
        FileBackend::open(folder.path()).unwrap();
        assert_eq!(folder.files("lock"), 0, "swept at open");
    }
}

#[test]
fn what_has_expired_is_swept_by_writes() {
    let folder = Folder::new();
    let clock = ManualClock::new();
    let backend = FileBackend::builder(folder.path()).clock(clock.clone()).build().unwrap();
    for i in 0..100 {
        backend.set(Put::new(&format!("old-{i}"), &stored("x")).ttl(Some(Duration::from_secs(1)))).unwrap();
    }
    set(&backend, "stays", "x");
    clock.advance(Duration::from_secs(2));
    assert_eq!(folder.entries().len(), 101);
    // Two files a write: a round are all the files that there are, and all folders.
    for _ in 0..400 {
        set(&backend, "stays", "x");
    }
    assert_eq!((folder.entries().len(), backend.swept()), (1, 100));
    assert_eq!(backend.sweep().unwrap(), 0);
}

#[test]
fn only_what_is_ours_is_swept_or_cleared() {
    let folder = Folder::new();
    let [backend, _] = two(&folder);
    set(&backend, "key", "value");
    let stripe = folder.entries()[0].parent().unwrap().to_owned();
    let theirs = [folder.path().join("notes.txt"), stripe.join("notes.txt"), stripe.join("0".repeat(31))];
    for path in &theirs {
        fs::write(path, "not ours").unwrap();
    }
    // A later version may be at work here, too.
    let later = stripe.join("0".repeat(30));
    let mut bytes =
        fs::read(folder.entries().iter().find(|path| path.file_name().unwrap().len() == 30).unwrap())
            .unwrap();
    bytes[8] = 2;
    fs::write(&later, &bytes).unwrap();
    assert_eq!(backend.sweep().unwrap(), 0);
    assert!(later.exists());
    assert_eq!(backend.len("").unwrap(), Some(1));
    assert!(backend.clear("").unwrap());
    assert_eq!(backend.len("").unwrap(), Some(0));
    assert!(!later.exists(), "all is all");
    assert!(theirs.iter().all(|path| path.exists()));
}

#[test]
fn damage_is_a_miss_or_an_error_and_never_a_value() {
    let folder = Folder::new();
    let miss = FileBackend::open(folder.path()).unwrap();
    let error = FileBackend::builder(folder.path()).on_damage(OnDamage::Error).build().unwrap();
    set(&miss, "some key", "some value");
    let [path] = folder.entries().try_into().unwrap();
    let good = fs::read(&path).unwrap();
    let flips = (0..good.len()).map(|at| {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        bad
    });
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    let grown = [[&*good, b"more"].concat()];
    let mut times = 0;
    for bad in flips.chain(cut).chain(grown) {
        fs::write(&path, &bad).unwrap();
        assert_eq!(get(&miss, "some key"), None);
        times += 1;
        assert_eq!(miss.damaged(), times, "each is counted");
        let said = error.get("some key").unwrap_err();
        assert_eq!(said.kind(), ErrorKind::Decode);
        let name = format!(
            "{}/{}",
            path.parent().unwrap().file_name().unwrap().display(),
            path.file_name().unwrap().display()
        );
        assert!(said.to_string().contains(&format!("the entry {name} can't be read")), "{said}");
        assert!(said.to_string().contains("delete that file, or set corrupt=miss"), "{said}");
        assert!(!said.to_string().contains("some"), "neither key nor value: {said}");
    }
    println!("{times} damaged files: {} misses, as many errors, no value", miss.damaged());
    // Under a lock, and by conditional writes, it is nothing; any write replaces it.
    fs::write(&path, b"").unwrap();
    assert_eq!(
        error.mutex("some key").unwrap().acquire(Duration::ZERO).unwrap_err().kind(),
        ErrorKind::Decode
    );
    assert_eq!(folder.files("lock"), 0);
    let held = lock(&miss, "some key");
    assert!(publish(&miss, &*held, "some key"));
    drop(held);
    assert_eq!(get(&error, "some key").as_deref(), Some("made"));
    fs::write(&path, b"").unwrap();
    let value = stored("conditional");
    let put = [Put::new("some key", &value)];
    assert_eq!(miss.set_unless(&put, &|_, now| now.is_some()).unwrap().unwrap(), [true]);
    fs::write(&path, b"").unwrap();
    assert!(!miss.delete("some key").unwrap());
    assert!(!path.exists());
}

/// Two keys of one name can't be made; a file under another's name can.
#[test]
fn an_entry_of_another_key_is_a_miss() {
    let folder = Folder::new();
    let [backend, _] = two(&folder);
    set(&backend, "a", "of a");
    let [path] = folder.entries().try_into().unwrap();
    let of_a = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    set(&backend, "b", "of b");
    let [path] = folder.entries().try_into().unwrap();
    fs::write(&path, of_a).unwrap();
    assert_eq!(get(&backend, "b"), None);
    assert_eq!(backend.damaged(), 0);
    let value = stored("of b");
    assert_eq!(
        backend.set_unless(&[Put::new("b", &value)], &|_, now| now.is_some()).unwrap().unwrap(),
        [true]
    );
    assert_eq!(get(&backend, "b").as_deref(), Some("of b"));
}

#[test]
fn a_stopped_writer_keeps_others_for_no_longer_than_the_timeout() {
    let folder = Folder::new();
    let backend = FileBackend::builder(folder.path()).timeout(Duration::from_millis(50)).build().unwrap();
    set(&backend, "key", "value");
    let stripe = fs::File::open(folder.entries()[0].parent().unwrap()).unwrap();
    stripe.lock().unwrap();
    for error in [backend.set(Put::new("key", &stored("x"))).unwrap_err(), backend.delete("key").unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("is it stopped?"), "{error}");
    }
    assert_eq!(get(&backend, "key").as_deref(), Some("value"), "who reads needs no lock");
    assert_eq!(folder.files("tmp"), 0);
    drop(stripe);
    set(&backend, "key", "x");
    assert_eq!(get(&backend, "key").as_deref(), Some("x"));
}

#[test]
fn the_folder_may_vanish_and_comes_again() {
    let folder = Folder::new();
    let [backend, other] = two(&folder);
    set(&backend, "key", "value");
    let own = lock(&backend, "key");
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!((get(&backend, "key"), backend.len("").unwrap()), (None, Some(0)));
    assert!(!publish(&backend, &*own, "key"), "what was there is gone");
    let next = lock(&other, "key");
    own.release().unwrap();
    assert!(other.mutex("key").unwrap().locked().unwrap(), "it is another's by now");
    assert!(publish(&other, &*next, "key"));
    assert_eq!(get(&backend, "key").as_deref(), Some("made"));
}

#[test]
fn too_much_is_refused() {
    let folder = Folder::new();
    let [backend, _] = two(&folder);
    let key = "k".repeat((1 << 24) + 1);
    assert_eq!(backend.set(Put::new(&key, &stored("x"))).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(backend.get(&key[1..]).unwrap().map(drop), None);
    backend.set(Put::new(&key[1..], &stored("x"))).unwrap();
    assert_eq!(get(&backend, &key[1..]).as_deref(), Some("x"));
    let object = Stored::Object(std::sync::Arc::new(7));
    assert_eq!(backend.set(Put::new("key", &object)).unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(folder.files("tmp"), 0);
}

#[test]
fn by_url_and_by_map() {
    let folder = Folder::new();
    let path = folder.path().join("a b");
    let url = format!("file://{}?sync=true&corrupt=error&timeout=500ms", path.display()).replace(' ', "%20");
    let region = Region::from_url(&url).unwrap();
    assert_eq!(*region.get_or_create("key", || 7).unwrap(), 7);
    assert!(path.is_dir());
    let text = path.display().to_string();
    for settings in [
        [("backend", "file"), ("arguments.path", &*text)],
        [("backend", "dogpile.cache.dbm"), ("arguments.filename", &*text)],
    ] {
        let region = Region::new("files");
        region.configure_from_config(settings, "").unwrap();
        assert_eq!(region.get::<i32>("key").unwrap().as_deref(), Some(&7));
    }
    // `PATH` is a folder that may be made.
    for (url, expected) in [
        ("file://", "`path`: missing: give the folder"),
        ("file", "`path`: missing: give the folder"),
        ("dbm://?filename=", "`filename`: missing"),
        ("file://host/path", "`path`: there is a host in the URL: write three slashes"),
        ("file://PATH?path=other", "`path`: the path is given twice"),
        ("file://PATH?corrupt=often", "`corrupt`: expected miss or error"),
        (
            "file://PATH?max_entries=3",
            "`max_entries` is unknown: accepted are path, create, sync, timeout, corrupt",
        ),
        ("dbm://PATH?rw_lockfile=x", "`rw_lockfile`: there is no lock around the whole file"),
        ("dbm://PATH?dogpile_lockfile=False", "`dogpile_lockfile`: each key has a lock file of its own"),
        ("file:///dev/null/cache", "the folder can't be made"),
        ("file://PATH/more?create=false", "there is no such folder, and none is to be made"),
    ] {
        let url = url.replace("PATH", &path.display().to_string()).replace(' ', "%20");
        let error = Schemes::new().open(Arguments::from_url(&url).unwrap()).unwrap_err();
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
}

/// Two regions over one folder, as two processes have them.
#[test]
fn a_region_does_not_undo_what_another_has_done() {
    let folder = Folder::new();
    let [ours, other] = two(&folder).map(|backend| Region::builder().backend(backend).build().unwrap());
    let made = ours.get_or_create("key", || {
        assert!(other.key_is_locked("key").unwrap());
        other.set("key", 2).unwrap();
        1
    });
    assert_eq!((*made.unwrap(), ours.stats().refused_late_writes), (1, 1));
    assert_eq!(other.get::<i32>("key").unwrap().as_deref(), Some(&2));
    let made = ours.refresh("key", || {
        other.delete("key").unwrap();
        3
    });
    assert_eq!((*made.unwrap(), ours.get::<i32>("key").unwrap()), (3, None));
    assert_eq!((folder.files("lock"), folder.files("tmp")), (0, 0));
    let sum: i32 = ours
        .get_or_create_multi(&["a", "b", "c"], |keys| vec![1; keys.len()])
        .unwrap()
        .iter()
        .map(|i| **i)
        .sum();
    assert_eq!((sum, other.len().unwrap(), folder.files("lock")), (3, Some(3), 0));
}

#[test]
fn inspect_tells_of_any_type_by_threads_and_by_tasks() {
    let folder = Folder::new();
    let open =
        || Region::builder().backend(FileBackend::open(folder.path()).unwrap()).prefix("p:").build().unwrap();
    let (region, other) = (open(), open());
    let tasks = region.for_tasks().unwrap();
    let nothing = region.inspect("key").unwrap();
    assert_eq!((nothing.key.as_str(), nothing.backend, nothing.entry), ("p:key", "file", None));
    assert!(!nothing.is_locked && nothing.lock.is_none());
    let made = other.tagged(["tag"]).get_or_create("key", || {
        let held = region.inspect("key").unwrap();
        assert!(held.is_locked);
        assert_eq!(held.lock.unwrap().holder, Some(format!("process {}", std::process::id())));
        String::from("secret")
    });
    made.unwrap();
    let told = region.inspect("key").unwrap();
    let entry = told.entry.clone().unwrap();
    assert_eq!((entry.tags, told.is_locked, told.lock.clone()), (vec![String::from("tag")], false, None));
    assert!(entry.age.is_some_and(|age| age < Duration::from_secs(60)) && entry.cost.is_some());
    assert!(!format!("{told:?}").contains("secret") && !format!("{told:?}").contains("tag"));
    let by_task = pollster::block_on(tasks.inspect("key")).unwrap();
    assert_eq!((by_task.key, by_task.state), (told.key, told.state));
    assert_eq!(by_task.entry.unwrap().payload().map(<[u8]>::len), Some(7), "a length, and six letters");
    // What is no entry of ours.
    FileBackend::open(folder.path()).unwrap().set(Put::new("p:key", &stored("rubbish"))).unwrap();
    let told = region.inspect("key").unwrap();
    assert!(told.state.to_string().contains("can't be decoded"), "{}", told.state);
    assert_eq!((told.entry.as_ref().unwrap().payload(), told.entry.as_ref().unwrap().bytes), (None, Some(7)));
}
