//! Functions of many keys.
use dogpile::cached;

#[cached(multi)]
fn no_slice(id: u32) -> Vec<u32> {
    vec![id]
}

#[cached(multi)]
fn no_argument() -> Vec<u32> {
    Vec::new()
}

#[cached(multi)]
fn two_keys(ids: &[u32], name: &str) -> Vec<String> {
    ids.iter().map(|id| format!("{id}{name}")).collect()
}

#[cached(multi, key = "{ids:?}")]
fn keyed(ids: &[u32]) -> Vec<u32> {
    ids.to_vec()
}

struct Service;

impl Service {
    #[cached(multi, self = key)]
    fn by_self(&self, ids: &[u32]) -> Vec<u32> {
        ids.to_vec()
    }
}

fn main() {}
