//! The store in files, by several processes: who makes a value, who is killed, and what the disk or the rights don't allow.
//!
//! A child is this program again, told by the environment to run one test, in which it plays the child's part.
//!
//! `DOGPILE_LONG=1 cargo test --release --features file --test file_processes -- --nocapture` kills 1,000 writers
//! and not 100, and 100 holders and not 10. All print what they have counted.
#![cfg(unix)]

mod folders;

use dogpile::backend::{Backend, FileBackend, Put, Stored};
use dogpile::time::{Clock, Instant, ManualClock, PreciseClock};
use dogpile::{ErrorKind, Region, RegionPolicy};
use folders::Folder;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const PART: &str = "DOGPILE_FILE_TEST";
const ENOUGH: Duration = Duration::from_secs(10);

fn long(times: usize, more: usize) -> usize {
    if std::env::var_os("DOGPILE_LONG").is_some() { more } else { times }
}

/// A child that plays its part of a test until it is told to end, or is killed. Killed at the latest when it is dropped.
struct Played {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Played {
    fn new(test: &str, folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line that is the part's, not the test harness's.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the child has ended");
            if let Some((_, said)) = line.split_once("says: ") {
                return said.trim_end().to_owned();
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        drop(self.to.take());
        assert!(self.child.wait().unwrap().success(), "the child has failed");
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a child: the folder that it works in.
fn part() -> Option<std::path::PathBuf> {
    std::env::var_os(PART).map(Into::into)
}

fn say(what: impl std::fmt::Display) {
    println!("says: {what}");
}

fn lines() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map(Result::unwrap)
}

/// Adds a line to a file that all processes write to.
fn note(path: &Path, what: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{what}\n").as_bytes()).unwrap();
}

fn count(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Lets others go first until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = PreciseClock.now().saturating_add(ENOUGH);
    while !holds() {
        assert!(PreciseClock.now() < end, "no end of waiting: {what}");
        std::thread::yield_now();
    }
}

fn now() -> Instant {
    PreciseClock.now()
}

const PROCESSES: usize = 4;
const GENERATIONS: u64 = 200;
/// By the clock of the test: a generation is fresh until the next.
const A_GENERATION: Duration = Duration::from_secs(100);

fn generations(test: &str, stale: Duration) {
    if let Some(folder) = part() {
        return one_of_several(&folder, stale);
    }
    let folder = Folder::new();
    let mut all: Vec<Played> = (0..PROCESSES).map(|_| Played::new(test, folder.path())).collect();
    let (mut stale_ones, begun) = (0, now());
    for generation in 1..=GENERATIONS {
        all.iter_mut().for_each(|played| played.tell(&generation.to_string()));
        let got: Vec<u64> = all.iter_mut().map(|played| played.hear().parse().unwrap()).collect();
        let old = got.iter().filter(|value| **value + 1 == generation).count();
        let new = got.iter().filter(|value| **value == generation).count();
        assert_eq!(old + new, PROCESSES, "generation {generation}: {got:?}");
        assert!(
            new >= 1 && (old == 0 || !stale.is_zero() && generation > 1),
            "generation {generation}: {got:?}"
        );
        stale_ones += old;
        assert_eq!(
            count(&folder.path().join("made")) as u64,
            generation,
            "creations after {generation} generations"
        );
    }
    all.into_iter().for_each(Played::end);
    let took = now().saturating_duration_since(begun);
    println!(
        "{PROCESSES} processes, {GENERATIONS} generations: {} creations, {stale_ones} stale values served, {took:.1?}",
        count(&folder.path().join("made")),
    );
    assert_eq!((folder.files("lock"), folder.files("tmp")), (0, 0));
}

fn one_of_several(folder: &Path, stale: Duration) {
    let clock = ManualClock::new();
    let backend = FileBackend::builder(folder).clock(clock.clone()).build().unwrap();
    let policy = RegionPolicy::builder().fresh(A_GENERATION / 2).stale(stale).build().unwrap();
    let region = Region::builder().backend(backend).policy(policy).clock(clock.clone()).build().unwrap();
    let (here, made) = (folder.join("here"), folder.join("made"));
    for line in lines() {
        let generation: u64 = line.parse().unwrap();
        clock.set(Instant::from_nanos(generation * u64::try_from(A_GENERATION.as_nanos()).unwrap()));
        note(&here, "");
        let value = region.get_or_create("key", || {
            note(&made, &line);
            // All others are at it.
            until("all processes", || count(&here) as u64 >= generation * PROCESSES as u64);
            generation
        });
        say(value.unwrap());
    }
}

#[test]
fn one_creation_per_generation_when_it_is_cold() {
    generations("one_creation_per_generation_when_it_is_cold", Duration::ZERO);
}

#[test]
fn one_creation_per_generation_when_it_is_stale() {
    generations("one_creation_per_generation_when_it_is_stale", Duration::MAX);
}

/// R30: the holder of a key is killed while it makes the value, and another process waits.
#[test]
fn the_lock_of_a_dead_process_is_free_at_once() {
    if let Some(folder) = part() {
        let region = Region::builder().backend(FileBackend::open(folder).unwrap()).build().unwrap();
        region
            .get_or_create("key", || {
                say("making");
                // Until it is killed.
                lines().count() as u64
            })
            .unwrap();
        return;
    }
    let folder = Folder::new();
    let mut took = Vec::new();
    for _ in 0..long(10, 100) {
        let mut holder = Played::new("the_lock_of_a_dead_process_is_free_at_once", folder.path());
        assert_eq!(holder.hear(), "making");
        let backend = FileBackend::open(folder.path()).unwrap();
        let [held] = backend.locks("").unwrap().unwrap().try_into().unwrap();
        assert_eq!((held.key.as_str(), held.holder), ("key", Some(format!("process {}", holder.child.id()))));
        let region = Arc::new(Region::builder().backend(backend).build().unwrap());
        let (begins, begun) = mpsc::channel();
        let waiter = std::thread::spawn({
            let region = Arc::clone(&region);
            move || {
                begins.send(()).unwrap();
                region.get_or_create("key", || now().as_nanos()).unwrap()
            }
        });
        begun.recv().unwrap();
        until("the waiter leads", || region.explain::<u64>("key").unwrap().leader.is_some());
        // Time to be at the store's lock.
        let end = now().saturating_add(Duration::from_millis(30));
        until("a moment", || now() >= end);
        let killed = now();
        holder.kill();
        let began = Instant::from_nanos(*waiter.join().unwrap());
        took.push(began.saturating_duration_since(killed));
        assert!(region.delete("key").unwrap());
        assert_eq!(folder.files("lock"), 0);
    }
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{} holders killed: the next creator begins after {half:.1?} (median), {most:.1?} at the most",
        took.len()
    );
    assert!(half <= Duration::from_millis(100), "{took:?}");
    assert!(most <= Duration::from_secs(1), "{took:?}");
}

const KEYS: u64 = 3;
/// Longer than what is read or written in one go.
const LONG: usize = 1 << 20;

/// R28: writers are killed at any moment, while another process reads.
#[test]
fn killed_writers_leave_whole_values_and_nothing_else() {
    if let Some(folder) = part() {
        // Half of them wait for the disk at each write, with the draft at hand.
        let sync = std::process::id().is_multiple_of(2);
        let backend = FileBackend::builder(folder).sync(sync).build().unwrap();
        let values: Vec<Stored> = (0..7).map(|i| Stored::from(vec![i as u8; LONG - i])).collect();
        for i in 0_u64.. {
            let (key, value) = (format!("key-{}", i % KEYS), &values[i as usize % 7]);
            let put = Put::new(&key, value);
            match i % 3 {
                0 => backend.set(put).unwrap(),
                1 => drop(backend.set_unless(&[put], &|_, _| false).unwrap().unwrap()),
                _ => {
                    let lock = backend.mutex(&key).unwrap();
                    assert!(lock.acquire(ENOUGH).unwrap());
                    let fence = lock.fence();
                    drop(backend.set_unless(&[put.fence(fence.as_ref())], &|_, _| false).unwrap().unwrap());
                    lock.release().unwrap();
                }
            }
            if i == 0 {
                say("writing");
            }
        }
        return;
    }
    let folder = Folder::new();
    let (kills, mut reads, mut orphans) = (long(100, 1000), 0_u64, [0, 0]);
    for kill in 0..kills {
        let mut writer = Played::new("killed_writers_leave_whole_values_and_nothing_else", folder.path());
        assert_eq!(writer.hear(), "writing");
        let backend = FileBackend::open(folder.path()).unwrap();
        let end = now().saturating_add(Duration::from_micros(100 * (kill as u64 % 50)));
        let mut read = || {
            for key in 0..KEYS {
                let Some(value) = backend.get(&format!("key-{key}")).unwrap() else { continue };
                let bytes = value.bytes().unwrap();
                assert!(bytes.len() > LONG - 7 && bytes.iter().all(|byte| *byte == bytes[0]), "torn");
                reads += 1;
            }
        };
        while now() < end {
            read();
        }
        writer.kill();
        read();
        assert_eq!(backend.damaged(), 0);
        orphans[0] += folder.files("tmp");
        orphans[1] += folder.files("lock");
        let again = FileBackend::open(folder.path()).unwrap();
        assert_eq!((folder.files("tmp"), folder.files("lock")), (0, 0), "swept at open");
        again.set(Put::new("key-0", &Stored::from(vec![0; LONG]))).unwrap();
    }
    println!(
        "{kills} writers killed: {reads} values read, 0 torn; {} drafts and {} locks left, all swept at open",
        orphans[0], orphans[1]
    );
    assert!(orphans[0] + orphans[1] > 0, "no writer was killed while it wrote: nothing was tested");
}

/// R29: a writer that may not write files so large as the value is.
#[test]
fn a_full_disk_is_an_error_and_leaves_what_was_there() {
    if let Some(folder) = part() {
        // SAFETY: no handler is installed; the signal is ignored, in this process.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let limit = libc::rlimit { rlim_cur: 50_000, rlim_max: 50_000 };
        // SAFETY: the limit outlives the call, and is this process's own.
        let limited = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
        assert_eq!(limited, 0);
        let backend = FileBackend::open(folder).unwrap();
        for long in [60_000, 1_000_000] {
            let error = backend.set(Put::new("key", &Stored::from(vec![7; long]))).unwrap_err();
            say(error.kind() == ErrorKind::Full);
        }
        backend.set(Put::new("small", &Stored::from(vec![7; 1000]))).unwrap();
        return;
    }
    let folder = Folder::new();
    let backend = FileBackend::open(folder.path()).unwrap();
    backend.set(Put::new("key", &Stored::from(vec![3; 100_000]))).unwrap();
    let mut child = Played::new("a_full_disk_is_an_error_and_leaves_what_was_there", folder.path());
    assert_eq!([child.hear(), child.hear()], ["true", "true"]);
    child.end();
    assert_eq!(backend.get("key").unwrap().unwrap().bytes().unwrap(), vec![3; 100_000]);
    assert_eq!(backend.get("small").unwrap().unwrap().bytes().unwrap(), vec![7; 1000]);
    assert_eq!(folder.files("tmp"), 0);
}

/// R29: a folder that may only be read. Root may do all; so the child is nobody.
#[test]
fn a_read_only_folder_is_read() {
    if let Some(folder) = part() {
        // SAFETY: this process changes its own user, for good.
        let _ = unsafe { libc::setuid(65534) };
        let backend = FileBackend::open(&folder).unwrap();
        say(backend.get("key").unwrap().is_some());
        let value = Stored::from(vec![1]);
        let lock = backend.mutex("key").unwrap();
        for error in [
            backend.set(Put::new("key", &value)).unwrap_err(),
            backend.delete("key").unwrap_err(),
            lock.acquire(Duration::ZERO).unwrap_err(),
        ] {
            assert!(error.to_string().contains("give this user the right"), "{error}");
            say(error.kind() == ErrorKind::Unavailable);
        }
        // A region goes on without it.
        let region = Region::builder().backend(backend).build().unwrap();
        say(*region.get_or_create("made", || 7).unwrap());
        return;
    }
    let folder = Folder::new();
    let backend = FileBackend::open(folder.path()).unwrap();
    backend.set(Put::new("key", &Stored::from(vec![3]))).unwrap();
    let all = || {
        let stripes = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        stripes.chain([folder.path().to_owned()])
    };
    let set_rights = |mode| {
        for path in all() {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
    };
    set_rights(0o555);
    let mut child = Played::new("a_read_only_folder_is_read", folder.path());
    assert_eq!([(); 5].map(|()| child.hear()), ["true", "true", "true", "true", "7"]);
    child.end();
    set_rights(0o755);
    assert_eq!(backend.get("key").unwrap().unwrap().bytes(), Some([3].as_slice()));
}
