//! The connection of tasks: one for all of them, or one for each node of a cluster, which many questions are under way on.
//!
//! It is driven by smol's executor, which has a thread of its own, and is made outside of the asker's runtime: it serves any,
//! and outlives each. Its replies come in the order of the questions, also of those that nobody waits for any more.
//!
//! # Invariants
//! - **One connects.** Tasks that find no connection wait for one of them to make it, and share its failure.
//! - **A bad one is left.** After an error, or a late reply, the next who asks makes another; who waits on the old one has its
//!   reply still.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::link::{Reply, one, reply};
use super::place::{Place, Target, left};
use super::script::Order;
use crate::sync::{Arc, PlainMutex, lock_plain};
use crate::time::{Clock, Instant, PreciseClock};
use redis::RedisResult;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

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

pub(super) struct Tasks {
    target: Arc<Target>,
    joint: PlainMutex<Joint>,
    connecting: async_lock::Mutex<()>,
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

impl Shared {
    async fn send(&mut self, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
        match self {
            Self::One(connection) => match orders {
                [order] => one(reply(connection.req_packed_command(&order.cmd).await)),
                _ => {
                    let mut pipeline = redis::pipe();
                    for order in orders {
                        pipeline.add_command(order.cmd.clone());
                    }
                    let results: Vec<RedisResult<_>> =
                        pipeline.ignore_errors().query_async(connection).await?;
                    Ok(results.into_iter().map(reply).collect())
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

impl Tasks {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, joint: PlainMutex::default(), connecting: async_lock::Mutex::new(()) }
    }

    pub(super) async fn send(&self, until: Instant, orders: &[Order]) -> Result<Vec<Reply>, Failed> {
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

    /// To one node of a cluster.
    pub(super) async fn send_to(
        &self,
        until: Instant,
        (host, port): &(String, u16),
        order: Order,
    ) -> Result<Reply, Failed> {
        let (_, shared, _) = self.shared(until).await?;
        let Shared::Cluster(mut connection) = shared else { return Err(Failed::strange()) };
        let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
        let asked = connection.route_command(order.cmd, RoutingInfo::SingleNode(node));
        within(until, async { Ok(reply(asked.await)) }).await
    }

    pub(super) fn forget_all(&self) {
        let shared = lock_plain(&self.joint).shared.take();
        drop(shared);
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
        let target = Arc::clone(&self.target);
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
}
