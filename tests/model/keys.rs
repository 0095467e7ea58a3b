//! Values of every shape that serde knows, and the parser that gives them back from the text of a key.
//!
//! What parses to what it was made of shares its key with nothing else. Property tests and the fuzzer use it.

use serde::ser::{
    Serialize, SerializeMap as _, SerializeSeq as _, SerializeStruct as _, SerializeStructVariant as _,
    SerializeTuple as _, SerializeTupleStruct as _, SerializeTupleVariant as _, Serializer,
};

/// Names that types, variants and fields are given: plain ones, and such as only `#[serde(rename)]` makes.
const NAMES: &[&str] = &[
    "Point",
    "x",
    "y_2",
    "Some",
    "None",
    "true",
    "false",
    "NaN",
    "inf",
    "",
    " ",
    "a b",
    "a::b",
    "a`b",
    "\\",
    "\\n",
    "\n",
    "(",
    "){",
    "5",
    "-1",
    "1.0",
    "\"",
    "'",
    "größe",
    "_",
    "kebab-case",
    ",",
    ":",
    ";",
    "x\"00\"",
];

/// Pieces of texts: what the notation is made of.
const PIECES: &[&str] = &[
    "a", "b", " ", "\"", "'", "`", "\\", "\\\"", "\n", "\r", "\t", "\0", "\u{7f}", "\u{85}", "(", ")", "[",
    "]", "{", "}", ",", ":", "::", ";", "|", "None", "1", "ä", "🔑", "\\u{7f}", "u", "n",
];

/// What serde can see, with numbers by their value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Int(i128),
    Big(u128),
    /// Bits; every NaN is one.
    Float(u64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Nothing,
    Something(Box<Value>),
    Unit,
    UnitStruct(String),
    Seq(Vec<Value>),
    Tuple(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Struct(String, Shape),
    Variant(String, String, Shape),
}

/// What stands behind a name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Of variants only.
    Unit,
    Newtype(Box<Value>),
    Tuple(Vec<Value>),
    Fields(Vec<(String, Value)>),
}

/// A call and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Called {
    pub(crate) function: String,
    pub(crate) namespace: Option<String>,
    pub(crate) args: Vec<Value>,
}

impl Called {
    /// What bytes mean. When they end, everything is small.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut bytes = bytes.iter().copied();
        let bytes = &mut bytes;
        Self {
            function: text(bytes),
            namespace: (next(bytes).is_multiple_of(2)).then(|| text(bytes)),
            args: many(bytes, 4, |bytes| Value::decode(bytes, 4)),
        }
    }

    /// With the entries of maps in an order of their own: they have none.
    pub(crate) fn sorted(mut self) -> Self {
        self.args.iter_mut().for_each(Value::sort);
        self
    }

    /// Reads a key back. Panics if it is none.
    pub(crate) fn parse(key: &str) -> Self {
        assert!(!key.chars().any(char::is_control), "no control characters");
        let mut parser = Parser(key);
        let function = parser.until(&['(', '|']);
        let namespace = parser.takes('|').then(|| {
            assert!(parser.takes('"'), "a namespace is quoted");
            let namespace = parser.until(&['"']);
            assert!(parser.takes('"'), "a namespace ends");
            namespace
        });
        assert!(parser.takes('('), "arguments begin");
        let (args, lone) = parser.list(')');
        assert!(!lone, "arguments are no tuple");
        assert!(parser.0.is_empty(), "all is read");
        Self { function, namespace, args }.sorted()
    }
}

fn next(bytes: &mut dyn Iterator<Item = u8>) -> u8 {
    bytes.next().unwrap_or(0)
}

fn many<T>(
    bytes: &mut dyn Iterator<Item = u8>,
    most: u8,
    mut one: impl FnMut(&mut dyn Iterator<Item = u8>) -> T,
) -> Vec<T> {
    (0..next(bytes) % most).map(|_| one(bytes)).collect()
}

