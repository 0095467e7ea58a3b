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

use crate::error::{Error, ErrorKind};
use crate::sync::Arc;
use blake2::Blake2s256;
use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};
use sha1::{Digest, Sha1};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::slice;

/// The unambiguous key of a call.
///
/// `args` is a tuple of the arguments; a value that is no tuple is the only one. The module's other generators are
/// [`KeyGenerator`]s.
///
/// ```
/// use dogpile::region::key_of;
///
/// assert_eq!(key_of("users::find", None, &(7, "a b"))?, r#"users::find(7,"a b")"#);
/// assert_eq!(key_of("users::find", Some("eu"), &(Some(7),))?, r#"users::find|"eu"(Some(7))"#);
/// assert_eq!(key_of("f", None, &())?, "f()");
///
/// let four = [key_of("f", None, &("a b",))?, key_of("f", None, &("a", "b"))?, key_of("f", None, &(1,))?, key_of("f", None, &("1",))?];
/// assert_eq!(four, [r#"f("a b")"#, r#"f("a","b")"#, "f(1)", r#"f("1")"#]);
/// # Ok::<(), dogpile::Error>(())
/// ```
///
/// # Errors
/// Of the kind [`Key`](ErrorKind::Key), if an argument refuses to be serialised, or is nested more than 128 deep.
pub fn key_of<A>(function: &str, namespace: Option<&str>, args: &A) -> Result<String, Error>
where
    A: Serialize + ?Sized,
{
    let mut text = Text::of_call(function, namespace);
    text.out.push('(');
    args.serialize(&mut text).map_err(|refusal| refusal.in_key_of(function))?;
    text.out.push(')');
    Ok(text.out)
}

/// How deep arguments may be nested. What is deeper is hostile, or a circle.
const DEEPEST: u32 = 128;

/// What is written so far.
struct Text {
    out: String,
    /// How many values the next one is inside of. 0: it is the list of arguments.
    depth: u32,
}

impl Text {
    fn of_call(function: &str, namespace: Option<&str>) -> Self {
        let mut out = String::with_capacity(function.len() + 32);
        escape(&mut out, function, &['(', '|']);
        if let Some(namespace) = namespace {
            out.push('|');
            quote(&mut out, '"', namespace);
        }
        Self { out, depth: 0 }
    }

    fn begin(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Refusal(format!("nested more than {DEEPEST} deep")));
        }
        Ok(())
    }

    /// A value that has another value inside, in brackets.
    fn wrap<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.begin()?;
        self.out.push('(');
        value.serialize(&mut *self)?;
        self.out.push(')');
        self.depth -= 1;
        Ok(())
    }

    /// A value of many parts.
    fn parts(&mut self, open: char, close: char) -> Result<Parts<'_>, Refusal> {
        self.begin()?;
        self.out.push(open);
        let start = self.out.len();
        Ok(Parts { close: Some(close), lone: open == '(', count: 0, start, entries: Vec::new(), text: self })
    }

    /// The list of arguments, which has its brackets already.
    fn list(&mut self) -> Parts<'_> {
        self.depth = 1;
        Parts { close: None, lone: false, count: 0, start: 0, entries: Vec::new(), text: self }
    }

    fn variant(&mut self, name: &str, variant: &str) {
        self.name(name);
        self.out.push_str("::");
        self.name(variant);
    }

    /// A name of a type, variant or field: nobody keeps serde's users from names of any kind.
    fn name(&mut self, name: &str) {
        let mut chars = name.chars();
        let is_plain = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_plain && !WORDS.contains(&name) {
            self.out.push_str(name);
        } else {
            quote(&mut self.out, '`', name);
        }
    }

    fn display(&mut self, value: impl fmt::Display) -> Result<(), Refusal> {
        write!(self.out, "{value}").map_err(|_| Refusal(String::from("not to be written")))
    }
}

