//! Counts instructions and locked instructions per operation.
//!
//! Valgrind's callgrind runs this very program in a child mode and notes how often each instruction ran inside the measured
//! section. It does not know which of them are locked: objdump tells, by address. The same loop without its call is run and
//! subtracted. Counts are the same in each run, whatever else the machine does.
//!
//! Valgrind runs one thread at a time, so contention is not counted; and it hides the kernel's fast clocks, so reading one
//! shows as a system call.

#![forbid(unsafe_code)]

mod disassembly;
mod expected;
mod loops;
mod profile;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub(crate) use disassembly::Kind;
pub(crate) use loops::{Variant, run_loop};

use crate::args::{InstructionOptions, is_wanted};
use crate::report::{Format, grid};
use crate::{clock, machine};
use disassembly::Owner;
use expected::Limit;
use loops::{CHECKS, ITERATIONS, LARGE_LOOPS, LOOPS, Loop, SECTION};
use profile::{Place, Profile};

/// The argument that makes this program run one loop.
pub(crate) const CHILD: &str = "child-loop";

/// Per operation, the baseline subtracted.
pub(crate) struct Count {
    pub(crate) name: String,
    pub(crate) instructions: f64,
    /// Locked instructions and their like; most frequent first.
    special: Vec<Found>,
    /// Calls to functions that block.
    blocking: f64,
    /// Instructions per function as compiled, what was inlined included; most first.
    functions: Vec<(String, f64)>,
}

/// Instructions of one kind in one place.
struct Found {
    kind: Kind,
    owner: Owner,
    count: f64,
}

impl Count {
    /// Fences and system calls among them.
    fn locked(&self) -> f64 {
        self.special.iter().map(|found| found.count).sum::<f64>().max(0.0)
    }

    /// Of one kind only.
    pub(crate) fn of_kind(&self, kind: Kind) -> f64 {
        self.special.iter().filter(|found| found.kind == kind).map(|found| found.count).sum::<f64>().max(0.0)
    }

    /// Those in the library's own code, not in that of the crates under it.
    fn own_locked(&self) -> f64 {
        let own = self.special.iter().filter(|found| found.owner.is_ours);
        own.map(|found| found.count).sum::<f64>().max(0.0)
    }
}

pub(crate) fn run(options: &InstructionOptions) -> ExitCode {
    match counted(options) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether valgrind can be started.
pub(crate) fn is_there() -> bool {
    let version =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Counts the loops called `names`, and checks the counter.
pub(crate) fn count(names: &[String]) -> Result<Vec<Count>, String> {
    let loops = LOOPS.iter().filter(|candidate| names.contains(&candidate.name()));
    let wanted: Vec<&Loop> = CHECKS.iter().chain(loops).collect();
    let scratch = Scratch::new()?;
    let counts = count_all(&wanted, &scratch.0, &mut Special::default())?;
    self_check(&counts)?;
    Ok(counts)
}

/// Cache lines of the large loops called `names`, and of one that has to come to one line.
pub(crate) fn count_lines(names: &[String]) -> Result<Vec<(String, f64)>, String> {
    let is_wanted = |candidate: &&Loop| candidate.subject == "check" || names.contains(&candidate.name());
    let wanted: Vec<&Loop> = LARGE_LOOPS.iter().filter(is_wanted).collect();
    let lines = lines_of(&wanted, &Scratch::new()?.0)?;
    match lines.iter().find(|(name, _)| name == "check/one_line") {
        Some((_, one)) if (0.95..1.05).contains(one) => Ok(lines),
        found => {
            Err(format!("a loop over random lines should miss one each, and the simulation says {found:?}"))
        }
    }
}

fn counted(options: &InstructionOptions) -> Result<ExitCode, String> {
    let start = clock::now();
    let gates = options.check || options.write;
    let wanted: Vec<&Loop> = CHECKS
        .iter()
        .chain(LOOPS.iter().filter(|candidate| is_wanted(&options.words, &candidate.name())))
        .filter(|candidate| !gates || candidate.is_ours() || candidate.subject == "check")
        .collect();
    let scratch = Scratch::new()?;
    if options.lines {
        return print_lines(options, &scratch.0);
    }
    let mut special = Special::default();
    let counts = count_all(&wanted, &scratch.0, &mut special)?;
    println!("{}\n", machine::describe());
    println!(
        "Instructions per operation, u64 keys and values, {ITERATIONS} iterations, loop subtracted. Locked: lock prefix or \
         exchange with\nmemory. Own: such, fences and system calls, in the sources of `dogpile` itself. Where: all of them, with the \
         code they lie in.\nValgrind makes a system call of reading the clock.\n"
    );
    print!("{}", table(&counts, options.format));
    if options.functions {
        counts.iter().for_each(|count| print!("{}", functions(count, options.format)));
    }
    self_check(&counts)?;
    let ours: Vec<&Count> = counts.iter().filter(|count| count.name.starts_with("dogpile/")).collect();
    let code = if options.write { write(&ours)? } else { compare(&ours, options.check)? };
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    Ok(code)
}

/// Counts all loops, on as many cores as there are.
fn count_all(wanted: &[&Loop], scratch: &Path, special: &mut Special) -> Result<Vec<Count>, String> {
    let profiles = in_parallel(wanted, |candidate| {
        let of = |variant| profile_of(&candidate.name(), variant, scratch, false);
        of(Variant::Call).and_then(|call| Ok((call, of(Variant::Baseline)?)))
    });
    let mut counts = Vec::new();
    for (candidate, profiles) in wanted.iter().zip(profiles) {
        let (call, baseline) = profiles?;
        counts.push(special.count(candidate.name(), &call, &baseline)?);
    }
    Ok(counts)
}

/// `work` of each item, in the items' order, on as many cores as there are.
fn in_parallel<I: Sync, R: Send>(items: &[I], work: impl Fn(&I) -> R + Sync) -> Vec<R> {
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    // Relaxed: it only deals out numbers.
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(place) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&place| place < items.len())
                {
                    let done = work(&items[place]);
                    *results[place].lock().expect("no worker panics") = Some(done);
                }
            });
        }
    });
    let result = |result: Mutex<Option<R>>| result.into_inner().expect("no worker panics");
    results.into_iter().map(|done| result(done).expect("each item was dealt out")).collect()
}

