//! The counters that every request touches, and their collector.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use strum::VariantArray;

use super::scrape::{VALID, counter, family, histogram};
use crate::rules::Outcome;
use crate::rules::cache_status::Kind;

/// How many kinds of outcomes there are.
const KINDS: usize = Kind::VARIANTS.len();

/// The classes of status codes, at `status / 100 - 1`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Combinations of outcome and class that exist in the output from the start,
/// so that the first one is seen as a step from zero. All others appear when
/// they happen: a hit with status 500 would be a line that says nothing.
const EXPECTED: [(usize, usize); 6] = [(0, 1), (1, 1), (2, 1), (2, 4), (4, 1), (5, 4)];

/// Upper bound of the first latency bucket, in nanoseconds; each of the others doubles.
const FIRST_BUCKET: u64 = 4_000;

/// Latency buckets with a bound: 4 µs to 67 s. One more takes the rest.
const BUCKETS: usize = 25;

/// Copies of the hot counters at most; beyond this the gain is nil and the scrape slower.
const MAX_SHARDS: usize = 16;

/// Which copy of the hot counters the calling thread adds to.
#[inline]
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            // Threads take turns, so that workers of one pool spread out.
            mine.set(NEXT.fetch_add(1, Relaxed) & (MAX_SHARDS - 1));
        }
        mine.get()
    })
}

const fn class_index(status: u16) -> usize {
    match status {
        0..200 => 0,
        200..300 => 1,
        300..400 => 2,
        400..500 => 3,
        _ => 4,
    }
}

/// Position of the first bucket whose bound is not below `nanos`.
const fn bucket_index(nanos: u64) -> usize {
    let steps = nanos.saturating_sub(1) / FIRST_BUCKET;
    let index = (u64::BITS - steps.leading_zeros()) as usize;
    if index < BUCKETS { index } else { BUCKETS }
}

/// One copy of a route's counters, on cache lines of its own (two, because
/// processors fetch them in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Cells([[AtomicU64; CLASSES.len()]; KINDS]);

/// The requests of one route.
pub(super) struct Row {
    label: String,
    shards: Box<[Cells]>,
}

impl Row {
    fn new(label: &str, shards: usize) -> Row {
        Row { label: label.to_owned(), shards: (0..shards).map(|_| Cells::default()).collect() }
    }

    #[inline]
    fn add(&self, shard: usize, outcome: usize, class: usize) {
        // The number of shards is a power of two.
        if let Some(cells) = self.shards.get(shard & (self.shards.len() - 1)) {
            cells.0[outcome][class].fetch_add(1, Relaxed);
        }
    }

    fn sum(&self, outcome: usize, class: usize) -> u64 {
        self.shards.iter().map(|cells| cells.0[outcome][class].load(Relaxed)).sum()
    }
}

/// A latency histogram. The bucket counts are not cumulative and the count is
/// their sum, so that an observation is two adds.
#[derive(Default)]
struct Latency {
    buckets: [AtomicU64; BUCKETS + 1],
    /// Sum in nanoseconds: 584 years of waiting.
    nanos: AtomicU64,
}

/// One copy of the latency histograms, by outcome.
#[derive(Default)]
#[repr(align(128))]
struct Latencies([Latency; KINDS]);

/// The counters that every request touches, and their collector.
#[derive(Clone)]
pub(super) struct Hot {
    rows: Arc<Mutex<Vec<Arc<Row>>>>,
    latencies: Arc<[Latencies]>,
    requests: Desc,
    duration: Desc,
}

impl Hot {
    pub(super) fn new() -> Hot {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = cores.next_power_of_two().min(MAX_SHARDS);
        let desc = |name: &str, help: &str, labels: &[&str]| {
            let labels = labels.iter().map(|&l| l.to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default()).expect(VALID)
        };
        Hot {
            rows: Arc::default(),
            latencies: (0..shards).map(|_| Latencies::default()).collect(),
            requests: desc(
                "perennial_requests_total",
                "Requests by route, cache outcome and class of status.",
                &["route", "outcome", "status"],
            ),
            duration: desc(
                "perennial_request_duration_seconds",
                "Time from the end of the request head to the first byte of the answer, by cache outcome.",
                &["outcome"],
            ),
        }
    }

