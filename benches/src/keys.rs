//! Keys, the order they are asked in, and what they must answer. All of it is made before any clock starts.

#![forbid(unsafe_code)]

use std::hash::Hash;

/// A key of the benches. Keys of different indices differ.
pub(crate) trait Key: Hash + Eq + Clone + Send + Sync + 'static {
    const NAME: &'static str;
    fn of(index: u64) -> Self;
}

impl Key for u64 {
    const NAME: &'static str = "u64";
    fn of(index: u64) -> u64 {
        // Odd multiplier: a bijection, so that neighbours in index are no neighbours in value.
        index.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Key for String {
    const NAME: &'static str = "24-byte String";
    fn of(index: u64) -> String {
        format!("user:{:016x}:id", u64::of(index))
    }
}

/// The value stored under key number `index`.
pub(crate) fn value_of(index: u64) -> u64 {
    index ^ 0x5bd1_e995
}

/// What a loop over keys saw; asserted against what it had to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) hits: u64,
    pub(crate) sum: u64,
}

impl Tally {
    #[inline(always)]
    pub(crate) fn note(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.hits += 1;
            self.sum = self.sum.wrapping_add(value);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): seeded, so that each run asks for the same keys.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; the bias of 2^-40 and less does not matter here.
    #[inline]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// Keys in the order they are asked for, cut into windows, with the right answer to each window.
///
/// The keys lie side by side in that order (also the heap parts of strings), so that fetching the question costs next to
/// nothing and the same for every subject.
pub(crate) struct Order<K> {
    keys: Vec<K>,
    expected: Vec<Tally>,
    window: usize,
}

impl<K: Key> Order<K> {
    /// `windows` windows of uniformly random picks among keys `first..first + population`, all of them stored.
    pub(crate) fn hits(first: u64, population: u64, windows: usize, window: usize) -> Order<K> {
        let mut random = Random::new(population ^ first);
        let pick = |_: usize| -> Vec<u64> {
            std::iter::repeat_with(|| first + random.below(population)).take(window).collect()
        };
        let windows: Vec<Vec<u64>> = (0..windows).map(pick).collect();
        Order::build(&windows, |indices| sum_of(indices.iter().copied()))
    }

    /// The same, none of them stored.
    pub(crate) fn misses(first: u64, population: u64, windows: usize, window: usize) -> Order<K> {
        Order { expected: vec![Tally::default(); windows], ..Order::hits(first, population, windows, window) }
    }

    /// `windows` windows that hold each of the first `population` keys once, to be asked for at the places of [`draws`].
    pub(crate) fn drawn(population: u64, windows: usize) -> Order<K> {
        let mut random = Random::new(population);
        let shuffle = |_: usize| -> Vec<u64> {
            let mut indices: Vec<u64> = (0..population).collect();
            random.shuffle(&mut indices);
            indices
        };
        let windows: Vec<Vec<u64>> = (0..windows).map(shuffle).collect();
        Order::build(&windows, |indices| sum_of(draws(indices.len()).map(|place| indices[place])))
    }

    fn build(windows: &[Vec<u64>], expected: impl Fn(&[u64]) -> Tally) -> Order<K> {
        let window = windows.first().map_or(0, Vec::len);
        let keys = windows.iter().flatten().map(|&index| K::of(index)).collect();
        Order { keys, expected: windows.iter().map(|indices| expected(indices)).collect(), window }
    }

    pub(crate) fn window(&self, round: usize) -> &[K] {
        let start = round % self.expected.len() * self.window;
        &self.keys[start..start + self.window]
    }

    pub(crate) fn expected(&self, round: usize) -> Tally {
        self.expected[round % self.expected.len()]
    }
}

fn sum_of(indices: impl Iterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    indices.for_each(|index| tally.note(Some(value_of(index))));
    tally
}

/// How many places [`draws`] draws.
pub(crate) const DRAWS: usize = 16_384;

/// Random places among `length`.
#[inline(always)]
pub(crate) fn draws(length: usize) -> impl Iterator<Item = usize> {
    let mut random = Random::new(0);
    (0..DRAWS).map(move |_| random.below(length as u64) as usize)
}

/// Indices drawn from a Zipf distribution over `0..population`, most popular first before a fixed permutation.
pub(crate) fn zipf(population: u64, exponent: f64, draws: usize, seed: u64) -> Vec<u64> {
    let mut cumulative = Vec::with_capacity(population as usize);
    let mut total = 0.0;
    for rank in 1..=population {
        total += (rank as f64).powf(-exponent);
        cumulative.push(total);
    }
    let mut random = Random::new(seed);
    (0..draws)
        .map(|_| {
            let point = random.unit() * total;
            cumulative.partition_point(|&weight| weight < point) as u64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_sizes_their_names_say() {
        assert_eq!(String::of(7).len(), 24);
        assert_ne!(u64::of(1), u64::of(2));
    }

    #[test]
    fn an_order_knows_its_answers() {
        let order = Order::<u64>::hits(0, 10, 2, 100);
        let stored: std::collections::HashMap<u64, u64> =
            (0..10).map(|index| (u64::of(index), value_of(index))).collect();
        for round in 0..2 {
            let mut tally = Tally::default();
            order.window(round).iter().for_each(|key| tally.note(stored.get(key).copied()));
            assert_eq!(tally, order.expected(round));
        }
        assert_eq!(Order::<u64>::misses(0, 10, 1, 100).expected(0), Tally::default());
        let order = Order::<u64>::drawn(10, 2);
        let mut tally = Tally::default();
        draws(10).for_each(|place| tally.note(stored.get(&order.window(1)[place]).copied()));
        assert_eq!(tally, order.expected(1));
    }

    #[test]
    fn zipf_prefers_low_ranks() {
        let draws = zipf(1_000, 0.99, 10_000, 1);
        let first = draws.iter().filter(|&&index| index == 0).count();
        assert!((1_000..1_700).contains(&first), "rank 1 of 1,000 has 13 %, drawn {first} of 10,000");
        assert!(draws.iter().all(|&index| index < 1_000));
    }
}
