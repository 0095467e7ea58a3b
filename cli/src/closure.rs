//! Closure: how much of the way from LRU to the optimal bound a policy goes. 0 is LRU, 1 is the optimum.

/// Hits of one policy beside the two that it is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hits {
    /// Of the policy; a mean if there were several runs.
    pub(crate) policy: f64,
    /// Of exact LRU.
    pub(crate) lru: u64,
    /// Of the optimal bound.
    pub(crate) optimal: u64,
}

impl Hits {
    /// The closure, where LRU and the optimum differ by at least a hundredth of the `requests`; elsewhere it would
    /// be noise.
    pub(crate) fn closure(self, requests: usize) -> Option<f64> {
        // The optimum is never below LRU in our own tables, but a reference file may say anything.
        let gap = self.optimal.checked_sub(self.lru).filter(|&gap| gap > 0)?;
        (gap as f64 * 100.0 >= requests as f64).then(|| (self.policy - self.lru as f64) / gap as f64)
    }
}

/// The mean, unless there is nothing.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_gaps_have_no_closure() {
        let hits = Hits { policy: 15.0, lru: 10, optimal: 20 };
        assert_eq!(hits.closure(1000), Some(0.5));
        assert_eq!(hits.closure(1001), None);
        assert_eq!(Hits { optimal: 10, ..hits }.closure(1), None);
        assert_eq!(Hits { policy: 5.0, ..hits }.closure(100), Some(-0.5));
    }
}
