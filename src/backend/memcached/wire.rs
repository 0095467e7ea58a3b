//! The few commands of memcached's meta protocol that are needed, and the crate `memcache` that speaks it.
//!
//! Whatever else speaks it can stand behind [`Server`]. Of the crate it is the module `exp`, which its authors may change;
//! no other file names it. It pools connections, bounds each exchange as a whole, throws away a connection that has
//! failed, looks whether an idle one has been closed, and checks that replies come in the order of the commands.
//!
//! # Cost
//! One exchange for all commands of a call, or one for each 32 KiB of them: that much both sides have room for, so that
//! neither waits for the other to read. A value is copied three times on its way out, and twice on its way in.
#![forbid(unsafe_code)]

use super::MEMCACHED;
use crate::backend::shown;
use crate::error::{Error, ErrorKind};
use crate::sync::{PlainMutex, lock_plain};
use memcache::exp;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// When something is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// If the key has nothing.
    Absent,
    /// If it has what this number was given with.
    Same(u64),
}

/// One command.
#[derive(Clone, Copy)]
pub(super) enum Ask<'a> {
    /// `mg`
    Get {
        key: &'a str,
        has_value: bool,
        /// If there is nothing, an empty item is put in, for so many seconds.
        vivify: Option<u32>,
        /// The time to live that it gets.
        touch: Option<u32>,
    },
    /// `ms`
    Set { key: &'a str, value: &'a [u8], flags: u32, ttl: u32, when: When },
    /// `md`: if it has what this number was given with, or anything.
    Delete { key: &'a str, same: Option<u64> },
}

impl<'a> Ask<'a> {
    pub(super) fn get(key: &'a str) -> Self {
        Self::Get { key, has_value: true, vivify: None, touch: None }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Set { value, .. } => value.len(),
            Self::Get { .. } | Self::Delete { .. } => 0,
        }
    }

    /// About so many bytes.
    fn size(&self) -> usize {
        const AROUND: usize = 64;
        let (Self::Get { key, .. } | Self::Set { key, .. } | Self::Delete { key, .. }) = self;
        AROUND + key.len() + self.value_bytes()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::Set { .. } => "set",
            Self::Delete { .. } => "delete",
        }
    }
}

/// What a key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Empty if it was not asked for.
    pub(super) value: Vec<u8>,
    pub(super) size: u64,
    pub(super) flags: u32,
    /// Changes with each write.
    pub(super) cas: u64,
    /// So many seconds to live, by the server's clock. `None`: for ever.
    pub(super) left: Option<u32>,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Item(Item),
    /// The empty item was put in, and has this number.
    Vivified(u64),
    /// It is stored, and has this number; or it is deleted.
    Done(u64),
    /// There is nothing.
    Nothing,
    /// There is something else than what it was to be the same as, or anything at all.
    Refused,
}

/// A server.
pub(super) trait Server: Send + Sync {
    /// Its address.
    fn name(&self) -> &str;

    /// The replies, one for each command, in their order. Ends at the first error: what comes after may be done or not.
    fn ask(&self, asks: &[Ask<'_>]) -> Result<Vec<Answer>, Error>;

    /// One reply.
    fn ask_one(&self, ask: Ask<'_>) -> Result<Answer, Error> {
        self.ask(&[ask])?.pop().ok_or_else(|| unexpected(self.name(), ask.name()))
    }
}

pub(super) fn unexpected(server: &str, operation: &str) -> Error {
    let detail = format!("server `{}`: an unexpected reply: is it memcached 1.6?", shown(server));
    Error::new(ErrorKind::Unavailable, format!("{MEMCACHED} {operation}")).detail(detail)
}

/// How connections are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connections {
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) most: usize,
}

/// A server, by the crate `memcache`.
pub(super) struct Meta {
    name: String,
    connections: Connections,
    /// With the process whose connections it has: a child that was forked makes its own. `None`: its name is still to be
    /// resolved.
    client: PlainMutex<Option<(u32, exp::MetaClient)>>,
}

impl Meta {
    /// Connects when it is asked something.
    pub(super) fn new(name: String, connections: Connections) -> Self {
        Self { name, connections, client: PlainMutex::new(None) }
    }

    fn client(&self, operation: &str) -> Result<exp::MetaClient, Error> {
        let process = std::process::id();
        let former = lock_plain(&self.client).take_if(|(of, _)| *of != process);
        drop(former);
        if let Some((_, client)) = &*lock_plain(&self.client) {
            return Ok(client.clone());
        }
        // Without the lock: a name may take long to be resolved.
        let made = exp::MetaClient::builder()
            .io_timeout(Some(self.connections.timeout))
            .connect_timeout(Some(self.connections.connect_timeout))
            .max_connections(Some(self.connections.most))
            .max_idle(self.connections.most)
            .connect(self.name.as_str());
        match made {
            Ok(client) => Ok(lock_plain(&self.client).get_or_insert((process, client)).1.clone()),
            Err(error) => Err(self.error(operation, 0, error)),
        }
    }

