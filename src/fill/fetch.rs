//! Asking the origin for one representation: the head decides what becomes of
//! the fill, and the body is streamed to whoever reads.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use pingora::http::ResponseHeader;
use tokio::time::Instant;

use super::decode::{self, Coded};
use super::request::Ask;
use super::stream::{Broken, Fill, Lead};
use super::{Fills, Member, commit, guarded};
use crate::framework::Told;
use crate::metrics::FillResult;
use crate::origin::{
    Exchange, Permit, Priority, RequestBody, Sample, Site, Verdict as OriginVerdict,
};
use crate::page::{Form, Representation};
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
    pub(super) told: Told,
    /// The deployment that rendered it.
    pub(super) deployment: Option<Box<str>>,
    /// The origin sent a stale copy of its own.
    pub(super) stale: bool,
}

/// Whether a fetch is of the page's own, or a guess at what it may have: a pair in
/// the background that nobody has asked for.
fn is_guess(member: &Member, priority: Priority) -> bool {
    priority == Priority::Background && member.replaces.is_none()
}

/// The attempt must be made again.
enum Again {
    /// Without conditions.
    Unconditional,
    /// With this mark (see [`Ask::head`]).
    Marked(Box<str>),
}

impl Fills {
    /// Asks the origin for one representation, streams it to who reads, and
    /// builds what is to be stored.
    pub(super) async fn fetch(&self, ask: &Ask, member: &Member, priority: Priority) -> Brought {
        let fill = &*member.flight.fill;
        let mut prior = member.prior.as_deref();
        let mut mark = self.0.notes.mark(ask.marked_by());
        let mut told = false;
        loop {
            match self.attempt(ask, member, priority, prior, &mark).await {
                Ok(brought) => return brought,
                // A 304 that forbids storing, or that answers a question nobody asked.
                Err(Again::Unconditional) if prior.is_some() => prior = None,
                Err(Again::Marked(new)) if !told => {
                    told = true;
                    self.0.notes.set_mark(ask.marked_by(), &new);
                    mark = new;
                }
                Err(again) => {
                    if matches!(again, Again::Unconditional) {
                        let detail = "304 without having been asked under a condition";
                        tracing::warn!(page = %ask.key, detail, "the origin failed");
                    }
                    fill.decide(Lead::Failed(Failure::Reset));
                    return Brought::Failed(FillResult::Failed(Failure::Reset));
                }
            }
        }
    }

