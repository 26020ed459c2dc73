//! Asking the origin for one representation: the request is sent, the head of the response
//! is classified, and what becomes of it is announced before its body is moved.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use tokio::time::Instant;

use super::arrived::{self, Arrived};
use super::ask::Ask;
use super::classify::{self, Decision, Facts, Fate, Follow, For, Kind, Note, Stored, classify};
use super::context::Context;
use super::decode::{self, Coded};
use super::guarded::{self, Kept};
use super::pump::{End, Keep, Pump};
use super::registry::Member;
use super::stream::{Broken, Fill, Lead};
use crate::config;
use crate::framework::PageHints;
use crate::metrics::{FillResult, Guard};
use crate::origin::{
    Attempt, Exchange, Liveness, Permit, Priority, ProbeSite, RequestBody, Sample,
};
use crate::page::Representation;
use crate::rules::cache_status::Failure;
use crate::rules::storable::{Class, Verdict};
use crate::rules::{Reason, media};

/// What a fetch came to.
pub(super) enum Brought {
    /// Complete and storable.
    Page(Fetched),
    /// What is stored is good again; the cookies are for the leader. Whether it is
    /// a stale copy all the same.
    Refreshed(Arc<Representation>, Vec<HeaderValue>, bool),
    /// Middleware let the client through to what is stored.
    Confirmed,
    /// The page has no such form.
    NoData,
    /// The path is server-rendered.
    ServerRendered,
    /// A complete answer that is not stored; whether it removes what is.
    Refused(Reason, Class),
    /// A failed render.
    Failed(FillResult),
}

/// A representation, and what is known beside.
pub(super) struct Fetched {
    pub(super) rep: Arc<Representation>,
    /// What its body tells.
    pub(super) hints: PageHints,
    /// The deployment that rendered it.
    pub(super) deployment: Option<Box<str>>,
    /// The origin sent a stale copy of its own.
    pub(super) stale: bool,
}

/// The attempt must be made again.
enum Again {
    /// Without conditions.
    Unconditional,
    /// With this mark (see [`Ask::head`]).
    Marked(Box<str>),
}

/// One fetch.
pub(super) struct Fetch<'a> {
    pub(super) context: &'a Context,
    /// What is sent.
    pub(super) ask: &'a Ask,
    pub(super) member: &'a Member,
    pub(super) priority: Priority,
    /// It is a client's own request, and goes ahead of this, which would be for all.
    pub(super) ahead_of: Option<&'a Ask>,
}

/// The origin has answered, or could not be asked. Readers of the fill hear of it with
/// [`finish`](Self::finish): what else is to be asked for because of it comes before.
pub(super) struct Opened<'a> {
    pub(super) follow: Follow,
    next: Next<'a>,
}

enum Next<'a> {
    /// There is no body to move.
    Over(Brought),
    Body(Box<Response<'a>>),
}

impl<'a> Opened<'a> {
    const fn over(brought: Brought) -> Opened<'a> {
        Opened { follow: Follow::Nothing, next: Next::Over(brought) }
    }

    /// Announces to the readers what becomes of it, and brings it to its end.
    pub(super) async fn finish(self) -> Brought {
        match self.next {
            Next::Over(brought) => brought,
            Next::Body(response) => response.deliver().await,
        }
    }
}

/// A request that was answered.
struct Sent {
    exchange: Exchange,
    /// The origin might say that what is stored has not changed.
    conditional: bool,
    attempt: Attempt,
    answered: Option<Liveness>,
    /// How long the head took.
    took: Duration,
    place: Permit,
    running: Guard,
}

