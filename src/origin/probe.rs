//! What the breaker asks before it opens (semantics §3).
//!
//! When many pages are silent that nobody was ever served, the origin may be
//! dead, or somebody may have made those pages up. So the origin is asked for
//! a page that was served: a request of our own, with nothing of a visitor's
//! but the URL. It takes no place among the fills, for those that hang may hold
//! all of them; there is only one at a time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use pingora::http::RequestHeader;
use tokio::time::Instant;

use super::breaker::PageId;
use super::{Attempt, Origin, RequestBody, Verdict};
use crate::config;
use crate::via::Via;

/// The longest that the origin may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Pages that are asked for, one after the other, until one is answered. One
/// page may have broken since it was served.
const ASKED: usize = 2;

/// Pages that are remembered of each rank.
const KEPT: usize = 8;

/// Bytes of URL and host up to which a page is remembered.
const MAX_BYTES: usize = 2048;

/// Time between two pages of which the later takes the place of another. Whoever
/// asks for many at once gets one place, and others theirs.
const REPLACE_EVERY: Duration = Duration::from_secs(1);

/// A page that a fill was served, as it asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Path and query.
    pub target: &'a str,
    /// The host the visitor named.
    pub host: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What our requests are marked with.
    pub via: &'a Via,
    /// It was asked for as the page of its route, so it answers the same again.
    /// Otherwise with the fields of a visitor, of which none is remembered.
    pub page: bool,
    /// It is HTML. Other files may come from somebody in front of the renderer.
    pub html: bool,
    /// How long the origin took.
    pub took: Duration,
}

/// Pages that were served: a few, chosen so that no visitor alone chooses them.
#[derive(Debug)]
pub(super) struct Samples {
    /// By what they tell, the best first (see [`Sample::rank`]).
    ranks: [Reservoir; RANKS],
    /// Pages that took longer are left out: they tell little by the deadline.
    slow: Duration,
}

#[derive(Debug, Default)]
struct Reservoir {
    kept: Vec<Arc<Kept>>,
    /// When the next page may take the place of one of these.
    next: Option<Instant>,
}

/// A page to ask for.
#[derive(Debug)]
pub(super) struct Kept {
    page: PageId,
    target: Box<str>,
    host: Box<str>,
    scheme: &'static str,
    via: Via,
}

/// How many ranks there are.
const RANKS: usize = 3;

impl Sample<'_> {
    const fn rank(&self) -> usize {
        match (self.page, self.html) {
            (true, true) => 0,
            (false, true) => 1,
            (_, false) => 2,
        }
    }
}

/// The longest that an origin of this configuration may take to answer.
pub(super) fn deadline(config: &config::Origin) -> Duration {
    config.fill_timeout.min(DEADLINE)
}

impl Samples {
    /// None yet. Pages that take longer than `slow` will not be among them.
    pub(super) fn new(slow: Duration) -> Self {
        Self { ranks: Default::default(), slow }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranks.iter().all(|rank| rank.kept.is_empty())
    }

    /// `page` was served.
    pub(super) fn add(&mut self, page: PageId, sample: &Sample<'_>, now: Instant) {
        if sample.took > self.slow || sample.target.len() + sample.host.len() > MAX_BYTES {
            return;
        }
        self.ranks[sample.rank()].add(page, now, || Kept {
            page,
            target: sample.target.into(),
            host: sample.host.into(),
            scheme: sample.scheme,
            via: sample.via.clone(),
        });
    }

    /// Some to ask for, in this order: [`ASKED`], or as many as there are.
    pub(super) fn pick(&self) -> Vec<Arc<Kept>> {
        let mut picked = Vec::new();
        for rank in &self.ranks {
            let mut kept = rank.kept.clone();
            fastrand::shuffle(&mut kept);
            // A page may have been asked for in both ways.
            kept.retain(|kept| picked.iter().all(|other: &Arc<Kept>| other.page != kept.page));
            picked.append(&mut kept);
        }
        picked.truncate(ASKED);
        picked
    }

    /// `page` is silent, while the origin answers another.
    fn forget(&mut self, page: PageId) {
        for rank in &mut self.ranks {
            rank.kept.retain(|kept| kept.page != page);
        }
    }
}

