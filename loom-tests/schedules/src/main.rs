//! Many callers on few keys, under schedules that shuttle makes up.
#[cfg(dogpile_shuttle)]
mod crowd;
#[cfg(dogpile_shuttle)]
mod dice;
#[cfg(dogpile_shuttle)]
mod ledger;
#[cfg(dogpile_shuttle)]
mod tasks;
#[cfg(dogpile_shuttle)]
mod totals;

#[cfg(dogpile_shuttle)]
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    config.failure_persistence = shuttle::FailurePersistence::None;
    let start = std::time::Instant::now();
    shuttle::Runner::new(shuttle::scheduler::RandomScheduler::new(n), config).run(crowd::run);
    println!("{n} in {:?}", start.elapsed());
    println!("{}", totals::TOTALS);
}

#[cfg(not(dogpile_shuttle))]
fn main() {}