fn text(bytes: &mut dyn Iterator<Item = u8>) -> String {
    many(bytes, 5, |bytes| PIECES[usize::from(next(bytes)) % PIECES.len()]).concat()
}

fn name(bytes: &mut dyn Iterator<Item = u8>) -> String {
    NAMES[usize::from(next(bytes)) % NAMES.len()].to_owned()
}

fn number(bytes: &mut dyn Iterator<Item = u8>) -> u64 {
    u64::from_le_bytes([(); 8].map(|()| next(bytes)))
}

fn float_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn integer(text: &str) -> Value {
    text.parse().map_or_else(|_| Value::Big(text.parse().expect("an integer")), Value::Int)
}

impl Value {
    fn decode(bytes: &mut dyn Iterator<Item = u8>, depth: u32) -> Self {
        // Where it is deep enough, what has no parts.
        let kinds = if depth == 0 { 12 } else { 22 };
        let inner = |bytes: &mut dyn Iterator<Item = u8>| Self::decode(bytes, depth.saturating_sub(1));
        let boxed = |bytes: &mut dyn Iterator<Item = u8>| Box::new(inner(bytes));
        let fields = |bytes: &mut dyn Iterator<Item = u8>| {
            Shape::Fields(many(bytes, 4, |bytes| (name(bytes), inner(bytes))))
        };
        match next(bytes) % kinds {
            0 => Self::Unit,
            1 => Self::Bool(next(bytes).is_multiple_of(2)),
            2 => Self::Int(i128::from(next(bytes).cast_signed())),
            3 => Self::Int(i128::from(number(bytes))),
            4 => integer(&((u128::from(number(bytes)) << 64) | u128::from(number(bytes))).to_string()),
            5 => Self::Float(float_bits(f64::from(next(bytes).cast_signed()))),
            6 => Self::Float(float_bits(f64::from_bits(number(bytes)))),
            7 => Self::Char(text(bytes).chars().next().unwrap_or('c')),
            8 => Self::Text(text(bytes)),
            9 => Self::Bytes(many(bytes, 4, |bytes| next(bytes))),
            10 => Self::Nothing,
            11 => Self::UnitStruct(name(bytes)),
            12 => Self::Something(boxed(bytes)),
            13 => Self::Seq(many(bytes, 4, inner)),
            14 => Self::Tuple(many(bytes, 4, inner)),
            15 => Self::Map(many(bytes, 4, |bytes| (inner(bytes), inner(bytes)))),
            16 => Self::Struct(name(bytes), Shape::Newtype(boxed(bytes))),
            17 => Self::Struct(name(bytes), Shape::Tuple(many(bytes, 4, inner))),
            18 => Self::Struct(name(bytes), fields(bytes)),
            19 => Self::Variant(name(bytes), name(bytes), Shape::Unit),
            20 => Self::Variant(name(bytes), name(bytes), Shape::Newtype(boxed(bytes))),
            _ if next(bytes).is_multiple_of(2) => {
                Self::Variant(name(bytes), name(bytes), Shape::Tuple(many(bytes, 4, inner)))
            }
            _ => Self::Variant(name(bytes), name(bytes), fields(bytes)),
        }
    }

    fn sort(&mut self) {
        match self {
            Self::Something(value) => value.sort(),
            Self::Seq(values) | Self::Tuple(values) => values.iter_mut().for_each(Self::sort),
            Self::Map(entries) => {
                for (key, value) in &mut *entries {
                    key.sort();
                    value.sort();
                }
                entries.sort_by_key(|(key, _)| format!("{key:?}"));
            }
            Self::Struct(_, shape) | Self::Variant(_, _, shape) => match shape {
                Shape::Unit => {}
                Shape::Newtype(value) => value.sort(),
                Shape::Tuple(values) => values.iter_mut().for_each(Self::sort),
                Shape::Fields(fields) => fields.iter_mut().for_each(|(_, value)| value.sort()),
            },
            _ => {}
        }
    }
}

struct Parser<'a>(&'a str);