/// What is no name.
const WORDS: &[&str] = &["true", "false", "None", "Some", "NaN", "inf"];

fn quote(out: &mut String, mark: char, text: &str) {
    out.push(mark);
    escape(out, text, &[mark]);
    out.push(mark);
}

/// The text, with `\` before itself and before the characters named, and without control characters.
fn escape(out: &mut String, text: &str, special: &[char]) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => {
                if c == '\\' || special.contains(&c) {
                    out.push('\\');
                }
                out.push(c);
            }
        }
    }
}

/// Why there is no key.
#[derive(Debug)]
struct Refusal(String);

impl Refusal {
    /// `of` is a function, or a parameter.
    fn in_key_of(self, of: &str) -> Error {
        Error::new(ErrorKind::Key, format!("key of `{of}`"))
            .detail("an argument can't be part of a key: skip it, or use a key generator of your own")
            .because(self)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'a> Serializer for &'a mut Text {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i8(self, value: i8) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i16(self, value: i16) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i32(self, value: i32) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i64(self, value: i64) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i128(self, value: i128) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u8(self, value: u8) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u16(self, value: u16) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u32(self, value: u32) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u64(self, value: u64) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u128(self, value: u128) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_f32(self, value: f32) -> Result<(), Refusal> {
        self.serialize_f64(f64::from(value))
    }
    /// Rust's `{:?}` is the shortest text that reads back as the same value, and always has a dot or an exponent.
    fn serialize_f64(self, value: f64) -> Result<(), Refusal> {
        self.display(format_args!("{value:?}"))
    }
    fn serialize_char(self, value: char) -> Result<(), Refusal> {
        quote(&mut self.out, '\'', value.encode_utf8(&mut [0; 4]));
        Ok(())
    }
    fn serialize_str(self, value: &str) -> Result<(), Refusal> {
        quote(&mut self.out, '"', value);
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Refusal> {
        self.out.push_str("x\"");
        hex(&mut self.out, value);
        self.out.push('"');
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Refusal> {
        self.out.push_str("None");
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        self.out.push_str("Some");
        self.wrap(value)
    }
    /// As the list of arguments: none.
    fn serialize_unit(self) -> Result<(), Refusal> {
        if self.depth > 0 {
            self.out.push_str("()");
        }
        Ok(())
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Refusal> {
        self.name(name);
        self.out.push(';');
        Ok(())
    }
    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Refusal> {
        self.variant(name, variant);
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        self.name(name);
        self.wrap(value)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        self.variant(name, variant);
        self.wrap(value)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Refusal> {
        self.parts('[', ']')
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Refusal> {
        if self.depth == 0 { Ok(self.list()) } else { self.parts('(', ')') }
    }
    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Parts<'a>, Refusal> {
        self.name(name);
        self.parts('(', ')')
    }
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Refusal> {
        self.variant(name, variant);
        self.parts('(', ')')
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Refusal> {
        self.parts('{', '}')
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'a>, Refusal> {
        self.name(name);
        self.parts('{', '}')
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Refusal> {
        self.variant(name, variant);
        self.parts('{', '}')
    }
}

/// The parts of a value, while they are written.
struct Parts<'a> {
    text: &'a mut Text,
    /// `None`: the list of arguments.
    close: Option<char>,
    /// A tuple of one or none must not look like a value in brackets, or like `()`.
    lone: bool,
    count: usize,
    /// Where in the text the parts begin.
    start: usize,
    /// Of a map: where each key begins, and where it ends.
    entries: Vec<(usize, usize)>,
}

impl Parts<'_> {
    fn next(&mut self) {
        if self.count > 0 {
            self.text.out.push(',');
        }
        self.count += 1;
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.next();
        value.serialize(&mut *self.text)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Refusal> {
        self.next();
        self.text.name(name);
        self.text.out.push(':');
        value.serialize(&mut *self.text)
    }

    fn close(self) {
        if self.lone && self.count < 2 {
            self.text.out.push(',');
        }
        self.text.out.extend(self.close);
        self.text.depth -= 1;
    }

    /// Puts the entries of a map in the order of their keys. Stable, for maps that have a key twice.
    fn sort(&mut self) {
        let written = self.text.out.split_off(self.start);
        let ends = self.entries.iter().skip(1).map(|(begin, _)| *begin).chain([self.start + written.len()]);
        let mut entries: Vec<(&str, &str)> = self
            .entries
            .iter()
            .zip(ends)
            .map(|((begin, key_end), end)| {
                let begin = begin - self.start;
                (&written[begin..key_end - self.start], &written[begin..end - self.start])
            })
            .collect();
        entries.sort_by_key(|(key, _)| *key);
        for (at, (_, entry)) in entries.into_iter().enumerate() {
            if at > 0 {
                self.text.out.push(',');
            }
            self.text.out.push_str(entry);
        }
    }
}

impl ser::SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Refusal;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.part(value)
    }
    fn end(self) -> Result<(), Refusal> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeTuple for Parts<'_> {
    type Ok = ();
    type Error = Refusal;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.part(value)
    }
    fn end(self) -> Result<(), Refusal> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeTupleStruct for Parts<'_> {
    type Ok = ();
    type Error = Refusal;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.part(value)
    }
    fn end(self) -> Result<(), Refusal> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeTupleVariant for Parts<'_> {
    type Ok = ();
    type Error = Refusal;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.part(value)
    }
    fn end(self) -> Result<(), Refusal> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Refusal;
    /// Entries are separated when they are sorted.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refusal> {
        let begin = self.text.out.len();
        key.serialize(&mut *self.text)?;
        self.entries.push((begin, self.text.out.len()));
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.text.out.push(':');
        value.serialize(&mut *self.text)
    }
    fn end(mut self) -> Result<(), Refusal> {
        self.sort();
        self.close();
        Ok(())
    }
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Refusal;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        self.field(name, value)
    }
    fn end(self) -> Result<(), Refusal> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeStructVariant for Parts<'_> {
    type Ok = ();
    type Error = Refusal;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        self.field(name, value)
    }
    fn end(self) -> Result<(), Refusal> {
        self.close();
        Ok(())
    }
}

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
    /// Of the kind [`Key`](ErrorKind::Key), if it is no text, number, truth or nothing: what Python writes of others is its
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
    /// Of the kind [`Key`](ErrorKind::Key), if an argument can't be part of one.
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

