//! The progress bar on standard error; hidden when that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// How much is done between two looks at the bar: rare enough to cost nothing.
pub(crate) const STEP: usize = 1 << 16;

/// A bar that counts requests, over everything that one trace is put through; or milliseconds, over all that is run.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `total` requests or milliseconds.
    pub(crate) fn new(title: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template("{prefix} [{bar:20}] {percent:>3} % (eta {eta}) {wide_msg}");
        bar.set_style(style.expect("the template is a constant").progress_chars("=> "));
        bar.set_prefix(title.to_owned());
        Self(bar)
    }

    /// No bar.
    #[cfg(test)]
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Says what is being done.
    pub(crate) fn phase(&self, phase: impl Into<String>) {
        self.0.set_message(phase.into());
    }

    /// Moves on by so many of them.
    pub(crate) fn advance(&self, done: usize) {
        self.0.inc(done as u64);
    }

    /// Does `work` for each item and moves on.
    pub(crate) fn each<T>(&self, items: impl Iterator<Item = T>, mut work: impl FnMut(T)) {
        let mut done = 0;
        for item in items {
            work(item);
            done += 1;
            if done == STEP {
                self.advance(done);
                done = 0;
            }
        }
        self.advance(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