impl Parser<'_> {
    fn takes(&mut self, c: char) -> bool {
        let rest = self.0.strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn while_(&mut self, goes_on: impl Fn(char) -> bool) -> String {
        let end = self.0.find(|c| !goes_on(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken.to_owned()
    }

    /// Text up to one of these characters, without what escapes it.
    fn until(&mut self, ends: &[char]) -> String {
        let mut text = String::new();
        loop {
            let c = self.0.chars().next().expect("text ends");
            if ends.contains(&c) {
                return text;
            }
            self.0 = &self.0[c.len_utf8()..];
            if c != '\\' {
                text.push(c);
                continue;
            }
            let escaped = self.0.chars().next().expect("an escape goes on");
            self.0 = &self.0[escaped.len_utf8()..];
            text.push(match escaped {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    assert!(self.takes('{'));
                    let code = self.until(&['}']);
                    assert!(self.takes('}'));
                    u32::from_str_radix(&code, 16)
                        .ok()
                        .and_then(char::from_u32)
                        .expect("a character's number")
                }
                other => other,
            });
        }
    }

    fn quoted(&mut self, mark: char) -> String {
        let text = self.until(&[mark]);
        assert!(self.takes(mark));
        text
    }

    /// Values up to the bracket, and whether a comma stands behind the last, or in the place of any.
    fn list(&mut self, close: char) -> (Vec<Value>, bool) {
        let mut values = Vec::new();
        if self.takes(close) {
            return (values, false);
        }
        if self.takes(',') {
            assert!(self.takes(close));
            return (values, true);
        }
        loop {
            values.push(self.value());
            if self.takes(close) {
                return (values, false);
            }
            assert!(self.takes(','), "values are separated");
            if self.takes(close) {
                return (values, true);
            }
        }
    }

    fn entries<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<(T, Value)> {
        let mut entries = Vec::new();
        if self.takes('}') {
            return entries;
        }
        loop {
            let key = one(self);
            assert!(self.takes(':'));
            entries.push((key, self.value()));
            if self.takes('}') {
                return entries;
            }
            assert!(self.takes(','));
        }
    }

    fn name(&mut self) -> String {
        if self.takes('`') {
            self.quoted('`')
        } else {
            self.while_(|c| c.is_ascii_alphanumeric() || c == '_')
        }
    }

    fn shape(&mut self) -> Shape {
        if self.takes('{') {
            return Shape::Fields(self.entries(Self::name));
        }
        if !self.takes('(') {
            return Shape::Unit;
        }
        let (mut values, lone) = self.list(')');
        assert_eq!(lone, values.len() < 2 && lone, "a comma only where it tells something");
        match values.len() {
            1 if !lone => Shape::Newtype(Box::new(values.remove(0))),
            _ => Shape::Tuple(values),
        }
    }

    fn value(&mut self) -> Value {
        match self.0.chars().next().expect("a value") {
            '"' => {
                self.takes('"');
                Value::Text(self.quoted('"'))
            }
            '\'' => {
                self.takes('\'');
                Value::Char(self.quoted('\'').parse().expect("one character"))
            }
            '[' => {
                self.takes('[');
                let (values, lone) = self.list(']');
                assert!(!lone);
                Value::Seq(values)
            }
            '{' => {
                self.takes('{');
                Value::Map(self.entries(Self::value))
            }
            '(' => {
                self.takes('(');
                let (values, lone) = self.list(')');
                assert_eq!(lone, values.len() == 1 || (lone && values.is_empty()));
                if values.is_empty() && !lone { Value::Unit } else { Value::Tuple(values) }
            }
            '0'..='9' | '-' => {
                let number = self.while_(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
                if number.contains(['.', 'e', 'i']) {
                    Value::Float(float_bits(number.parse().expect("a float")))
                } else {
                    integer(&number)
                }
            }
            first => {
                let name = self.name();
                match name.as_str() {
                    _ if first == '`' => self.named(name),
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    "NaN" => Value::Float(f64::NAN.to_bits()),
                    "inf" => Value::Float(f64::INFINITY.to_bits()),
                    "None" => Value::Nothing,
                    "Some" => {
                        assert!(self.takes('('));
                        let value = self.value();
                        assert!(self.takes(')'));
                        Value::Something(Box::new(value))
                    }
                    "x" if self.takes('"') => {
                        let hex = self.quoted('"');
                        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
                        Value::Bytes((0..hex.len()).step_by(2).map(byte).collect())
                    }
                    _ => self.named(name),
                }
            }
        }
    }

    fn named(&mut self, name: String) -> Value {
        if self.takes(';') {
            return Value::UnitStruct(name);
        }
        if self.takes(':') {
            assert!(self.takes(':'));
            let variant = self.name();
            return Value::Variant(name, variant, self.shape());
        }
        let shape = self.shape();
        assert_ne!(shape, Shape::Unit, "a unit struct has its semicolon");
        Value::Struct(name, shape)
    }
}

fn fixed(name: &str) -> &'static str {
    NAMES.iter().find(|known| **known == name).expect("a name of ours")
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Int(value) => match (u8::try_from(*value), i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), ..) => to.serialize_u8(value),
                (_, Ok(value), _) => to.serialize_i64(value),
                (.., Ok(value)) => to.serialize_u64(value),
                _ => to.serialize_i128(*value),
            },
            Self::Big(value) => to.serialize_u128(*value),
            Self::Float(bits) => to.serialize_f64(f64::from_bits(*bits)),
            Self::Char(value) => to.serialize_char(*value),
            Self::Text(value) => to.serialize_str(value),
            Self::Bytes(value) => to.serialize_bytes(value),
            Self::Nothing => to.serialize_none(),
            Self::Something(value) => to.serialize_some(value),
            Self::Unit => to.serialize_unit(),
            Self::UnitStruct(name) => to.serialize_unit_struct(fixed(name)),
            Self::Seq(values) => {
                let mut seq = to.serialize_seq(None)?;
                values.iter().try_for_each(|value| seq.serialize_element(value))?;
                seq.end()
            }
            Self::Tuple(values) => {
                let mut tuple = to.serialize_tuple(values.len())?;
                values.iter().try_for_each(|value| tuple.serialize_element(value))?;
                tuple.end()
            }
            Self::Map(entries) => {
                let mut map = to.serialize_map(None)?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
            Self::Struct(name, Shape::Unit) => to.serialize_unit_struct(fixed(name)),
            Self::Struct(name, Shape::Newtype(value)) => to.serialize_newtype_struct(fixed(name), value),
            Self::Struct(name, Shape::Tuple(values)) => {
                let mut tuple = to.serialize_tuple_struct(fixed(name), values.len())?;
                values.iter().try_for_each(|value| tuple.serialize_field(value))?;
                tuple.end()
            }
            Self::Struct(name, Shape::Fields(fields)) => {
                let mut parts = to.serialize_struct(fixed(name), fields.len())?;
                fields.iter().try_for_each(|(name, value)| parts.serialize_field(fixed(name), value))?;
                parts.end()
            }
            Self::Variant(name, variant, Shape::Unit) => {
                to.serialize_unit_variant(fixed(name), 0, fixed(variant))
            }
            Self::Variant(name, variant, Shape::Newtype(value)) => {
                to.serialize_newtype_variant(fixed(name), 0, fixed(variant), value)
            }
            Self::Variant(name, variant, Shape::Tuple(values)) => {
                let mut tuple = to.serialize_tuple_variant(fixed(name), 0, fixed(variant), values.len())?;
                values.iter().try_for_each(|value| tuple.serialize_field(value))?;
                tuple.end()
            }
            Self::Variant(name, variant, Shape::Fields(fields)) => {
                let mut parts = to.serialize_struct_variant(fixed(name), 0, fixed(variant), fields.len())?;
                fields.iter().try_for_each(|(name, value)| parts.serialize_field(fixed(name), value))?;
                parts.end()
            }
        }
    }
}
