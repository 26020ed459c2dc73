//! What the breaker asks before it opens, and while it is open (semantics §3).
//!
//! When many pages are silent, the origin may be dead, or somebody may have made
//! those pages up. So the origin is asked for others: requests of our own, with
//! nothing of a client's but the URL. They take no place among the fills, for
//! those that hang may hold all of them.
//!
//! What is asked for are pages that were served and stored for everybody, from
//! different sections of the site, and then `/`, which every site has. Any answer
//! will do, so the breaker never opens on the silence of made-up pages alone.

use std::sync::Arc;
use std::time::Duration;

use pingora::http::RequestHeader;
use tokio::time::Instant;

use super::breaker::PageId;
use crate::config;
use crate::via::Via;

/// The longest that the origin may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Pages that are asked for, one after the other, until one is answered. One
/// page may have broken since it was served.
const ASKED: usize = 3;

/// How many of them are not `/`.
const ASKED_SAMPLES: usize = 2;

/// The page of last resort.
const HOME: &str = "/";

/// Pages that are remembered of each rank.
const KEPT: usize = 8;

/// How many of them may be of one section.
const KEPT_OF_SECTION: usize = 2;

/// Bytes of URL and host up to which a page is remembered.
const MAX_BYTES: usize = 2048;

/// Time between two pages of which the later takes the place of another. Whoever
/// asks for many at once gets one place, and others theirs.
const REPLACE_EVERY: Duration = Duration::from_secs(1);

/// A site as clients ask for it: what a request of our own needs beside a target.
#[derive(Clone, Copy, Debug)]
pub struct ProbeSite<'a> {
    /// The host the client named.
    pub host: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What our requests are marked with.
    pub via: &'a Via,
}

/// A page that a fill was served and that may be stored for everybody, as the fill
/// asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Path, perhaps with a query. With one it is not remembered: it could be meant
    /// for one use.
    pub target: &'a str,
    /// Whose page it is.
    pub site: ProbeSite<'a>,
    /// It was asked for as the page of its route, so it answers the same again.
    /// Otherwise with the fields of a client, of which none is remembered.
    pub page: bool,
    /// It is HTML. Other files may come from somebody in front of the renderer.
    pub html: bool,
    /// How long the origin took.
    pub took: Duration,
}

/// Pages that were served: a few, chosen so that no client alone chooses them.
#[derive(Debug)]
pub(super) struct Samples {
    /// By what they tell, the best first (see [`Sample::rank`]).
    ranks: [Reservoir; RANKS],
    /// `/` of the hosts where something was served. What others name as their host
    /// may be made up as well.
    homes: Reservoir,
    /// The longest that the origin may take to answer.
    deadline: Duration,
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
    pub(super) page: PageId,
    /// Pages of the same section may break together.
    section: PageId,
    target: Box<str>,
    /// As the client named it.
    pub(super) host: Box<str>,
    scheme: &'static str,
    via: Via,
}

/// How many ranks there are.
const RANKS: usize = 4;