/// The generator of dogpile.cache's keys: its `function_key_generator`, its `function_multi_key_generator`, or its
/// `kwarg_function_key_generator`.
///
/// For sharing keys with Python. They are not unambiguous: `f("a b")` and `f("a", "b")` have one key, so have `f(1)` and
/// `f("1")`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DogpileKeys {
    by_name: bool,
}

impl DogpileKeys {
    /// Arguments in their order.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Arguments in the order of their names.
    #[must_use]
    pub fn by_name() -> Self {
        Self { by_name: true }
    }
}

impl KeyGenerator for DogpileKeys {
    fn key(&self, call: &Call<'_>) -> Result<String, Error> {
        let texts = call.python_strs()?;
        Ok(if self.by_name {
            let args: Vec<(&str, &dyn fmt::Display)> = call
                .args
                .iter()
                .zip(&texts)
                .map(|(arg, text)| (arg.name, text as &dyn fmt::Display))
                .collect();
            dogpile_kwarg_key(call.module, call.function, call.namespace, &args)
        } else {
            dogpile_key(call.module, call.function, call.namespace, &displays(&texts))
        })
    }
}

/// The generator of cachetory's keys: its `make_default_key`, with all arguments given by position.
///
/// For sharing keys with Python. They are not unambiguous: `f("a:", "b")` and `f("a", ":b")` have one key.
#[derive(Clone, Copy, Debug, Default)]
pub struct CachetoryKeys;

