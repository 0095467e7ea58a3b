//! Bytes that must stay what they are: those of the Python packages, recorded by `scripts/python.sh golden`, and ours.
//!
//! `scripts/python.sh golden --check` lets the packages read ours.
#![forbid(unsafe_code)]

use super::*;

#[derive(Serialize, Deserialize)]
struct Row {
    envelope: String,
    chain: String,
    value: String,
    ct: Option<f64>,
    hex: String,
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    born: u16,
    languages: Vec<String>,
    score: Option<f32>,
    tall: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    Quit,
    Moved { x: i8, y: i8 },
}

/// What is done with each of the values.
trait Each {
    fn value<T: Storable + PartialEq + fmt::Debug>(&mut self, name: &str, value: T);
}

/// The values of `scripts/golden.py`, under the same names.
fn values(each: &mut impl Each) {
    let text = String::from;
    each.value("none", None::<u8>);
    each.value("none", ());
    each.value("true", true);
    each.value("zero", 0_u8);
    each.value("zero", 0_i128);
    each.value("minus one", -1_i8);
    each.value("u8", 200_u8);
    each.value("i16", -30_000_i16);
    each.value("i64 min", i64::MIN);
    each.value("u64 max", u64::MAX);
    each.value("float", 0.1_f64);
    each.value("small float", 1e-7_f64);
    each.value("large float", f64::MAX);
    each.value("no text", String::new());
    each.value("text", text("Ada"));
    each.value("text with bars", text(r#"a|b||{"ct": 1, "v": 3}|"#));
    each.value("unicode", text("na\u{ef}ve \u{2028} \u{1f600}"));
    each.value("controls", text("\0\t\r\n\x7f\"\\"));
    each.value("long text", "dogpile ".repeat(500));
    each.value("no list", Vec::<u8>::new());
    each.value("list", vec![1, 2, 300, -70_000]);
    each.value("nested", vec![vec![], vec![vec![1_u8]], vec![vec![2, 3], vec![]]]);
    each.value("options", vec![None, Some(text("a")), None]);
    each.value("map", BTreeMap::from([(text("a"), 1), (text("b"), -2), (text(""), 3)]));
    each.value(
        "person",
        Person {
            name: text("Ada"),
            born: 1815,
            languages: vec![text("en"), text("fr")],
            score: None,
            tall: false,
        },
    );
    each.value("variant", Message::Moved { x: 1, y: -1 });
    each.value("unit variant", Message::Quit);
    each.value("tuple", (text("a"), 1, 0.5, true));
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn rows(name: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(file(name)).expect("the golden file is there");
    serde_json::from_str::<Golden>(&text).expect("the golden file is JSON").rows
}

fn from_hex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex"))
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn codec(row: &Row) -> Codec {
    Codec::from_url(&format!("{}://?envelope={}", row.chain, row.envelope)).unwrap()
}

struct Reads(Vec<Row>, usize);

impl Each for Reads {
    fn value<T: Storable + PartialEq + fmt::Debug>(&mut self, name: &str, value: T) {
        for row in self.0.iter().filter(|row| row.value == name) {
            let (meta, read) = codec(row)
                .decode::<T>("key", &from_hex(&row.hex))
                .unwrap_or_else(|why| panic!("{name} by {} in {}: {why}", row.chain, row.envelope));
            assert_eq!(read, value, "by {} in {}", row.chain, row.envelope);
            assert_eq!(meta.created, row.ct.map(|ct| (ct * 1e9).round() as u64));
            assert_eq!(meta.epoch, meta.created);
            self.1 += 1;
        }
    }
}

#[test]
fn golden_entries_of_python_are_read() {
    let rows = rows("python.json");
    let count = rows.len();
    let mut reads = Reads(rows, 0);
    values(&mut reads);
    // Two names have two types each.
    let twice = reads.0.iter().filter(|row| matches!(row.value.as_str(), "none" | "zero")).count();
    assert_eq!(reads.1, count + twice, "each row was read");
    assert!(count > 250);
}

/// A time is written as Python writes it.
#[test]
fn golden_times_of_python_are_written() {
    let codec = Codec::json().envelope(Envelope::Dogpile);
    let mut times = 0;
    for row in rows("python.json") {
        let (Some(ct), "zero", "json") = (row.ct, row.value.as_str(), row.chain.as_str()) else { continue };
        let meta = Meta { created: Some((ct * 1e9).round() as u64), ..Meta::default() };
        assert_eq!(to_hex(&codec.encode("key", &meta, &0).unwrap()), row.hex, "{ct}");
        times += 1;
    }
    assert_eq!(times, 7);
}

/// A time that has a short form in Python.
const CREATED_EXACTLY: u64 = 1_795_193_926_394_547_000;

struct Writes(Vec<Row>);

impl Each for Writes {
    fn value<T: Storable + PartialEq + fmt::Debug>(&mut self, name: &str, value: T) {
        if self.0.iter().any(|row| row.value == name) {
            return;
        }
        for (envelope, chains) in [
            ("own", &["json", "msgpack", "postcard"][..]),
            ("dogpile", &["json", "msgpack", "json+zlib", "msgpack+zstd"]),
            ("plain", &["json", "msgpack", "json+zlib", "msgpack+zstd"]),
        ] {
            for chain in chains {
                let meta = Meta { created: Some(CREATED_EXACTLY), ..full() };
                let mut row = Row {
                    envelope: String::from(envelope),
                    chain: String::from(*chain),
                    value: String::from(name),
                    ct: (envelope == "dogpile").then_some(1_795_193_926.394_547),
                    hex: String::new(),
                };
                row.hex = to_hex(&codec(&row).encode("key", &meta, &value).unwrap());
                self.0.push(row);
            }
        }
    }
}

/// `DOGPILE_BLESS=1` writes the file anew, for a new version of the envelope.
#[test]
fn golden_entries_of_ours_are_written_as_ever() {
    let mut ours = Writes(Vec::new());
    values(&mut ours);
    if std::env::var_os("DOGPILE_BLESS").is_some() {
        let rows: Vec<String> = ours.0.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        std::fs::write(file("ours.json"), format!("{{\"rows\": [\n{}\n]}}\n", rows.join(",\n"))).unwrap();
    }
    let golden = rows("ours.json");
    assert_eq!(golden.len(), ours.0.len());
    for (row, golden) in ours.0.iter().zip(&golden) {
        // What compressors make may change with their versions.
        if !row.chain.contains('+') {
            assert_eq!(row.hex, golden.hex, "{} by {} in {}", row.value, row.chain, row.envelope);
        }
    }
}

struct ReadsOurs(Vec<Row>, usize);

impl Each for ReadsOurs {
    fn value<T: Storable + PartialEq + fmt::Debug>(&mut self, name: &str, value: T) {
        // The second type of a name was not written, and is not read.
        let first = !matches!((name, size_of::<T>()), ("none", 0) | ("zero", 16));
        for row in self.0.iter().filter(|row| row.value == name && first) {
            let (meta, read) = codec(row).decode::<T>("key", &from_hex(&row.hex)).unwrap();
            assert_eq!(read, value, "by {} in {}", row.chain, row.envelope);
            match row.ct {
                Some(ct) => assert_eq!(meta.created, Some((ct * 1e9).round() as u64)),
                None if row.envelope == "own" => {
                    assert_eq!(meta, Meta { created: Some(CREATED_EXACTLY), ..full() })
                }
                None => assert_eq!(meta, Meta::default()),
            }
            self.1 += 1;
        }
    }
}

#[test]
fn golden_entries_of_ours_are_read_as_ever() {
    let rows = rows("ours.json");
    let count = rows.len();
    let mut reads = ReadsOurs(rows, 0);
    values(&mut reads);
    assert_eq!(reads.1, count);
}
