//! Latencies, counted in buckets whose width grows with the latency.

use std::time::Duration;

/// Buckets per doubling of the latency: a percentile is at most 1/256, that is 0.4 %, off.
const STEPS: u64 = 256;

/// Enough buckets for every latency of 64 bits of nanoseconds.
const BUCKETS: usize = (65 - STEPS.ilog2() as usize) * STEPS as usize;

/// Counts latencies in constant memory and constant time.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }

    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        self.counts[bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX))] += 1;
        self.total += 1;
    }

    /// How many latencies were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latency that this share of all latencies (0 to 1) does not exceed, in nanoseconds; 0
    /// when there are none.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(index as u64);
            }
        }
        0
    }
}

/// Below STEPS each nanosecond has its own bucket; above, each doubling is divided into STEPS equal
/// buckets.
fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < STEPS {
        return nanoseconds as usize;
    }
    let shift = u64::from(nanoseconds.ilog2() - STEPS.ilog2());
    // nanoseconds >> shift lies in STEPS..2 × STEPS.
    (shift * STEPS + (nanoseconds >> shift)) as usize
}

/// The nanoseconds in the middle of a bucket.
fn middle(bucket: u64) -> u64 {
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((STEPS + bucket % STEPS) << shift) + (1 << (shift - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lands_within_its_bucket() {
        for nanoseconds in [
            0,
            1,
            63,
            64,
            127,
            128,
            129,
            1_000,
            26_800,
            1_000_000,
            123_456_789_012,
            u64::MAX,
        ] {
            let found = middle(bucket(nanoseconds) as u64);
            let error = found.abs_diff(nanoseconds) as f64;
            assert!(
                error <= nanoseconds as f64 / STEPS as f64,
                "{nanoseconds} read back as {found}"
            );
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(0.5), 0);
        for nanoseconds in 1..=100 {
            histogram.record(Duration::from_nanos(nanoseconds));
        }
        assert_eq!(histogram.total(), 100);
        assert_eq!(histogram.percentile(0.5), 50);
        assert_eq!(histogram.percentile(0.99), 99);
        assert_eq!(histogram.percentile(1.0), 100);
    }
}
