//! Connections: a stack of blocking ones for threads, one for all tasks.
//!
//! Nothing is connected to before it is used. A connection that had an error or was too slow is thrown away, so that no reply
//! reaches another caller; its successor is made by the next who asks. Where a connection was found closed, all idle ones
//! are, and the question is asked once more: a server that was restarted is noticed by nobody.
//!
//! # Invariants
//! - **L1, one at a time.** A blocking connection is out with one thread or on the stack. What comes back to the stack has
//!   no reply outstanding.
//! - **L2, bounded.** A question ends after twice `timeout` at the most, also where the server takes connections and says
//!   nothing: within `timeout` where it is connected to.
//! - **L3, one connects.** Tasks that find no connection wait for one of them to make it, and share its failure.
//!
//! # Cost
//! A question of a thread: a lock taken twice, a write, a read. A cluster has no blocking connections: its threads wait for
//! what tasks use. The connection for tasks is driven by smol's executor, which has a thread of its own, and is made outside
//! of the asker's runtime: it serves any, and outlives each.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::place::{Place, Target, left};
use super::script::Order;
use crate::error::{Error, ErrorKind};
use crate::sync::{Arc, Condvar, Mutex, PlainMutex, PoisonError, lock, lock_plain};
use crate::time::{Clock, Instant, PreciseClock};
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Client, Cmd, Connection, ConnectionLike as _, Pipeline, RedisResult, Value};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Threads,
    Tasks,
}

pub(super) type Reply = Result<Value, Failed>;

/// What all tasks share.
#[derive(Clone)]
enum Shared {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

#[derive(Default)]
struct Joint {
    /// With its number.
    shared: Option<(u64, Shared)>,
    made: u64,
    /// The last attempt that failed: when it began, and why.
    failed: Option<(Instant, Failed)>,
}

#[derive(Default)]
struct Stack {
    idle: Vec<Connection>,
    /// Idle ones and those that are out.
    open: usize,
    /// Raised when all that are open are to go.
    era: u64,
    client: Option<Client>,
}

pub(super) struct Link {
    target: Target,
    most: usize,
    stack: Mutex<Stack>,
    came_back: Condvar,
    joint: PlainMutex<Joint>,
    connecting: async_lock::Mutex<()>,
}

/// A thread's connection. Dropped, it is closed.
struct Out<'a> {
    link: &'a Link,
    connection: Option<Connection>,
    era: u64,
    is_used: bool,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        let mut stack = lock(&self.link.stack);
        match self.connection.take() {
            Some(connection) if self.era == stack.era => stack.idle.push(connection),
            _ => stack.open -= 1,
        }
        drop(stack);
        self.link.came_back.notify_one();
    }
}

/// What comes of a future, if it comes in time.
pub(super) async fn within<T>(
    until: Instant,
    future: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    let late = async {
        smol::Timer::after(left(until)?).await;
        Err(Failed::late())
    };
    smol::future::or(future, late).await
}

