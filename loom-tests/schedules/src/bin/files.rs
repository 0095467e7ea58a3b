//! The lock of a key in the store in files, and what is written under it: all that can happen, by stateright.
//!
//! ```text
//! RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing" cargo run --release -p dogpile-schedules --bin files
//! ```
//! One key, and one system call a step, as `src/backend/file/lock.rs` and `folder.rs` have them: two processes make values, and
//! may die or be given up at any step; others set, delete and sweep. Prints how many states there are; fails if one of them is
//! wrong, or if one of the mistakes that are planted goes unseen. Names of invariants are those of the sources.
//!
//! # What must hold
//! - **Nothing older comes back (L3, L4).** The value that can be read was begun after the last set, and after the last deletion
//!   has looked for a lock.
//! - **One holder (L1).** No two processes have the key at once.
//! - **All ends (L2).** Where nothing can happen any more, nobody has the key.

#[cfg(not(dogpile_shuttle))]
fn main() {
    eprintln!(r#"build this with RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing""#);
    std::process::exit(1);
}

#[cfg(dogpile_shuttle)]
fn main() -> std::process::ExitCode {
    model::main()
}

#[cfg(dogpile_shuttle)]
mod model {
    use stateright::{Checker, HasDiscoveries, Model, Property};
    use std::process::ExitCode;

    /// A moment, by which records are told apart, too.
    type Time = u8;

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    struct Record {
        nonce: Time,
        /// When its creator began, or when it was set. `None`: a deletion.
        value: Option<Time>,
        has_expired: bool,
    }

    impl Record {
        fn is_live(self) -> bool {
            self.value.is_some() && !self.has_expired
        }
    }

    /// The number of a lock file.
    type File = u8;
    /// Who has a lock: a place among the processes.
    type Owner = u8;

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    enum At {
        Idle,
        // Who makes a value.
        Opened(File),
        Locked(File),
        Holding(Lease),
        /// Has the stripe, too.
        Writing(Lease),
        Allowed(Lease),
        /// Its fence has ended.
        Ending(File),
        Unlinked(File),
        // Who sets or deletes.
        Setting,
        Deleting,
        Looked {
            is_locked: bool,
            at: Time,
        },
        // Who sweeps entries; and locks.
        Found,
        Sweeping,
        Sure,
        OpenedToSweep(File),
        LockedToSweep(File),
        Dead,
    }

    /// What a holder knows.
    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    struct Lease {
        file: File,
        /// The nonce of what was there.
        seen: Option<Time>,
        was_live: bool,
        began: Time,
        /// It has been given back while its write was under way.
        is_over: bool,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    enum Part {
        Maker,
        Setter,
        Deleter,
        Sweeper,
        LockSweeper,
    }

    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct Process {
        part: Part,
        at: At,
        rounds: u8,
    }

    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct State {
        entry: Option<Record>,
        /// The lock file that stands at the path.
        path: Option<File>,
        /// By whom files are locked.
        locked: Vec<Option<Owner>>,
        stripe: Option<Owner>,
        processes: Vec<Process>,
        deaths: u8,
        givings_up: u8,
        expiries: u8,
        now: Time,
        cut: Time,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    enum Action {
        Step(usize),
        /// Its task is dropped; if it is just writing, its thread goes on.
        GiveUp(usize),
        Die(usize),
        Expire,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Mistake {
        DeletionLeavesNothing,
        SweepsUnderALock,
        FileIsNotLookedAtAgain,
        FenceOutlivesItsLock,
        WhatIsGoneIsUnchanged,
        UnlockedBeforeItIsUnlinked,
    }

    struct Files {
        mistake: Option<Mistake>,
    }

    const PARTS: [(Part, u8); 6] = [
        (Part::Maker, 2),
        (Part::Maker, 1),
        (Part::Setter, 1),
        (Part::Deleter, 1),
        (Part::Sweeper, 1),
        (Part::LockSweeper, 1),
    ];

    impl Files {
        fn makes(&self, mistake: Mistake) -> bool {
            self.mistake == Some(mistake)
        }

        /// One system call of a process. `None`: it waits, or has no more to do.
        fn step(&self, state: &mut State, i: usize) -> Option<()> {
            let owner = i as Owner;
            let now = state.now + 1;
            let Process { part, at, rounds } = state.processes[i].clone();
            let next = match at {
                At::Dead => return None,
                At::Idle if rounds == 0 => return None,
                At::Idle => {
                    state.processes[i].rounds -= 1;
                    match part {
                        Part::Maker => At::Opened(state.open()),
                        Part::Setter => state.hold(owner, At::Setting)?,
                        Part::Deleter => state.hold(owner, At::Deleting)?,
                        Part::Sweeper if state.entry.is_some_and(|record| !record.is_live()) => At::Found,
                        Part::LockSweeper => state.path.map_or(At::Idle, At::OpenedToSweep),
                        Part::Sweeper => At::Idle,
                    }
                }

                // Acquire: one try.
                At::Opened(file) => match state.lock(file, owner) {
                    true => At::Locked(file),
                    false => At::Idle,
                },
                At::Locked(file)
                    if state.path == Some(file) || self.makes(Mistake::FileIsNotLookedAtAgain) =>
                {
                    state.now = now;
                    At::Holding(Lease {
                        file,
                        seen: state.entry.map(|record| record.nonce),
                        was_live: state.entry.is_some_and(Record::is_live),
                        began: now,
                        is_over: false,
                    })
                }
                At::Locked(file) => {
                    state.unlock(file, owner);
                    At::Idle
                }

                // The value is made; write it.
                At::Holding(lease) => state.hold(owner, At::Writing(lease))?,
                At::Writing(lease) => {
                    let there = state.entry.map(|record| record.nonce);
                    let is_gone =
                        there.is_none() && (!lease.was_live || self.makes(Mistake::WhatIsGoneIsUnchanged));
                    let is_held = !lease.is_over || self.makes(Mistake::FenceOutlivesItsLock);
                    if is_held && (there == lease.seen || is_gone) {
                        At::Allowed(lease)
                    } else {
                        state.stripe = None;
                        if lease.is_over { At::Idle } else { At::Ending(lease.file) }
                    }
                }
                At::Allowed(lease) => {
                    state.now = now;
                    state.entry = Some(Record { nonce: now, value: Some(lease.began), has_expired: false });
                    state.stripe = None;
                    if lease.is_over { At::Idle } else { At::Ending(lease.file) }
                }

                // Release.
                At::Ending(file) if self.makes(Mistake::UnlockedBeforeItIsUnlinked) => {
                    state.unlock(file, owner);
                    At::Unlinked(file)
                }
                At::Ending(file) => {
                    state.unlink(file);
                    At::Unlinked(file)
                }
                At::Unlinked(file) if self.makes(Mistake::UnlockedBeforeItIsUnlinked) => {
                    // It stands at the path by its name, whosever it is by now.
                    let _ = file;
                    state.path = None;
                    At::Idle
                }
                At::Unlinked(file) => {
                    state.unlock(file, owner);
                    At::Idle
                }

                At::Setting => {
                    state.now = now;
                    state.entry = Some(Record { nonce: now, value: Some(now), has_expired: false });
                    state.cut = now;
                    state.stripe = None;
                    At::Idle
                }

                At::Deleting => {
                    state.now = now;
                    let is_locked = state.path.is_some() && !self.makes(Mistake::DeletionLeavesNothing);
                    At::Looked { is_locked, at: now }
                }
                At::Looked { is_locked, at } => {
                    state.now = now;
                    // What can be read is deleted when it has gone; what is not there was so when this looked.
                    let at = if state.entry.is_some_and(Record::is_live) { now } else { at };
                    state.cut = state.cut.max(at);
                    let deletion = Record { nonce: now, value: None, has_expired: false };
                    state.entry = is_locked.then_some(deletion);
                    state.stripe = None;
                    At::Idle
                }

                At::Found => state.hold(owner, At::Sweeping)?,
                At::Sweeping => {
                    let is_over = state.entry.is_some_and(|record| !record.is_live());
                    let is_free = state.path.is_none() || self.makes(Mistake::SweepsUnderALock);
                    if is_over && is_free {
                        At::Sure
                    } else {
                        state.stripe = None;
                        At::Idle
                    }
                }
                At::Sure => {
                    state.entry = None;
                    state.stripe = None;
                    At::Idle
                }

                At::OpenedToSweep(file) => match state.lock(file, owner) {
                    true => At::LockedToSweep(file),
                    false => At::Idle,
                },
                At::LockedToSweep(file) => {
                    if state.path == Some(file) {
                        state.unlink(file);
                    }
                    At::Unlinked(file)
                }
            };
            state.processes[i].at = next;
            Some(())
        }
    }

    impl State {
        fn open(&mut self) -> File {
            *self.path.get_or_insert_with(|| {
                self.locked.push(None);
                self.locked.len() as File - 1
            })
        }

        fn lock(&mut self, file: File, owner: Owner) -> bool {
            let lock = &mut self.locked[usize::from(file)];
            let is_free = lock.is_none();
            lock.get_or_insert(owner);
            is_free
        }

        fn unlock(&mut self, file: File, owner: Owner) {
            let lock = &mut self.locked[usize::from(file)];
            *lock = lock.filter(|of| *of != owner);
        }

        fn unlink(&mut self, file: File) {
            self.path = self.path.filter(|at| *at != file);
        }

        fn hold(&mut self, owner: Owner, then: At) -> Option<At> {
            if self.stripe.is_some() {
                return None;
            }
            self.stripe = Some(owner);
            Some(then)
        }

        fn times(&mut self, with: &mut dyn FnMut(&mut Time)) {
            for process in &mut self.processes {
                match &mut process.at {
                    At::Holding(lease) | At::Writing(lease) | At::Allowed(lease) => {
                        lease.seen.iter_mut().for_each(&mut *with);
                        with(&mut lease.began);
                    }
                    At::Looked { at, .. } => with(at),
                    _ => {}
                }
            }
            if let Some(record) = &mut self.entry {
                with(&mut record.nonce);
                record.value.iter_mut().for_each(&mut *with);
            }
            with(&mut self.cut);
        }

        /// Only the order of times counts: the same state with times without gaps.
        fn number_anew(&mut self) {
            let mut times = Vec::new();
            self.times(&mut |time| times.push(*time));
            times.sort_unstable();
            times.dedup();
            self.times(&mut |time| {
                *time = times.iter().position(|known| known == time).expect("it was found before") as Time;
            });
            self.now = times.len() as Time - 1;
        }

        /// Who has the key, and its fence.
        fn holders(&self) -> usize {
            let holds = |process: &&Process| match process.at {
                At::Holding(lease) | At::Writing(lease) | At::Allowed(lease) => !lease.is_over,
                _ => false,
            };
            self.processes.iter().filter(holds).count()
        }
    }

    impl Model for Files {
        type State = State;
        type Action = Action;

        fn init_states(&self) -> Vec<State> {
            let live = Record { nonce: 1, value: Some(1), has_expired: false };
            let over = Record { has_expired: true, ..live };
            let process = |(part, rounds)| Process { part, at: At::Idle, rounds };
            let state = |entry| State {
                entry,
                path: None,
                locked: Vec::new(),
                stripe: None,
                processes: PARTS.map(process).into(),
                deaths: 1,
                givings_up: 1,
                expiries: 1,
                now: 1,
                cut: 0,
            };
            [None, Some(live), Some(over)].map(state).into()
        }

        fn actions(&self, state: &State, actions: &mut Vec<Action>) {
            for (i, process) in state.processes.iter().enumerate() {
                actions.push(Action::Step(i));
                let is_busy = !matches!(process.at, At::Idle | At::Dead);
                actions.extend((is_busy && state.deaths > 0).then_some(Action::Die(i)));
                let may_end = matches!(process.at, At::Holding(_) | At::Writing(_) | At::Allowed(_));
                actions.extend((may_end && state.givings_up > 0).then_some(Action::GiveUp(i)));
            }
            actions.extend((state.expiries > 0).then_some(Action::Expire));
        }

        fn next_state(&self, before: &State, action: Action) -> Option<State> {
            let mut state = before.clone();
            match action {
                Action::Step(i) => self.step(&mut state, i)?,
                Action::Die(i) => {
                    state.deaths -= 1;
                    let owner = i as Owner;
                    state.locked.iter_mut().for_each(|lock| *lock = lock.filter(|of| *of != owner));
                    state.stripe = state.stripe.filter(|of| *of != owner);
                    state.processes[i].at = At::Dead;
                }
                Action::GiveUp(i) => {
                    state.givings_up -= 1;
                    let at = state.processes[i].at;
                    let (At::Holding(lease) | At::Writing(lease) | At::Allowed(lease)) = at else {
                        return None;
                    };
                    if lease.is_over {
                        return None;
                    }
                    // All of the release at once: its steps alone are taken above.
                    state.unlink(lease.file);
                    state.unlock(lease.file, i as Owner);
                    let lease = Lease { is_over: true, ..lease };
                    state.processes[i].at = match at {
                        At::Writing(_) => At::Writing(lease),
                        At::Allowed(_) => At::Allowed(lease),
                        // The thread that is to write has not begun.
                        _ => At::Holding(lease),
                    };
                }
                Action::Expire => {
                    state.expiries -= 1;
                    state.entry.as_mut().filter(|record| record.is_live())?.has_expired = true;
                }
            }
            state.number_anew();
            Some(state)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always(OLDER, |_, state: &State| {
                    let value = state.entry.and_then(|record| record.value);
                    value.is_none_or(|began| began >= state.cut)
                }),
                Property::always(TWO, |_, state: &State| state.holders() < 2),
                Property::always(HELD, |model: &Self, state: &State| {
                    let mut actions = Vec::new();
                    model.actions(state, &mut actions);
                    let is_the_end =
                        actions.into_iter().all(|action| model.next_state(state, action).is_none());
                    !is_the_end || state.locked.iter().all(Option::is_none) && state.stripe.is_none()
                }),
                Property::sometimes(REFUSED, |_, state: &State| {
                    state.processes.iter().any(|process| {
                        matches!(process.at, At::Writing(lease) if state.entry.map(|record| record.nonce) != lease.seen)
                    })
                }),
                Property::sometimes(TAKEN_OVER, |_, state: &State| {
                    let is_dead = |process: &Process| process.part == Part::Maker && process.at == At::Dead;
                    state.holders() > 0 && state.processes.iter().any(is_dead)
                }),
                Property::sometimes(SWEPT, |_, state: &State| {
                    state.processes.iter().any(|process| process.at == At::Sure) && state.holders() > 0
                }),
            ]
        }
    }

    const OLDER: &str = "a value that was begun before the last set or deletion can be read";
    const TWO: &str = "two have the key at once";
    const HELD: &str = "somebody has a lock for ever";
    const REFUSED: &str = "a write is refused";
    const TAKEN_OVER: &str = "a dead holder's key is another's";
    const SWEPT: &str = "somebody takes the key between the sweeper's look and its unlink";

    fn check() -> bool {
        let checked = Files { mistake: None }.checker().threads(threads()).spawn_dfs().join();
        let found = checked.discoveries();
        println!("{} states, {} of them different", checked.state_count(), checked.unique_state_count());
        let mut is_well = true;
        for wrong in [OLDER, TWO, HELD] {
            if let Some(path) = found.get(wrong) {
                println!("WRONG: {wrong}:\n{path}");
                is_well = false;
            }
        }
        for met in [REFUSED, TAKEN_OVER, SWEPT] {
            if !found.contains_key(met) {
                println!("NEVER MET: {met}");
                is_well = false;
            }
        }
        is_well
    }

    fn threads() -> usize {
        std::thread::available_parallelism().map_or(1, Into::into)
    }

    fn plant() -> bool {
        let mut is_well = true;
        for (mistake, expected) in [
            (Mistake::DeletionLeavesNothing, OLDER),
            (Mistake::SweepsUnderALock, OLDER),
            (Mistake::FileIsNotLookedAtAgain, TWO),
            (Mistake::FenceOutlivesItsLock, OLDER),
            (Mistake::WhatIsGoneIsUnchanged, OLDER),
            (Mistake::UnlockedBeforeItIsUnlinked, TWO),
        ] {
            let model = Files { mistake: Some(mistake) }.checker().threads(threads());
            let checked = model.finish_when(HasDiscoveries::AllOf([expected].into())).spawn_bfs().join();
            match checked.discoveries().get(expected) {
                Some(path) => {
                    let steps = path.clone().into_actions().len();
                    println!(
                        "planted {mistake:?}: {expected}, after {steps} steps ({} states)",
                        checked.state_count()
                    );
                }
                None => {
                    println!("planted {mistake:?}: NOT FOUND");
                    is_well = false;
                }
            }
        }
        is_well
    }

    pub(super) fn main() -> ExitCode {
        if check() && plant() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
