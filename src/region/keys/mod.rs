//! Keys: of a function and its arguments, and what a region makes of a key before a store gets it.
//!
//! [`key_of`] writes a call as text that can be read, by people and by a parser: `users::find|"eu"(7,Some("a b"))`. No two
//! lists of arguments have one text. Generators in the forms of dogpile.cache and cachetory, for sharing keys with Python,
//! are [`DogpileKeys`] and [`CachetoryKeys`]; theirs are not unambiguous.
//!
//! # The text of arguments
//! What serde sees is what is written: references and boxes are what they point to, arrays are tuples.
//!
//! | value | text |
//! |---|---|
//! | integers, whatever their type | `1`, `-5` |
//! | floats, by their value | `1.0`, `1e21`, `-0.0`, `NaN`, `inf`, `-inf` |
//! | `bool`, `char`, text, bytes | `true`, `'a'`, `"a b"`, `x"00ff"` |
//! | `None`, `Some(1)`, `()` | `None`, `Some(1)`, `()` |
//! | sequences, tuples, maps | `[1,2]`, `(1,2)`, `{"a":1,"b":2}`; a tuple of one or none ends with a comma: `(1,)`, `(,)` |
//! | structs | `Unit;`, `Id(7)`, `Pair(1,2)`, `One(1,)`, `Point{x:1,y:2}` |
//! | enums | `Shape::Empty`, `Shape::Round(2.5)`, `Shape::Flat(1,2)`, `Shape::Box{a:1}` |
//!
//! Inside quotes the quote, `\` and control characters are escaped (`\"`, `\\`, `\n`, `\u{7f}`). Names that are no plain
//! identifiers stand in backticks, as do those that would read as one of the words above. Entries of a map are sorted by
//! the text of their keys, since a `HashMap` has no order of its own. Neither has a `HashSet`, but serde shows it as a
//! sequence: pass a `BTreeSet`.
//!
//! # Invariants
//! - **K1, one text, one call.** Text, character, bytes, number, word and name begin with different characters, or are told
//!   apart by the one that follows; all that has parts is bracketed, and its parts are separated by characters that stand
//!   nowhere else outside quotes. So the text can be parsed, and two calls of one text are one call. `tests/keys.rs` has the
//!   parser.
//! - **K2, no controls.** No control character is in a key of [`key_of`].
//!
//! # Cost
//! One string, and for each map one more. Manglers that leave a key as it is borrow it.
#![forbid(unsafe_code)]

mod mangler;
mod python;
mod text;

pub use mangler::{Mangler, length_conditional_mangler, sha1_mangle_key};
pub use python::{
    CachetoryKeys, DogpileKeys, cachetory_hashed_key, cachetory_key, dogpile_key, dogpile_kwarg_key,
    dogpile_multi_keys,
};
pub use text::key_of;

use crate::error::Error;
use python::PythonStr;
use serde::Serialize;
use std::fmt;
use std::slice;
use text::Text;

/// One argument of a [`Call`].
#[derive(Clone, Copy)]
pub struct Arg<'a> {
    name: &'a str,
    value: &'a dyn erased_serde::Serialize,
}

impl<'a> Arg<'a> {
    /// An argument and its parameter's name.
    #[must_use]
    pub fn new<T: Serialize>(name: &'a str, value: &'a T) -> Self {
        Self { name, value }
    }

    /// The parameter's name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The argument as [`key_of`] has it.
    ///
    /// ```
    /// use dogpile::region::Arg;
    ///
    /// assert_eq!(Arg::new("id", &Some("a b")).text()?, r#"Some("a b")"#);
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `key_of`.
    pub fn text(&self) -> Result<String, Error> {
        let mut text = Text { out: String::new(), depth: 1 };
        self.value.serialize(&mut text).map_err(|refusal| refusal.in_key_of(self.name))?;
        Ok(text.out)
    }