impl KeyGenerator for CachetoryKeys {
    /// cachetory has no namespaces: one becomes the first argument.
    fn key(&self, call: &Call<'_>) -> Result<String, Error> {
        let mut texts = call.python_strs()?;
        if let Some(namespace) = call.namespace {
            texts.insert(0, namespace.to_owned());
        }
        Ok(cachetory_key(call.module, call.function, &displays(&texts), &[]))
    }
}

fn displays(texts: &[String]) -> Vec<&dyn fmt::Display> {
    texts.iter().map(|text| text as &dyn fmt::Display).collect()
}

/// dogpile.cache's key of a call: its `function_key_generator`. `args` are without `self` and `cls`.
///
/// They are written as `Display` has them, which for some differs from Python's `str` (`true`, `1`, for `True`, `1.0`):
/// [`Arg::python_str`] helps.
///
/// ```
/// use dogpile::region::dogpile_key;
/// assert_eq!(dogpile_key("shop.users", "find", None, &[&7, &"eu"]), "shop.users:find|7 eu");
/// assert_eq!(dogpile_key("shop.users", "find", Some("v2"), &[]), "shop.users:find|v2|");
/// ```
#[must_use]
pub fn dogpile_key(
    module: &str,
    function: &str,
    namespace: Option<&str>,
    args: &[&dyn fmt::Display],
) -> String {
    let mut key = dogpile_start(module, function, namespace);
    join(&mut key, args, " ");
    key
}

/// dogpile.cache's key of a call by names: its `kwarg_function_key_generator`. `args` are all parameters with their values,
/// defaults included, in any order.
///
/// ```
/// use dogpile::region::dogpile_kwarg_key;
/// assert_eq!(dogpile_kwarg_key("shop.users", "find", None, &[("id", &7), ("at", &"eu")]), "shop.users:find|eu 7");
/// ```
#[must_use]
pub fn dogpile_kwarg_key(
    module: &str,
    function: &str,
    namespace: Option<&str>,
    args: &[(&str, &dyn fmt::Display)],
) -> String {
    let mut sorted = args.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    let values: Vec<&dyn fmt::Display> = sorted.into_iter().map(|(_, value)| value).collect();
    dogpile_key(module, function, namespace, &values)
}

/// dogpile.cache's keys of a call of a function of many keys: its `function_multi_key_generator`.
///
/// ```
/// use dogpile::region::dogpile_multi_keys;
/// assert_eq!(dogpile_multi_keys("shop.users", "load", None, &[&7, &8]), ["shop.users:load|7", "shop.users:load|8"]);
/// ```
#[must_use]
pub fn dogpile_multi_keys(
    module: &str,
    function: &str,
    namespace: Option<&str>,
    args: &[&dyn fmt::Display],
) -> Vec<String> {
    args.iter().map(|arg| dogpile_key(module, function, namespace, &[*arg])).collect()
}

fn dogpile_start(module: &str, function: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{module}:{function}|{namespace}|"),
        None => format!("{module}:{function}|"),
    }
}

fn join(key: &mut String, args: &[&dyn fmt::Display], separator: &str) {
    for (at, arg) in args.iter().enumerate() {
        if at > 0 {
            key.push_str(separator);
        }
        key.push_str(&arg.to_string());
    }
}

/// cachetory's key of a call: its `make_default_key`. `function` is Python's `__qualname__`; `keywords` are the arguments
/// that are given by name, in any order.
///
/// ```
/// use dogpile::region::cachetory_key;
/// assert_eq!(cachetory_key("shop.users", "find", &[&7, &"a:b"], &[("at", &"eu")]), "shop.users:find:7:a::b:at=eu");
/// ```
#[must_use]
pub fn cachetory_key(
    module: &str,
    function: &str,
    args: &[&dyn fmt::Display],
    keywords: &[(&str, &dyn fmt::Display)],
) -> String {
    let doubled = |text: &dyn fmt::Display| text.to_string().replace(':', "::");
    let mut key = format!("{module}:{function}");
    for arg in args {
        key.push(':');
        key.push_str(&doubled(arg));
    }
    let mut sorted = keywords.to_vec();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, value) in sorted {
        key.push(':');
        key.push_str(&doubled(&name));
        key.push('=');
        key.push_str(&doubled(value));
    }
    key
}