impl Sample<'_> {
    fn rank(&self, deadline: Duration) -> usize {
        match (self.page, self.html) {
            // It tells little by the deadline.
            _ if self.took > deadline / 2 => 3,
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
    /// None yet. Pages that take longer than `deadline` will not be among them.
    pub(super) fn new(deadline: Duration) -> Self {
        Self { ranks: Default::default(), homes: Reservoir::default(), deadline }
    }

    /// `page` was served.
    pub(super) fn add(&mut self, page: PageId, sample: &Sample<'_>, now: Instant) {
        let &Sample { target, site, took, .. } = sample;
        let asked_plainly = !target.contains(['?', ';']);
        if took > self.deadline || !asked_plainly || target.len() + site.host.len() > MAX_BYTES {
            return;
        }
        let rank = &mut self.ranks[sample.rank(self.deadline)];
        if rank.kept.iter().all(|kept| kept.page != page) {
            let section = PageId::section(target);
            rank.add(section, now, || Kept::new(page, section, target, &site));
        }
    }

    /// Something was served here.
    pub(super) fn know(&mut self, site: &ProbeSite<'_>, now: Instant) {
        let known = |kept: &Arc<Kept>| *kept.host == *site.host && kept.scheme == site.scheme;
        if site.host.len() <= MAX_BYTES && !self.homes.kept.iter().any(known) {
            self.homes.add(PageId::of(site.host), now, || Kept::home(site));
        }
    }

    /// Some to ask for, in this order: of different sections if there are, and `/`
    /// last; where nothing was served yet, that of `site`. One at least and at most
    /// [`ASKED`].
    pub(super) fn pick(&self, site: &ProbeSite<'_>) -> Vec<Arc<Kept>> {
        let mut picked: Vec<Arc<Kept>> = Vec::new();
        let mut others = Vec::new();
        for rank in &self.ranks {
            for kept in rank.shuffled() {
                if picked.iter().all(|other| other.section != kept.section) {
                    picked.push(kept);
                } else if picked.iter().all(|other| other.page != kept.page) {
                    // A page may have been asked for in both ways.
                    others.push(kept);
                }
            }
        }
        picked.append(&mut others);
        picked.truncate(ASKED_SAMPLES);
        let mut homes = self.homes.shuffled();
        if homes.is_empty() {
            homes.push(Arc::new(Kept::home(site)));
        }
        homes.retain(|home| !picked.iter().any(|other| other.is_same(home)));
        picked.append(&mut homes);
        picked.truncate(ASKED);
        picked
    }

    /// These are silent, while the origin answers another.
    pub(super) fn forget(&mut self, silent: &[Arc<Kept>]) {
        for reservoir in self.ranks.iter_mut().chain([&mut self.homes]) {
            reservoir.kept.retain(|kept| !silent.iter().any(|other| Arc::ptr_eq(kept, other)));
        }
    }
}

impl Reservoir {
    /// Another page, if there is room for it or if it is time to replace one: one of its
    /// own section when that has its share.
    fn add(&mut self, section: PageId, now: Instant, make: impl FnOnce() -> Kept) {
        let of_section = |&n: &usize| self.kept[n].section == section;
        let mut rivals: Vec<usize> = (0..self.kept.len()).filter(of_section).collect();
        if rivals.len() < KEPT_OF_SECTION {
            if self.kept.len() < KEPT {
                self.kept.push(Arc::new(make()));
                return;
            }
            rivals = (0..KEPT).collect();
        }
        if self.next.is_none_or(|next| next <= now) {
            self.kept[rivals[fastrand::usize(..rivals.len())]] = Arc::new(make());
            self.next = Some(now + REPLACE_EVERY);
        }
    }

    fn shuffled(&self) -> Vec<Arc<Kept>> {
        let mut kept = self.kept.clone();
        fastrand::shuffle(&mut kept);
        kept
    }
}

impl Kept {
    fn new(page: PageId, section: PageId, target: &str, site: &ProbeSite<'_>) -> Kept {
        let &ProbeSite { host, scheme, via } = site;
        Kept { page, section, target: target.into(), host: host.into(), scheme, via: via.clone() }
    }

    /// Those of different hosts are of different sections.
    fn home(site: &ProbeSite<'_>) -> Kept {
        Kept::new(PageId::of(HOME), PageId::of(site.host), HOME, site)
    }

    fn is_same(&self, other: &Kept) -> bool {
        self.page == other.page && self.host == other.host
    }

    pub(super) fn site(&self) -> ProbeSite<'_> {
        ProbeSite { host: &self.host, scheme: self.scheme, via: &self.via }
    }

    /// The request for it, with what its origin wants as `Host`.
    pub(super) fn request(&self, host: &str) -> pingora::Result<Box<RequestHeader>> {
        let mut request = RequestHeader::build("GET", self.target.as_bytes(), Some(5))?;
        request.insert_header("Host", host)?;
        request.insert_header("User-Agent", "perennial (probe)")?;
        request.insert_header("X-Forwarded-Host", &*self.host)?;
        request.insert_header("X-Forwarded-Proto", self.scheme)?;
        request.insert_header("Via", self.via.member())?;
        Ok(Box::new(request))
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::MIN_ATTEMPTS;
    use super::super::tests::{Server, config_of, eventually};
    use super::super::{Liveness, Origin, Origins};
    use super::*;

    fn sample<'a>(target: &'a str, via: &'a Via) -> Sample<'a> {
        let took = Duration::from_millis(1);
        Sample { target, site: site("www.example.com", via), page: true, html: true, took }
    }

    fn site<'a>(host: &'a str, via: &'a Via) -> ProbeSite<'a> {
        ProbeSite { host, scheme: "https", via }
    }

    fn targets(kept: &[Arc<Kept>]) -> Vec<&str> {
        kept.iter().map(|kept| &*kept.target).collect()
    }

    /// Samples, and the clock and site of those who ask.
    struct Bench {
        samples: Samples,
        now: Instant,
        via: Via,
    }

    impl Bench {
        fn new() -> Bench {
            let samples = Samples::new(DEADLINE);
            Bench { samples, now: Instant::now(), via: Via::default() }
        }

        fn add(&mut self, target: &str) {
            self.add_as(target, |_| {});
        }

        fn add_as(&mut self, target: &str, change: impl FnOnce(&mut Sample<'_>)) {
            let mut sample = sample(target, &self.via);
            change(&mut sample);
            self.samples.add(PageId::of(target), &sample, self.now);
        }

        fn know(&mut self, host: &str) {
            self.samples.know(&site(host, &self.via), self.now);
        }

        fn pick(&self) -> Vec<Arc<Kept>> {
            self.samples.pick(&site("anybody.example", &self.via))
        }

        fn kept(&self, starting: &str) -> usize {
            let kept = self.samples.ranks.iter().flat_map(|rank| &rank.kept);
            kept.filter(|kept| kept.target.starts_with(starting)).count()
        }
    }

    #[test]
    fn what_is_remembered() {
        let mut bench = Bench::new();
        bench.add(&format!("/{}", "x".repeat(MAX_BYTES)));
        bench.add_as("/late", |sample| sample.took = DEADLINE + Duration::from_millis(1));
        for target in ["/magic?token=SECRET", "/?a", "/a;jsessionid=SECRET"] {
            bench.add(target);
        }
        assert_eq!(bench.kept(""), 0);

        bench.add_as("/slow", |sample| sample.took = DEADLINE);
        assert_eq!(targets(&bench.pick()), ["/slow", "/"]);
        bench.add_as("/file", |sample| sample.html = false);
        assert_eq!(targets(&bench.pick()), ["/file", "/slow", "/"]);
        bench.add_as("/ssr", |sample| sample.page = false);
        assert_eq!(targets(&bench.pick()), ["/ssr", "/file", "/"]);
        bench.add("/page");
        assert_eq!(targets(&bench.pick()), ["/page", "/ssr", "/"], "pages of routes first");
        bench.add_as("/page", |sample| sample.page = false);
        assert_eq!(targets(&bench.pick()), ["/page", "/ssr", "/"], "in both ways");
    }

    #[test]
    fn whoever_asks_for_many_pages_at_once_gets_no_more_than_the_free_places_and_one() {
        let mut bench = Bench::new();
        let late = |bench: &mut Bench| {
            for n in 0..1000 {
                bench.add(&format!("/late-{n}"));
            }
        };
        for n in 0..1000 {
            bench.add(&format!("/early-{n}"));
        }
        assert_eq!((bench.kept("/early"), bench.kept("")), (KEPT, KEPT));
        bench.now += REPLACE_EVERY - Duration::from_millis(1);
        late(&mut bench);
        assert_eq!(bench.kept("/late"), 0);
        bench.now += Duration::from_millis(1);
        late(&mut bench);
        assert_eq!((bench.kept("/late"), bench.kept("")), (1, KEPT));
    }

    /// What breaks one section of a site must not take all of them.
    #[test]
    fn samples_are_of_different_sections() {
        let mut bench = Bench::new();
        for n in 0..1000 {
            bench.add(&format!("/proxy/{n}"));
            bench.add(&format!("//PR%4fXY/other/{n}"));
            bench.now += REPLACE_EVERY;
        }
        assert_eq!(bench.kept(""), KEPT_OF_SECTION);
        let both = bench.pick();
        assert_eq!(both.len(), ASKED, "two of one section where there is no other");
        assert_ne!(both[0].page, both[1].page);

        // Also one of a lower rank.
        bench.add_as("/about", |sample| sample.html = false);
        for _ in 0..20 {
            let picked = bench.pick();
            assert_ne!(*picked[0].target, *"/about");
            assert_eq!(targets(&picked)[1..], ["/about", "/"]);
        }
    }

    /// `/` is asked last, of a host where something was served if there is one.
    #[test]
    fn there_is_always_a_page_to_ask_for() {
        let mut bench = Bench::new();
        let hosts = |kept: &[Arc<Kept>]| -> Vec<String> {
            let mut hosts: Vec<_> = kept.iter().map(|kept| kept.host.to_string()).collect();
            hosts.sort_unstable();
            hosts
        };
        let picked = bench.pick();
        assert_eq!((targets(&picked), hosts(&picked)), (vec!["/"], vec!["anybody.example".into()]));
        assert_eq!((picked[0].page, picked[0].scheme), (PageId::of("/"), "https"));

        for _ in 0..3 {
            bench.know("a.example");
            bench.know("b.example");
        }
        bench.know(&"x".repeat(MAX_BYTES + 1));
        let picked = bench.pick();
        assert_eq!((targets(&picked), hosts(&picked).len()), (vec!["/", "/"], 2));
        assert_eq!(hosts(&picked), ["a.example", "b.example"], "none that is made up");

        // It is no sample and page of last resort at once.
        bench.add_as("/", |sample| sample.site.host = "a.example");
        let picked = bench.pick();
        assert_eq!(hosts(&picked), ["a.example", "b.example"]);

        for n in 0..1000 {
            bench.know(&format!("{n}.example"));
        }
        assert_eq!(bench.samples.homes.kept.len(), KEPT);
        bench.add("/one");
        assert_eq!(bench.pick().len(), ASKED);
    }

    #[test]
    fn what_is_silent_while_another_answers_is_forgotten() {
        let mut bench = Bench::new();
        bench.add("/a");
        bench.add("/b");
        bench.know("www.example.com");
        let picked = bench.pick();
        bench.samples.forget(&[Arc::clone(&picked[0]), Arc::clone(&picked[2])]);
        let left = bench.pick();
        assert!(Arc::ptr_eq(&left[0], &picked[1]));
        assert_eq!(&*left[1].host, "anybody.example");
    }

    const HOST: &str = "www.example.com";

    /// So many pages are silent that nobody was served.
    fn made_up(origin: &Origin, via: &Via) {
        for n in 0..MIN_ATTEMPTS {
            let attempt = origin.admit(&format!("/made-up/{n}"), &site(HOST, via)).unwrap();
            origin.record(attempt, Some(Liveness::Silent), &site(HOST, via));
        }
    }

    fn served(origin: &Origin, via: &Via, target: &str) {
        let attempt = origin.admit(target, &site(HOST, via)).unwrap();
        origin.record(attempt, Some(Liveness::Served), &site(HOST, via));
        origin.served(attempt, &sample(target, via));
    }

    /// Whatever the page of last resort says.
    #[tokio::test]
    async fn the_request_is_ours_and_its_answer_is_believed() {
        for known in [&["/page"][..], &[]] {
            let via = Via::default();
            let expected = format!(
                "GET {} HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: perennial (probe)\r\n\
                 X-Forwarded-Host: www.example.com\r\nX-Forwarded-Proto: https\r\nVia: {}\r\n\r\n",
                known.first().unwrap_or(&"/"),
                via.member()
            );
            let server = Server::answering(move |head| {
                assert_eq!(head, expected);
                b"HTTP/1.1 500 Sorry\r\nContent-Length: 5\r\n\r\n".to_vec()
            })
            .await;
            let origins = Origins::new(&[config_of(&[&server])]);
            let origin = origins.get(0).unwrap();
            for target in known {
                served(origin, &via, target);
            }
            made_up(origin, &via);
            assert!(!origin.breaker_open());
            eventually(|| origin.breaker.lock().doubts(Instant::now())).await;
            made_up(origin, &via);
            assert!(!origin.breaker_open());
            assert_eq!(server.accepted(), 1);
        }
    }

    #[tokio::test]
    async fn three_pages_are_asked_for_and_one_answer_is_enough() {
        let via = Via::default();
        for alive in ["/b", "/", "nothing"] {
            let server = Server::answering(move |head| {
                let lives = head.starts_with(&format!("GET {alive} "));
                let status = if lives { 200 } else { 503 };
                format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").into_bytes()
            })
            .await;
            let origins = Origins::new(&[config_of(&[&server])]);
            let origin = origins.get(0).unwrap();
            served(origin, &via, "/a");
            served(origin, &via, "/b");
            made_up(origin, &via);
            let settled = || origin.breaker.lock().doubts(Instant::now()) || origin.breaker_open();
            eventually(settled).await;
            assert_eq!(origin.breaker_open(), alive == "nothing", "{alive}");
        }
    }

    #[tokio::test]
    async fn a_probe_that_finds_nobody_opens_the_breaker_and_none_outlives_its_origin() {
        let via = Via::default();
        let origins = Origins::new(&[config_of(&[&Server::refusing().await])]);
        let origin = origins.get(0).unwrap();
        made_up(origin, &via);
        eventually(|| origin.breaker_open()).await;

        let origins = Origins::new(&[config_of(&[&Server::refusing().await])]);
        let origin = origins.get(0).unwrap();
        made_up(origin, &via);
        let weak = Arc::downgrade(origin);
        drop(origins);
        eventually(|| weak.strong_count() == 0).await;
    }
}
