//! What ends the waits of tasks.
#![forbid(unsafe_code)]

use crate::sync::Arc;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A future that ends after a time.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes futures that end after a time, for tasks whose wait has a limit (`Policy`'s `wait` and `soft_timeout`). Threads
/// need none: they park with a time-out.
///
/// Implement it over the runtime's own timer where one is at hand:
///
/// ```
/// use dogpile::gate::{Sleep, Timer};
/// use std::time::Duration;
///
/// struct Tokio;
/// impl Timer for Tokio {
///     fn sleep(&self, span: Duration) -> Sleep {
///         Box::pin(tokio::time::sleep(span))
///     }
/// }
/// # let policy = dogpile::Policy::<u8>::builder().timer(Tokio).build();
/// # assert!(policy.is_ok());
/// ```
pub trait Timer: Send + Sync {
    /// A future that ends when `span` has gone by since this call, by real time.
    fn sleep(&self, span: Duration) -> Sleep;
}

impl<T: Timer + ?Sized> Timer for Arc<T> {
    fn sleep(&self, span: Duration) -> Sleep {
        (**self).sleep(span)
    }
}

/// One thread for the whole process, started when a task first waits with a limit; the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnTimer;

impl Timer for OwnTimer {
    fn sleep(&self, span: Duration) -> Sleep {
        Box::pin(futures_timer::Delay::new(span))
    }
}
