//! The dogpile lock without the cache: a report in a plain file, that whoever first finds it out of date writes anew.
//!
//! Sixteen threads and as many tasks ask for it at once. While there is none they wait for the one that writes it; when it
//! is out of date they get the old text, but for the one that writes the new one.

use dogpile::gate::{Dated, Gate};
use dogpile::{CoarseClock, CreateError, Policy};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use std::{fs, io, thread};

struct Report {
    path: PathBuf,
    gate: Gate<String>,
    policy: Policy<String>,
    written: AtomicU32,
}

impl Report {
    fn read(&self) -> Option<Dated<String>> {
        let age = SystemTime::elapsed(&fs::metadata(&self.path).ok()?.modified().ok()?).unwrap_or_default();
        Some(Dated { value: fs::read_to_string(&self.path).ok()?, age })
    }

    fn write(&self) -> io::Result<String> {
        let number = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        let text = format!("report number {number}");
        // Readers see the old file or the new one, never half of it.
        let draft = self.path.with_extension("new");
        fs::write(&draft, &text)?;
        fs::rename(&draft, &self.path)?;
        Ok(text)
    }

    fn get(&self) -> Result<String, CreateError<io::Error>> {
        self.gate.run(|| self.read(), || self.write(), &CoarseClock, &self.policy)
    }

    async fn get_async(&self) -> Result<String, CreateError<io::Error>> {
        self.gate
            .run_async(|| async { self.read() }, async { self.write() }, &CoarseClock, &self.policy)
            .await
    }

    /// Asks from many sides at once.
    fn ask(&self) -> Result<Vec<String>, CreateError<io::Error>> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| self.get())).collect();
            let tasks: Vec<_> =
                (0..16).map(|_| scope.spawn(|| pollster::block_on(self.get_async()))).collect();
            let all = threads.into_iter().chain(tasks);
            all.map(|asked| asked.join().expect("nobody panics")).collect()
        })
    }
}

fn age(path: &Path, by: Duration) -> io::Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    file.set_modified(file.metadata()?.modified()?.checked_sub(by).ok_or(io::ErrorKind::InvalidInput)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("dogpile-report-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let minute = Duration::from_secs(60);
    let report = Report {
        path: folder.join("report.txt"),
        gate: Gate::new(),
        policy: Policy::builder().fresh(minute).stale(Duration::MAX).build()?,
        written: AtomicU32::new(0),
    };

    let all = report.ask()?;
    assert!(all.iter().all(|text| text == "report number 1"), "one wrote it, the others waited: {all:?}");

    age(&report.path, minute)?;
    let all = report.ask()?;
    let new = all.iter().filter(|text| *text == "report number 2").count();
    assert!(new >= 1 && all.iter().all(|text| text.starts_with("report number")));
    assert_eq!(report.written.load(Ordering::Relaxed), 2, "one wrote it anew");

    fs::remove_dir_all(&folder)?;
    println!("{} reports were written for {} who asked", report.gate.stats().creations, 2 * all.len());
    Ok(())
}
