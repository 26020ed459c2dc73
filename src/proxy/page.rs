//! Serving a page that is not simply a hit: from the store, from a fill, or with
//! an error, in that order of preference.

use std::sync::Arc;

use pingora::proxy::Session;

use super::{Ctx, write};
use crate::answer::{Answer, Choice, Stale};
use crate::engine::Engine;
use crate::fill::{Ask, Fill, Lead, Next, Preview, Subscriber};
use crate::live::Live;
use crate::page::{FieldsBuf, Form, KeyBuf, Page, Representation};
use crate::plan::{self, Plan, Wanted};
use crate::request::{Facts, Request};
use crate::route::Route;
use crate::rules::cache_status::{Bypass, Failure, Fwd, StaleWhy};
use crate::rules::freshness::State;
use crate::rules::{Outcome, Reason, Time, negotiate};

/// Times that a request asks again, because what it waited for was not for it, or
/// more became known of the page before it could wait. Each time it learned
/// something, so a few are enough; after that it fails.
const ROUNDS: usize = 8;
/// In how many of them it looks again before it begins a fill.
const LOOKS: usize = 4;

/// What a fill left to do.
enum Step {
    /// The response is written.
    Done,
    /// Ask the store, and then the origin, again.
    Again,
    /// Nothing came.
    Failed(Failure),
    /// It is not for the cache after all.
    Bypass(Arc<Route>, Bypass),
}

/// Which request goes first on a path of which nothing is known.
enum First {
    /// The one for all: the path is known, or another client's went first.
    No,
    /// The client's own.
    Whole(Box<Ask>),
    /// The client's own, and no fill can carry it.
    Bypass,
}

struct Visit<'a> {
    engine: &'a Arc<Engine>,
    live: Arc<Live>,
    request: &'a Request<'a>,
    facts: &'a Facts,
    key: KeyBuf,
    wanted: Wanted,
    /// Fills that turned out not to fit.
    refused: Vec<Arc<Fill>>,
    /// The first visit of the path was another client's own, and so is this one.
    alone: bool,
    /// The page outgrew what is stored: stream it, whatever the request's conditions.
    whole: bool,
    /// Whether it may look again before it begins a fill.
    may_look_again: bool,
}

/// Serves it; or answers the route by which it goes to the origin, and why, if
/// it turns out that the cache has no part in it.
pub(super) async fn serve(
    engine: &Arc<Engine>,
    session: &mut Session,
    ctx: &mut Ctx,
    request: &Request<'_>,
    facts: &Facts,
    key: KeyBuf,
    wanted: Wanted,
) -> pingora::Result<Option<(Arc<Route>, Bypass)>> {
    let live = Arc::clone(&ctx.live);
    let mut visit = Visit {
        engine,
        live,
        request,
        facts,
        key,
        wanted,
        refused: Vec::new(),
        alone: false,
        whole: false,
        may_look_again: true,
    };
    for round in 0..ROUNDS {
        visit.may_look_again = round < LOOKS;
        match visit.round(session, ctx).await? {
            Step::Done => return Ok(None),
            Step::Again => {}
            Step::Failed(why) => return fail(session, ctx, why).await,
            Step::Bypass(route, why) => return Ok(Some((route, why))),
        }
    }
    fail(session, ctx, Failure::Reset).await
}

async fn fail(
    session: &mut Session,
    ctx: &mut Ctx,
    why: Failure,
) -> pingora::Result<Option<(Arc<Route>, Bypass)>> {
    ctx.set(Outcome::Failed { why });
    write::failure(session, why).await?;
    Ok(None)
}