/// cachetory's hashed key of a call, its `make_default_hashed_key`: BLAKE2s of what [`cachetory_key`] gives, as 64
/// hexadecimal digits.
///
/// ```
/// use dogpile::region::cachetory_hashed_key;
/// let key = cachetory_hashed_key("shop.users", "find", &[&7], &[]);
/// assert_eq!(key, "0c0f5cd2ef04bce954a99db2033a0ddf2be93bf4faff12d99f3d00bb98a99623");
/// ```
#[must_use]
pub fn cachetory_hashed_key(
    module: &str,
    function: &str,
    args: &[&dyn fmt::Display],
    keywords: &[(&str, &dyn fmt::Display)],
) -> String {
    let mut out = String::with_capacity(64);
    hex(&mut out, &Blake2s256::digest(cachetory_key(module, function, args, keywords).as_bytes()));
    out
}

/// Writes what Python's `str` gives for the like of a value.
struct PythonStr<'a>(&'a mut String);

impl PythonStr<'_> {
    fn display(self, value: impl fmt::Display) -> Result<(), Refusal> {
        write!(self.0, "{value}").map_err(|_| Refusal(String::from("not to be written")))
    }

    fn refuse<T>(self) -> Result<T, Refusal> {
        Err(Refusal(String::from("only texts, numbers, truths and nothing have one form in Python and here")))
    }
}

