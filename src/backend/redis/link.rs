//! Asking the servers, for threads and for tasks.
//!
//! Nothing is connected to before it is used. What connections are, and what becomes of them, `threads.rs` and `tasks.rs` say. A
//! cluster has no connections of threads: its threads wait for what tasks use.
//!
//! # Invariants
//! - **L1, in time.** A question ends within `timeout`, also where the server takes connections and says nothing; within twice
//!   that where all connections are out, where it falls silent after a greeting, or lacks a script.
//! - **L2, no reply of another's.** A connection whose replies are not known to be in step is not used again.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::place::Target;
use super::script::Order;
use super::tasks::Tasks;
pub(super) use super::tasks::within;
use super::threads::Threads;
use crate::error::Error;
use crate::sync::Arc;
use crate::time::{Clock, Instant, PreciseClock};
use redis::{RedisResult, Value};
use std::time::Duration;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Threads,
    Tasks,
}

pub(super) type Reply = Result<Value, Failed>;

pub(super) struct Link {
    target: Arc<Target>,
    threads: Threads,
    tasks: Tasks,
}

pub(super) fn reply(result: RedisResult<Value>) -> Reply {
    Ok(result.and_then(Value::extract_error)?)
}

/// One command's reply: an error of the server's is one, what breaks the connection is all.
pub(super) fn one(reply: Reply) -> Result<Vec<Reply>, Failed> {
    match reply {
        Err(failed) if !failed.is_refusal => Err(failed),
        reply => Ok(vec![reply]),
    }
}

impl Link {
    pub(super) fn new(target: Target, most: usize) -> Self {
        let target = Arc::new(target);
        Self {
            threads: Threads::new(Arc::clone(&target), most),
            tasks: Tasks::new(Arc::clone(&target)),
            target,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn until(&self) -> Instant {
        PreciseClock.precise().saturating_add(self.target.timeout)
    }

    /// The replies to a batch of commands, in their order.
    ///
    /// # Errors
    /// If one of them has none, or is refused; others may have been done.
    pub(super) async fn ask(
        &self,
        via: Via,
        operation: &'static str,
        orders: Vec<Order>,
    ) -> Result<Vec<Value>, Error> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let mut replies = self.send(via, &orders).await.map_err(|failed| failed.by(operation))?;
        if replies.len() != orders.len() {
            return Err(Failed::strange().by(operation));
        }
        let lacks = |reply: &Reply| reply.as_ref().is_err_and(|failed| failed.lacks_script);
        let unknown: Vec<usize> = (0..replies.len()).filter(|i| lacks(&replies[*i])).collect();
        if !unknown.is_empty() {
            let spelled_out: Vec<Order> = unknown.iter().filter_map(|i| orders[*i].spelled_out()).collect();
            let again = self.send(via, &spelled_out).await.map_err(|failed| failed.by(operation))?;
            unknown.into_iter().zip(again).for_each(|(i, reply)| replies[i] = reply);
        }
        if replies.iter().any(|reply| reply.as_ref().is_err_and(|failed| failed.is_demoted)) {
            // The sentinels may name another one by now.
            self.threads.forget();
            self.tasks.forget_all();
        }
        replies.into_iter().map(|reply| reply.map_err(|failed| failed.by(operation))).collect()
    }

    /// The reply to one command.
    ///
    /// # Errors
    /// If it has none, or is refused.
    pub(super) async fn ask_one(
        &self,
        via: Via,
        operation: &'static str,
        order: Order,
    ) -> Result<Value, Error> {
        let mut replies = self.ask(via, operation, vec![order]).await?;
        replies.pop().ok_or_else(|| Failed::strange().by(operation))
    }

    async fn send(&self, via: Via, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
        match via {
            Via::Threads if !self.target.is_cluster() => self.threads.send(orders),
            _ => self.tasks.send(self.until(), orders).await,
        }
    }

    /// A connection of its own for messages: what subscribes, and what they come from.
    pub(super) async fn hear(&self) -> Result<(redis::aio::PubSubSink, redis::aio::PubSubStream), Failed> {
        let (target, until) = (Arc::clone(&self.target), self.until());
        smol::unblock(move || {
            let client = target.client(until)?;
            smol::block_on(within(until, async { Ok(client.get_async_pubsub().await?.split()) }))
        })
        .await
    }

    // ---- for what concerns all servers

    /// The masters' addresses; none, if there is but one server.
    pub(super) async fn masters(&self, operation: &'static str) -> Result<Vec<(String, u16)>, Error> {
        if !self.target.is_cluster() {
            return Ok(Vec::new());
        }
        let reply = self.ask_one(Via::Tasks, operation, Order::new("CLUSTER").arg("SLOTS")).await?;
        let mut masters = Vec::new();
        if let Value::Array(ranges) = reply {
            for range in ranges {
                // First and last slot, master, replicas.
                let Value::Array(range) = range else { continue };
                let Some(Value::Array(master)) = range.into_iter().nth(2) else { continue };
                if let [Value::BulkString(host), Value::Int(port), ..] = master.as_slice()
                    && let (Ok(host), Ok(port)) = (String::from_utf8(host.clone()), u16::try_from(*port))
                {
                    masters.push((host, port));
                }
            }
        }
        masters.sort_unstable();
        masters.dedup();
        if masters.is_empty() { Err(Failed::strange().by(operation)) } else { Ok(masters) }
    }

    /// As `ask_one`, of one of the `masters`.
    pub(super) async fn ask_master(
        &self,
        operation: &'static str,
        master: &(String, u16),
        order: Order,
    ) -> Result<Value, Error> {
        let reply = self.tasks.send_to(self.until(), master, order).await.and_then(|reply| reply);
        reply.map_err(|failed| failed.by(operation))
    }
}

/// How long until it is tried again, after so many times in vain: 50 ms, doubled up to half a second.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(50 << tries.min(3)).min(Duration::from_millis(500))
}

/// Shared by a backend's parts.
pub(super) type SharedLink = Arc<Link>;
