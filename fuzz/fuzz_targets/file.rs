//! Entries of the store in files: any bytes, and any whose sums are right; what is written is read again, and nothing else is.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Written {
    key: String,
    value: Option<Vec<u8>>,
    nonce: [u8; 16],
    deadline: Option<u64>,
    written: u64,
    /// A byte that is changed, and how.
    at: u16,
    change: u8,
}

/// Plain builds only compile this: the door to the files is open with `cfg(fuzzing)`, which `cargo fuzz` sets.
#[cfg(not(fuzzing))]
fn run(bytes: &[u8], written: Option<Written>) {
    let Some(Written { key, value, nonce, deadline, written, at, change }) = written else { return };
    println!("{bytes:?} {key} {value:?} {nonce:?} {deadline:?} {written} {at} {change}");
}

#[cfg(fuzzing)]
fn run(bytes: &[u8], written: Option<Written>) {
    use dogpile::backend::__file::{forge, read, write};

    // What is read at all is what would be written.
    for bytes in [bytes.to_vec(), forge(bytes.to_vec())] {
        if let Some((_, again)) = read(&bytes) {
            assert_eq!(again, bytes);
        }
    }
    let Some(Written { key, value, nonce, deadline, written, at, change }) = written else { return };
    let deadline = deadline.filter(|deadline| *deadline != u64::MAX);
    let mut bytes = write(&key, value.as_deref(), nonce, (deadline, written));
    let (back, again) = read(&bytes).expect("what was written is read");
    assert_eq!((back, &again), (value.unwrap_or_default(), &bytes));
    let at = usize::from(at) % bytes.len();
    if change != 0 {
        bytes[at] ^= change;
        assert!(read(&bytes).is_none(), "byte {at} was changed");
        // With sums that are right it may be another entry; it is no crash.
        read(&forge(bytes));
    }
}

fuzz_target!(|data: &[u8]| {
    let written = Written::arbitrary(&mut arbitrary::Unstructured::new(data)).ok();
    run(data, written);
});
