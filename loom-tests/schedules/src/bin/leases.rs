//! The lock of a shared store, and the fence by which its holder writes: all that can happen, by stateright.
//!
//! ```text
//! RUSTFLAGS="--cfg dogpile_shuttle --cfg fuzzing" cargo run --release -p dogpile-schedules --bin leases
//! ```
//! `DOGPILE_LONG=1` lets more happen. Prints how many states there are; fails if one of them is wrong, or if one of the mistakes
//! that are planted goes unseen.
//!
//! # The store
//! One key, as the backend for Redis has it in a hash: a value, an epoch, the token of a lock and whether its lease has
//! ended. Each request is one step:
//!
//! | request | does |
//! |---|---|
//! | lock | refused while another's lease lasts; else the epoch rises, and is returned |
//! | renew | if the token is still there, the lease begins anew |
//! | release | if the token is still there, it is taken out; what has no value then is gone |
//! | write | if the epoch is what it was: the value is put in, the epoch rises, the lock is gone |
//! | set | the same in any case |
//! | delete | the value is taken out; if somebody has, or had, the lock, the epoch rises and stays as a tombstone |
//!
//! A new epoch is above all that there have been, also of a key that was gone: the server takes the time for it.
//!
//! # What may happen
//! Three processes create, set and delete. Any request or reply is lost, or comes at any later time, in any order; who has
//! not heard asks again (with the same token) or gives up; a lease ends at any time, whether its holder has died, is
//! stopped or is late; a key, or a tombstone, ends at any time when no lease lasts, and a value at any time. Not modelled: a
//! server that loses what it has acknowledged, or whose time is put back.
//!
//! # What must hold
//! - **Nothing older comes back.** The value that can be read was begun after the last set or delete, and no creator that
//!   had begun later has written before.
//! - **Nobody's lock is another's.** No release and no fenced write takes away a lock with another token, and no lock is
//!   granted while another's lease lasts.
//! - **All ends.** Where nothing can happen any more, the lock is free.

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
    use std::time::Duration;

    const PROCESSES: usize = 3;

    /// An epoch, or a moment of ours. Only their order counts, so they are numbered anew in each state.
    type Rank = u8;

    /// Whose attempt a lock is.
    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    struct Token {
        process: u8,
        attempt: u8,
    }

    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct Entry {
        epoch: Rank,
        /// When its creator began, or when it was set.
        value: Option<Rank>,
        lock: Option<Token>,
        /// The lease of that lock lasts.
        is_live: bool,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    enum Message {
        Lock(Token),
        /// The reply. `None`: it is another's.
        Locked(Token, Option<Lease>),
        Renew(Token),
        Release(Token),
        Write(Token, Lease),
        Set,
        Delete,
    }

    /// What the lock gave: the epoch, and when that was.
    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
    struct Lease {
        epoch: Rank,
        began: Rank,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    enum Doing {
        Nothing,
        Locking,
        Creating(Lease),
        Wrote(Lease),
        Dead,
    }

    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct Process {
        doing: Doing,
        /// The number of its last creation.
        attempt: u8,
    }

    /// How often things may still happen, of all processes together.
    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct Left {
        creations: u8,
        sets: u8,
        deletes: u8,
        retries: u8,
        renewals: u8,
        deaths: u8,
        losses: u8,
    }

    #[derive(Clone, Debug, Hash, PartialEq, Eq)]
    struct State {
        entry: Option<Entry>,
        processes: Vec<Process>,
        /// Sorted.
        network: Vec<Message>,
        left: Left,
        /// When something was set or deleted last.
        cut: Rank,
        /// When the creator began that of all that have written began last.
        newest: Rank,
        /// A lock was taken from somebody, or granted twice.
        is_mixed_up: bool,
    }

    #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
    enum Action {
        Create(usize),
        Set,
        Delete,
        AskAgain(usize),
        GiveUp(usize),
        Renew(usize),
        Finish(usize),
        WriteAgain(usize),
        Release(usize),
        Die(usize),
        Arrives(usize),
        IsLost(usize),
        LeaseEnds,
        ValueEnds,
        KeyEnds,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Mistake {
        FenceIgnored,
        EpochsAnew,
        GoneIsUnchanged,
        DeleteKeepsTheEpoch,
        LockKeepsTheEpoch,
        ReleaseWithoutToken,
        LockWithoutLooking,
        LeaseWithoutEnd,
    }

    struct Store {
        left: Left,
        mistake: Option<Mistake>,
    }

    impl Store {
        fn makes(&self, mistake: Mistake) -> bool {
            self.mistake == Some(mistake)
        }

        /// Above all that there have been.
        fn above(&self, state: &State) -> Rank {
            let was = state.entry.as_ref().map_or(0, |entry| entry.epoch);
            if self.makes(Mistake::EpochsAnew) { was + 1 } else { 1 + state.ranks(&mut State::epochs) }
        }

        fn arrives(&self, state: &mut State, message: Message) {
            let fresh = self.above(state);
            let now = 1 + state.ranks(&mut State::moments);
            let entry = state.entry.clone();
            let lock = entry.as_ref().and_then(|entry| entry.lock);
            let is_live = lock.is_some() && entry.as_ref().is_some_and(|entry| entry.is_live);
            let value = entry.as_ref().and_then(|entry| entry.value);
            match message {
                Message::Lock(token) => {
                    let is_others = is_live && lock != Some(token);
                    let is_refused = is_others && !self.makes(Mistake::LockWithoutLooking);
                    let mut lease = None;
                    if !is_refused {
                        state.is_mixed_up |= is_others;
                        let keeps = self.makes(Mistake::LockKeepsTheEpoch);
                        let epoch = entry.filter(|_| keeps).map_or(fresh, |entry| entry.epoch);
                        state.entry = Some(Entry { epoch, value, lock: Some(token), is_live: true });
                        lease = Some(Lease { epoch, began: now });
                    }
                    state.send(Message::Locked(token, lease));
                }
                Message::Renew(token) => {
                    if let Some(entry) = state.entry.as_mut().filter(|_| lock == Some(token)) {
                        entry.is_live = true;
                    }
                }
                Message::Release(token) => {
                    if lock == Some(token) || lock.is_some() && self.makes(Mistake::ReleaseWithoutToken) {
                        state.is_mixed_up |= is_live && lock != Some(token);
                        state.entry =
                            entry.filter(|_| value.is_some()).map(|entry| Entry { lock: None, ..entry });
                    }
                }
                Message::Write(token, lease) => {
                    let is_same = match &entry {
                        Some(entry) => entry.epoch == lease.epoch,
                        None => self.makes(Mistake::GoneIsUnchanged),
                    };
                    if is_same || self.makes(Mistake::FenceIgnored) {
                        state.is_mixed_up |= is_live && lock != Some(token);
                        state.put(fresh, lease.began);
                    }
                }
                Message::Set => {
                    state.put(fresh, now);
                    state.cut = now;
                }
                Message::Delete => {
                    state.cut = now;
                    let keeps = self.makes(Mistake::DeleteKeepsTheEpoch);
                    state.entry =
                        entry.filter(|_| lock.is_some() && !self.makes(Mistake::EpochsAnew)).map(|entry| {
                            let epoch = if keeps { entry.epoch } else { fresh };
                            Entry { epoch, value: None, lock: None, is_live: false }
                        });
                }
                Message::Locked(token, lease) => {
                    let process = &mut state.processes[usize::from(token.process)];
                    if process.doing == Doing::Locking && process.attempt == token.attempt {
                        process.doing = lease.map_or(Doing::Nothing, Doing::Creating);
                    }
                }
            }
        }
    }

    impl State {
        fn send(&mut self, message: Message) {
            self.network.push(message);
            self.network.sort_unstable();
        }

        fn put(&mut self, epoch: Rank, began: Rank) {
            self.entry = Some(Entry { epoch, value: Some(began), lock: None, is_live: false });
            self.newest = self.newest.max(began);
        }

        fn token(&self, process: usize) -> Token {
            Token { process: process as u8, attempt: self.processes[process].attempt }
        }

        fn leases(&mut self) -> impl Iterator<Item = &mut Lease> {
            let doing = self.processes.iter_mut().filter_map(|process| match &mut process.doing {
                Doing::Creating(lease) | Doing::Wrote(lease) => Some(lease),
                Doing::Nothing | Doing::Locking | Doing::Dead => None,
            });
            let sent = self.network.iter_mut().filter_map(|message| match message {
                Message::Locked(_, lease) => lease.as_mut(),
                Message::Write(_, lease) => Some(lease),
                _ => None,
            });
            doing.chain(sent)
        }

        /// All epochs that are known somewhere.
        fn epochs(&mut self, with: &mut dyn FnMut(&mut Rank)) {
            self.leases().for_each(|lease| with(&mut lease.epoch));
            self.entry.iter_mut().for_each(|entry| with(&mut entry.epoch));
        }

        fn moments(&mut self, with: &mut dyn FnMut(&mut Rank)) {
            self.leases().for_each(|lease| with(&mut lease.began));
            self.entry.iter_mut().filter_map(|entry| entry.value.as_mut()).for_each(&mut *with);
            with(&mut self.cut);
            with(&mut self.newest);
        }

        /// The highest of some ranks.
        fn ranks(&self, all: &mut dyn FnMut(&mut Self, &mut dyn FnMut(&mut Rank))) -> Rank {
            let mut most = 0;
            all(&mut self.clone(), &mut |rank| most = most.max(*rank));
            most
        }

        /// The same state with ranks without gaps.
        fn number_anew(&mut self, all: fn(&mut Self, &mut dyn FnMut(&mut Rank))) {
            let mut ranks = Vec::new();
            all(self, &mut |rank| ranks.push(*rank));
            ranks.sort_unstable();
            ranks.dedup();
            all(self, &mut |rank| {
                *rank = ranks.iter().position(|known| known == rank).expect("it was found before") as u8;
            });
            self.network.sort_unstable();
        }
    }

    impl Model for Store {
        type State = State;
        type Action = Action;

        fn init_states(&self) -> Vec<State> {
            let idle = Process { doing: Doing::Nothing, attempt: 0 };
            vec![State {
                entry: None,
                processes: vec![idle; PROCESSES],
                network: Vec::new(),
                left: self.left.clone(),
                cut: 0,
                newest: 0,
                is_mixed_up: false,
            }]
        }

        fn actions(&self, state: &State, actions: &mut Vec<Action>) {
            let left = &state.left;
            for (i, process) in state.processes.iter().enumerate() {
                match process.doing {
                    // Of those that are alike the first one will do.
                    Doing::Nothing if left.creations > 0 && !state.processes[..i].contains(process) => {
                        actions.push(Action::Create(i));
                    }
                    Doing::Nothing | Doing::Dead => {}
                    Doing::Locking => {
                        actions.push(Action::GiveUp(i));
                        actions.extend((left.retries > 0).then_some(Action::AskAgain(i)));
                    }
                    Doing::Creating(_) => {
                        actions.extend([Action::Finish(i), Action::GiveUp(i)]);
                        actions.extend((left.renewals > 0).then_some(Action::Renew(i)));
                    }
                    Doing::Wrote(_) => {
                        actions.push(Action::Release(i));
                        actions.extend((left.retries > 0).then_some(Action::WriteAgain(i)));
                    }
                }
                let is_busy = !matches!(process.doing, Doing::Nothing | Doing::Dead);
                actions.extend((left.deaths > 0 && is_busy).then_some(Action::Die(i)));
            }
            actions.extend((left.sets > 0).then_some(Action::Set));
            actions.extend((left.deletes > 0).then_some(Action::Delete));
            for (i, message) in state.network.iter().enumerate() {
                if state.network[..i].contains(message) {
                    continue;
                }
                actions.push(Action::Arrives(i));
                actions.extend((left.losses > 0).then_some(Action::IsLost(i)));
            }
            let Some(entry) = &state.entry else { return };
            let is_held = entry.lock.is_some() && entry.is_live;
            actions.extend((is_held && !self.makes(Mistake::LeaseWithoutEnd)).then_some(Action::LeaseEnds));
            actions.extend((is_held && entry.value.is_some()).then_some(Action::ValueEnds));
            actions.extend((!is_held).then_some(Action::KeyEnds));
        }

        fn next_state(&self, before: &State, action: Action) -> Option<State> {
            let mut state = before.clone();
            let is_doing = |state: &mut State, process: usize, doing| state.processes[process].doing = doing;
            match action {
                Action::Create(i) => {
                    state.left.creations -= 1;
                    state.processes[i].attempt += 1;
                    is_doing(&mut state, i, Doing::Locking);
                    state.send(Message::Lock(state.token(i)));
                }
                Action::AskAgain(i) => {
                    state.left.retries -= 1;
                    state.send(Message::Lock(state.token(i)));
                }
                Action::GiveUp(i) | Action::Release(i) => {
                    is_doing(&mut state, i, Doing::Nothing);
                    state.send(Message::Release(state.token(i)));
                }
                Action::Renew(i) => {
                    state.left.renewals -= 1;
                    state.send(Message::Renew(state.token(i)));
                }
                Action::Finish(i) | Action::WriteAgain(i) => {
                    let (Doing::Creating(lease) | Doing::Wrote(lease)) = state.processes[i].doing else {
                        return None;
                    };
                    state.left.retries -= u8::from(action == Action::WriteAgain(i));
                    is_doing(&mut state, i, Doing::Wrote(lease));
                    state.send(Message::Write(state.token(i), lease));
                }
                Action::Die(i) => {
                    state.left.deaths -= 1;
                    is_doing(&mut state, i, Doing::Dead);
                }
                Action::Set => {
                    state.left.sets -= 1;
                    state.send(Message::Set);
                }
                Action::Delete => {
                    state.left.deletes -= 1;
                    state.send(Message::Delete);
                }
                Action::Arrives(i) => {
                    let message = state.network.remove(i);
                    self.arrives(&mut state, message);
                }
                Action::IsLost(i) => {
                    state.left.losses -= 1;
                    state.network.remove(i);
                }
                Action::LeaseEnds => state.entry.as_mut()?.is_live = false,
                Action::ValueEnds => state.entry.as_mut()?.value = None,
                Action::KeyEnds => state.entry = None,
            }
            if !self.makes(Mistake::EpochsAnew) {
                state.number_anew(State::epochs);
            }
            state.number_anew(State::moments);
            Some(state)
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::always(OLDER_THAN_CUT, |_, state: &State| {
                    state.value().is_none_or(|began| began >= state.cut)
                }),
                Property::always(OLDER_THAN_NEWEST, |_, state: &State| {
                    state.value().is_none_or(|began| began >= state.newest)
                }),
                Property::always(MIXED_UP, |_, state: &State| !state.is_mixed_up),
                Property::always(NEVER_FREE, |model: &Self, state: &State| {
                    let mut actions = Vec::new();
                    model.actions(state, &mut actions);
                    !actions.is_empty()
                        || state.entry.as_ref().is_none_or(|entry| entry.lock.is_none() || !entry.is_live)
                }),
                // What is never reached says nothing.
                Property::sometimes(REFUSED, |_, state: &State| {
                    state.network.iter().any(|message| matches!(message, Message::Locked(_, None)))
                }),
                Property::sometimes(TWO_CREATE, |_, state: &State| {
                    let creates = |process: &&Process| matches!(process.doing, Doing::Creating(_));
                    state.processes.iter().filter(creates).count() > 1
                }),
                Property::sometimes(WRITTEN, |_, state: &State| {
                    state.value().is_some_and(|began| began > state.cut)
                }),
            ]
        }
    }

    impl State {
        fn value(&self) -> Option<Rank> {
            self.entry.as_ref()?.value
        }
    }

    const OLDER_THAN_CUT: &str = "a value that was begun before the last set or delete can be read";
    const OLDER_THAN_NEWEST: &str = "an older value has taken a newer one's place";
    const MIXED_UP: &str = "one's lock was taken away by another, or granted twice";
    const NEVER_FREE: &str = "a lock that nobody will ever give back";
    const WRONG: [&str; 4] = [OLDER_THAN_CUT, OLDER_THAN_NEWEST, MIXED_UP, NEVER_FREE];
    const REFUSED: &str = "a lock is refused";
    const TWO_CREATE: &str = "two create at once, since a lease has ended";
    const WRITTEN: &str = "what was made is written";
    const MET: [&str; 3] = [REFUSED, TWO_CREATE, WRITTEN];

    /// What may happen, in the order of the fields of `Left`.
    const SHORT: [[u8; 7]; 3] = [[2, 1, 1, 1, 1, 1, 1], [3, 1, 1, 0, 0, 0, 0], [3, 0, 1, 0, 1, 1, 0]];
    const LONG: [[u8; 7]; 2] = [[3, 1, 1, 0, 1, 0, 0], [2, 2, 2, 1, 0, 0, 0]];
    /// Mistakes are found long before all of this has happened; one only when nothing can happen any more.
    const PLANTED: [u8; 7] = [3, 1, 1, 1, 1, 1, 1];
    const TO_THE_END: [u8; 7] = [1, 0, 0, 0, 1, 1, 1];

    impl From<[u8; 7]> for Left {
        fn from([creations, sets, deletes, retries, renewals, deaths, losses]: [u8; 7]) -> Self {
            Self { creations, sets, deletes, retries, renewals, deaths, losses }
        }
    }

    pub(super) fn main() -> ExitCode {
        let is_long = std::env::var_os("DOGPILE_LONG").is_some();
        let all = SHORT.into_iter().chain(LONG.into_iter().filter(|_| is_long));
        let wrong = all.filter(|left| !check((*left).into())).count();
        if wrong == 0 && plant() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn threads() -> usize {
        std::thread::available_parallelism().map_or(1, Into::into)
    }

    /// Whether all holds, whatever happens.
    fn check(left: Left) -> bool {
        println!("{PROCESSES} processes, one key; may happen: {left:?}");
        let begun = Clock::now();
        let checked = Store { left, mistake: None }.checker().threads(threads()).spawn_dfs().join();
        let found = checked.discoveries();
        println!(
            "{} states, {} of them different, {:.1?}",
            checked.state_count(),
            checked.unique_state_count(),
            begun.elapsed(),
        );
        let mut is_well = true;
        for wrong in WRONG {
            if let Some(path) = found.get(wrong) {
                println!("WRONG: {wrong}:\n{path}");
                is_well = false;
            }
        }
        for met in MET {
            if !found.contains_key(met) {
                println!("NEVER MET: {met}");
                is_well = false;
            }
        }
        is_well
    }

    /// Whether all mistakes are seen.
    fn plant() -> bool {
        let mut is_well = true;
        for (mistake, expected) in [
            (Mistake::FenceIgnored, OLDER_THAN_CUT),
            (Mistake::EpochsAnew, OLDER_THAN_CUT),
            (Mistake::GoneIsUnchanged, OLDER_THAN_CUT),
            (Mistake::DeleteKeepsTheEpoch, OLDER_THAN_CUT),
            (Mistake::LockKeepsTheEpoch, MIXED_UP),
            (Mistake::ReleaseWithoutToken, MIXED_UP),
            (Mistake::LockWithoutLooking, MIXED_UP),
            (Mistake::LeaseWithoutEnd, NEVER_FREE),
        ] {
            let left = if expected == NEVER_FREE { TO_THE_END } else { PLANTED };
            let model = Store { left: left.into(), mistake: Some(mistake) };
            let until = HasDiscoveries::AllOf([expected].into());
            let checked = model.checker().threads(threads()).finish_when(until).spawn_bfs().join();
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

    struct Clock(std::time::Instant);

    impl Clock {
        #[expect(clippy::disallowed_methods, reason = "how long it took is told to people")]
        fn now() -> Self {
            Self(std::time::Instant::now())
        }
        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }
}