impl<'a> Fetch<'a> {
    fn fill(&self) -> &'a Fill {
        &self.member.flight.fill
    }

    fn site(&self) -> ProbeSite<'a> {
        ProbeSite {
            host: self.ask.key.host(),
            scheme: self.ask.key.scheme(),
            via: &self.ask.upstream.via,
        }
    }

    /// What the response is judged as an answer to.
    fn judging(&self) -> &'a Ask {
        self.ahead_of.unwrap_or(self.ask)
    }

    fn asked_for(&self) -> For {
        match self.ask {
            _ if self.ahead_of.is_some() => For::First,
            ask if ask.rendering.is_guarded() => For::Guarded,
            Ask { page: true, is_whole: true, .. } => For::AllAsAsked,
            Ask { page: true, is_whole: false, .. } => For::All,
            Ask { of_a_client: true, .. } => For::Client,
            Ask { of_a_client: false, .. } => For::Clients,
        }
    }

    /// Asks the origin, and decides what becomes of its answer.
    pub(super) async fn open(&self) -> Opened<'a> {
        let notes = &self.context.notes;
        let mut prior = self.member.prior.as_ref();
        let mut mark = notes.mark(self.ask.cache_buster_subject());
        let mut is_marked = false;
        loop {
            match self.attempt(prior, &mark).await {
                Ok(opened) => return opened,
                // A 304 that forbids storing, or to a request without conditions.
                Err(Again::Unconditional) if prior.is_some() => prior = None,
                Err(Again::Marked(new)) if !is_marked => {
                    is_marked = true;
                    notes.set_mark(self.ask.cache_buster_subject(), &new);
                    mark = new;
                }
                Err(again) => {
                    if matches!(again, Again::Unconditional) {
                        let detail = "304 without having been asked under a condition";
                        tracing::warn!(page = %self.ask.key, detail, "the origin failed");
                    }
                    return self.failed(Failure::Reset);
                }
            }
        }
    }

    fn failed(&self, why: Failure) -> Opened<'a> {
        self.fill().decide(Lead::Failed(why));
        Opened::over(Brought::Failed(FillResult::Failed(why)))
    }

    async fn attempt(
        &self,
        prior: Option<&Arc<Representation>>,
        mark: &str,
    ) -> Result<Opened<'a>, Again> {
        let sent = match self.send(prior, mark).await {
            Ok(sent) => sent,
            Err(why) => return Ok(self.failed(why)),
        };
        let ask = self.ask;
        let mut arrived = Arrived::new(&sent.exchange, self.fill().born);
        if let Some(deployment) = ask.upstream.deployments.learn_from(&arrived.headers, None) {
            ask.upstream.deployments.seen(&deployment);
        }
        if self.judging().page {
            arrived.drop_cookies(|line| ask.upstream.deployments.is_cookie(line));
        }
        if arrived.status == StatusCode::NOT_MODIFIED {
            let prior = prior.filter(|_| sent.conditional).ok_or(Again::Unconditional)?;
            let unchanged = self.unchanged(prior, &arrived).ok_or(Again::Unconditional)?;
            drain(sent.exchange).await;
            return Ok(unchanged);
        }
        // One that leads to where it came from is the page's own.
        if let Some(wanted) = arrived.marked(ask).filter(|wanted| **wanted != *mark) {
            drain(sent.exchange).await;
            return Err(Again::Marked(wanted));
        }
        Ok(self.decide(sent, arrived).await)
    }

    /// Sends the request when it has a place among the fills of the origin, and waits for
    /// the head of the response.
    async fn send(&self, prior: Option<&Arc<Representation>>, mark: &str) -> Result<Sent, Failure> {
        let (ask, fill, site) = (self.ask, self.fill(), self.site());
        let patience = ask.upstream.origin.config().fill_timeout;
        let place = place(ask, fill, self.priority, Instant::now() + patience).await?;
        let running = match self.priority {
            Priority::Background => ask.metrics.regeneration_running(),
            Priority::Client => ask.metrics.fill_running(),
        };
        let head = ask.head(prior.map(|prior| &**prior), mark).map_err(|_| Failure::BadRequest)?;
        // What is stored may have no validator to ask with.
        let conditional =
            [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| head.headers.contains_key(name));
        let attempt = ask.upstream.origin.admit(ask.key.path(), &site)?;
        // The render has all of its time, however long it waited for its place: a full
        // queue must not make the origin look dead.
        let sent = Instant::now();
        let mut relay = |head: ResponseHeader| arrived::relay(fill, &head);
        let fetched = ask.upstream.origin.fetch_with(head, sent + patience, &mut relay).await;
        let exchange = fetched.map_err(|error| {
            let server = error.server.map(|server| server.to_string());
            tracing::warn!(page = %ask.key, server, detail = error.detail, "the origin failed");
            let verdict = Liveness::of_failure(error.failure, error.stage, RequestBody::None);
            ask.upstream.origin.record(attempt, verdict, &site);
            error.failure
        })?;
        fill.arrived();
        let answered = Liveness::of_status(exchange.head.status, RequestBody::None);
        ask.upstream.origin.record(attempt, answered, &site);
        let took = sent.elapsed();
        Ok(Sent { exchange, conditional, attempt, answered, took, place, running })
    }

    /// The origin said that what is stored has not changed. None if it is about something
    /// else, or forbids storing now.
    fn unchanged(&self, prior: &Arc<Representation>, arrived: &Arrived) -> Option<Opened<'a>> {
        let (ask, fill) = (self.ask, self.fill());
        if ask.rendering.is_guarded() {
            let rep = guarded::confirmed(ask, prior, arrived)?;
            fill.decide(Lead::Refreshed(rep, arrived.cookies().into()));
            return Some(Opened::over(Brought::Confirmed));
        }
        let cache = self.context.cache.load();
        let (rep, stale) = arrived::refreshed(ask, &cache, prior, arrived)?;
        if stale {
            self.remember(&[Note::OriginStale]);
        }
        let rep = Arc::new(rep);
        if !ask.is_personal(&prior.names()) {
            return Some(Opened::over(Brought::Refreshed(rep, arrived.cookies(), stale)));
        }
        // It speaks of the page as clients with these cookies get it.
        let for_all = ask.judge().without_validation(&rep);
        fill.decide(Lead::Refreshed(rep, arrived.cookies().into()));
        let brought = Brought::Refused(Reason::Cookie, Class::Unshared);
        let follow = if for_all { Follow::WithoutCookies } else { Follow::Nothing };
        Some(Opened { follow, next: Next::Over(brought) })
    }

    /// Decides what becomes of a response, and takes note of what it says of the page.
    async fn decide(&self, sent: Sent, arrived: Arrived) -> Opened<'a> {
        let (ask, judging) = (self.ask, self.judging());
        let cache = self.context.cache.load_full();
        let kept = ask.rendering.is_guarded().then(|| guarded::kept(ask, &arrived));
        let mut verdict = match &kept {
            None => arrived.judge(judging),
            Some(Ok(kept)) => kept.page.judge_as(ask, arrived::NOBODY),
            Some(Err(refused)) => *refused,
        };
        let is_html = media::is_html(&sent.exchange.head.headers);
        let mut body = decode::Body::new(sent.exchange, &arrived.coded, cache.max_object);
        let mut ahead = None;
        if matches!(verdict, Verdict::Store { .. }) && arrived.tells_by_body(judging) {
            // Only its body tells whether the build made it. Others must not see it before.
            let Ok((start, complete)) = body.ahead(cache.max_object).await else {
                self.fill().decide(Lead::Failed(Failure::Reset));
                let why = FillResult::Rejected(Reason::Truncated);
                return Opened::over(Brought::Failed(why));
            };
            if !(complete && ask.upstream.preset.is_for_all(ask.form, &start)) {
                let (reason, class) = (Reason::ServerRendered, Class::ServerRendered);
                verdict = Verdict::Refuse { reason, class };
            }
            ahead = (!start.is_empty()).then_some(start);
        }
        let Decision { fate, notes, follow } =
            classify(&self.facts(&arrived, verdict, cache.max_object));
        // First the notes: readers that hear of it plan their request anew.
        self.remember(&notes);
        let is_guarded = ask.rendering.is_guarded();
        if matches!(fate, Fate::Stored { .. })
            && sent.answered == Some(Liveness::Served)
            && !(ask.carries.authorization || ask.carries.cookie || is_guarded)
        {
            let (site, page, took) = (self.site(), ask.page, sent.took);
            let sample = Sample { target: &ask.target, site, page, html: is_html, took };
            ask.upstream.origin.served(sent.attempt, &sample);
        }
        let response = Response {
            fetch: Fetch { ..*self },
            cache,
            arrived,
            kept: kept.and_then(Result::ok),
            fate,
            body,
            ahead,
            place: sent.place,
            _running: sent.running,
        };
        Opened { follow, next: Next::Body(Box::new(response)) }
    }

    fn facts(&self, arrived: &Arrived, verdict: Verdict, max: u64) -> Facts {
        let (ask, judging) = (self.ask, self.judging());
        let is_probe = judging.page && judging.upstream.preset.is_speculative(judging.form);
        let by_cookie = matches!(verdict, Verdict::Refuse { reason: Reason::Cookie, .. });
        Facts {
            asked_for: self.asked_for(),
            priority: self.priority,
            kind: if is_probe && arrived.brought_no_data(judging.form) {
                Kind::NotBrought
            } else if ask.upstream.preset.can_be_made_up(ask.form, &ask.fields) {
                Kind::Part
            } else {
                Kind::Usual
            },
            verdict,
            status: arrived.status,
            stored: match &self.member.replaces {
                None => Stored::Nothing,
                Some(rep) if rep.status.is_success() => Stored::Page,
                Some(_) => Stored::Other,
            },
            body: if matches!(arrived.coded, Coded::Unknown(_)) {
                classify::Body::Coded
            } else if arrived.length.is_some_and(|length| length > max) {
                classify::Body::TooLarge
            } else {
                classify::Body::Usual
            },
            is_for_all_but_cookies: by_cookie && arrived.is_reusable_without_cookies(ask),
            was_server_rendered: ask.server_rendered.is_some(),
        }
    }

    fn remember(&self, all: &[Note]) {
        let (notes, ask, judging) = (&self.context.notes, self.ask, self.judging());
        let about = || judging.about(notes, judging.form, judging.selection());
        let born = self.fill().born;
        for note in all {
            match note {
                Note::NoData => notes.set_no_data(about(), born),
                Note::ServerRendered => notes.set_server_rendered(about()),
                Note::StillServerRendered => {
                    ask.server_rendered.iter().for_each(|page| notes.set_server_rendered(*page));
                }
                Note::OriginStale => {
                    notes.wait(notes.page(ask.key.as_str()), ask.route.backoff.min, born);
                }
                Note::Uncollapsible => {
                    notes.set_uncollapsible(ask.about(notes, ask.form, self.member.crowd));
                }
            }
        }
    }
}

