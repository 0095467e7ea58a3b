//! Messages between processes: published and numbered in one step, followed by a connection each.
//!
//! A follower subscribes, and then asks for the last number: what comes between is in both, and told once. It asks the server
//! every second whether the connection is there still: one that has gone silently is noticed.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::link::{SharedLink, Via, pause, within};
use super::script::{self, Order};
use crate::backend::{Bus, Heard, Listener};
use crate::error::Error;
use redis::Value;
use smol::future::block_on;
use smol::stream::StreamExt as _;
use std::any::Any;
use std::time::Duration;

const NAME: &str = "redis PUBLISH";
/// What stands before a topic, in the name of its channel and in the key of its number. The database's number follows:
/// channels are the server's, and numbers the database's.
const TOPIC: &str = "dogpile:bus:";
/// How long a connection may be silent before it is asked.
const SILENCE: Duration = Duration::from_secs(1);

pub(super) struct RedisBus {
    pub(super) link: SharedLink,
}

/// The number and what was sent.
fn parts(payload: &[u8]) -> Option<(u64, &[u8])> {
    let colon = payload.iter().position(|byte| *byte == b':')?;
    let sequence = std::str::from_utf8(&payload[..colon]).ok()?.parse().ok()?;
    Some((sequence, &payload[colon + 1..]))
}

impl RedisBus {
    fn name(&self, topic: &str) -> String {
        format!("{TOPIC}{}:{topic}", self.link.target().db)
    }
}

impl Bus for RedisBus {
    fn publish(&self, topic: &str, message: &[u8]) -> Result<u64, Error> {
        let name = self.name(topic);
        let order = Order::run(&script::PUBLISH, &[&name]).arg(&name).arg(message);
        match block_on(self.link.ask_one(Via::Threads, NAME, order))? {
            Value::Int(sequence) => Ok(sequence.unsigned_abs()),
            _ => Err(Failed::strange().by(NAME)),
        }
    }

    fn follow(&self, topic: &str, listener: Listener) -> Box<dyn Any + Send + Sync> {
        // Ended when it is dropped.
        Box::new(smol::spawn(follow(SharedLink::clone(&self.link), self.name(topic), listener)))
    }
}

async fn follow(link: SharedLink, name: String, listener: Listener) {
    let mut tries = 0;
    loop {
        let mut was_heard = false;
        // Why it has ended is nobody's to know: it is begun again.
        let _ = follow_once(&link, &name, &listener, &mut was_heard).await;
        if was_heard {
            listener(Heard::Lost);
            tries = 0;
        }
        smol::Timer::after(pause(tries)).await;
        tries += 1;
    }
}

async fn follow_once(
    link: &SharedLink,
    name: &str,
    listener: &Listener,
    was_heard: &mut bool,
) -> Result<(), Failed> {
    let (mut sink, mut stream) = link.hear().await?;
    within(link.until(), async { Ok(sink.subscribe(name).await?) }).await?;
    let last = link.ask_one(Via::Tasks, NAME, Order::new("GET").arg(name)).await;
    let last = match last.map_err(|_| Failed::late())? {
        Value::BulkString(number) => std::str::from_utf8(&number)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(Failed::strange)?,
        _ => 0,
    };
    *was_heard = true;
    listener(Heard::Connected { sequence: last });
    loop {
        let silence = async {
            smol::Timer::after(SILENCE).await;
            Ok(None)
        };
        let next = async { stream.next().await.map(Some).ok_or_else(Failed::late) };
        match smol::future::or(next, silence).await? {
            Some(message) => {
                // A number that was told of with the connection is not told twice; one far below comes from a server that has
                // begun anew.
                if let Some((sequence, message)) = parts(message.get_payload_bytes())
                    && sequence != last
                {
                    listener(Heard::Message { sequence, message });
                }
            }
            None => {
                within(link.until(), async { Ok(sink.ping::<Value>().await?) }).await?;
            }
        }
    }
}
