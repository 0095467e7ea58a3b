//! What functions memoised by `#[cached]` are made of, beside the public API: checks of their types, with advice where one
//! does not do; what becomes of failures; and statics whose type is not known where they stand.
//!
//! Expansions name all of it by `dogpile::__macros`; nobody else should.
#![forbid(unsafe_code)]

#[cfg(feature = "region")]
mod in_region;

#[cfg(feature = "region")]
pub use in_region::*;

use crate::cache::Cache;
use crate::error::{BuildError, CreateError, ErrorKind, PolicyError};
use crate::gate::Policy;
use crate::sync::{Arc, OnceLock};
use std::any::{Any, TypeId, type_name};
use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;

/// What can be in a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be in a memoised function's key",
    label = "needs Hash, Eq, Clone, Send and Sync",
    note = "leave the argument out of the key: `skip(…)`; or say what the key is: `key = …`"
)]
pub trait KeyPart {}
#[diagnostic::do_not_recommend]
impl<T: Hash + Eq + Clone + Send + Sync + 'static> KeyPart for T {}

/// Compiles for what can be in a key.
pub fn key_part<T: KeyPart>() {}

/// What a creator can keep.
#[diagnostic::on_unimplemented(
    message = "a memoised function's creator can't keep an argument of type `{Self}`",
    label = "needs Clone and Send",
    note = "a creator may outlive the call, since it may run in the background: make the type Clone and Send, take an `Arc` of it, or get it within the function"
)]
pub trait Argument {
    /// A copy for the creator.
    fn own(&self) -> Self;
}
#[diagnostic::do_not_recommend]
impl<T: Clone + Send + 'static> Argument for T {
    fn own(&self) -> T {
        self.clone()
    }
}

/// What a creator can keep of what is borrowed.
#[diagnostic::on_unimplemented(
    message = "a memoised function's creator can't keep what an argument of type `&{Self}` borrows",
    label = "needs Clone and Send",
    note = "a creator may outlive the call, since it may run in the background: make the type Clone and Send, take an `Arc` of it, or get it within the function"
)]
pub trait Borrowed {
    /// What the copy is.
    type Owned;
    /// A copy for the creator.
    fn own(&self) -> Self::Owned;
}
#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Send + 'static> + ?Sized> Borrowed for T {
    type Owned = T::Owned;
    fn own(&self) -> T::Owned {
        self.to_owned()
    }
}

/// What can be cached, and given to each caller.
#[diagnostic::on_unimplemented(
    message = "a memoised function can't return `{Self}`",
    label = "needs Clone, Send and Sync",
    note = "each caller gets a clone of what is cached: make the type Clone, Send and Sync, or return an `Arc` of it"
)]
pub trait Value {
    /// A copy for a caller.
    fn share(&self) -> Self;
}
#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + 'static> Value for T {
    fn share(&self) -> T {
        self.clone()
    }
}

/// An error that all who waited for it get.
#[diagnostic::on_unimplemented(
    message = "callers of a memoised function can't share the error `{Self}`",
    label = "needs Clone, Send and Sync",
    note = "all who wait for a creation share its error: make the type Clone, return an `Arc` of it, or say how to tell it again: `share_error = |error| …`"
)]
pub trait SharedError {
    /// A copy for a caller.
    fn share(&self) -> Self;
}
#[diagnostic::do_not_recommend]
impl<E: Clone + Send + Sync + 'static> SharedError for E {
    fn share(&self) -> E {
        self.clone()
    }
}

/// A `Result`, by whatever name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is none of the standard library's `Result`s",
    note = "say `cache_errors`, to cache it as it is"
)]
pub trait Fallible {
    /// That of `Ok`.
    type Value;
    /// That of `Err`.
    type Error;
}
impl<T, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;
}

/// What a function of many keys returns.
#[diagnostic::on_unimplemented(
    message = "a memoised function of many keys can't return `{Self}`",
    label = "must be a `Vec`, or a `Result` of one",
    note = "it returns as many values as it was given keys, in their order"
)]
pub trait Values {
    /// One of them.
    type Value;
}
impl<V> Values for Vec<V> {
    type Value = V;
}

/// Whether a value is to be stored.
pub fn keeps<V>(value: &V, should_cache: impl FnOnce(&V) -> bool) -> bool {
    should_cache(value)
}

/// Panics unless a function of many keys has returned a value for each.
pub fn counted(function: &str, asked: usize, made: usize) {
    if asked != made {
        failed::<Infallible>(CreateError::WrongCount { asked, made }, function);
    }
}

/// The policy of a function.
pub fn policy<V: ?Sized>(function: &str, policy: Result<Policy<V>, PolicyError>) -> Policy<V> {
    checked(function, policy)
}

/// The cache of a function.
pub fn built<K, V>(function: &str, cache: Result<Cache<K, V>, BuildError>) -> Cache<K, V> {
    checked(function, cache)
}

fn checked<T>(function: &str, built: Result<T, impl fmt::Display>) -> T {
    built.unwrap_or_else(|error| panic!("the settings of the memoised function `{function}`: {error}"))
}

/// What to tell the caller: the function's own error, or `None`, to run the function for this caller alone.
#[cold]
pub fn failed<E>(error: CreateError<E>, function: &str) -> Option<Arc<E>> {
    match error {
        CreateError::Creator(error) => Some(error),
        CreateError::Reentrant => panic!(
            "the memoised function `{function}` asks for the value that it is making, or waits in a circle with others"
        ),
        CreateError::WrongCount { asked, made } => {
            panic!("the memoised function `{function}` was asked for {asked} values and returned {made}")
        }
        CreateError::Backend(error) if is_mistaken(error.kind()) => {
            panic!("the memoised function `{function}`: {error}")
        }
        _ => None,
    }
}

/// Whether a region's error is a mistake in the program, which no later call would not meet.
fn is_mistaken(kind: ErrorKind) -> bool {
    use ErrorKind::{Config, NotConfigured, UnknownBackend, Unsupported, WrongType};
    matches!(kind, NotConfigured | Config | UnknownBackend | WrongType | Unsupported)
}

/// An error for one of those who share it.
pub fn unshared<E>(error: Arc<E>, share: impl FnOnce(&E) -> E) -> E {
    Arc::try_unwrap(error).unwrap_or_else(|shared| share(&shared))
}

/// A static whose type is not known where it stands, since that is in an `impl` whose `Self` may have parameters.
/// There is one `T` for each `O`.
///
/// A list that grows at its end: nobody waits but for the first to make his own. Cost: a load and a comparison for each
/// type that came before.
pub struct Slot {
    kept: OnceLock<(TypeId, Box<dyn Any + Send + Sync>)>,
    next: OnceLock<Box<Slot>>,
}

impl Slot {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: OnceLock::new(), next: OnceLock::new() }
    }

    /// The one of `O`, made if there is none.
    pub fn get<O: 'static, T: Send + Sync + 'static>(&'static self, make: impl FnOnce() -> T) -> &'static T {
        let id = TypeId::of::<(O, T)>();
        let mut make = Some(make);
        let mut slot = self;
        loop {
            let (owner, kept) = slot.kept.get_or_init(|| {
                let make = make.take().expect("it is kept where it is first made");
                (id, Box::new(make()))
            });
            if *owner == id {
                return kept.downcast_ref().expect("the id is of this type, too");
            }
            slot = slot.next.get_or_init(Box::default);
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_name::<Self>())
    }
}