/// First-level misses of each large loop, per operation.
fn lines_of(wanted: &[&Loop], scratch: &Path) -> Result<Vec<(String, f64)>, String> {
    let misses = |candidate: &&Loop| -> Result<(String, f64), String> {
        let name = candidate.name();
        let of = |variant| profile_of(&name, variant, scratch, true);
        let (call, baseline) = (of(Variant::Call)?, of(Variant::Baseline)?);
        let difference = call.first_level_misses as f64 - baseline.first_level_misses as f64;
        Ok((name, difference / ITERATIONS as f64))
    };
    in_parallel(wanted, misses).into_iter().collect()
}

fn print_lines(options: &InstructionOptions, scratch: &Path) -> Result<ExitCode, String> {
    let wanted: Vec<&Loop> = LARGE_LOOPS
        .iter()
        .filter(|candidate| candidate.subject == "check" || is_wanted(&options.words, &candidate.name()))
        .collect();
    println!(
        "Misses of a simulated first-level data cache of this machine's size per operation, loop subtracted.\n"
    );
    let body: Vec<Vec<String>> = lines_of(&wanted, scratch)?
        .into_iter()
        .map(|(name, misses)| vec![name, format!("{misses:.2}"), String::new()])
        .collect();
    print!("{}", grid(&["loop", "lines", ""].map(String::from), &body, options.format));
    Ok(ExitCode::SUCCESS)
}

/// Runs one loop under callgrind.
fn profile_of(name: &str, variant: Variant, scratch: &Path, with_cache: bool) -> Result<Profile, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("the running program has no path: {error}"))?;
    let file = scratch.join(format!("{}.{}", name.replace('/', "."), variant.name()));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(format!("--toggle-collect=*{SECTION}*"))
        .args(["--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"])
        .args(with_cache.then_some("--cache-sim=yes"))
        .arg(program)
        .args([CHILD, name, variant.name()])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} fails under valgrind: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Profile::parse(&text).map_err(|error| format!("{name}: {error}"))
}

/// What is known about the instructions of each object, looked up once.
#[derive(Default)]
struct Special {
    objects: BTreeMap<String, BTreeMap<u64, Kind>>,
}

