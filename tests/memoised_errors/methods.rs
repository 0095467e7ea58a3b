//! What `self` is to the key must be said.
use dogpile::cached;

#[derive(Clone)]
struct Service;

impl Service {
    #[cached]
    fn unsaid(&self, n: u32) -> u32 {
        n
    }

    #[cached(self = all)]
    fn said_wrongly(&self, n: u32) -> u32 {
        n
    }

    #[cached(self = skip)]
    fn changes(&mut self, n: u32) -> u32 {
        n
    }

    #[cached(self = key, key = n)]
    fn said_twice(&self, n: u32) -> u32 {
        n
    }
}

struct Without;

impl Without {
    /// Nothing here tells that it stands in an `impl`: it must say `associated`.
    #[cached]
    fn unseen(n: u32) -> u32 {
        n
    }
}

#[cached(self = skip)]
fn no_method(n: u32) -> u32 {
    n
}

fn main() {}
