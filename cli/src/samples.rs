//! Small traces of several kinds for the tests of this crate.

/// Loops, scans, bursts and noise over few keys, some longer than a word or a block of the algorithms.
pub(crate) fn traces() -> Vec<Vec<u64>> {
    let mut traces = vec![
        vec![],
        vec![1],
        vec![3; 9],
        (0..200).collect(),
        (0..700).map(|i| i % 37).collect(),
        (0..300).map(|i| if i % 3 == 0 { i } else { i % 5 }).collect(),
    ];
    for modulus in [3, 4, 5, 6, 50] {
        let mut state = modulus;
        traces.push(
            (0..500)
                .map(|_| {
                    // Any generator does; this is Knuth's MMIX.
                    state = u64::wrapping_mul(state, 6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) % modulus
                })
                .collect(),
        );
    }
    traces
}