impl Visit<'_> {
    async fn round(&mut self, session: &mut Session, ctx: &mut Ctx) -> pingora::Result<Step> {
        let engine = Arc::clone(self.engine);
        let page = engine.store.lookup(self.key.as_str()).await;
        if self.wanted.form != Form::Document
            && engine.fills.lacks_data(
                &self.live.preset,
                &self.key.key(),
                self.wanted.form,
                self.wanted.selection,
                page.as_deref(),
            )
        {
            self.wanted.form = Form::Document;
        }
        let now = crate::clock::now();
        let choice = self.choose(page.as_deref(), now);
        let (fwd, stale) = match choice {
            Choice::Serve { rep, ttl, stale } => {
                if let (true, Some(page)) = (rep.compress.wanted(), &page) {
                    engine.fills.compress(&self.live.metrics, &page.key, &rep);
                }
                let outcome = match (stale, &page) {
                    (true, Some(page)) => {
                        let why = engine.regenerate(
                            &self.live,
                            &page.key,
                            page,
                            &rep,
                            &self.wanted,
                            self.facts,
                            || {
                                plan::ask(
                                    &self.live,
                                    self.request,
                                    self.facts,
                                    &self.key,
                                    &self.wanted,
                                )
                            },
                        );
                        Outcome::Stale { ttl, why }
                    }
                    _ => Outcome::Hit { ttl },
                };
                self.stored(session, ctx, rep, outcome).await?;
                return Ok(Step::Done);
            }
            Choice::Fetch { fwd, stale } => (fwd, stale),
        };
        if page.is_none() && self.of_another_deployment(session, ctx, now).await? {
            return Ok(Step::Done);
        }
        let mut ask = plan::ask(&self.live, self.request, self.facts, &self.key, &self.wanted);
        if let Some(stale) = &stale
            && (self.wanted.page || stale.if_error)
            && engine.fills.holds_back(&ask, page.as_ref())
        {
            // Too old to be served while it is renewed, and it could not be renewed
            // just now: nobody waits for the next attempt to fail.
            let outcome = Outcome::Stale { ttl: stale.ttl, why: StaleWhy::Backoff };
            self.stored(session, ctx, Arc::clone(&stale.rep), outcome).await?;
            return Ok(Step::Done);
        }
        if self.facts.only_if_cached {
            return Ok(Step::Failed(Failure::OnlyIfCached));
        }
        let fwd = if engine.fills.collapsible(&ask, page.as_ref()) { fwd } else { Fwd::Miss };
        let prior = stale.as_ref().map(|s| Arc::clone(&s.rep));
        let again = self.may_look_again;
        let joined = match self.first(&mut ask, page.is_some()) {
            First::Whole(whole) => engine.fills.join_first(&ask, *whole, again, self.alone),
            First::Bypass => {
                return Ok(Step::Bypass(Arc::clone(&self.wanted.route), Bypass::Method));
            }
            First::No => engine.fills.join(&ask, page.as_ref(), prior, &self.refused, again),
        };
        let Some(mut subscriber) = joined else { return Ok(self.replan()) };
        loop {
            let next = if session.is_body_done() {
                tokio::select! {
                    biased;
                    next = subscriber.head() => next,
                    gone = write::left(session) => return Err(gone),
                }
            } else {
                subscriber.head().await
            };
            let lead = match next {
                Next::Interim(status, fields) => {
                    write::interim(session, status, &fields).await?;
                    continue;
                }
                Next::Lead(lead) => lead,
                // It takes too long, perhaps because of what its client said.
                Next::Alone => {
                    self.refused.push(Arc::clone(subscriber.fill()));
                    return Ok(Step::Again);
                }
            };
            return match lead {
                Lead::Shared(preview) if engine.fills.suits(&ask, &subscriber, &preview) => {
                    self.shared(session, ctx, subscriber, &preview, fwd, stale).await
                }
                Lead::Private(preview) if subscriber.leader && !self.accepts(&preview) => {
                    match stale.filter(|s| s.if_error) {
                        Some(stale) => self.stale(session, ctx, stale, StaleWhy::Error).await,
                        None => Ok(Step::Failed(Failure::Coding)),
                    }
                }
                Lead::Private(preview) if subscriber.leader => {
                    if let Some(stale) = stale.filter(|s| s.if_error && preview.status >= 500) {
                        return self.stale(session, ctx, stale, StaleWhy::Error).await;
                    }
                    let outcome = self.missed(fwd, &preview, &subscriber);
                    self.streamed(session, ctx, subscriber, &preview, outcome).await
                }
                // The first visit of the path was one client's own: this one is, too.
                Lead::Private(preview)
                    if ask.page && preview.stored == Err(Reason::ServerRendered) =>
                {
                    self.alone = true;
                    Ok(Step::Again)
                }
                Lead::Shared(_) | Lead::Private(_) => {
                    self.refused.push(Arc::clone(subscriber.fill()));
                    Ok(Step::Again)
                }
                Lead::Refreshed(rep, _)
                    if !subscriber.leader
                        && (!(ask.page || ask.judge().without_validation(&rep))
                            || !rep.is_selected_by(self.request)
                            || engine.fills.fenced(&ask, &subscriber, &rep.tags)) =>
                {
                    self.refused.push(Arc::clone(subscriber.fill()));
                    Ok(Step::Again)
                }
                Lead::Refreshed(rep, cookies) => {
                    let collapsed = !subscriber.leader;
                    // It was judged storable, under this route.
                    let terms = ask.judge().of(&rep).terms;
                    let state = terms.map(|terms| terms.state(now.since(rep.generated), false));
                    let ttl = state.and_then(State::ttl);
                    let mut extra = FieldsBuf::default();
                    if subscriber.leader && !ask.page {
                        cookies.iter().for_each(|c| extra.push("Set-Cookie", c.as_bytes()));
                    }
                    let outcome = Outcome::Revalidated { ttl, collapsed };
                    let answer = self.answer(rep, outcome).with_extra(extra.done());
                    self.write(session, ctx, &answer).await?;
                    Ok(Step::Done)
                }
                Lead::ServerRendered => {
                    ctx.set(Outcome::Bypass { why: Bypass::ServerRendered });
                    Ok(self.replan())
                }
                Lead::NoData => {
                    self.wanted.form = Form::Document;
                    Ok(Step::Again)
                }
                // What another client's request came to says nothing of this one.
                Lead::Failed(Failure::Reset | Failure::Timeout)
                    if !subscriber.leader && (!ask.page || subscriber.fill().is_of_a_client()) =>
                {
                    self.refused.push(Arc::clone(subscriber.fill()));
                    Ok(Step::Again)
                }
                Lead::Failed(why) => match stale {
                    Some(stale)
                        if stale.if_error || (stale.if_unreachable && why.is_disconnection()) =>
                    {
                        let shut = why == Failure::Breaker;
                        let why = if shut { StaleWhy::Breaker } else { StaleWhy::Error };
                        self.stale(session, ctx, stale, why).await
                    }
                    _ => Ok(Step::Failed(why)),
                },
            };
        }
    }

    /// Whether the client's own request goes first: nothing is known of the path, and the
    /// client carries more than `ask`, which is for all, would send. Where it carries no
    /// more, `ask` is the client's own request, too.
    fn first(&self, ask: &mut Ask, stored: bool) -> First {
        let (live, facts) = (&self.live, self.facts);
        // Another client's went first, and said nothing of the path.
        let unknown = !stored && self.refused.is_empty();
        // Who wants a tunnel gets it where it turns out that there is no page.
        let unknown = unknown && !facts.websocket;
        if !(unknown && plan::is_unknown_path(live, &self.wanted, &self.key)) {
            return First::No;
        }
        // A fill carries no body.
        if facts.body {
            return First::Bypass;
        }
        let whole = plan::whole(live, self.request, facts, &self.key, &self.wanted);
        if ask.leaves_out(&whole) {
            return First::Whole(Box::new(whole));
        }
        ask.is_whole = true;
        First::No
    }

    fn choose(&self, page: Option<&Page>, now: Time) -> Choice {
        self.engine.choose(&self.live, &self.wanted, page, self.request, self.facts, now)
    }

    /// Serves the page as another deployment has it: one that answers now keeps
    /// its pages itself; what is of one before is rendered for the current one.
    async fn of_another_deployment(
        &mut self,
        session: &mut Session,
        ctx: &mut Ctx,
        now: Time,
    ) -> pingora::Result<bool> {
        let engine = Arc::clone(self.engine);
        let deployments = self.live.deployments(&self.wanted.route).load_full();
        let key = self.key.key();
        // A URL that names a build is of that one, and what a page was rendered with is of
        // no other.
        if !self.wanted.page
            || key.deployment() != deployments.current()
            || self.live.preset.is_of_build(key.path())
        {
            return Ok(false);
        }
        for other in deployments.others() {
            let old = key.in_deployment(other);
            let Some(page) = engine.store.lookup(old.as_str()).await else { continue };
            let (request, facts) = (self.request, self.facts);
            let (rep, ttl, stale) = match self.choose(Some(&page), now) {
                Choice::Serve { rep, ttl, stale } => (rep, ttl, stale),
                Choice::Fetch { stale: Some(stale), .. } => (stale.rep, stale.ttl, true),
                Choice::Fetch { stale: None, .. } => continue,
            };
            let before = deployments.is_before(other);
            let outcome = if !stale && !before {
                Outcome::Hit { ttl }
            } else {
                let key = if before { &key } else { &old };
                let ask = || {
                    let build = deployments.build_of(key.deployment());
                    let ask = plan::ask(&self.live, request, facts, &self.key, &self.wanted);
                    Ask { key: key.clone(), build, ..ask }
                };
                let why = engine.regenerate(&self.live, key, &page, &rep, &self.wanted, facts, ask);
                Outcome::Stale { ttl: ttl.filter(|ttl| *ttl <= 0), why }
            };
            self.stored(session, ctx, rep, outcome).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// More is known of the path, perhaps that it is server-rendered: the key is
    /// made again.
    fn replan(&mut self) -> Step {
        let notes = self.engine.fills.notes();
        match plan::plan(&self.live, notes, self.request, self.facts, &mut self.key) {
            Plan::Page(wanted) => {
                self.engine.to_build_of_client(&self.live, self.request, &mut self.key);
                self.wanted = wanted;
                Step::Again
            }
            Plan::Bypass(route, why) => Step::Bypass(route, why),
            // It would have been that before.
            Plan::Webhook => Step::Again,
        }
    }

    /// A response that will be stored, or an error that is shared.
    async fn shared(
        &mut self,
        session: &mut Session,
        ctx: &mut Ctx,
        mut subscriber: Subscriber,
        preview: &Preview,
        fwd: Fwd,
        stale: Option<Stale>,
    ) -> pingora::Result<Step> {
        if preview.failed
            && let Some(stale) = stale.filter(|s| s.if_error)
        {
            return self.stale(session, ctx, stale, StaleWhy::Error).await;
        }
        let outcome = self.missed(fwd, preview, &subscriber);
        // Conditions and ranges are answered from the page that is being stored.
        let waits = self.facts.conditional || self.request.method == "HEAD";
        if waits && !preview.failed && !self.whole {
            let end = tokio::select! {
                biased;
                end = subscriber.end() => end,
                gone = write::left(session) => return Err(gone),
            };
            return match end {
                Ok(Some(rep)) => {
                    self.stored(session, ctx, rep, outcome).await?;
                    Ok(Step::Done)
                }
                // It outgrew what is stored, and goes out as the origin sent it.
                Ok(None) if self.request.method == "HEAD" || subscriber.alone() => {
                    let outcome = match outcome {
                        Outcome::Miss { fwd, status, collapsed, .. } => {
                            let stored = Err(Reason::TooLarge);
                            Outcome::Miss { fwd, status, stored, collapsed }
                        }
                        other => other,
                    };
                    self.streamed(session, ctx, subscriber, preview, outcome).await
                }
                // Others read it, and may be far ahead.
                Ok(None) => {
                    self.whole = true;
                    Ok(Step::Again)
                }
                Err(_) => Ok(Step::Failed(Failure::Reset)),
            };
        }
        self.streamed(session, ctx, subscriber, preview, outcome).await
    }

    async fn streamed(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        mut subscriber: Subscriber,
        preview: &Preview,
        outcome: Outcome,
    ) -> pingora::Result<Step> {
        ctx.set(outcome);
        ctx.first_byte = Some(std::time::Instant::now());
        let also = self.live.preset.cache_field();
        write::stream(session, &mut subscriber, preview, outcome, also).await?;
        Ok(Step::Done)
    }

    async fn stale(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        stale: Stale,
        why: StaleWhy,
    ) -> pingora::Result<Step> {
        let outcome = Outcome::Stale { ttl: stale.ttl, why };
        self.stored(session, ctx, stale.rep, outcome).await?;
        Ok(Step::Done)
    }

    async fn stored(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        rep: Arc<Representation>,
        outcome: Outcome,
    ) -> pingora::Result<()> {
        let answer = self.answer(rep, outcome);
        self.write(session, ctx, &answer).await
    }

    async fn write(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        answer: &Answer,
    ) -> pingora::Result<()> {
        ctx.set(answer.outcome());
        ctx.age = answer.age();
        ctx.first_byte = Some(std::time::Instant::now());
        write::answer(session, answer).await
    }

    fn answer(&self, rep: Arc<Representation>, outcome: Outcome) -> Answer {
        self.engine.answer(&self.live, &self.wanted, rep, self.request, self.facts, outcome)
    }

    /// Whether the visitor can read it: what is coded as nobody asked for goes to
    /// who takes that coding.
    fn accepts(&self, preview: &Preview) -> bool {
        preview.coding.as_ref().is_none_or(|coding| negotiate::accepts(self.request, coding))
    }

    fn missed(&self, fwd: Fwd, preview: &Preview, subscriber: &Subscriber) -> Outcome {
        let server_rendered =
            !self.wanted.page && self.wanted.route.mode.is_page() && preview.stored.is_err();
        let server_rendered = server_rendered && !self.wanted.rendering.is_guarded();
        let stored = if server_rendered { Err(Reason::ServerRendered) } else { preview.stored };
        Outcome::Miss { fwd, status: preview.status, stored, collapsed: !subscriber.leader }
    }
}