/// All of them at once.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<(Option<Pin<Box<F>>>, Option<F::Output>)> =
        futures.into_iter().map(|future| (Some(Box::pin(future)), None)).collect();
    poll_fn(|cx| {
        let mut is_done = true;
        for (future, output) in &mut running {
            let Some(pinned) = future else { continue };
            match pinned.as_mut().poll(cx) {
                Poll::Ready(ended) => (*future, *output) = (None, Some(ended)),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().map(|(_, output)| output.expect("all have ended")).collect()
}

fn reply(result: RedisResult<Value>) -> Reply {
    Ok(result.and_then(Value::extract_error)?)
}

fn pipeline<'c>(cmds: impl Iterator<Item = &'c Cmd>) -> Pipeline {
    let mut pipeline = redis::pipe();
    cmds.for_each(|cmd| {
        pipeline.add_command(cmd.clone());
    });
    pipeline.ignore_errors();
    pipeline
}

fn replies(results: Vec<RedisResult<Value>>) -> Vec<Reply> {
    results.into_iter().map(reply).collect()
}

impl Shared {
    async fn send(&mut self, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
        match self {
            Self::One(connection) => match orders {
                [order] => one(reply(connection.req_packed_command(&order.cmd).await)),
                _ => {
                    let results =
                        pipeline(orders.iter().map(|order| &order.cmd)).query_async(connection).await?;
                    Ok(replies(results))
                }
            },
            // Each by itself to the node of its key.
            Self::Cluster(connection) => {
                let each = |order| {
                    let mut connection = connection.clone();
                    async move { reply(connection.req_packed_command(order).await) }
                };
                let replies = all(orders.iter().map(|order| each(&order.cmd)).collect()).await;
                match replies
                    .iter()
                    .find_map(|reply| reply.as_ref().err().filter(|failed| !failed.is_refusal))
                {
                    Some(failed) => Err(failed.clone()),
                    None => Ok(replies),
                }
            }
        }
    }
}

/// One command's reply: an error of the server's is one, what breaks the connection is all.
fn one(reply: Reply) -> Result<Vec<Reply>, Failed> {
    match reply {
        Err(failed) if !failed.is_refusal => Err(failed),
        reply => Ok(vec![reply]),
    }
}

impl Link {
    pub(super) fn new(target: Target, most: usize) -> Self {
        Self {
            target,
            most,
            stack: Mutex::default(),
            came_back: Condvar::new(),
            joint: PlainMutex::default(),
            connecting: async_lock::Mutex::new(()),
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The number of the database.
    pub(super) fn db(&self) -> i64 {
        self.target.db
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
            self.forget_all();
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
            Via::Threads if !self.target.is_cluster() => self.send_now(orders),
            _ => self.send_later(orders).await,
        }
    }

    // ---- for threads

    fn send_now(&self, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
        let mut is_first = true;
        loop {
            let mut out = self.take_out()?;
            let connection = out.connection.as_mut().expect("one that is out is there");
            let sent = match orders {
                [order] => one(reply(connection.req_command(&order.cmd))),
                _ => pipeline(orders.iter().map(|order| &order.cmd))
                    .query(connection)
                    .map(replies)
                    .map_err(Failed::from),
            };
            match sent {
                Ok(replies) => return Ok(replies),
                Err(failed) => {
                    out.connection = None;
                    let was_idle = out.is_used;
                    drop(out);
                    if !failed.is_dropped {
                        return Err(failed);
                    }
                    self.forget_idle();
                    if !(was_idle && is_first) {
                        return Err(failed);
                    }
                    is_first = false;
                }
            }
        }
    }

    fn take_out(&self) -> Result<Out<'_>, Failed> {
        let until = self.until();
        let mut stack = lock(&self.stack);
        loop {
            if let Some(connection) = stack.idle.pop() {
                return Ok(Out { link: self, connection: Some(connection), era: stack.era, is_used: true });
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
        let mut out = Out { link: self, connection: None, era, is_used: false };
        let client = match client {
            Some(client) => client,
            None => {
                let client = self.target.client(until)?;
                lock(&self.stack).client = Some(client.clone());
                client
            }
        };
        let patience = left(until)?.min(self.target.connect_timeout);
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

    fn forget_idle(&self) {
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

    fn forget_all(&self) {
        self.forget_idle();
        let shared = lock_plain(&self.joint).shared.take();
        drop(shared);
    }

    // ---- for tasks

    async fn send_later(&self, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
        let until = self.until();
        let mut is_first = true;
        loop {
            let (number, mut shared, is_new) = self.shared(until).await?;
            match within(until, shared.send(orders)).await {
                Ok(replies) => return Ok(replies),
                Err(failed) => {
                    self.forget(number);
                    if !failed.is_dropped || is_new || !is_first {
                        return Err(failed);
                    }
                    is_first = false;
                }
            }
        }
    }

    fn forget(&self, number: u64) {
        let mut joint = lock_plain(&self.joint);
        let shared = joint.shared.take_if(|(made, _)| *made == number);
        drop(joint);
        drop(shared);
    }

    /// The connection, its number, and whether it was made just now.
    async fn shared(&self, until: Instant) -> Result<(u64, Shared, bool), Failed> {
        let there = || lock_plain(&self.joint).shared.clone();
        if let Some((number, shared)) = there() {
            return Ok((number, shared, false));
        }
        let asked = PreciseClock.precise();
        let _turn = within(until, async { Ok(self.connecting.lock().await) }).await?;
        if let Some((number, shared)) = there() {
            return Ok((number, shared, false));
        }
        let failed = lock_plain(&self.joint).failed.clone();
        if let Some((_, failed)) = failed.filter(|(begun, _)| *begun >= asked) {
            return Err(failed);
        }
        let begun = PreciseClock.precise();
        let connected = within(until, self.connect(until)).await;
        let mut joint = lock_plain(&self.joint);
        match connected {
            Ok(shared) => {
                joint.made += 1;
                joint.shared = Some((joint.made, shared.clone()));
                Ok((joint.made, shared, true))
            }
            Err(failed) => {
                joint.failed = Some((begun, failed.clone()));
                Err(failed)
            }
        }
    }

    /// On a thread that knows no runtime: the connection is smol's then, whatever else the crate `redis` was built with.
    async fn connect(&self, until: Instant) -> Result<Shared, Failed> {
        let target = self.target.clone();
        smol::unblock(move || {
            smol::block_on(within(until, async {
                if let Place::Cluster(nodes) = &target.place {
                    return Ok(Shared::Cluster(target.cluster(nodes).await?));
                }
                let client = target.client(until)?;
                let config = redis::AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(target.connect_timeout))
                    .set_response_timeout(None);
                Ok(Shared::One(client.get_multiplexed_async_connection_with_config(&config).await?))
            }))
        })
        .await
    }

    /// A connection of its own for messages: what subscribes, and what they come from.
    pub(super) async fn hear(&self) -> Result<(redis::aio::PubSubSink, redis::aio::PubSubStream), Failed> {
        let (target, until) = (self.target.clone(), self.until());
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
        (host, port): &(String, u16),
        order: Order,
    ) -> Result<Value, Error> {
        let until = self.until();
        let ask = async {
            let (_, shared, _) = self.shared(until).await?;
            let Shared::Cluster(mut connection) = shared else { return Err(Failed::strange()) };
            let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
            let asked = connection.route_command(order.cmd, RoutingInfo::SingleNode(node));
            within(until, async { reply(asked.await) }).await
        };
        ask.await.map_err(|failed: Failed| failed.by(operation))
    }
}

/// How long until it is tried again, after so many times in vain: 50 ms, doubled up to half a second.
pub(super) fn pause(tries: u32) -> Duration {
    Duration::from_millis(50 << tries.min(3)).min(Duration::from_millis(500))
}

/// Shared by a backend's parts.
pub(super) type SharedLink = Arc<Link>;