    async fn attempt(
        &self,
        ask: &Ask,
        member: &Member,
        priority: Priority,
        prior: Option<&Representation>,
        mark: &str,
    ) -> Result<Brought, Again> {
        let inner = &self.0;
        let cache = inner.cache.load_full();
        let fill = &*member.flight.fill;
        let fail = |why: Failure| {
            fill.decide(Lead::Failed(why));
            Ok(Brought::Failed(FillResult::Failed(why)))
        };
        let patience = ask.origin.config().fill_timeout;
        let background = priority == Priority::Background;
        let permit = match slot(ask, fill, priority, Instant::now() + patience).await {
            Ok(permit) => permit,
            Err(why) => return fail(why),
        };
        let _running = if background {
            ask.metrics.regeneration_running()
        } else {
            ask.metrics.fill_running()
        };
        let Ok(head) = ask.head(prior, mark) else { return fail(Failure::BadRequest) };
        // What is stored may have no validator to ask with.
        let conditional =
            [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| head.headers.contains_key(name));
        let prior = prior.filter(|_| conditional);
        let site = Site { host: &ask.host, scheme: ask.scheme, via: &ask.via };
        let attempt = match ask.origin.admit(ask.key.path(), &site) {
            Ok(attempt) => attempt,
            Err(why) => return fail(why),
        };
        let record = |verdict| ask.origin.record(attempt, verdict, &site);
        // The render has all of its time, however long it waited for its place: who
        // fills the queue must not make others look dead.
        let sent = Instant::now();
        let deadline = sent + patience;
        let mut relay = |head: ResponseHeader| commit::relay(fill, &head);
        let exchange = match ask.origin.fetch_with(head, deadline, &mut relay).await {
            Ok(exchange) => exchange,
            Err(error) => {
                let server = error.server.map(|server| server.to_string());
                tracing::warn!(page = %ask.key, server, detail = error.detail, "the origin failed");
                record(OriginVerdict::of_failure(error.failure, error.stage, RequestBody::None));
                return fail(error.failure);
            }
        };
        fill.arrived();
        let answered = OriginVerdict::of_status(exchange.head.status, RequestBody::None);
        record(answered);
        let took = sent.elapsed();
        let mut arrived = commit::Arrived::new(&exchange, fill.born);
        if let Some(deployment) = ask.deployments.of(&arrived.headers, None) {
            ask.deployments.seen(&deployment);
        }
        let as_sent = exchange.head.headers.clone();
        // What goes first is judged as what is for all would be.
        let first = member.goes_first.as_deref();
        let judging = first.unwrap_or(ask);
        if judging.page {
            arrived.drop_cookies(|line| ask.deployments.is_cookie(line));
        }
        if arrived.status == 304 {
            let Some(prior) = prior else { return Err(Again::Unconditional) };
            if ask.rendering.is_guarded() {
                let confirmed = guarded::confirmed(ask, prior, &arrived);
                let Some(rep) = confirmed else { return Err(Again::Unconditional) };
                drain(exchange).await;
                fill.decide(Lead::Refreshed(rep, arrived.cookies().into()));
                return Ok(Brought::Confirmed);
            }
            let Some((rep, stale)) = commit::refreshed(ask, &cache, prior, &arrived) else {
                return Err(Again::Unconditional);
            };
            if stale {
                let page = inner.notes.page(ask.key.as_str());
                inner.notes.wait(page, ask.route.backoff.min, fill.born);
            }
            drain(exchange).await;
            let rep = Arc::new(rep);
            if ask.is_personal(&prior.names()) {
                // What it says of the page it says to who has these cookies.
                let for_all = ask.judge().without_validation(&rep);
                fill.decide(Lead::Refreshed(rep, arrived.cookies().into()));
                if for_all {
                    self.bring_for_all(ask);
                }
                return Ok(Brought::Refused(Reason::Cookie, Class::Unshared));
            }
            return Ok(Brought::Refreshed(rep, arrived.cookies(), stale));
        }
        // One that leads to where it came from is the page's own.
        if let Some(wanted) = arrived.marked(ask).filter(|wanted| **wanted != *mark) {
            drain(exchange).await;
            return Err(Again::Marked(wanted));
        }
        let no_data =
            ask.page && ask.preset.is_probe(ask.form) && arrived.brought_no_data(ask.form);
        if no_data {
            inner.notes.set_no_data(ask.about(&inner.notes, ask.form, ask.selection()), fill.born);
            if !ask.is_whole {
                fill.decide(Lead::NoData);
                return Ok(Brought::NoData);
            }
        }
        let mut stale = false;
        let kept = ask.rendering.is_guarded().then(|| guarded::kept(ask, &arrived));
        let mut verdict = match &kept {
            None => arrived.judge(judging),
            Some(Ok(kept)) => kept.page.judge_as(ask, guarded::NOBODY),
            Some(Err(refused)) => *refused,
        };
        let kept = kept.and_then(Result::ok);
        let mut coming = decode::Body::new(exchange, &arrived.coded, cache.max_object);
        let mut ahead = None;
        if matches!(verdict, Verdict::Store { .. }) && arrived.tells_by_body(judging) {
            // Only its body tells whether the build made it. Others must not see it before.
            let Ok((body, complete)) = coming.ahead(cache.max_object).await else {
                fill.decide(Lead::Failed(Failure::Reset));
                return Ok(Brought::Failed(FillResult::Rejected(Reason::Truncated)));
            };
            if !(complete && ask.preset.is_for_all(ask.form, &body)) {
                let (reason, class) = (Reason::ServerRendered, Class::ServerRendered);
                verdict = Verdict::Refuse { reason, class };
            }
            ahead = (!body.is_empty()).then_some(body);
        }
        if let Some(shared) = first {
            let reason = self.went_first(shared, ask, &arrived, verdict);
            verdict = Verdict::Refuse { reason, class: Class::Unshared };
        }
        let (terms, mut refused) = match verdict {
            // Its client's own request is not made twice.
            _ if no_data => (None, Some((Reason::ContentType, Class::Unshared))),
            // What visitors can make up must not take the place of what there is.
            Verdict::Store { .. }
                if arrived.status == 404
                    && ask.form == Form::Rsc
                    && ask.preset.is_part(ask.form, &ask.fields) =>
            {
                (None, Some((Reason::Status, Class::Unshared)))
            }
            Verdict::Store { terms, origin_stale } => {
                stale = origin_stale;
                if origin_stale {
                    let page = inner.notes.page(ask.key.as_str());
                    inner.notes.wait(page, ask.route.backoff.min, fill.born);
                }
                (Some(terms), None)
            }
            Verdict::Refuse { class: Class::ServerRendered, .. } => {
                // First the note: who hears of it makes the key of the request anew.
                if !is_guess(member, priority) {
                    let about = ask.about(&inner.notes, ask.form, ask.selection());
                    inner.notes.set_server_rendered(about);
                }
                if !ask.is_whole {
                    fill.decide(Lead::ServerRendered);
                    return Ok(Brought::ServerRendered);
                }
                (None, Some((Reason::ServerRendered, Class::Unshared)))
            }
            Verdict::Refuse { reason, class } => (None, Some((reason, class))),
        };
        let for_all = matches!(refused, Some((Reason::Cookie, _)))
            && arrived.is_reusable_without_cookies(ask);
        if for_all && !(background || ask.prefetch) {
            self.bring_for_all(ask);
        }
        if let (Some(page), true) = (ask.server_rendered, refused.is_some() && !for_all) {
            // Still so, and it counts as that for as long again.
            inner.notes.set_server_rendered(page);
        }
        // Beside a good page that is stored an error is a failed render, or one client's own.
        if let (Some(replaced), false) = (&member.replaces, ask.page)
            && refused.is_none()
            && replaced.status.is_success()
            && !arrived.status.is_success()
        {
            if arrived.status.is_server_error() {
                refused = Some((Reason::ServerError, Class::Failed));
            } else if ask.of_a_client {
                refused = Some((Reason::Status, Class::Unshared));
            }
        }
        if refused.is_none() && arrived.length.is_some_and(|n| n > cache.max_object) {
            refused = Some((Reason::TooLarge, Class::Unshared));
        }
        let stored = match &refused {
            Some((reason, _)) => Err(*reason),
            None if !inner.store.keeps() => Err(Reason::NoCache),
            None => Ok(()),
        };
        if refused.is_none()
            && answered == Some(OriginVerdict::Served)
            && !(ask.authorization || ask.cookie || kept.is_some())
        {
            let html = media::is_html(&as_sent);
            let sample = Sample { target: &ask.target, site, page: ask.page, html, took };
            ask.origin.served(attempt, &sample);
        }
        // An error on a page route is shared by all who waited, or each would retry it at once.
        let shared_error = ask.page
            && matches!(refused, Some((_, Class::Failed)))
            && !matches!(arrived.coded, Coded::Unknown(_));
        let reusable = ask.page || terms.is_some_and(|terms| arrived.without_validation(&terms));
        let preview = arrived.preview(ask, &cache, stored, reusable, shared_error);
        let preview = Arc::new(preview);
        let crowd = ask.about(&inner.notes, ask.form, member.crowd);
        let mut permit = Some(permit);
        let shared = (refused.is_none() && kept.is_none()) || shared_error;
        if shared {
            if terms.is_some_and(|terms| terms.always_validate()) && !ask.page {
                // Nobody waits in vain from now on.
                inner.notes.set_uncollapsible(crowd);
            }
            fill.decide(Lead::Shared(preview));
        } else {
            // What one client is told says nothing of a page that another request brought, nor
            // of what will be for all.
            let alone = first.is_some() || ask.rendering.is_guarded();
            if !(alone || ask.of_a_client && member.replaces.is_some()) {
                inner.notes.set_uncollapsible(crowd);
            }
            fill.decide(Lead::Private(preview));
            if !background {
                self.unbind(ask, &mut coming.exchange, &mut permit);
            }
        }

        let mut body: Vec<u8> = Vec::new();
        let mut size = 0u64;
        let mut keep = refused.is_none() || shared_error;
        loop {
            let next = if let Some(body) = ahead.take() {
                Ok(Some(body))
            } else if keep || background {
                coming.chunk().await
            } else {
                // A pipe ends when nobody reads it any more.
                tokio::select! {
                    next = coming.chunk() => next,
                    () = fill.deserted() => break,
                }
            };
            match next {
                Ok(Some(chunk)) => {
                    size += chunk.len() as u64;
                    if size > cache.max_object && (keep || background) {
                        if fill.readers() == 0 {
                            refused.get_or_insert((Reason::TooLarge, Class::Failed));
                            break;
                        }
                        if keep {
                            keep = false;
                            body = Vec::new();
                            refused.get_or_insert((Reason::TooLarge, Class::Failed));
                            let window = usize::try_from(cache.max_object);
                            fill.overflow(window.unwrap_or(usize::MAX));
                            self.unbind(ask, &mut coming.exchange, &mut permit);
                        }
                    }
                    if keep && refused.is_none() {
                        body.extend_from_slice(&chunk);
                    }
                    let last = keep && refused.is_none() && arrived.length == Some(size);
                    if last {
                        fill.hold(chunk);
                    } else if !fill.push(chunk).await && !background {
                        break;
                    }
                }
                Ok(None) => {
                    coming.exchange.finish().await;
                    let Some((reason, class)) = refused else {
                        let Some(terms) = terms else { return Err(Again::Unconditional) };
                        if kept.as_ref().is_some_and(|kept| kept.if_exported)
                            && !ask.preset.is_for_all(ask.form, &body)
                        {
                            fill.finish(Ok(None));
                            return Ok(Brought::Refused(Reason::Middleware, Class::Unshared));
                        }
                        let told = arrived.told(ask, &body);
                        let deployment = ask.deployments.of(&as_sent, told.build.as_deref());
                        let page = kept.as_ref().map_or(&arrived, |kept| &kept.page);
                        let rep = Arc::new(page.store(ask, &cache, terms, body));
                        return Ok(Brought::Page(Fetched { rep, told, deployment, stale }));
                    };
                    fill.finish(Ok(None));
                    return Ok(if class == Class::Failed || reason == Reason::TooLarge {
                        Brought::Failed(FillResult::Rejected(reason))
                    } else {
                        Brought::Refused(reason, class)
                    });
                }
                Err(decode::Broken::Bomb) => {
                    refused = Some((Reason::TooLarge, Class::Failed));
                    break;
                }
                Err(decode::Broken::Off) => {
                    fill.finish(Err(Broken::Origin));
                    return Ok(Brought::Failed(FillResult::Rejected(Reason::Truncated)));
                }
            }
        }
        // Nobody reads it, or nobody may have more of it.
        fill.finish(Err(Broken::Origin));
        Ok(match refused {
            Some((reason @ Reason::TooLarge, _)) => Brought::Failed(FillResult::Rejected(reason)),
            Some((reason, _)) => Brought::Refused(reason, Class::Unshared),
            // Its one reader left.
            None if kept.is_some() => Brought::Refused(Reason::Middleware, Class::Unshared),
            None => Brought::Failed(FillResult::Rejected(Reason::Truncated)),
        })
    }

    /// What is not stored has no deadline and takes no place: event streams run for hours.
    fn unbind<P>(&self, ask: &Ask, exchange: &mut Exchange, permit: &mut Option<P>) {
        *permit = None;
        exchange.set_deadline(None);
        exchange.set_idle(ask.origin.config().idle_timeout);
    }
}

/// Bytes of a body nobody wants that are read to keep its connection.
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
/// waits for it, it waits like a visitor's, and otherwise behind all visitors.
async fn slot(
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
                Priority::Visitor => fill.deserted().await,
                Priority::Background => fill.wanted().await,
            }
        };
        tokio::select! {
            biased;
            place = ask.origin.acquire(class, deadline) => match place {
                // Displaced by a visitor, while one has come for this.
                Err(Failure::Busy) if class == Priority::Background && fill.readers() > 0 => {}
                // The origin was not asked: whoever waited in vain is told that it is busy.
                Err(Failure::Timeout) => return Err(Failure::Busy),
                place => return place,
            },
            () = changed => {}
        }
        class = if fill.readers() > 0 { Priority::Visitor } else { Priority::Background };
    }
}