/// A float as Python writes it: the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
fn python_float(out: &mut String, value: f64) {
    if !value.is_finite() {
        out.push_str(if value.is_nan() {
            "nan"
        } else if value > 0.0 {
            "inf"
        } else {
            "-inf"
        });
        return;
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        out.push_str(&plain);
        if !plain.contains('.') {
            out.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
}

impl Serializer for PythonStr<'_> {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Impossible<(), Refusal>;
    type SerializeTuple = Impossible<(), Refusal>;
    type SerializeTupleStruct = Impossible<(), Refusal>;
    type SerializeTupleVariant = Impossible<(), Refusal>;
    type SerializeMap = Impossible<(), Refusal>;
    type SerializeStruct = Impossible<(), Refusal>;
    type SerializeStructVariant = Impossible<(), Refusal>;

    fn serialize_bool(self, value: bool) -> Result<(), Refusal> {
        self.display(if value { "True" } else { "False" })
    }
    fn serialize_i8(self, value: i8) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i16(self, value: i16) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i32(self, value: i32) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i64(self, value: i64) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_i128(self, value: i128) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u8(self, value: u8) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u16(self, value: u16) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u32(self, value: u32) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u64(self, value: u64) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_u128(self, value: u128) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_f32(self, value: f32) -> Result<(), Refusal> {
        self.serialize_f64(f64::from(value))
    }
    fn serialize_f64(self, value: f64) -> Result<(), Refusal> {
        python_float(self.0, value);
        Ok(())
    }
    fn serialize_char(self, value: char) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_str(self, value: &str) -> Result<(), Refusal> {
        self.display(value)
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_none(self) -> Result<(), Refusal> {
        self.display("None")
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Refusal> {
        self.refuse()
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Refusal> {
        self.refuse()
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Refusal> {
        self.refuse()
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Refusal> {
        self.refuse()
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Refusal> {
        self.refuse()
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Refusal> {
        self.refuse()
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Refusal> {
        self.refuse()
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refusal> {
        self.refuse()
    }
}

/// What a region makes of each key before the store gets it.
///
/// ```
/// use dogpile::region::Mangler;
///
/// // Keys of 200 characters and more by their hash, the others as they are.
/// let mangler = Mangler::long_keys(200, Mangler::sha1());
/// assert_eq!(mangler.mangle("short"), "short");
/// assert_eq!(mangler.mangle(&"long".repeat(100)).len(), 40);
///
/// let lower = Mangler::from_fn(|key| key.to_lowercase());
/// assert_eq!(lower.mangle("KEY"), "key");
/// ```
#[derive(Clone, Default)]
pub struct Mangler(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    None,
    Sha1,
    LongKeys(usize, Arc<Mangler>),
    Own(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

impl Mangler {
    /// Leaves keys as they are, and so does the backend of a region that has this one.
    #[must_use]
    pub const fn none() -> Self {
        Self(Kind::None)
    }

    /// The SHA-1 of each key: 40 hexadecimal digits, by [`sha1_mangle_key`].
    #[must_use]
    pub const fn sha1() -> Self {
        Self(Kind::Sha1)
    }

    /// Mangles keys of `length` characters and more, and leaves the others as they are: dogpile.cache's
    /// `length_conditional_mangler`. Like Python it counts characters, not bytes.
    #[must_use]
    pub fn long_keys(length: usize, mangler: Self) -> Self {
        Self(Kind::LongKeys(length, Arc::new(mangler)))
    }

    /// One of your own. Two keys that it makes the same are the same key.
    #[must_use]
    pub fn from_fn(mangle: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Kind::Own(Arc::new(mangle)))
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self.0, Kind::None)
    }

    /// What the store gets in the key's place.
    #[must_use]
    pub fn mangle<'a>(&self, key: &'a str) -> Cow<'a, str> {
        match &self.0 {
            Kind::None => Cow::Borrowed(key),
            Kind::Sha1 => Cow::Owned(sha1_mangle_key(key)),
            Kind::LongKeys(length, mangler) if has_chars(key, *length) => mangler.mangle(key),
            Kind::LongKeys(..) => Cow::Borrowed(key),
            Kind::Own(mangle) => Cow::Owned(mangle(key)),
        }
    }
}

/// Whether a key has so many characters. Most have fewer bytes already.
fn has_chars(key: &str, length: usize) -> bool {
    key.len() >= length && key.chars().count() >= length
}

impl fmt::Debug for Mangler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::None => f.write_str("none"),
            Kind::Sha1 => f.write_str("sha1"),
            Kind::LongKeys(length, mangler) => write!(f, "long_keys({length}, {mangler:?})"),
            Kind::Own(_) => f.write_str("own"),
        }
    }
}

/// The SHA-1 of a key as hexadecimal digits, as dogpile.cache's `sha1_mangle_key` has it.
///
/// ```
/// use dogpile::region::sha1_mangle_key;
/// assert_eq!(sha1_mangle_key("key"), "a62f2225bf70bfaccbc7f1ef2a397836717377de");
/// ```
#[must_use]
pub fn sha1_mangle_key(key: &str) -> String {
    let mut out = String::with_capacity(40);
    hex(&mut out, &Sha1::digest(key.as_bytes()));
    out
}

/// A mangling function that gives keys of `length` characters and more to `mangle`, as dogpile.cache's of this name. For a
/// region: [`Mangler::long_keys`].
///
/// ```
/// use dogpile::region::{length_conditional_mangler, sha1_mangle_key};
///
/// let mangle = length_conditional_mangler(4, sha1_mangle_key);
/// assert_eq!(mangle("key"), "key");
/// assert_eq!(mangle("keys").len(), 40);
/// ```
pub fn length_conditional_mangler(length: usize, mangle: impl Fn(&str) -> String) -> impl Fn(&str) -> String {
    move |key| if has_chars(key, length) { mangle(key) } else { key.to_owned() }
}

fn hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
}