impl Reservoir {
    fn add(&mut self, page: PageId, now: Instant, make: impl FnOnce() -> Kept) {
        if self.kept.iter().any(|kept| kept.page == page) {
            return;
        }
        if self.kept.len() < KEPT {
            self.kept.push(Arc::new(make()));
        } else if self.next.is_none_or(|next| next <= now) {
            self.kept[fastrand::usize(..KEPT)] = Arc::new(make());
            self.next = Some(now + REPLACE_EVERY);
        }
    }
}

impl Kept {
    fn request(&self, origin: &Origin) -> pingora::Result<Box<RequestHeader>> {
        let mut request = RequestHeader::build("GET", self.target.as_bytes(), Some(5))?;
        request.insert_header("Host", origin.host_field(&self.host))?;
        request.insert_header("User-Agent", "perennial (probe)")?;
        request.insert_header("X-Forwarded-Host", &*self.host)?;
        request.insert_header("X-Forwarded-Proto", self.scheme)?;
        request.insert_header("Via", self.via.member())?;
        Ok(Box::new(request))
    }

    /// Asks for it. The body is not read.
    async fn ask(&self, origin: &Origin) -> Option<Verdict> {
        let request = self.request(origin).ok()?;
        let deadline = Instant::now() + deadline(origin.config());
        match origin.fetch(request, deadline).await {
            Ok(exchange) => Verdict::of_status(exchange.head.status, RequestBody::None),
            Err(error) => {
                let server = error.server.map(|server| server.to_string());
                tracing::warn!(
                    origin = %origin.config.name, server, detail = error.detail, "the probe failed"
                );
                Verdict::of_failure(error.failure, error.stage, RequestBody::None)
            }
        }
    }
}

/// Asks the origin for these pages, in the background, and tells its breaker. Ends
/// when nobody has the origin any more.
pub(super) fn send(origin: &Weak<Origin>, pages: Vec<Arc<Kept>>) {
    let mut report = Report { origin: origin.clone(), found: None };
    tokio::spawn(async move {
        let mut silent: Option<PageId> = None;
        for kept in pages {
            let Some(origin) = report.origin.upgrade() else { return };
            if let Some(page) = silent {
                // Not the last one, so it counts like any other request.
                origin.record(Attempt(page), Some(Verdict::Silent));
            }
            let verdict = kept.ask(&origin).await;
            report.found = verdict.map(|verdict| (kept.page, verdict));
            match verdict {
                Some(Verdict::Silent) => silent = Some(kept.page),
                Some(Verdict::Served | Verdict::Answered) => {
                    if let Some(page) = silent {
                        origin.samples.lock().forget(page);
                    }
                    return;
                }
                Some(Verdict::Unreachable) | None => return,
            }
        }
    });
}

/// Tells the breaker, however the task ends: it waits for that.
struct Report {
    origin: Weak<Origin>,
    found: Option<(PageId, Verdict)>,
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(origin) = self.origin.upgrade() {
            origin.probed(self.found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Server, config_of, eventually};
    use super::super::{MIN_ATTEMPTS, Origins};
    use super::*;

    fn sample<'a>(target: &'a str, via: &'a Via) -> Sample<'a> {
        let took = Duration::from_millis(1);
        let host = "www.example.com";
        Sample { target, host, scheme: "https", via, page: true, html: true, took }
    }

    fn targets(kept: &[Arc<Kept>]) -> Vec<&str> {
        kept.iter().map(|kept| &*kept.target).collect()
    }

    #[test]
    fn what_is_remembered() {
        let via = Via::default();
        let mut samples = Samples::new(DEADLINE / 2);
        let mut now = Instant::now();
        let add = |samples: &mut Samples, sample: Sample<'_>, now| {
            samples.add(PageId::of(sample.target), &sample, now);
        };
        let long = format!("/{}", "x".repeat(MAX_BYTES));
        add(&mut samples, sample(&long, &via), now);
        add(&mut samples, Sample { took: DEADLINE, ..sample("/slow", &via) }, now);
        assert!(samples.is_empty() && samples.pick().is_empty());

        add(&mut samples, Sample { html: false, ..sample("/file", &via) }, now);
        assert_eq!(targets(&samples.pick()), ["/file"]);
        add(&mut samples, Sample { page: false, ..sample("/ssr", &via) }, now);
        assert_eq!(targets(&samples.pick()), ["/ssr", "/file"]);
        add(&mut samples, sample("/page?a", &via), now);
        add(&mut samples, sample("/page?b", &via), now);
        assert_eq!(targets(&samples.pick()), ["/page?a", "/ssr"], "pages of routes first");

        // Many at once get no more than what is free and one place.
        for n in 0..1000 {
            add(&mut samples, sample(&format!("/early/{n}"), &via), now);
        }
        now += REPLACE_EVERY - Duration::from_millis(1);
        let early = samples.ranks[0].kept.clone();
        assert_eq!(early.len(), KEPT);
        for n in 0..1000 {
            add(&mut samples, sample(&format!("/late/{n}"), &via), now);
        }
        assert_eq!(targets(&samples.ranks[0].kept), targets(&early));
        now += Duration::from_millis(1);
        for n in 0..1000 {
            add(&mut samples, sample(&format!("/late/{n}"), &via), now);
        }
        let late = |kept: &&Arc<Kept>| kept.target.starts_with("/late/");
        assert_eq!(samples.ranks[0].kept.iter().filter(late).count(), 1);

        let picked = samples.pick();
        assert_eq!(picked.len(), ASKED);
        assert_ne!(picked[0].page, picked[1].page);
        samples.forget(picked[0].page);
        assert_eq!(samples.ranks[0].kept.len(), KEPT - 1);
    }

