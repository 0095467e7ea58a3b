//! Which of several servers a key is on.
//!
//! By rendezvous: each server has a score for the key, a hash of both, and the highest has it. A server that is added or
//! taken away moves only its own keys, wherever it stands in the list; every process that is given the same names agrees. A
//! server that is down stays the one of its keys: they are errors, and are not silently elsewhere, where they would be
//! another's older state once it is back.
//!
//! # Source
//! Thaler and Ravishankar, *Using name-based mappings to increase hit rates*, IEEE/ACM Transactions on Networking 6(1), 1998;
//! the score here is FNV-1a (64 bits) of name, a zero byte and key, mixed as by SplitMix64. It is part of the format: never
//! change it.
#![forbid(unsafe_code)]

/// The server's place in the list.
pub(super) fn choose<S: AsRef<str>>(names: &[S], key: &str) -> usize {
    let scored = names.iter().enumerate().map(|(i, name)| (score(name.as_ref(), key), name.as_ref(), i));
    scored.max().map_or(0, |(_, _, i)| i)
}

fn score(name: &str, key: &str) -> u64 {
    let bytes = name.bytes().chain([0]).chain(key.bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [&str; 3] = ["a:11211", "b:11211", "c:11211"];

    #[test]
    fn all_agree_and_all_have_their_share() {
        let mut shares = [0; 3];
        for i in 0..9_000 {
            let key = format!("user:{i}");
            let chosen = choose(&THREE, &key);
            let turned: Vec<&str> = THREE.iter().rev().copied().collect();
            assert_eq!(turned[choose(&turned, &key)], THREE[chosen], "the order of the list says nothing");
            shares[chosen] += 1;
        }
        assert!(shares.iter().all(|share| (2_700..3_300).contains(share)), "{shares:?}");
    }

    /// What processes of other versions have written must be found.
    #[test]
    fn the_choice_never_changes() {
        let chosen: Vec<usize> = (0..12).map(|i| choose(&THREE, &format!("key-{i}"))).collect();
        assert_eq!(chosen, [1, 1, 2, 2, 2, 0, 2, 1, 0, 1, 1, 1]);
    }

    #[test]
    fn who_leaves_takes_its_own_keys_only() {
        for i in 0..1_000 {
            let key = format!("user:{i}");
            let chosen = choose(&THREE, &key);
            let left = choose(&THREE[..2], &key);
            assert!(chosen == 2 || left == chosen);
        }
    }
}