/// A response of which it is decided what becomes of it.
struct Response<'a> {
    fetch: Fetch<'a>,
    cache: Arc<config::Cache>,
    arrived: Arrived,
    /// What is stored of it where middleware runs before the page.
    kept: Option<Kept>,
    fate: Fate,
    body: decode::Body,
    /// What was read of the body already.
    ahead: Option<Bytes>,
    place: Permit,
    _running: Guard,
}

impl Response<'_> {
    /// Announces it and moves its body.
    async fn deliver(self) -> Brought {
        let Response { fetch, cache, arrived, kept, fate, body, ahead, place, _running } = self;
        let (ask, fill) = (fetch.ask, fetch.fill());
        let keep = match fate {
            Fate::NoData => {
                fill.decide(Lead::NoData);
                return Brought::NoData;
            }
            Fate::ServerRendered => {
                fill.decide(Lead::ServerRendered);
                return Brought::ServerRendered;
            }
            Fate::Stored { .. } => Keep::Store,
            Fate::SharedError(_) => Keep::Share,
            Fate::Private(..) => Keep::Pipe,
        };
        // As they came, cookies and all.
        let sent = body.exchange.head.headers.clone();
        let (length, max, priority) = (arrived.length, cache.max_object, fetch.priority);
        let idle = ask.upstream.origin.config().idle_timeout;
        let place = Some(place);
        let mut pump = Pump { fill, body, ahead, keep, length, max, priority, idle, place };
        let preview = Arc::new(arrived.preview(ask, &cache, fate, fetch.context.store.keeps()));
        if keep == Keep::Pipe || kept.is_some() {
            fill.decide(Lead::Private(preview));
            if priority == Priority::Client {
                pump.unbind();
            }
        } else {
            fill.decide(Lead::Shared(preview));
        }
        match (pump.run().await, fate) {
            (End::Complete(bytes), Fate::Stored { origin_stale: stale, .. }) => {
                let page = kept.as_ref().map_or(&arrived, |kept| &kept.page);
                if kept.as_ref().is_some_and(|kept| kept.if_exported)
                    && !ask.upstream.preset.is_for_all(ask.form, &bytes)
                {
                    fill.finish(Ok(None));
                    return Brought::Refused(Reason::Middleware, Class::Unshared);
                }
                let hints = arrived.page_hints(ask, &bytes);
                let deployment = ask.upstream.deployments.learn_from(&sent, hints.build.as_deref());
                let rep = Arc::new(page.store(ask, &cache, bytes));
                Brought::Page(Fetched { rep, hints, deployment, stale })
            }
            (end, fate) => {
                let is_whole = matches!(end, End::Complete(_) | End::Outgrown);
                fill.finish(if is_whole { Ok(None) } else { Err(Broken::Origin) });
                not_stored(&end, fate)
            }
        }
    }
}

