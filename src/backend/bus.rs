//! [`Bus`]: what processes that share a store tell each other over it.
//!
//! A store that can pass messages on does so without keeping them: who is away when one is sent never gets it. Therefore each
//! topic has a sequence number, raised by every message in the same step that sends it. A listener that gets a message whose
//! number is not the next has missed some; so has one that hears, at a new connection, of a number it does not know.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::sync::Arc;
use std::any::Any;

/// What a listener of a [`Bus`] hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A message, and its number: one more than that of the message before it, if none was lost.
    Message {
        /// Its number.
        sequence: u64,
        /// What was sent.
        message: &'a [u8],
    },
    /// The listener hears from now on, for the first time or again. Messages up to this number may have been missed; later
    /// ones will come.
    Connected {
        /// The number of the last message.
        sequence: u64,
    },
    /// The connection has broken: nothing is heard until [`Connected`](Self::Connected).
    Lost,
}

/// Who is told of messages. Called by one thread or task at a time, in the order of the messages; must not block.
pub type Listener = Arc<dyn Fn(Heard<'_>) + Send + Sync>;

/// Messages between the processes that share a store.
///
/// ```
/// use dogpile::Error;
/// use dogpile::backend::{Bus, Heard, Listener};
/// use std::any::Any;
/// use std::sync::{Arc, Mutex};
///
/// /// A bus of one process and one topic.
/// #[derive(Default)]
/// struct Near(Arc<Mutex<(u64, Vec<Listener>)>>);
///
/// impl Bus for Near {
///     fn publish(&self, _topic: &str, message: &[u8]) -> Result<u64, Error> {
///         let mut state = self.0.lock().unwrap();
///         state.0 += 1;
///         state.1.iter().for_each(|listener| listener(Heard::Message { sequence: state.0, message }));
///         Ok(state.0)
///     }
///     fn follow(&self, _topic: &str, listener: Listener) -> Box<dyn Any + Send + Sync> {
///         let mut state = self.0.lock().unwrap();
///         listener(Heard::Connected { sequence: state.0 });
///         state.1.push(listener);
///         Box::new(())
///     }
/// }
///
/// let (bus, heard) = (Near::default(), Arc::new(Mutex::new(Vec::new())));
/// let to = Arc::clone(&heard);
/// let _following = bus.follow("news", Arc::new(move |what: Heard<'_>| {
///     if let Heard::Message { sequence, .. } = what {
///         to.lock().unwrap().push(sequence);
///     }
/// }));
/// assert_eq!(bus.publish("news", b"spring")?, 1);
/// assert_eq!(*heard.lock().unwrap(), [1]);
/// # Ok::<(), Error>(())
/// ```
pub trait Bus: Send + Sync {
    /// Sends a message to all who listen now. Returns its number.
    ///
    /// # Errors
    /// If the store can't be asked. The message may have been sent all the same.
    fn publish(&self, topic: &str, message: &[u8]) -> Result<u64, Error>;

    /// Listens, from the first [`Heard::Connected`] on, until what is returned is dropped. Returns at once: a store that can't be
    /// reached is tried again until it can.
    fn follow(&self, topic: &str, listener: Listener) -> Box<dyn Any + Send + Sync>;
}
