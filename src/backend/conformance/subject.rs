//! Backends of both kinds as one: what the checks are run on.
#![forbid(unsafe_code)]

use super::super::{AsyncBackend, AsyncCacheMutex, Backend, BoxFuture, CacheMutex, Put, Stored, Takes};
use crate::error::Error;
use crate::sync::{Arc, Signal};
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Runs a future to its end.
pub(super) type Drive = Arc<dyn for<'f> Fn(BoxFuture<'f, ()>) + Send + Sync>;

struct Bell(Signal);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.raise();
    }
}

/// This thread sleeps while the future waits.
pub(super) fn block_on(mut future: BoxFuture<'_, ()>) {
    let bell = Arc::new(Bell(Signal::default()));
    let waker = Waker::from(Arc::clone(&bell));
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        bell.0.wait(None);
    }
}

type Keeps<'k> = &'k (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync);

/// A backend under test.
pub(super) trait Subject: Send + Sync {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error>;
    fn set(&self, put: Put<'_>) -> Result<(), Error>;
    fn delete(&self, key: &str) -> Result<bool, Error>;
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error>;
    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error>;
    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error>;
    fn set_unless(&self, puts: &[Put<'_>], keeps: Keeps<'_>) -> Option<Result<Vec<bool>, Error>>;
    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error>;
    fn clear(&self, prefix: &str) -> Result<bool, Error>;
    fn len(&self, prefix: &str) -> Result<Option<u64>, Error>;
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>>;
    fn takes(&self) -> Takes;
    /// `None`: it leaves keys as they are.
    fn mangle(&self, key: &str) -> Option<String>;
    fn name(&self) -> &'static str;
    /// Begins reads and writes and gives them up. False: of this kind of backend nobody can.
    fn give_up(&self, key: &str, put: Put<'_>) -> bool;
}

pub(super) struct Blocking<B>(pub(super) B);

impl<B: Backend> Subject for Blocking<B> {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        self.0.get(key)
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.0.set(put)
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        self.0.delete(key)
    }
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        self.0.get_multi(keys)
    }
    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        self.0.set_multi(puts)
    }
    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        self.0.delete_multi(keys)
    }
    fn set_unless(&self, puts: &[Put<'_>], keeps: Keeps<'_>) -> Option<Result<Vec<bool>, Error>> {
        self.0.set_unless(puts, &keeps)
    }
    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.0.expire(key, ttl)
    }
    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        self.0.clear(prefix)
    }
    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        self.0.len(prefix)
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        self.0.mutex(key)
    }
    fn takes(&self) -> Takes {
        self.0.takes()
    }
    fn mangle(&self, key: &str) -> Option<String> {
        self.0.mangles().then(|| self.0.mangle(key)).flatten()
    }
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn give_up(&self, _key: &str, _put: Put<'_>) -> bool {
        false
    }
}

pub(super) struct Driven<B> {
    pub(super) backend: B,
    pub(super) drive: Drive,
}

/// What a future returns.
fn run<T: Send>(drive: &Drive, future: BoxFuture<'_, T>) -> T {
    let mut output = None;
    let to = &mut output;
    drive(Box::pin(async move { *to = Some(future.await) }));
    output.expect("block_on returns when the future has ended")
}

impl<B> Driven<B> {
    fn run<T: Send>(&self, future: BoxFuture<'_, T>) -> T {
        run(&self.drive, future)
    }
}

impl<B: AsyncBackend> Subject for Driven<B> {
    fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        self.run(self.backend.get(key))
    }
    fn set(&self, put: Put<'_>) -> Result<(), Error> {
        self.run(self.backend.set(put))
    }
    fn delete(&self, key: &str) -> Result<bool, Error> {
        self.run(self.backend.delete(key))
    }
    fn get_multi(&self, keys: &[&str]) -> Result<Vec<Option<Stored>>, Error> {
        self.run(self.backend.get_multi(keys))
    }
    fn set_multi(&self, puts: &[Put<'_>]) -> Result<(), Error> {
        self.run(self.backend.set_multi(puts))
    }
    fn delete_multi(&self, keys: &[&str]) -> Result<(), Error> {
        self.run(self.backend.delete_multi(keys))
    }
    fn set_unless(&self, puts: &[Put<'_>], keeps: Keeps<'_>) -> Option<Result<Vec<bool>, Error>> {
        self.run(self.backend.set_unless(puts, keeps))
    }
    fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Error> {
        self.run(self.backend.expire(key, ttl))
    }
    fn clear(&self, prefix: &str) -> Result<bool, Error> {
        self.run(self.backend.clear(prefix))
    }
    fn len(&self, prefix: &str) -> Result<Option<u64>, Error> {
        self.run(self.backend.len(prefix))
    }
    fn mutex(&self, key: &str) -> Option<Box<dyn CacheMutex>> {
        let mutex = self.backend.mutex(key)?;
        Some(Box::new(DrivenMutex { mutex, drive: Arc::clone(&self.drive) }))
    }
    fn takes(&self) -> Takes {
        self.backend.takes()
    }
    fn mangle(&self, key: &str) -> Option<String> {
        self.backend.mangles().then(|| self.backend.mangle(key)).flatten()
    }
    fn name(&self) -> &'static str {
        self.backend.name()
    }
    fn give_up(&self, key: &str, put: Put<'_>) -> bool {
        self.run(Box::pin(async {
            begin(self.backend.get(key)).await;
            begin(self.backend.set(put)).await;
            begin(self.backend.get_multi(&[key, key])).await;
        }));
        true
    }
}

/// Polls a future once, and drops it.
async fn begin<T>(mut future: BoxFuture<'_, T>) {
    std::future::poll_fn(|cx| {
        let _ = Pin::new(&mut future).poll(cx);
        Poll::Ready(())
    })
    .await;
}

struct DrivenMutex {
    mutex: Box<dyn AsyncCacheMutex>,
    drive: Drive,
}

impl CacheMutex for DrivenMutex {
    fn acquire(&self, wait: Duration) -> Result<bool, Error> {
        run(&self.drive, self.mutex.acquire(wait))
    }
    fn release(&self) -> Result<(), Error> {
        run(&self.drive, self.mutex.release())
    }
    fn locked(&self) -> Result<bool, Error> {
        run(&self.drive, self.mutex.locked())
    }
    fn lease(&self) -> Option<Duration> {
        self.mutex.lease()
    }
}