/// What a fetch came to that brought nothing to store.
fn not_stored(end: &End, fate: Fate) -> Brought {
    let (reason, class) = match (end, fate) {
        (End::BrokenOff, _) => (Reason::Truncated, Class::Failed),
        (End::TooLarge | End::Outgrown, _) => (Reason::TooLarge, Class::Failed),
        (_, Fate::SharedError(reason)) => (reason, Class::Failed),
        (_, Fate::Private(reason @ Reason::TooLarge, _)) => (reason, Class::Failed),
        (End::Complete(_), Fate::Private(reason, class)) => (reason, class),
        // A client that has left has no say in what is stored.
        (End::Deserted, Fate::Private(reason, _)) => (reason, Class::Unshared),
        // Its one reader left: what middleware let through has no other.
        _ => (Reason::Middleware, Class::Unshared),
    };
    if class == Class::Failed {
        Brought::Failed(FillResult::Rejected(reason))
    } else {
        Brought::Refused(reason, class)
    }
}

/// Bytes of an unwanted body that are read to keep its connection.
const MAX_DRAINED: usize = 16 << 10;

/// Reads what is left of a short response, and keeps its connection.
async fn drain(mut exchange: Exchange) {
    let mut read = 0;
    while let Ok(Some(chunk)) = exchange.chunk().await {
        read += chunk.len();
        if read > MAX_DRAINED {
            return;
        }
    }
    exchange.finish().await;
}

/// A place among the fills of the origin. Whoever began it: as long as somebody
/// waits for it, it waits like a client's, and otherwise behind all clients.
async fn place(
    ask: &Ask,
    fill: &Fill,
    priority: Priority,
    deadline: Instant,
) -> Result<Permit, Failure> {
    let mut class = priority;
    loop {
        let regeneration = (priority, class) == (Priority::Background, Priority::Background);
        let _queued = regeneration.then(|| ask.metrics.regeneration_queued());
        let changed = async {
            match class {
                Priority::Client => fill.deserted().await,
                Priority::Background => fill.wanted().await,
            }
        };
        tokio::select! {
            biased;
            place = ask.upstream.origin.acquire(class, deadline) => match place {
                // Displaced by a client, while one has come for this.
                Err(Failure::Busy) if class == Priority::Background && fill.readers() > 0 => {}
                // The origin was not asked: it is busy.
                Err(Failure::Timeout) => return Err(Failure::Busy),
                place => return place,
            },
            () = changed => {}
        }
        class = if fill.readers() > 0 { Priority::Client } else { Priority::Background };
    }
}
