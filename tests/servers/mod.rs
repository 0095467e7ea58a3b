//! Real servers for tests: started on free ports of the loopback interface, in a temporary directory, and stopped when the
//! test ends, by a panic too.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod memcached;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A server that has not come up by then does not.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port that nobody has at the moment. Not one that the system gives to clients, who may come before the server.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Looks again and again until it is so; a panic after twenty seconds.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Timer::start();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Lets time pass for the server, which has no clock but the machine's.
pub(crate) fn pass(span: Duration) {
    let begun = Timer::start();
    while let Some(left) = span.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// What has gone by on the machine's clock.
#[derive(Clone, Copy)]
pub(crate) struct Timer(std::time::Instant);

impl Timer {
    #[expect(clippy::disallowed_methods, reason = "real servers live by the real clock")]
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A directory that is removed.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dogpile-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(package: &str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{:?}: {error}: run apt-get install {package}", command.get_program())
        });
        Self(child)
    }
    pub(crate) fn of(child: Child) -> Self {
        Self(child)
    }
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(status.unwrap().success(), "kill -{name}");
        // Its threads stop one after the other.
        if name == "STOP" {
            until("all its threads have stopped", || self.are_threads_stopped());
        }
    }
    fn are_threads_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        threads.map(|thread| thread.unwrap().path().join("stat")).all(|stat| {
            // The name, in brackets, may have anything in it; the state is what follows.
            let stat = fs::read_to_string(stat).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
        })
    }
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Redis server, without persistence.
pub(crate) struct Redis {
    process: Process,
    folder: Folder,
    arguments: Vec<String>,
    port: u16,
    password: Option<String>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With arguments of its own, as `["--maxmemory", "1"]`.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let (folder, port) = (Folder::new(), free_port());
        let socket = folder.path().join("redis.sock");
        let mut all: Vec<String> =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
                .map(String::from)
                .into();
        all.extend(["--port".into(), port.to_string(), "--dir".into(), folder.path().display().to_string()]);
        all.extend(["--unixsocket".into(), socket.display().to_string()]);
        all.extend(arguments.iter().map(|argument| String::from(*argument)));
        let password =
            arguments.windows(2).find(|pair| pair[0] == "--requirepass").map(|pair| pair[1].to_owned());
        let process = Process::start("redis-server", Command::new("redis-server").args(&all));
        let server = Self { process, folder, arguments: all, port, password };
        server.wait();
        server
    }

    fn wait(&self) {
        until("redis-server answers", || self.try_ask(&["PING"]).is_some_and(|reply| reply.contains("PONG")));
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_ask(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut send = |words: &[&str]| {
            let mut text = format!("*{}\r\n", words.len());
            words.iter().for_each(|word| text += &format!("${}\r\n{word}\r\n", word.len()));
            stream.write_all(text.as_bytes()).ok()
        };
        let password = self.password.as_deref();
        if let Some(password) = password {
            send(&["AUTH", password])?;
        }
        send(words)?;
        let mut reader = BufReader::new(stream);
        if password.is_some() {
            reader.read_line(&mut String::new()).ok()?;
        }
        read_reply(&mut reader)
    }

    /// A command's reply as text: lists with blanks between their parts, nothing as `-`.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).expect("the server replies")
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
        self.process = Process::start("redis-server", Command::new("redis-server").args(&self.arguments));
        self.wait();
    }
}

fn read_reply(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at(1);
    let length = rest.parse::<i64>().unwrap_or(0);
    Some(match kind {
        "$" | "*" if length < 0 => String::from("-"),
        "$" => {
            let mut bytes = vec![0; usize::try_from(length).unwrap() + 2];
            reader.read_exact(&mut bytes).ok()?;
            String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
        }
        "*" => {
            let parts: Option<Vec<String>> = (0..length).map(|_| read_reply(reader)).collect();
            parts?.join(" ")
        }
        _ => rest.to_owned(),
    })
}

/// A master, and a sentinel that names it `mymaster`.
pub(crate) struct Sentinel {
    pub(crate) master: Redis,
    pub(crate) sentinel: Redis,
}

impl Sentinel {
    pub(crate) fn start() -> Self {
        let master = Redis::start();
        let (folder, port) = (Folder::new(), free_port());
        let config = folder.path().join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            String::from("bind 127.0.0.1"),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor mymaster 127.0.0.1 {} 1", master.port()),
            String::from("sentinel down-after-milliseconds mymaster 2000"),
        ];
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        let process = Process::start("redis-sentinel", Command::new("redis-sentinel").arg(&config));
        let sentinel = Redis { process, folder, arguments: Vec::new(), port, password: None };
        sentinel.wait();
        Self { master, sentinel }
    }
}

/// Three masters.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let node = |_| {
            let bus = free_port().to_string();
            Redis::start_with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-config-file",
                "nodes.conf",
                // The others go on without one of them.
                "--cluster-require-full-coverage",
                "no",
            ])
        };
        let nodes: Vec<Redis> = (0..3).map(node).collect();
        for (i, range) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].iter().enumerate() {
            assert_eq!(nodes[i].ask(&["CLUSTER", "ADDSLOTSRANGE", range.0, range.1]), "OK");
        }
        let meet = || {
            for other in &nodes[1..] {
                let bus = other.arguments.iter().position(|word| word == "--cluster-port").unwrap() + 1;
                let (port, bus) = (other.port.to_string(), &other.arguments[bus]);
                assert_eq!(nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]), "OK");
            }
        };
        meet();
        let mut begun = Timer::start();
        until("the cluster is whole", || {
            // On a busy machine they may miss each other.
            if begun.elapsed() > Duration::from_secs(3) {
                meet();
                begun = Timer::start();
            }
            nodes.iter().all(|node| {
                let info = node.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_slots_ok:16384")
            })
        });
        Self { nodes }
    }

    pub(crate) fn addresses(&self) -> Vec<(String, u16)> {
        self.nodes.iter().map(|node| (String::from("127.0.0.1"), node.port)).collect()
    }
}
