//! What Perennial counts, for Prometheus.
//!
//! One struct, its labels resolved when it is built: a request costs three
//! relaxed atomic adds and looks nothing up. The counters that every request
//! touches are ours, one copy per core so that workers do not fight over a
//! cache line, and are summed when somebody scrapes. Everything rarer is an
//! ordinary counter of the `prometheus` crate. What other rooms know anyway
//! (bytes in memory, the state of an origin) is asked for at the scrape.
//!
//! Every label has a bounded set of values: enums of ours, and the routes and
//! origins that the configuration names. Nothing a client sends is a label.
//!
//! This room is a leaf: it reads no configuration and calls no other room
//! (but asks the log how many lines it dropped).

mod hot;
mod labels;
mod scrape;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use strum::VariantArray;

use self::hot::{Hot, Row};
pub use self::labels::{Compression, FillResult, Invalidation, Reload};
pub use self::scrape::{MemoryState, OriginState};
use self::scrape::{Sources, VALID};
use crate::rules::Reason;
use crate::rules::cache_status::Outcome;

/// Buckets for the duration of fills, in seconds: a render is never faster
/// than a loopback round trip, and few are given more than a minute.
const FILL_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The metrics of one edge, with the routes and origins of one configuration.
///
/// A reload makes another one with [`Metrics::relabel`]; both count into the
/// same place, so a request that began under the old routes is counted right.
#[derive(Clone)]
pub struct Metrics {
    /// Indexed by the route; the last one is for requests that no route saw.
    routes: Box<[Arc<Row>]>,
    /// Indexed by the origin.
    origins: Box<[Histogram]>,
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    hot: Hot,
    fills: Box<[IntCounter]>,
    fill_seconds: HistogramVec,
    origin_labels: Mutex<Vec<String>>,
    fills_running: IntGauge,
    regenerations_running: IntGauge,
    regenerations_queued: IntGauge,
    invalidations: Box<[IntCounter]>,
    refused: Box<[IntCounter]>,
    connections_open: IntGauge,
    connections: IntCounter,
    compressions: Box<[IntCounter]>,
    compressed_in: IntCounter,
    compressed_out: IntCounter,
    reloads: Box<[IntCounter]>,
    reload_worked: IntGauge,
    reload_time: IntGauge,
    sources: Sources,
}

/// Counts down when it is dropped: something is open, running or waiting.
#[derive(Debug)]
#[must_use = "counts down as soon as it is dropped"]
pub struct Guard(IntGauge);