    /// The rows of these routes, those that are known already as they are,
    /// and last the row of requests without a route.
    pub(super) fn relabel(&self, labels: &[String]) -> Box<[Arc<Row>]> {
        let mut rows = self.rows.lock();
        let mut next: Vec<Arc<Row>> = Vec::new();
        let resolved = labels
            .iter()
            .map(String::as_str)
            .chain([""])
            .map(|label| {
                let known = next.iter().chain(rows.iter()).find(|row| row.label == label);
                let row = known
                    .map_or_else(|| Arc::new(Row::new(label, self.latencies.len())), Arc::clone);
                if !next.iter().any(|other| Arc::ptr_eq(other, &row)) {
                    next.push(Arc::clone(&row));
                }
                row
            })
            .collect();
        *rows = next;
        resolved
    }

    #[inline]
    pub(super) fn request(&self, row: &Row, outcome: Outcome, status: u16, duration: Duration) {
        let shard = shard();
        let class = class_index(outcome.counted(status));
        let outcome = outcome.kind() as usize;
        row.add(shard, outcome, class);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // The number of copies is a power of two.
        if let Some(copy) = self.latencies.get(shard & (self.latencies.len() - 1)) {
            let latency = &copy.0[outcome];
            latency.buckets[bucket_index(nanos)].fetch_add(1, Relaxed);
            latency.nanos.fetch_add(nanos, Relaxed);
        }
    }

    fn request_counts(&self) -> Vec<proto::Metric> {
        let mut out = Vec::new();
        for row in self.rows.lock().iter() {
            for (o, &kind) in Kind::VARIANTS.iter().enumerate() {
                for (c, class) in CLASSES.iter().enumerate() {
                    let count = row.sum(o, c);
                    let expected = EXPECTED.contains(&(o, c)) && !row.label.is_empty();
                    if count > 0 || expected {
                        let labels =
                            [("outcome", kind.into()), ("route", &*row.label), ("status", *class)];
                        out.push(counter(&labels, count));
                    }
                }
            }
        }
        out
    }

    fn durations(&self) -> Vec<proto::Metric> {
        let sum = |o: usize, read: &dyn Fn(&Latency) -> u64| -> u64 {
            self.latencies.iter().map(|copy| read(&copy.0[o])).fold(0, u64::wrapping_add)
        };
        let one = |(o, kind): (usize, &Kind)| {
            let mut count = 0;
            let mut bound = FIRST_BUCKET;
            let mut buckets = Vec::with_capacity(BUCKETS);
            for b in 0..BUCKETS {
                count += sum(o, &|l| l.buckets[b].load(Relaxed));
                buckets.push((seconds(bound), count));
                bound *= 2;
            }
            count += sum(o, &|l| l.buckets[BUCKETS].load(Relaxed));
            let total = seconds(sum(o, &|l| l.nanos.load(Relaxed)));
            histogram(&[("outcome", kind.into())], &buckets, count, total)
        };
        Kind::VARIANTS.iter().enumerate().map(one).collect()
    }
}

impl Collector for Hot {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.requests, &self.duration]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        vec![
            family(&self.requests, MetricType::COUNTER, self.request_counts()),
            family(&self.duration, MetricType::HISTOGRAM, self.durations()),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sum of latencies needs no more than 52 bits")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_bound() {
        for (nanos, index) in [
            (0, 0),
            (1, 0),
            (4_000, 0),
            (4_001, 1),
            (8_000, 1),
            (8_001, 2),
            (16_000, 2),
            (16_001, 3),
            (4_000 << 24, BUCKETS - 1),
            ((4_000 << 24) + 1, BUCKETS),
            (u64::MAX, BUCKETS),
        ] {
            assert_eq!(bucket_index(nanos), index, "{nanos}");
        }
    }

    #[test]
    fn any_status_has_a_class() {
        for (status, class) in [
            (0, "1xx"),
            (101, "1xx"),
            (200, "2xx"),
            (304, "3xx"),
            (404, "4xx"),
            (504, "5xx"),
            (999, "5xx"),
        ] {
            assert_eq!(CLASSES[class_index(status)], class);
        }
    }
}
