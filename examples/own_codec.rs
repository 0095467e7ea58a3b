//! Codecs of one's own: a format for values of any type, here one line for each field, and two functions for one type that
//! serde does not know.

use dogpile::backend::{MemoryBackend, Put, Stored};
use dogpile::codec::{BoxError, Codec, Envelope, Format, InMemory, Slot, Value};
use dogpile::{Error, ErrorKind, Region};
use std::array::TryFromSliceError;

/// `name="Ada"`, one line for each field; what has no fields is refused. The values' own types do the rest.
struct Lines;

impl Format for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn encode(&self, value: &Value<'_>) -> Result<Vec<u8>, BoxError> {
        let serde_json::Value::Object(fields) = serde_json::to_value(value)? else {
            return Err("a value without fields has no lines".into());
        };
        Ok(fields.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>().into())
    }

    fn decode(&self, bytes: &[u8], slot: Slot<'_>) -> Result<(), BoxError> {
        let mut fields = serde_json::Map::new();
        for line in std::str::from_utf8(bytes)?.lines() {
            let (name, value) = line.split_once('=').ok_or("a line without `=`")?;
            fields.insert(name.to_owned(), serde_json::from_str(value)?);
        }
        Ok(slot.fill(serde_json::Value::Object(fields))?)
    }
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct User {
    name: String,
    age: u8,
    languages: Vec<String>,
}

/// A point that comes from elsewhere, without serde.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    x: f32,
    y: f32,
}

/// A region that keeps bytes.
fn region(codec: Codec) -> Result<Region, Error> {
    Region::builder().backend(MemoryBackend::builder().serialized(true).build()?).codec(codec).build()
}

fn stored(region: &Region, key: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let found = region.actual_backend()?.ok_or("it is for threads")?.get(key)?;
    Ok(found.as_ref().and_then(|found| found.bytes()).ok_or("there are bytes")?.to_vec())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ada = || User { name: String::from("Ada\nLovelace"), age: 36, languages: vec![String::from("en")] };

    // Without an envelope the store has just the lines, and takes lines that somebody else has written.
    let users = region(Codec::own(Lines).envelope(Envelope::Plain))?;
    users.set("ada", ada())?;
    let lines = String::from_utf8(stored(&users, "ada")?)?;
    assert!(lines.lines().count() == 3 && lines.lines().any(|line| line == "age=36"), "{lines}");
    assert_eq!(users.get::<User>("ada")?.as_deref(), Some(&ada()));
    let backend = users.actual_backend()?.ok_or("it is for threads")?;
    let written = Stored::from(b"age=41\nlanguages=[]\nname=\"Alan\"\n".as_slice());
    backend.set(Put::new("alan", &written))?;
    assert_eq!(users.get::<User>("alan")?.map(|alan| alan.age), Some(41));

    // What can't be read is a miss, and made anew; what can't be written is an error.
    backend.set(Put::new("alan", &Stored::from(b"age".as_slice())))?;
    assert_eq!((users.get::<User>("alan")?, users.stats().undecodable), (None, 1));
    assert_eq!(users.get_or_create("alan", ada)?.age, 36);
    let error = users.set("number", 7).expect_err("it has no fields");
    assert_eq!(error.kind(), ErrorKind::Encode);

    // Compression, and our own envelope with its checksum, go with it as with ours.
    let packed = region(Codec::own(Lines).zstd(3)?)?;
    packed.set("ada", ada())?;
    assert_eq!(packed.get::<User>("ada")?.as_deref(), Some(&ada()));
    assert_ne!(stored(&packed, "ada")?, lines.into_bytes());

    // Two functions, for one type.
    let points = region(Codec::from_fns(
        |point: &InMemory<Point>| Ok([point.0.x.to_le_bytes(), point.0.y.to_le_bytes()].concat()),
        |bytes| {
            let (x, y) = bytes.split_at(bytes.len() / 2);
            let number = |half: &[u8]| Ok::<_, TryFromSliceError>(f32::from_le_bytes(half.try_into()?));
            Ok::<_, TryFromSliceError>(InMemory(Point { x: number(x)?, y: number(y)? }))
        },
    ))?;
    let half = Point { x: 0.5, y: -1.0 };
    points.set("half", InMemory(half))?;
    assert_eq!(points.get::<InMemory<Point>>("half")?.map(|point| point.0), Some(half));
    assert_eq!(
        points.set("text", String::from("no point")).map_err(|error| error.kind()),
        Err(ErrorKind::WrongType)
    );
    println!("{users:?}");
    Ok(())
}
