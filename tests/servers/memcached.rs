//! A memcached of the test's own.

use super::{Process, free_port, pass, until};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

pub(crate) struct Memcached {
    process: Process,
    port: u16,
    options: Vec<String>,
}

impl Memcached {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With options of its command line.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        // Somebody may take the port before the server does.
        for _ in 0..20 {
            let port = free_port();
            if let Some(process) = launch(port, &options) {
                return Self { process, port, options };
            }
        }
        panic!("memcached does not start with {options:?}: see what it says with -vv");
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops it, as a machine that hangs. It still accepts connections.
    pub(crate) fn pause(&self) {
        self.process.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.process.signal("CONT");
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// At the same port again, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.kill();
        until("memcached starts again", || match launch(self.port, &self.options) {
            Some(process) => {
                self.process = process;
                true
            }
            None => false,
        });
    }

    /// One line, and the first line of the reply.
    pub(crate) fn ask(&self, line: &str) -> String {
        first_line(self.port, line).expect("memcached answers")
    }

    /// One of its statistics.
    pub(crate) fn statistic(&self, name: &str) -> u64 {
        let lines = send(self.port, "stats").expect("memcached answers").lines().map_while(Result::ok);
        let begin = format!("STAT {name} ");
        let of_name = |line: String| line.strip_prefix(&begin).and_then(|value| value.parse().ok());
        lines.take_while(|line| line != "END").find_map(of_name).expect("there is such a statistic")
    }

    /// What a key has, if it is text in one line.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let lines = send(self.port, &format!("get {key}")).expect("memcached answers").lines();
        lines.map_while(Result::ok).take_while(|line| line != "END").nth(1)
    }
}

fn send(port: u16, line: &str) -> Option<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(stream, "{line}\r\n").ok()?;
    Some(BufReader::new(stream))
}

fn first_line(port: u16, line: &str) -> Option<String> {
    let mut reply = String::new();
    send(port, line)?.read_line(&mut reply).ok()?;
    Some(reply.trim_end().to_owned()).filter(|reply| !reply.is_empty())
}

/// One that answers.
fn launch(port: u16, options: &[String]) -> Option<Process> {
    let mut command = Command::new("memcached");
    command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-u", "nobody"]).args(options);
    let mut process = Process::start("memcached", &mut command);
    while !process.has_ended() {
        if first_line(port, "version").is_some_and(|reply| reply.starts_with("VERSION")) {
            // Not another's, which has kept this one from the port.
            return (!process.has_ended()).then_some(process);
        }
        pass(Duration::from_millis(5));
    }
    None
}
