//! [`key_of`]: arguments as unambiguous text.
#![forbid(unsafe_code)]

use super::mangler::hex;
use crate::error::{Error, ErrorKind};
use serde::Serialize;
use serde::ser::{self, Serializer};
use std::fmt::{self, Write as _};

/// The unambiguous key of a call.
///
/// `args` is a tuple of the arguments; a value that is no tuple is the only one. The module's other generators are
/// [`KeyGenerator`](super::KeyGenerator)s.
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
pub(super) struct Text {
    pub(super) out: String,
    /// How many values the next one is inside of. 0: it is the list of arguments.
    pub(super) depth: u32,
}

impl Text {
    pub(super) fn of_call(function: &str, namespace: Option<&str>) -> Self {
        let mut out = String::with_capacity(function.len() + 32);
        escape(&mut out, function, &['(', '|']);
        if let Some(namespace) = namespace {
            out.push('|');
            quote(&mut out, '"', namespace);
        }
        Self { out, depth: 0 }
    }

    pub(super) fn begin(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Refusal(format!("nested more than {DEEPEST} deep")));
        }
        Ok(())
    }

    /// A value that has another value inside, in brackets.
    pub(super) fn wrap<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.begin()?;
        self.out.push('(');
        value.serialize(&mut *self)?;
        self.out.push(')');
        self.depth -= 1;
        Ok(())
    }

    /// A value of many parts.
    pub(super) fn parts(&mut self, open: char, close: char) -> Result<Parts<'_>, Refusal> {
        self.begin()?;
        self.out.push(open);
        let start = self.out.len();
        Ok(Parts { close: Some(close), lone: open == '(', count: 0, start, entries: Vec::new(), text: self })
    }

    /// The list of arguments, which has its brackets already.
    pub(super) fn list(&mut self) -> Parts<'_> {
        self.depth = 1;
        Parts { close: None, lone: false, count: 0, start: 0, entries: Vec::new(), text: self }
    }

    pub(super) fn variant(&mut self, name: &str, variant: &str) {
        self.name(name);
        self.out.push_str("::");
        self.name(variant);
    }

    /// A name of a type, variant or field: nobody keeps serde's users from names of any kind.
    pub(super) fn name(&mut self, name: &str) {
        let mut chars = name.chars();
        let is_plain = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_plain && !WORDS.contains(&name) {
            self.out.push_str(name);
        } else {
            quote(&mut self.out, '`', name);
        }
    }

    pub(super) fn display(&mut self, value: impl fmt::Display) -> Result<(), Refusal> {
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
pub(super) struct Refusal(pub(super) String);

impl Refusal {
    /// `of` is a function, or a parameter.
    pub(super) fn in_key_of(self, of: &str) -> Error {
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
pub(super) struct Parts<'a> {
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
    pub(super) fn next(&mut self) {
        if self.count > 0 {
            self.text.out.push(',');
        }
        self.count += 1;
    }

    pub(super) fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refusal> {
        self.next();
        value.serialize(&mut *self.text)
    }

    pub(super) fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Refusal> {
        self.next();
        self.text.name(name);
        self.text.out.push(':');
        value.serialize(&mut *self.text)
    }

    pub(super) fn close(self) {
        if self.lone && self.count < 2 {
            self.text.out.push(',');
        }
        self.text.out.extend(self.close);
        self.text.depth -= 1;
    }

    /// Puts the entries of a map in the order of their keys. Stable, for maps that have a key twice.
    pub(super) fn sort(&mut self) {
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