    fn exchange(&self, asks: &[Ask<'_>]) -> Result<Vec<Answer>, Error> {
        let operation = asks[0].name();
        let client = self.client(operation)?;
        let largest = asks.iter().map(Ask::value_bytes).max().unwrap_or(0);
        let failed = |error| self.error(operation, largest, error);
        let replies = match asks {
            [ask] => vec![client.run(op(*ask)).map_err(failed)?],
            _ => {
                let replies = client.run_batch(asks.iter().map(|ask| op(*ask))).map_err(failed)?;
                replies.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?
            }
        };
        let answers = asks.iter().zip(replies).map(|(ask, reply)| answer(*ask, reply));
        answers.collect::<Option<Vec<_>>>().ok_or_else(|| unexpected(&self.name, operation))
    }

    /// What the crate says has keys in it, which are not shown.
    fn error(&self, operation: &str, size: usize, error: exp::Error) -> Error {
        use exp::Error as Of;
        let shown_name = shown(&self.name);
        let of = |kind, detail: String| {
            Error::new(kind, format!("{MEMCACHED} {operation}"))
                .detail(format!("server `{shown_name}`: {detail}"))
        };
        let late = || {
            of(
                ErrorKind::Timeout,
                format!("no reply in {:?}: see the setting `timeout`", self.connections.timeout),
            )
        };
        match error {
            Of::Ambiguous { source, .. } => self.error(operation, size, *source),
            Of::Timeout { .. } => late(),
            Of::Io(cause) if cause.kind() == std::io::ErrorKind::TimedOut => late(),
            Of::Io(cause) => {
                // Its name may be another machine's by now.
                drop(lock_plain(&self.client).take());
                let detail = "the connection failed: see whether it runs and can be reached";
                of(ErrorKind::Unavailable, detail.to_owned()).because(cause)
            }
            Of::Server(said) if said.contains("too large") => {
                let limit =
                    self.item_limit().map_or_else(String::new, |limit| format!(": an item may have {limit}"));
                of(
                    ErrorKind::Full,
                    format!("a value of {size} bytes is too large{limit}: see the server's option -I"),
                )
            }
            Of::Server(said) if said.contains("out of memory") => of(ErrorKind::Full, shown(&said)),
            Of::Server(said) => of(ErrorKind::Unavailable, shown(&said)),
            Of::Rejected(said) => of(
                ErrorKind::Unavailable,
                format!("{}: is it memcached 1.6, without a password?", shown(&said)),
            ),
            _ => unexpected(&self.name, operation),
        }
    }

    /// How large an item may be. Asked when one was too large: the crate has no word for this.
    fn item_limit(&self) -> Option<u64> {
        let address = self.name.to_socket_addrs().ok()?.next()?;
        let mut stream = TcpStream::connect_timeout(&address, self.connections.connect_timeout).ok()?;
        stream.set_read_timeout(Some(self.connections.timeout)).ok()?;
        stream.set_write_timeout(Some(self.connections.timeout)).ok()?;
        stream.write_all(b"stats settings\r\n").ok()?;
        let lines = BufReader::new(stream).lines().take(200).map_while(Result::ok);
        lines
            .take_while(|line| line != "END")
            .find_map(|line| line.strip_prefix("STAT item_size_max ")?.parse().ok())
    }
}

impl Server for Meta {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, mut asks: &[Ask<'_>]) -> Result<Vec<Answer>, Error> {
        const MOST_BYTES: usize = 32 << 10;
        let mut answers = Vec::with_capacity(asks.len());
        while !asks.is_empty() {
            let mut bytes = 0;
            let fits = |ask: &&Ask<'_>| {
                bytes += ask.size();
                bytes <= MOST_BYTES
            };
            let (now, later) = asks.split_at(asks.iter().take_while(fits).count().max(1));
            answers.extend(self.exchange(now)?);
            asks = later;
        }
        Ok(answers)
    }
}

fn op(ask: Ask<'_>) -> exp::Op {
    match ask {
        Ask::Get { key, has_value, vivify, touch } => {
            let mut get = exp::Get::new(key).meta(exp::Meta::NONE.cas().ttl().size());
            get.value = has_value;
            get.lease_ttl = vivify;
            match touch {
                Some(ttl) => get.touch_raw(ttl).into(),
                None => get.into(),
            }
        }
        Ask::Set { key, value, flags, ttl, when } => {
            let set = exp::Set::new(key, value).client_flags(flags).ttl_raw(ttl).return_cas();
            match when {
                When::Always => set.into(),
                When::Absent => set.add().into(),
                When::Same(cas) => set.compare_cas(cas).into(),
            }
        }
        Ask::Delete { key, same } => {
            let mut delete = exp::Delete::new(key);
            delete.compare_cas = same;
            delete.into()
        }
    }
}

fn answer(ask: Ask<'_>, reply: exp::OpResult) -> Option<Answer> {
    use exp::MutationStatus as Of;
    match (ask, reply) {
        (Ask::Get { .. }, exp::OpResult::Get(reply)) => {
            // Asked for with every one, and so missing with nothing only.
            let Some(cas) = reply.item.cas else { return Some(Answer::Nothing) };
            if reply.won_lease() && reply.value_state == exp::ValueState::Missing {
                return Some(Answer::Vivified(cas));
            }
            Some(Answer::Item(Item {
                size: reply.item.size?,
                value: reply.value.unwrap_or_default(),
                flags: reply.client_flags.unwrap_or(0),
                cas,
                left: u32::try_from(reply.item.ttl?).ok(),
            }))
        }
        (Ask::Set { .. } | Ask::Delete { .. }, exp::OpResult::Mutation(reply)) => match reply.status {
            Of::Applied => Some(Answer::Done(reply.cas.unwrap_or(0))),
            Of::NotFound => Some(Answer::Nothing),
            Of::AlreadyExists | Of::CasMismatch => Some(Answer::Refused),
            _ => None,
        },
        _ => None,
    }
}
