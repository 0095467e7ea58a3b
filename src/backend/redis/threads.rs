//! Connections of threads: a stack of them, one for each question that is under way.
//!
//! # Invariants
//! - **One at a time.** A connection is out with one thread or on the stack. What comes back to the stack has no reply
//!   outstanding: after an error, or a late reply, it is closed.
//! - **No more than so many** are open; who wants one more waits, for `timeout` at the most.
//! - **A process has its own.** A child that was forked closes what it has of its parent's.
//! - **A closed one is closed for all.** Where the server has closed one it has closed all, or its successor knows none of
//!   them: those that are idle are closed, and the question is asked once more.
//!
//! # Cost
//! A lock taken twice, a write, a read.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::link::{Reply, one, reply};
use super::place::{Target, left};
use super::script::Order;
use crate::error::ErrorKind;
use crate::sync::{Arc, Condvar, Mutex, PoisonError, lock};
use crate::time::{Clock, PreciseClock};
use redis::{Client, Connection, ConnectionLike as _, Value};

#[derive(Default)]
struct Stack {
    idle: Vec<Connection>,
    /// Idle ones and those that are out.
    open: usize,
    /// Raised when all that are open are to go.
    era: u64,
    client: Option<Client>,
    /// Whose connections these are.
    process: u32,
}

impl Stack {
    /// A child that was forked has none: on its parent's it would have the parent's replies, and the parent its own.
    fn begin_anew_in_a_child(&mut self) {
        let process = std::process::id();
        if self.process != process {
            *self = Self { era: self.era + 1, process, ..Self::default() };
        }
    }
}

pub(super) struct Threads {
    target: Arc<Target>,
    most: usize,
    stack: Mutex<Stack>,
    came_back: Condvar,
}

/// A connection that is out. Dropped, it goes back, if it is there still.
struct Out<'a> {
    threads: &'a Threads,
    connection: Option<Connection>,
    era: u64,
    is_used: bool,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        let mut stack = lock(&self.threads.stack);
        match self.connection.take() {
            Some(connection) if self.era == stack.era => stack.idle.push(connection),
            // Closing is a system call.
            closed => {
                stack.open -= 1;
                drop(stack);
                drop(closed);
            }
        }
        self.threads.came_back.notify_one();
    }
}

/// The replies to all of them: the first that is late ends it, and not each after its own time.
fn ask(connection: &mut Connection, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
    if let [order] = orders {
        return one(reply(connection.req_command(&order.cmd)));
    }
    let mut packed = Vec::new();
    for order in orders {
        packed.extend_from_slice(&order.cmd.get_packed_command());
    }
    connection.send_packed_command(&packed)?;
    let mut replies = Vec::with_capacity(orders.len());
    while replies.len() < orders.len() {
        let value = connection.recv_response()?;
        // What the server says unasked, in the third protocol.
        if !matches!(value, Value::Push { .. }) {
            replies.push(reply(Ok(value)));
        }
    }
    Ok(replies)
}

impl Threads {
    pub(super) fn new(target: Arc<Target>, most: usize) -> Self {
        Self { target, most, stack: Mutex::default(), came_back: Condvar::new() }
    }

    pub(super) fn send(&self, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
        let mut is_first = true;
        loop {
            let mut out = self.take_out()?;
            let connection = out.connection.as_mut().expect("one that is out is there");
            let failed = match ask(connection, orders) {
                Ok(replies) => return Ok(replies),
                Err(failed) => failed,
            };
            let was_idle = out.is_used;
            let closed = out.connection.take();
            drop(out);
            drop(closed);
            if failed.is_dropped {
                self.forget();
            }
            if !(failed.is_dropped && was_idle && is_first) {
                return Err(failed);
            }
            is_first = false;
        }
    }

    fn take_out(&self) -> Result<Out<'_>, Failed> {
        let until = PreciseClock.precise().saturating_add(self.target.timeout);
        let mut stack = lock(&self.stack);
        stack.begin_anew_in_a_child();
        loop {
            if let Some(connection) = stack.idle.pop() {
                return Ok(Out {
                    threads: self,
                    connection: Some(connection),
                    era: stack.era,
                    is_used: true,
                });
            }
            if stack.open < self.most {
                break;
            }
            let Ok(left) = left(until) else {
                let detail = "all connections are in use: raise `max_connections`, or `timeout`";
                return Err(Failed::new(ErrorKind::Timeout, detail));
            };
            stack = self.came_back.wait_timeout(stack, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        stack.open += 1;
        let (era, client) = (stack.era, stack.client.clone());
        drop(stack);
        // Closed again if it can't be made.
        let mut out = Out { threads: self, connection: None, era, is_used: false };
        let client = match client {
            Some(client) => client,
            None => {
                let client = self.target.client(until)?;
                lock(&self.stack).client = Some(client.clone());
                client
            }
        };
        let patience = self.target.patience(until)?;
        let connected = client.get_connection_with_timeout(patience).and_then(|connection| {
            connection.set_read_timeout(Some(self.target.timeout))?;
            connection.set_write_timeout(Some(self.target.timeout))?;
            Ok(connection)
        });
        match connected {
            Ok(connection) => out.connection = Some(connection),
            Err(error) => {
                // The sentinels may name another one by now.
                lock(&self.stack).client = None;
                return Err(error.into());
            }
        }
        Ok(out)
    }

    /// Closes those that are idle, and those that are out when they come back.
    pub(super) fn forget(&self) {
        let mut stack = lock(&self.stack);
        stack.era += 1;
        stack.client = None;
        let idle = std::mem::take(&mut stack.idle);
        stack.open -= idle.len();
        drop(stack);
        // Closing is a system call.
        drop(idle);
        self.came_back.notify_all();
    }
}