impl Guard {
    fn up(gauge: &IntGauge) -> Guard {
        gauge.inc();
        Guard(gauge.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Metrics in a registry of their own. The labels are those of routes and
    /// origins by index; equal labels share their counters.
    #[must_use]
    pub fn new(route_labels: &[String], origin_labels: &[String]) -> Metrics {
        let shared = Arc::new(Shared::new());
        Metrics::resolve(shared, route_labels, origin_labels)
    }

    /// Metrics that nobody scrapes, for tests: one route `/**`, one origin
    /// `web`; every other index is counted without a label.
    #[cfg(test)]
    pub fn for_tests() -> Metrics {
        Metrics::new(&["/**".to_owned()], &["web".to_owned()])
    }

    /// The same metrics for the routes and origins of a new configuration.
    /// What keeps its label counts on; a label that is gone leaves the output,
    /// so that reloads do not let the label sets grow.
    #[must_use]
    pub fn relabel(&self, route_labels: &[String], origin_labels: &[String]) -> Metrics {
        Metrics::resolve(Arc::clone(&self.shared), route_labels, origin_labels)
    }

    fn resolve(shared: Arc<Shared>, routes: &[String], origins: &[String]) -> Metrics {
        let routes = shared.hot.relabel(routes);
        let mut known = shared.origin_labels.lock();
        for gone in known.iter().filter(|old| !origins.contains(old)) {
            // An error says that it is not there, which is what is wanted.
            let _ = shared.fill_seconds.remove_label_values(&[gone]);
        }
        *known = origins.to_vec();
        drop(known);
        let resolved =
            origins.iter().map(|name| shared.fill_seconds.with_label_values(&[name])).collect();
        Metrics { routes, origins: resolved, shared }
    }

    /// A request was answered. `duration` runs from the end of its head to the
    /// first byte of the answer, so that a slow client or an endless stream
    /// does not look like a slow edge. A `route` that is none counts with an empty label: the
    /// request was answered before its route was known.
    #[inline]
    pub fn request(&self, route: usize, outcome: Outcome, status: u16, duration: Duration) {
        // The row of "no route" is always there, and the last one.
        if let Some(row) = self.routes.get(route).or(self.routes.last()) {
            self.shared.hot.request(row, outcome, status, duration);
        }
    }

    /// A fill ended. `duration` is the whole of it; `origin` its index.
    pub fn fill(&self, origin: usize, result: FillResult, duration: Duration) {
        if let Some(counter) = self.shared.fills.get(result.index()) {
            counter.inc();
        }
        if let Some(histogram) = self.origins.get(origin) {
            histogram.observe(duration.as_secs_f64());
        }
    }

    /// A fill runs until the guard is dropped.
    pub fn fill_running(&self) -> Guard {
        Guard::up(&self.shared.fills_running)
    }

    /// A regeneration runs until the guard is dropped. It is a fill as well.
    pub fn regeneration_running(&self) -> Guard {
        Guard::up(&self.shared.regenerations_running)
    }

    /// A regeneration waits for its turn until the guard is dropped.
    pub fn regeneration_queued(&self) -> Guard {
        Guard::up(&self.shared.regenerations_queued)
    }

    /// An invalidation was recorded.
    pub fn invalidation(&self, kind: Invalidation) {
        if let Some(counter) = self.shared.invalidations.get(kind as usize) {
            counter.inc();
        }
    }

    /// A response was delivered and not stored.
    pub fn refused(&self, reason: Reason) {
        if let Some(counter) = self.shared.refused.get(reason as usize) {
            counter.inc();
        }
    }

    /// A client's connection is open until the guard is dropped.
    pub fn connection(&self) -> Guard {
        self.shared.connections.inc();
        Guard::up(&self.shared.connections_open)
    }

    /// A stored body was compressed, from and to so many bytes.
    pub fn compression(&self, coding: Compression, from: u64, to: u64) {
        if let Some(counter) = self.shared.compressions.get(coding as usize) {
            counter.inc();
        }
        self.shared.compressed_in.inc_by(from);
        self.shared.compressed_out.inc_by(to);
    }

    /// The configuration was read again, at `at` in seconds since the Unix epoch.
    pub fn reload(&self, result: Reload, at: u64) {
        if let Some(counter) = self.shared.reloads.get(result as usize) {
            counter.inc();
        }
        self.configured(result, at);
    }

    /// The configuration was read for the first time, at `at` in seconds since the
    /// Unix epoch.
    pub fn started(&self, at: u64) {
        self.configured(Reload::Applied, at);
    }

    fn configured(&self, result: Reload, at: u64) {
        self.shared.reload_worked.set(i64::from(result == Reload::Applied));
        self.shared.reload_time.set(i64::try_from(at).unwrap_or(i64::MAX));
    }

    /// Asks `source` for the memory tier at every scrape, in place of the one
    /// before. It must be quick, and must not hold what holds these metrics.
    pub fn watch_memory(&self, source: impl Fn() -> MemoryState + Send + Sync + 'static) {
        self.shared.sources.watch_memory(Box::new(source));
    }

    /// Asks `source` for the origins at every scrape, in place of the one
    /// before. It must be quick, and must not hold what holds these metrics.
    pub fn watch_origins(&self, source: impl Fn() -> Vec<OriginState> + Send + Sync + 'static) {
        self.shared.sources.watch_origins(Box::new(source));
    }

    /// Everything in the Prometheus text format (version 0.0.4). Takes some
    /// milliseconds with hundreds of routes: not for a worker's own thread.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.shared.registry.gather();
        let mut out = String::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut out) {
            tracing::error!(%error, "some metrics could not be written");
        }
        out
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn new() -> Shared {
        let registry = Registry::new();
        let family = Registered(&registry);
        let fills = family.counters(
            "perennial_fills_total",
            "Fills by result and reason.",
            &["result", "reason"],
        );
        let fill_seconds = family.add(
            HistogramVec::new(
                HistogramOpts::new(
                    "perennial_fill_duration_seconds",
                    "Duration of whole fills, from asking the origin to the last byte.",
                )
                .buckets(FILL_BUCKETS.to_vec()),
                &["origin"],
            )
            .expect(VALID),
        );
        let build = Opts::new("perennial_build_info", "The version that runs.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        family.add(IntGauge::with_opts(build).expect(VALID)).set(1);

        let shared = Shared {
            fills: FillResult::all()
                .map(|r| fills.with_label_values(&[r.label(), r.reason().unwrap_or_default()]))
                .collect(),
            fill_seconds,
            origin_labels: Mutex::default(),
            fills_running: family.gauge("perennial_fills_running", "Fills that run."),
            regenerations_running: family
                .gauge("perennial_regenerations_running", "Regenerations that run."),
            regenerations_queued: family
                .gauge("perennial_regenerations_queued", "Regenerations that wait for their turn."),
            invalidations: family.labelled::<Invalidation>(
                "perennial_invalidations_total",
                "Invalidations by what they named.",
                "kind",
            ),
            refused: family.labelled::<Reason>(
                "perennial_not_stored_total",
                "Responses delivered and not stored, by reason.",
                "reason",
            ),
            connections_open: family
                .gauge("perennial_connections_open", "Connections of visitors that are open."),
            connections: family
                .counter("perennial_connections_total", "Connections of visitors accepted."),
            compressions: family.labelled::<Compression>(
                "perennial_compressions_total",
                "Stored bodies compressed, by coding.",
                "coding",
            ),
            compressed_in: family.counter(
                "perennial_compression_input_bytes_total",
                "Bytes of stored bodies before compression.",
            ),
            compressed_out: family.counter(
                "perennial_compression_output_bytes_total",
                "Bytes of stored bodies after compression.",
            ),
            reloads: family.labelled::<Reload>(
                "perennial_reloads_total",
                "Times the configuration was read again.",
                "result",
            ),
            reload_worked: family.gauge(
                "perennial_config_last_reload_successful",
                "1 if all of the configuration runs as it was last read, at the start or a reload.",
            ),
            reload_time: family.gauge(
                "perennial_config_last_reload_timestamp_seconds",
                "When the configuration was last read, whether it could be used or not.",
            ),
            hot: Hot::new(),
            sources: Sources::default(),
            registry: registry.clone(),
        };
        family.add(shared.hot.clone());
        family.add(shared.sources.clone());
        shared
    }
}

/// Registers what it makes.
struct Registered<'a>(&'a Registry);

impl Registered<'_> {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect(VALID);
        collector
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels).expect(VALID))
    }

    /// A counter for each value of `L`, in the order of their discriminants.
    fn labelled<L: VariantArray>(&self, name: &str, help: &str, label: &str) -> Box<[IntCounter]>
    where
        &'static str: From<&'static L>,
    {
        let family = self.counters(name, help, &[label]);
        L::VARIANTS.iter().map(|value| family.with_label_values(&[<&str>::from(value)])).collect()
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help).expect(VALID))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help).expect(VALID))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rules::cache_status::{Bypass, Failure, Fwd, StaleWhy};

    fn owned(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|&l| l.to_owned()).collect()
    }

    fn hit() -> Outcome {
        Outcome::Hit { ttl: Some(1) }
    }

    /// The value of a sample, written as the format has it.
    fn sample(metrics: &Metrics, name: &str) -> Option<f64> {
        let rendered = metrics.render();
        rendered.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok())
    }

    #[test]
    fn a_request_is_counted_by_route_outcome_and_class() {
        let metrics = Metrics::new(&owned(&["/blog/**", "/**"]), &owned(&["web"]));
        let route = "perennial_requests_total{outcome=\"hit\",route=\"/blog/**\",status=\"2xx\"}";
        assert_eq!(sample(&metrics, route), Some(0.0), "seen as a step from zero");
        for millis in [1, 2, 70_000] {
            metrics.request(0, hit(), 200, Duration::from_millis(millis));
        }
        let bad = Outcome::Failed { why: Failure::BadRequest };
        metrics.request(usize::MAX, bad, 400, Duration::ZERO);
        for (name, value) in [
            (route, 3.0),
            ("perennial_requests_total{outcome=\"failed\",route=\"\",status=\"4xx\"}", 1.0),
            ("perennial_requests_total{outcome=\"hit\",route=\"/**\",status=\"2xx\"}", 0.0),
            ("perennial_request_duration_seconds_bucket{outcome=\"hit\",le=\"0.000512\"}", 0.0),
            ("perennial_request_duration_seconds_bucket{outcome=\"hit\",le=\"0.001024\"}", 1.0),
            ("perennial_request_duration_seconds_bucket{outcome=\"hit\",le=\"67.108864\"}", 2.0),
            ("perennial_request_duration_seconds_bucket{outcome=\"hit\",le=\"+Inf\"}", 3.0),
            ("perennial_request_duration_seconds_count{outcome=\"hit\"}", 3.0),
            ("perennial_request_duration_seconds_sum{outcome=\"hit\"}", 70.003),
        ] {
            assert_eq!(sample(&metrics, name), Some(value), "{name}");
        }
    }

    #[test]
    fn threads_share_a_total() {
        let metrics = Metrics::for_tests();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        metrics.request(0, hit(), 200, Duration::from_micros(7));
                    }
                });
            }
        });
        let name = "perennial_requests_total{outcome=\"hit\",route=\"/**\",status=\"2xx\"}";
        assert_eq!(sample(&metrics, name), Some(8000.0));
    }

    #[test]
    fn a_reload_keeps_what_keeps_its_label_and_drops_what_is_gone() {
        let name = |route: &str| {
            format!("perennial_requests_total{{outcome=\"hit\",route=\"{route}\",status=\"2xx\"}}")
        };
        let old = Metrics::new(&owned(&["/a", "/b"]), &owned(&["web", "api"]));
        old.request(0, hit(), 200, Duration::ZERO);
        old.request(1, hit(), 200, Duration::ZERO);
        old.fill(1, FillResult::Stored, Duration::from_secs(1));
        let new = old.relabel(&owned(&["/c", "/b"]), &owned(&["web"]));
        new.request(1, hit(), 200, Duration::ZERO);
        // One that began under the old routes.
        old.request(1, hit(), 200, Duration::ZERO);
        old.request(0, hit(), 200, Duration::ZERO);
        old.fill(1, FillResult::Stored, Duration::from_secs(1));
        for metrics in [&old, &new] {
            assert_eq!(sample(metrics, &name("/b")), Some(3.0));
            assert_eq!(sample(metrics, &name("/c")), Some(0.0));
            assert_eq!(sample(metrics, &name("/a")), None);
            let api = "perennial_fill_duration_seconds_count{origin=\"api\"}";
            assert_eq!(sample(metrics, api), None);
            let fills = "perennial_fills_total{reason=\"\",result=\"stored\"}";
            assert_eq!(sample(metrics, fills), Some(2.0));
        }
    }

    #[test]
    fn every_fill_result_has_a_place_of_its_own() {
        let all: Vec<FillResult> = FillResult::all().collect();
        assert_eq!(all.len(), FillResult::COUNT);
        for (index, result) in all.iter().enumerate() {
            assert_eq!(result.index(), index, "{result:?}");
        }
        for (index, reason) in Reason::VARIANTS.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{reason:?}");
        }
    }

    #[test]
    fn what_is_open_counts_down_again() {
        let metrics = Metrics::for_tests();
        let name = "perennial_regenerations_running";
        let guard = metrics.regeneration_running();
        assert_eq!(sample(&metrics, name), Some(1.0));
        drop(guard);
        assert_eq!(sample(&metrics, name), Some(0.0));
        drop((metrics.connection(), metrics.fill_running(), metrics.regeneration_queued()));
        assert_eq!(sample(&metrics, "perennial_connections_open"), Some(0.0));
        assert_eq!(sample(&metrics, "perennial_connections_total"), Some(1.0));
    }

    #[test]
    fn other_rooms_are_asked_at_the_scrape() {
        let metrics = Metrics::for_tests();
        assert_eq!(sample(&metrics, "perennial_memory_bytes"), None);
        metrics.watch_memory(|| MemoryState { bytes: 7, limit: 9, entries: 2, evictions: 1 });
        metrics.watch_origins(|| {
            let name = "web".to_owned();
            vec![OriginState { name, healthy: 2, breaker_open: true, ..OriginState::default() }]
        });
        for (name, value) in [
            ("perennial_memory_bytes", 7.0),
            ("perennial_memory_limit_bytes", 9.0),
            ("perennial_memory_entries", 2.0),
            ("perennial_memory_evictions_total", 1.0),
            ("perennial_origin_servers{origin=\"web\",state=\"healthy\"}", 2.0),
            ("perennial_origin_breaker_open{origin=\"web\"}", 1.0),
        ] {
            assert_eq!(sample(&metrics, name), Some(value), "{name}");
        }
    }

    #[test]
    fn the_last_reload_is_told() {
        let metrics = Metrics::for_tests();
        metrics.started(1_700_000_000);
        let told = || {
            ["successful", "timestamp_seconds"]
                .map(|what| sample(&metrics, &format!("perennial_config_last_reload_{what}")))
        };
        assert_eq!(told(), [Some(1.0), Some(1_700_000_000.0)]);
        for (result, at, worked) in
            [(Reload::Refused, 5, 0.0), (Reload::Applied, 6, 1.0), (Reload::Partly, 7, 0.0)]
        {
            metrics.reload(result, at);
            assert_eq!(told(), [Some(worked), Some(at as f64)], "{result:?}");
        }
    }

    /// Everything that can be counted, once.
    fn everything(metrics: &Metrics) {
        let stored = [Ok(()), Err(Reason::Private)];
        for status in 0..1000 {
            for outcome in [
                hit(),
                Outcome::Stale { ttl: None, why: StaleWhy::Busy },
                Outcome::Miss { fwd: Fwd::Miss, status, stored: stored[0], collapsed: false },
                Outcome::Miss { fwd: Fwd::Stale, status, stored: stored[1], collapsed: true },
                Outcome::Revalidated { ttl: None, collapsed: false },
                Outcome::Bypass { why: Bypass::Dev },
                Outcome::Failed { why: Failure::Dns },
                Outcome::Own,
            ] {
                metrics.request(0, outcome, status, Duration::from_millis(3));
                metrics.request(usize::MAX, outcome, status, Duration::MAX);
            }
        }
        for result in FillResult::all() {
            metrics.fill(0, result, Duration::from_millis(3));
            metrics.fill(99, result, Duration::from_millis(3));
        }
        Reason::VARIANTS.iter().for_each(|&r| metrics.refused(r));
        Invalidation::VARIANTS.iter().for_each(|&k| metrics.invalidation(k));
        Compression::VARIANTS.iter().for_each(|&c| metrics.compression(c, 100, 10));
        Reload::VARIANTS.iter().for_each(|&r| metrics.reload(r, 7));
        metrics.watch_memory(MemoryState::default);
        metrics.watch_origins(|| vec![OriginState::default()]);
    }

    #[test]
    fn the_label_sets_are_bounded_and_the_names_follow_the_conventions() {
        let metrics = Metrics::for_tests();
        everything(&metrics);
        let rendered = metrics.render();
        let samples: Vec<&str> = rendered.lines().filter(|line| !line.starts_with('#')).collect();
        let names: BTreeSet<&str> =
            samples.iter().filter_map(|l| l.rsplit_once(' ').map(|(name, _)| name)).collect();
        assert_eq!(names.len(), samples.len(), "no sample twice");
        // Two routes × 35, 7 histograms × 28, fills, and 140 others at most.
        assert!(samples.len() < 70 + 196 + FillResult::COUNT + 140, "{}", samples.len());

        for line in rendered.lines() {
            let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            assert!(name.starts_with("perennial_"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            let seconds = name.ends_with("_seconds") && !name.ends_with("_timestamp_seconds");
            assert_eq!(kind == "histogram", seconds, "{line}");
        }
        let again = {
            everything(&metrics);
            metrics.render()
        };
        assert_eq!(again.lines().count(), rendered.lines().count(), "nothing new appears");
    }

    #[test]
    fn a_label_can_not_leave_its_quotes() {
        let metrics = Metrics::new(&owned(&["/a\"b\\c\nd"]), &[]);
        assert!(metrics.render().contains(r#"route="/a\"b\\c\nd""#));
    }
}