    /// The argument as Python's `str` has its like: `a b`, `7`, `True`, `None`, `1e+16`. A `Some` is what is inside, a
    /// struct of one field too.
    ///
    /// ```
    /// use dogpile::region::Arg;
    ///
    /// assert_eq!(Arg::new("id", &Some("a b")).python_str()?, "a b");
    /// assert_eq!(Arg::new("part", &1e16).python_str()?, "1e+16");
    /// # Ok::<(), dogpile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Of the kind [`Key`](crate::ErrorKind::Key), if it is no text, number, truth or nothing: what Python writes of others is its
    /// own business.
    pub fn python_str(&self) -> Result<String, Error> {
        let mut out = String::new();
        self.value.serialize(PythonStr(&mut out)).map_err(|refusal| refusal.in_key_of(self.name))?;
        Ok(out)
    }
}

/// Values are not shown.
impl fmt::Debug for Arg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arg").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A call of a memoised function, for which a [`KeyGenerator`] makes the key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The path of the function's module: `shop::users`.
    pub module: &'a str,
    /// The function's name, with its type's if it is a method: `find`, `User::find`.
    pub function: &'a str,
    /// What tells it apart from others of the same name.
    pub namespace: Option<&'a str>,
    /// Its arguments, without those that are skipped.
    pub args: &'a [Arg<'a>],
}

impl<'a> Call<'a> {
    /// A call without a namespace.
    #[must_use]
    pub fn new(module: &'a str, function: &'a str, args: &'a [Arg<'a>]) -> Self {
        Self { module, function, namespace: None, args }
    }

    /// The same, with a namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &'a str) -> Self {
        self.namespace = Some(namespace);
        self
    }

    fn python_strs(&self) -> Result<Vec<String>, Error> {
        self.args.iter().map(Arg::python_str).collect()
    }
}

/// Makes the keys of memoised functions. A closure is one, too.
///
/// ```
/// use dogpile::region::{Arg, Call, DefaultKeys, DogpileKeys, KeyGenerator};
///
/// let args = [Arg::new("id", &7), Arg::new("region", &"eu")];
/// let call = Call::new("shop::users", "find", &args);
/// assert_eq!(DefaultKeys.key(&call)?, r#"shop::users::find(7,"eu")"#);
/// assert_eq!(DogpileKeys::new().key(&call)?, "shop::users:find|7 eu");
///
/// let own = |call: &Call<'_>| Ok(format!("users/{}", call.args[0].text()?));
/// assert_eq!(own.key(&call)?, "users/7");
/// # Ok::<(), dogpile::Error>(())
/// ```
pub trait KeyGenerator: Send + Sync {
    /// The key of a call.
    ///
    /// # Errors
    /// Of the kind [`Key`](crate::ErrorKind::Key), if an argument can't be part of one.
    fn key(&self, call: &Call<'_>) -> Result<String, Error>;

    /// The keys of a call of a function of many keys: each argument is one. By default each has the key that it would have
    /// alone.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    fn keys(&self, call: &Call<'_>) -> Result<Vec<String>, Error> {
        call.args.iter().map(|arg| self.key(&Call { args: slice::from_ref(arg), ..*call })).collect()
    }
}

impl<F> KeyGenerator for F
where
    F: Fn(&Call<'_>) -> Result<String, Error> + Send + Sync,
{
    fn key(&self, call: &Call<'_>) -> Result<String, Error> {
        self(call)
    }
}

/// The generator of unambiguous keys: [`key_of`] the module's and the function's name.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultKeys;

impl KeyGenerator for DefaultKeys {
    fn key(&self, call: &Call<'_>) -> Result<String, Error> {
        let function = format!("{}::{}", call.module, call.function);
        let mut text = Text::of_call(&function, call.namespace);
        text.out.push('(');
        let mut list = text.list();
        for arg in call.args {
            list.part(arg.value).map_err(|refusal| refusal.in_key_of(&function))?;
        }
        text.out.push(')');
        Ok(text.out)
    }
}
