//! A memcached of the test's own, on a free port of this machine, gone when the test is over.
#![allow(dead_code, reason = "each file of tests uses a part")]

use dogpile::time::{Clock, Instant, PreciseClock};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) fn now() -> Instant {
    PreciseClock.now()
}

pub(crate) fn since(begun: Instant) -> Duration {
    now().saturating_duration_since(begun)
}

/// Lets time pass that only a server's clock tells.
pub(crate) fn pass(span: Duration) {
    let begun = now();
    while let Some(left) = span.checked_sub(since(begun)).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = now();
    while !is_so() {
        assert!(since(begun) < Duration::from_secs(20), "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub(crate) struct Memcached {
    child: Child,
    port: u16,
    options: Vec<String>,
}

impl Memcached {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With options of its command line.
    pub(crate) fn with(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        // Somebody may take the port before the server does.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
            let port = free.local_addr().expect("it has an address").port();
            drop(free);
            if let Some(child) = spawn(port, &options) {
                return Self { child, port, options };
            }
        }
        panic!("memcached does not start: see what `memcached -l 127.0.0.1 -p 11299 -u nobody -vv` says");
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("memcached://{}", self.address())
    }

    /// It no longer answers, and keeps its connections.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(done.expect("there is a command kill").success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was this process's");
    }

    /// Starts it again where it was, with nothing in it.
    pub(crate) fn restart(&mut self) {
        let mut child = None;
        wait_until("memcached starts again", || {
            child = spawn(self.port, &self.options);
            child.is_some()
        });
        self.child = child.expect("it has started");
    }

    /// One line, and the first line of the reply.
    pub(crate) fn say(&self, line: &str) -> String {
        say(self.port, line).expect("memcached answers")
    }

    /// One of its statistics.
    pub(crate) fn statistic(&self, name: &str) -> u64 {
        let lines = ask(self.port, "stats").expect("memcached answers").lines().map_while(Result::ok);
        let begin = format!("STAT {name} ");
        let of_name = |line: String| line.strip_prefix(&begin).and_then(|value| value.parse().ok());
        lines.take_while(|line| line != "END").find_map(of_name).expect("there is such a statistic")
    }

    /// What a key has, if it is text in one line.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let lines = ask(self.port, &format!("get {key}")).expect("memcached answers").lines();
        lines.map_while(Result::ok).take_while(|line| line != "END").nth(1)
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(port: u16, line: &str) -> Option<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "{line}\r\n").ok()?;
    Some(BufReader::new(stream))
}

fn say(port: u16, line: &str) -> Option<String> {
    let mut reply = String::new();
    ask(port, line)?.read_line(&mut reply).ok()?;
    Some(reply.trim_end().to_owned()).filter(|reply| !reply.is_empty())
}

/// One that answers.
fn spawn(port: u16, options: &[String]) -> Option<Child> {
    let mut child = Command::new("memcached")
        .args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-u", "nobody"])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("memcached is installed: apt-get install --no-install-recommends memcached");
    let begun = now();
    while child.try_wait().is_ok_and(|status| status.is_none()) && since(begun) < Duration::from_secs(10) {
        if say(port, "version").is_some_and(|reply| reply.starts_with("VERSION")) {
            return Some(child);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