    /// So many pages are silent that nobody was served.
    fn made_up(origin: &Origin) {
        for n in 0..MIN_ATTEMPTS {
            let attempt = origin.admit(&format!("/made-up/{n}")).unwrap();
            origin.record(attempt, Some(Verdict::Silent));
        }
    }

    fn served(origin: &Origin, via: &Via, target: &str) {
        let attempt = origin.admit(target).unwrap();
        origin.record(attempt, Some(Verdict::Served));
        origin.served(attempt, &sample(target, via));
    }

    #[tokio::test]
    async fn the_request_is_ours_and_its_answer_is_believed() {
        let via = Via::default();
        let expected = format!(
            "GET /page?a HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: perennial (probe)\r\n\
             X-Forwarded-Host: www.example.com\r\nX-Forwarded-Proto: https\r\nVia: {}\r\n\r\n",
            via.member()
        );
        let server = Server::answering(move |head| {
            assert_eq!(head, expected);
            b"HTTP/1.1 500 Sorry\r\nContent-Length: 5\r\n\r\n".to_vec()
        })
        .await;
        let origins = Origins::new(&[config_of(&[&server])]);
        let origin = origins.get(0).unwrap();
        served(origin, &via, "/page?a");
        made_up(origin);
        assert!(!origin.breaker_open());
        eventually(|| origin.breaker.lock().doubts(Instant::now())).await;
        made_up(origin);
        assert!(!origin.breaker_open());
        assert_eq!(server.accepted(), 1);
    }

    #[tokio::test]
    async fn two_pages_are_asked_for_and_one_answer_is_enough() {
        let via = Via::default();
        for (alive, opens) in [(true, false), (false, true)] {
            let server = Server::answering(move |head| {
                let status = if alive && head.starts_with("GET /b ") { 200 } else { 503 };
                format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").into_bytes()
            })
            .await;
            let origins = Origins::new(&[config_of(&[&server])]);
            let origin = origins.get(0).unwrap();
            served(origin, &via, "/a");
            served(origin, &via, "/b");
            made_up(origin);
            let settled = || origin.breaker.lock().doubts(Instant::now()) || origin.breaker_open();
            eventually(settled).await;
            assert_eq!(origin.breaker_open(), opens);
        }
    }

    #[tokio::test]
    async fn a_probe_that_finds_nobody_opens_the_breaker_and_none_outlives_its_origin() {
        let via = Via::default();
        let origins = Origins::new(&[config_of(&[&Server::refusing().await])]);
        let origin = origins.get(0).unwrap();
        served(origin, &via, "/a");
        made_up(origin);
        eventually(|| origin.breaker_open()).await;

        let origins = Origins::new(&[config_of(&[&Server::refusing().await])]);
        let origin = origins.get(0).unwrap();
        served(origin, &via, "/a");
        made_up(origin);
        let weak = Arc::downgrade(origin);
        drop(origins);
        eventually(|| weak.strong_count() == 0).await;
    }
}