impl Special {
    fn count(&mut self, name: String, call: &Profile, baseline: &Profile) -> Result<Count, String> {
        let per_operation = |call: u64, baseline: u64| (call as f64 - baseline as f64) / ITERATIONS as f64;
        let special = self.executed(call)?;
        let owners = owners(&special)?;
        let mut found: BTreeMap<(Kind, Owner), f64> = BTreeMap::new();
        for (place, kind, function) in special {
            let ran = |profile: &Profile| profile.executed.get(&place).map_or(0, |(count, _)| *count);
            let count = per_operation(ran(call), ran(baseline));
            let unknown = || Owner { function, source: place.object.clone(), is_ours: false };
            let owner = owners.get(&place).cloned().unwrap_or_else(unknown);
            *found.entry((kind, owner)).or_default() += count;
        }
        let mut special: Vec<Found> =
            found.into_iter().map(|((kind, owner), count)| Found { kind, owner, count }).collect();
        special.sort_by(|one, other| other.count.total_cmp(&one.count));
        let slept = |profile: &Profile| -> u64 {
            profile.calls.iter().filter(|(function, _)| blocks(function)).map(|(_, count)| count).sum()
        };
        let blocking = per_operation(slept(call), slept(baseline)).max(0.0);
        let instructions = per_operation(call.instructions(), baseline.instructions());
        let mut functions: BTreeMap<&str, f64> = BTreeMap::new();
        for (profile, sign) in [(call, 1.0), (baseline, -1.0)] {
            for (count, function) in profile.executed.values() {
                *functions.entry(function).or_default() += sign * per_operation(*count, 0);
            }
        }
        let mut functions: Vec<(String, f64)> = functions
            .into_iter()
            .filter(|(_, count)| *count >= 0.05)
            .map(|(function, count)| (disassembly::shortened(function), count))
            .collect();
        functions.sort_by(|one, other| other.1.total_cmp(&one.1));
        Ok(Count { name, instructions, special, blocking, functions })
    }

    /// The special instructions that ran.
    fn executed(&mut self, profile: &Profile) -> Result<Vec<(Place, Kind, String)>, String> {
        let mut special = Vec::new();
        for (place, (count, function)) in &profile.executed {
            if !self.objects.contains_key(&place.object) {
                let found = disassembly::special_instructions(&place.object)?;
                self.objects.insert(place.object.clone(), found);
            }
            let kind = self.objects[&place.object].get(&place.address);
            if let Some(&kind) = kind.filter(|_| *count > 0) {
                special.push((place.clone(), kind, function.clone()));
            }
        }
        Ok(special)
    }
}

/// Whose code each place is, as far as debug information tells.
fn owners(special: &[(Place, Kind, String)]) -> Result<BTreeMap<Place, Owner>, String> {
    let mut objects: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (place, ..) in special {
        objects.entry(&place.object).or_default().insert(place.address);
    }
    let mut owners = BTreeMap::new();
    for (object, addresses) in objects {
        for (address, owner) in disassembly::owners(object, &addresses)? {
            owners.insert(Place { object: String::from(object), address }, owner);
        }
    }
    Ok(owners)
}

/// Whether a function puts its thread to sleep.
fn blocks(function: &str) -> bool {
    [
        "futex",
        "::park",
        "Condvar",
        "pthread_cond_",
        "pthread_mutex_lock",
        "lll_lock_wait",
        "sched_yield",
        "nanosleep",
    ]
    .iter()
    .any(|part| function.contains(part))
}

fn table(counts: &[Count], format: Format) -> String {
    let head =
        ["loop", "instructions", "locked", "fences", "own", "blocking calls", "where"].map(String::from);
    let body: Vec<Vec<String>> = counts
        .iter()
        .map(|count| {
            let places: Vec<String> =
                count.special.iter().filter(|found| found.count >= 0.005).map(Found::to_string).collect();
            vec![
                count.name.clone(),
                format!("{:.1}", count.instructions),
                format!("{:.2}", count.of_kind(Kind::Locked)),
                format!("{:.2}", count.of_kind(Kind::Fence)),
                format!("{:.2}", count.own_locked()),
                format!("{:.2}", count.blocking),
                places.join("; "),
            ]
        })
        .collect();
    grid(&head, &body, format)
}

/// Where the instructions of one loop lie, down to one in a hundred.
fn functions(count: &Count, format: Format) -> String {
    let head = ["instructions", "share", "function"].map(String::from);
    let body: Vec<Vec<String>> = count
        .functions
        .iter()
        .filter(|(_, instructions)| *instructions >= 0.01 * count.instructions)
        .map(|(function, instructions)| {
            let share = 100.0 * instructions / count.instructions;
            vec![format!("{instructions:.1}"), format!("{share:.0} %"), function.clone()]
        })
        .collect();
    format!("{}\n{}", count.name, grid(&head, &body, format))
}

