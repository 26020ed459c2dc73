//! What other rooms know and are asked for at a scrape, and the shapes of the
//! Prometheus format.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

/// The memory tier at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryState {
    /// Bytes stored, overhead included.
    pub bytes: u64,
    /// Bytes allowed.
    pub limit: u64,
    /// Pages stored.
    pub entries: u64,
    /// Pages evicted for room since the start.
    pub evictions: u64,
}

/// An origin at the moment of a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginState {
    /// Its name in the configuration.
    pub name: String,
    /// Servers that count as healthy.
    pub healthy: u64,
    /// Servers that do not.
    pub unhealthy: u64,
    /// Whether the breaker is open: one request a second is sent, or none but
    /// health checks.
    pub breaker_open: bool,
    /// Fills that run.
    pub running: u64,
    /// Fills that wait for a place.
    pub waiting: u64,
    /// Requests that are passed through and wait for their answer.
    pub passes: u64,
    /// Requests that wait for a place to be passed through.
    pub passes_waiting: u64,
    /// WebSockets that are open.
    pub websockets: u64,
}

/// Names and labels are literals, each once; a test renders them all.
pub(super) const VALID: &str = "names and labels of metrics are valid and distinct";

type MemorySource = Box<dyn Fn() -> MemoryState + Send + Sync>;
type OriginSource = Box<dyn Fn() -> Vec<OriginState> + Send + Sync>;

#[derive(Default)]
struct Inner {
    memory: Option<MemorySource>,
    origins: Option<OriginSource>,
}

/// Asks other rooms at the scrape.
#[derive(Clone, Default)]
pub(super) struct Sources {
    inner: Arc<Mutex<Inner>>,
}

impl Sources {
    pub(super) fn watch_memory(&self, source: MemorySource) {
        self.inner.lock().memory = Some(source);
    }

    pub(super) fn watch_origins(&self, source: OriginSource) {
        self.inner.lock().origins = Some(source);
    }
}

impl Collector for Sources {
    fn desc(&self) -> Vec<&Desc> {
        // None is declared: which families there are depends on who watches,
        // and their names occur here alone.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let inner = self.inner.lock();
        let mut out = vec![simple(
            "perennial_log_lines_dropped_total",
            "Log lines dropped because nobody read them fast enough.",
            MetricType::COUNTER,
            vec![counter(&[], crate::log::dropped())],
        )];
        if let Some(memory) = inner.memory.as_ref().map(|source| source()) {
            let mut gauges = |name, help, value| {
                out.push(simple(name, help, MetricType::GAUGE, vec![gauge(&[], value)]));
            };
            gauges("perennial_memory_bytes", "Bytes in the memory tier.", memory.bytes);
            gauges("perennial_memory_limit_bytes", "Bytes allowed in memory.", memory.limit);
            gauges("perennial_memory_entries", "Pages in memory.", memory.entries);
            out.push(simple(
                "perennial_memory_evictions_total",
                "Pages evicted from memory for room.",
                MetricType::COUNTER,
                vec![counter(&[], memory.evictions)],
            ));
        }
        if let Some(origins) = inner.origins.as_ref().map(|source| source()) {
            out.extend(origin_families(&origins));
        }
        out
    }
}

fn origin_families(origins: &[OriginState]) -> Vec<MetricFamily> {
    let (mut servers, mut breakers, mut fills) = (Vec::new(), Vec::new(), Vec::new());
    let (mut passes, mut websockets) = (Vec::new(), Vec::new());
    for origin in origins {
        let name = ("origin", origin.name.as_str());
        servers.push(gauge(&[name, ("state", "healthy")], origin.healthy));
        servers.push(gauge(&[name, ("state", "unhealthy")], origin.unhealthy));
        breakers.push(gauge(&[name], u64::from(origin.breaker_open)));
        fills.push(gauge(&[name, ("state", "running")], origin.running));
        fills.push(gauge(&[name, ("state", "waiting")], origin.waiting));
        passes.push(gauge(&[name, ("state", "running")], origin.passes));
        passes.push(gauge(&[name, ("state", "waiting")], origin.passes_waiting));
        websockets.push(gauge(&[name], origin.websockets));
    }
    let gauges = MetricType::GAUGE;
    [
        ("perennial_origin_servers", "Servers of an origin by health.", servers),
        (
            "perennial_origin_breaker_open",
            "1 while the origin's breaker is open: it does not answer.",
            breakers,
        ),
        ("perennial_origin_fills", "Fills that an origin has, by state.", fills),
        ("perennial_origin_passes", "Passed-through requests without an answer yet.", passes),
        ("perennial_origin_websockets", "WebSockets that are open to an origin.", websockets),
    ]
    .into_iter()
    .map(|(name, help, metrics)| simple(name, help, gauges, metrics))
    .collect()
}

/// Callers give them sorted by name, as the format's other writers do.
fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

#[expect(clippy::cast_precision_loss, reason = "the format knows only floating point")]
pub(super) fn counter(labels: &[(&str, &str)], value: u64) -> proto::Metric {
    let mut metric = proto::Metric::from_label(pairs(labels));
    let mut counter = proto::Counter::default();
    counter.set_value(value as f64);
    metric.set_counter(counter);
    metric
}

#[expect(clippy::cast_precision_loss, reason = "the format knows only floating point")]
fn gauge(labels: &[(&str, &str)], value: u64) -> proto::Metric {
    let mut metric = proto::Metric::from_label(pairs(labels));
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
    metric
}

/// `buckets`: upper bound and number of observations up to it.
pub(super) fn histogram(
    labels: &[(&str, &str)],
    buckets: &[(f64, u64)],
    count: u64,
    sum: f64,
) -> proto::Metric {
    let bucket = |&(bound, count): &(f64, u64)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.iter().map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    let mut metric = proto::Metric::from_label(pairs(labels));
    metric.set_histogram(histogram);
    metric
}

pub(super) fn family(desc: &Desc, kind: MetricType, metrics: Vec<proto::Metric>) -> MetricFamily {
    simple(&desc.fq_name, &desc.help, kind, metrics)
}

fn simple(name: &str, help: &str, kind: MetricType, metrics: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
