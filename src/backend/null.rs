//! [`NullBackend`]: stores nothing.
#![forbid(unsafe_code)]

use super::{AsyncBackend, Backend, BoxFuture, CacheMutex, Put, Stored};
use crate::error::Error;
use std::future::ready;
use std::time::Duration;

/// Stores nothing: each value is missing, and made anew. Its lock is always granted.
///
/// To switch a cache off without touching the code that uses it.
///
/// ```
/// use dogpile::Region;
/// use dogpile::backend::NullBackend;
///
/// let region = Region::builder().backend(NullBackend::new()).build()?;
/// assert_eq!(*region.get_or_create("key", || 1)?, 1);
/// assert_eq!(*region.get_or_create("key", || 2)?, 2);
/// # Ok::<(), dogpile::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NullBackend;

impl NullBackend {
    /// A backend that stores nothing.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

/// Granted to all.
struct NullMutex;

impl CacheMutex for NullMutex {
    fn acquire(&self, _wait: Duration) -> Result<bool, Error> {
        Ok(true)
    }
    fn release(&self) -> Result<(), Error> {
        Ok(())
    }
    fn locked(&self) -> Result<bool, Error> {
        Ok(false)
    }
}

impl Backend for NullBackend {
    fn get(&self, _key: &str) -> Result<Option<Stored>, Error> {
        Ok(None)
    }
    fn set(&self, _put: Put<'_>) -> Result<(), Error> {
        Ok(())
    }
    fn delete(&self, _key: &str) -> Result<bool, Error> {
        Ok(false)
    }
    fn set_unless(
        &self,
        puts: &[Put<'_>],
        keeps: &dyn Fn(usize, Option<&Stored>) -> bool,
    ) -> Option<Result<Vec<bool>, Error>> {
        Some(Ok((0..puts.len()).map(|i| !keeps(i, None)).collect()))
    }
    fn clear(&self, _prefix: &str) -> Result<bool, Error> {
        Ok(true)
    }
    fn len(&self, _prefix: &str) -> Result<Option<u64>, Error> {
        Ok(Some(0))
    }
    fn mutex(&self, _key: &str) -> Option<Box<dyn CacheMutex>> {
        Some(Box::new(NullMutex))
    }
    fn blocks(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "null"
    }
}

impl AsyncBackend for NullBackend {
    fn get<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, Error>> {
        Box::pin(ready(Ok(None)))
    }
    fn set<'a>(&'a self, _put: Put<'a>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }
    fn delete<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(Ok(false)))
    }
    fn set_unless<'a>(
        &'a self,
        puts: &'a [Put<'a>],
        keeps: &'a (dyn Fn(usize, Option<&Stored>) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Option<Result<Vec<bool>, Error>>> {
        Box::pin(ready(Backend::set_unless(self, puts, &keeps)))
    }
    fn clear<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(Ok(true)))
    }
    fn len<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<Option<u64>, Error>> {
        Box::pin(ready(Ok(Some(0))))
    }
    fn name(&self) -> &'static str {
        "null"
    }
}