impl std::fmt::Display for Found {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Found { kind, owner: Owner { function, source, .. }, count } = self;
        write!(formatter, "{count:.2} {} in {function} ({source})", kind.name())
    }
}

/// The counter counts: an `Arc` cloned and dropped is two locked instructions, a pin of crossbeam-epoch one, and a little
/// for the collection that every 128th pin starts.
fn self_check(counts: &[Count]) -> Result<(), String> {
    let locked = |name: &str| {
        let count = counts.iter().find(|count| count.name == name);
        count.map(Count::locked).ok_or_else(|| format!("{name} was not counted"))
    };
    let arc = locked("check/arc_clone_drop")?;
    let pin = locked("check/epoch_pin")?;
    eprintln!(
        "self-check: an Arc cloned and dropped has {arc:.2} locked instructions (2), an epoch pin {pin:.2} (1 to 1.1)"
    );
    if (arc - 2.0).abs() > 0.001 || !(1.0..1.1).contains(&pin) {
        return Err(String::from("the counter of locked instructions does not count what it should"));
    }
    Ok(())
}

/// Counts repeat exactly; a new compiler may move a few instructions.
fn limit_of(count: &Count) -> Limit {
    let locked = |count: f64| (count * 1.03 * 100.0).ceil() / 100.0;
    Limit {
        instructions: count.instructions * 1.03,
        locked: locked(count.locked()),
        own_locked: locked(count.own_locked()),
    }
}

fn operation(count: &Count) -> &str {
    count.name.rsplit('/').next().unwrap_or(&count.name)
}

fn write(ours: &[&Count]) -> Result<ExitCode, String> {
    let limits: Vec<(String, Limit)> =
        ours.iter().map(|count| (String::from(operation(count)), limit_of(count))).collect();
    fs::write(expected::PATH, expected::format(&limits))
        .map_err(|error| format!("{}: {error}", expected::PATH))?;
    println!("wrote {}", expected::PATH);
    Ok(ExitCode::SUCCESS)
}

/// How many instructions more than `get` a hit of `get_or_create` may take.
const MOST_FOR_CREATING: f64 = 8.0;

/// How many times the instructions of `Cache::get_handle`, with the same keys, a region's hit may take.
const MOST_FOR_REGIONS: f64 = 3.0;

/// Compares with the limits. Only `--check` makes a difference fatal.
fn compare(ours: &[&Count], is_fatal: bool) -> Result<ExitCode, String> {
    let text = fs::read_to_string(expected::PATH).map_err(|error| format!("{}: {error}", expected::PATH))?;
    let limits = expected::parse(&text).map_err(|error| format!("{}: {error}", expected::PATH))?;
    let mut exceeded = false;
    for count in ours {
        let Some(limit) = limits.get(operation(count)) else {
            println!("{}: no limit in {}", count.name, expected::PATH);
            exceeded = true;
            continue;
        };
        let figures = [
            ("instructions", count.instructions, limit.instructions),
            ("locked instructions", count.locked(), limit.locked),
            ("locked instructions of its own", count.own_locked(), limit.own_locked),
        ];
        for (figure, counted, limit) in figures {
            if counted > limit {
                println!("{}: {counted:.2} {figure}, at most {limit:.2} are allowed", count.name);
                exceeded = true;
            }
        }
    }
    // Making values on demand costs a hit next to nothing.
    let of = |name: &str| ours.iter().find(|count| operation(count) == name).map(|count| count.instructions);
    if let (Some(get), Some(create)) = (of("get_hit"), of("get_or_create")) {
        let more = create - get;
        println!(
            "get_or_create takes {more:.1} instructions more than get on a hit (at most {MOST_FOR_CREATING})"
        );
        exceeded |= more > MOST_FOR_CREATING;
    }
    // So does a region around a cache, against the cache with the same keys.
    for region in ["region_get", "region_get_or_create"] {
        if let (Some(handle), Some(region_hit)) = (of("get_handle_text"), of(region)) {
            let times = region_hit / handle;
            println!(
                "{region} takes {times:.2} times the instructions of get_handle (at most {MOST_FOR_REGIONS})"
            );
            exceeded |= times > MOST_FOR_REGIONS;
        }
    }
    if !exceeded {
        println!("all within {}", expected::PATH);
    }
    Ok(if exceeded && is_fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A folder of its own under the system's temporary one, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        let path = std::env::temp_dir().join(format!("dogpile-benches-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind lies in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
