//! Serving a page that is not simply a hit: from the store, from a fill, or with
//! an error, in that order of preference.

use std::sync::Arc;

use http::HeaderValue;

use super::client::{Client, Head, stream};
use super::record::Record;
use crate::answer::{Answer, Choice, Stale};
use crate::cookies::Taken;
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

/// Max retries: a request looks the page up again when the fill that it waited for does not
/// fit it, or when more became known of the page before it could wait. Each time it learned
/// something, so a few are enough; after that it fails.
const MAX_ROUNDS: usize = 8;

/// In how many of these rounds it looks again before it begins a fill.
const MAX_LOOKS: usize = 4;

/// What is to be done after a round.
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

/// A request that waits for a fill.
struct Wait {
    ask: Ask,
    subscriber: Subscriber,
    /// Why the cache could not answer.
    fwd: Fwd,
    /// What is served where the origin fails.
    stale: Option<Stale>,
    /// When the store was asked.
    since: Time,
}

struct Visit<'a, C> {
    engine: &'a Arc<Engine>,
    live: Arc<Live>,
    client: &'a mut C,
    record: &'a mut Record,
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
    /// At which change of the page it looks (see `Store::changes`), if it may look again
    /// before it begins a fill.
    looked: Option<u64>,
}

/// Serves a page; or answers the route by which the request goes to the origin, and why, if
/// it turns out that the cache has no part in it.
pub(crate) async fn serve<C: Client>(
    engine: &Arc<Engine>,
    client: &mut C,
    record: &mut Record,
    (request, facts): (&Request<'_>, &Facts),
    key: KeyBuf,
    wanted: Wanted,
) -> Result<Option<(Arc<Route>, Bypass)>, C::Gone> {
    record.route = Some(Arc::clone(&wanted.route));
    let taken = Taken::of(&wanted.route.cookies, request, facts);
    let fields = taken.as_ref().map(|taken| taken.fields(request.fields));
    let request = &Request { fields: fields.as_deref().unwrap_or(request.fields), ..*request };
    let facts = &taken.as_ref().map_or(*facts, |taken| taken.facts(facts));
    let mut visit = Visit {
        engine,
        live: Arc::clone(&record.live),
        client,
        record,
        request,
        facts,
        key,
        wanted,
        refused: Vec::new(),
        alone: false,
        whole: false,
        looked: None,
    };
    for round in 0..MAX_ROUNDS {
        visit.looked = (round < MAX_LOOKS).then(|| engine.store.changes(visit.key.as_str()));
        match visit.round().await? {
            Step::Done => return Ok(None),
            Step::Again => {}
            Step::Failed(why) => return visit.fail(why).await.map(|()| None),
            Step::Bypass(route, why) => return Ok(Some((route, why))),
        }
    }
    visit.fail(Failure::Reset).await.map(|()| None)
}

impl<C: Client> Visit<'_, C> {
    async fn round(&mut self) -> Result<Step, C::Gone> {
        let page = self.engine.store.load(self.key.as_str()).await;
        if self.wanted.form != Form::Document && self.lacks_data(page.as_deref()) {
            self.wanted.form = Form::Document;
        }
        let now = crate::clock::now();
        let (fwd, stale) = match (self.choose(page.as_deref(), now), &page) {
            (Choice::Serve { rep, ttl, stale }, Some(page)) => {
                return self.hit(page, rep, ttl, stale).await;
            }
            // There is nothing to serve where there is no page.
            (Choice::Serve { .. }, None) => (Fwd::UriMiss, None),
            (Choice::Fetch { fwd, stale }, _) => (fwd, stale),
        };
        if page.is_none() && self.of_another_deployment(now).await? {
            return Ok(Step::Done);
        }
        let ask = self.ask();
        if let Some(stale) = &stale
            && (self.wanted.page || stale.if_error)
            && self.engine.fills.holds_back(&ask, page.as_ref())
        {
            // Too old to be served while it is renewed, and it could not be renewed
            // just now: nobody waits for the next attempt to fail.
            let outcome = Outcome::Stale { ttl: stale.ttl, why: StaleWhy::Backoff };
            return self.stored(Arc::clone(&stale.rep), outcome).await;
        }
        if self.facts.only_if_cached {
            return Ok(Step::Failed(Failure::OnlyIfCached));
        }
        let mut wait = match self.join(ask, page.as_ref(), fwd, stale, now) {
            Ok(wait) => wait,
            Err(step) => return Ok(step),
        };
        match self.head(&mut wait.subscriber).await? {
            Some(lead) => self.take(lead, wait).await,
            // It takes too long, perhaps because of what its client said.
            None => Ok(self.refuse(&wait)),
        }
    }

    /// Serves what is stored, and has it renewed where it is stale.
    async fn hit(
        &mut self,
        page: &Arc<Page>,
        rep: Arc<Representation>,
        ttl: Option<i64>,
        stale: bool,
    ) -> Result<Step, C::Gone> {
        if rep.compress.wanted() {
            self.engine.fills.compress(&self.live.metrics, &page.key, &rep);
        }
        let outcome = if stale {
            let (live, wanted) = (&self.live, &self.wanted);
            let ask = || self.ask();
            let why = self.engine.regenerate(live, &page.key, page, &rep, wanted, self.facts, ask);
            Outcome::Stale { ttl, why }
        } else {
            Outcome::Hit { ttl }
        };
        self.stored(rep, outcome).await
    }

    /// Joins the fill that brings the page, or begins one.
    fn join(
        &mut self,
        mut ask: Ask,
        page: Option<&Arc<Page>>,
        fwd: Fwd,
        stale: Option<Stale>,
        since: Time,
    ) -> Result<Wait, Step> {
        let fills = &self.engine.fills;
        let fwd = if fills.collapsible(&ask, page) { fwd } else { Fwd::Miss };
        let prior = stale.as_ref().map(|s| Arc::clone(&s.rep));
        let joined = match self.first(&mut ask, page.is_some()) {
            First::Whole(whole) => fills.join_first(&ask, *whole, self.looked, self.alone),
            First::Bypass => {
                return Err(Step::Bypass(Arc::clone(&self.wanted.route), Bypass::Method));
            }
            First::No => fills.join(&ask, page, prior, &self.refused, self.looked),
        };
        match joined {
            Some(subscriber) => Ok(Wait { ask, subscriber, fwd, stale, since }),
            None => Err(self.replan()),
        }
    }

    /// Waits for the head that the fill brings. None: it is waited for no longer.
    async fn head(&mut self, subscriber: &mut Subscriber) -> Result<Option<Lead>, C::Gone> {
        loop {
            let next = tokio::select! {
                biased;
                next = subscriber.head() => next,
                gone = self.client.left() => return Err(gone),
            };
            match next {
                Next::Interim(status, fields) => self.client.interim(status, &fields).await?,
                Next::Lead(lead) => return Ok(Some(lead)),
                Next::Alone => return Ok(None),
            }
        }
    }

    /// Makes a response of what the fill brought.
    async fn take(&mut self, lead: Lead, wait: Wait) -> Result<Step, C::Gone> {
        let leads = wait.subscriber.leader;
        match lead {
            Lead::Shared(preview)
                if self.engine.fills.suits(&wait.ask, &wait.subscriber, &preview) =>
            {
                self.shared(wait, &preview).await
            }
            Lead::Private(preview) if leads => self.private(wait, &preview).await,
            // The first visit of the path was one client's own: this one is, too.
            Lead::Private(preview)
                if wait.ask.page && preview.stored == Err(Reason::ServerRendered) =>
            {
                self.alone = true;
                Ok(Step::Again)
            }
            Lead::Shared(_) | Lead::Private(_) => Ok(self.refuse(&wait)),
            Lead::Refreshed(rep, cookies) => self.refreshed(wait, rep, &cookies).await,
            Lead::ServerRendered => {
                self.record.outcome = Outcome::Bypass { why: Bypass::ServerRendered };
                Ok(self.replan())
            }
            Lead::NoData => {
                self.wanted.form = Form::Document;
                Ok(Step::Again)
            }
            // What another client's request came to says nothing of this one.
            Lead::Failed(Failure::Reset | Failure::Timeout)
                if !leads && (!wait.ask.page || wait.subscriber.fill().is_of_a_client()) =>
            {
                Ok(self.refuse(&wait))
            }
            Lead::Failed(why) => match wait.stale {
                Some(stale)
                    if stale.if_error || (stale.if_unreachable && why.is_disconnection()) =>
                {
                    let open = why == Failure::Breaker;
                    self.stale(stale, if open { StaleWhy::Breaker } else { StaleWhy::Error }).await
                }
                _ => Ok(Step::Failed(why)),
            },
        }
    }

    /// What the fill brought is not for this request: it waits for another one.
    fn refuse(&mut self, wait: &Wait) -> Step {
        self.refused.push(Arc::clone(wait.subscriber.fill()));
        Step::Again
    }

    /// A response for this client alone.
    async fn private(&mut self, wait: Wait, preview: &Preview) -> Result<Step, C::Gone> {
        // What is coded as nobody asked for goes to who takes that coding.
        let takes = |coding: &str| negotiate::accepts(self.request, coding);
        let readable = preview.coding.as_deref().is_none_or(takes);
        match wait.stale {
            Some(stale) if stale.if_error && (!readable || preview.status >= 500) => {
                self.stale(stale, StaleWhy::Error).await
            }
            _ if !readable => Ok(Step::Failed(Failure::Coding)),
            _ => {
                let outcome = self.missed(wait.fwd, preview, &wait.subscriber);
                self.streamed(wait.subscriber, preview, outcome).await
            }
        }
    }

    /// The origin said that the stored page has not changed.
    async fn refreshed(
        &mut self,
        wait: Wait,
        rep: Arc<Representation>,
        cookies: &[HeaderValue],
    ) -> Result<Step, C::Gone> {
        let Wait { ask, subscriber, since, .. } = &wait;
        let fits = subscriber.leader
            || ((ask.page || ask.judge().without_validation(&rep))
                && rep.is_selected_by(self.request)
                && !self.engine.fills.fenced(ask, subscriber, &rep.tags));
        if !fits {
            return Ok(self.refuse(&wait));
        }
        // It was judged storable, under this route.
        let terms = ask.judge().of(&rep).terms;
        let state = terms.map(|terms| terms.state(since.since(rep.generated), false));
        let ttl = state.and_then(State::ttl);
        let mut extra = FieldsBuf::default();
        if subscriber.leader && !ask.page {
            cookies.iter().for_each(|c| extra.push("Set-Cookie", c.as_bytes()));
        }
        let outcome = Outcome::Revalidated { ttl, collapsed: !subscriber.leader };
        let answer = self.answer(rep, outcome).with_extra(extra.done());
        self.write(&answer).await
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
        if !(unknown && self.wanted.is_unknown) {
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

    fn ask(&self) -> Ask {
        plan::ask(&self.live, self.request, self.facts, &self.key, &self.wanted)
    }

    fn lacks_data(&self, page: Option<&Page>) -> bool {
        let (preset, wanted) = (&self.live.preset, &self.wanted);
        let (key, route) = (self.key.key(), &wanted.route.tags);
        self.engine.fills.lacks_data(preset, &key, wanted.form, wanted.selection, page, route)
    }

    fn choose(&self, page: Option<&Page>, now: Time) -> Choice {
        self.engine.choose(&self.live, &self.wanted, page, self.request, self.facts, now)
    }

    /// Serves the page as another deployment has it: one that answers now keeps
    /// its pages itself; what is of one before is rendered for the current one.
    async fn of_another_deployment(&mut self, now: Time) -> Result<bool, C::Gone> {
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
            let Some(page) = self.engine.store.load(old.as_str()).await else { continue };
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
                    Ask { key: key.clone(), build, ..self.ask() }
                };
                let (live, wanted) = (&self.live, &self.wanted);
                let why = self.engine.regenerate(live, key, &page, &rep, wanted, self.facts, ask);
                Outcome::Stale { ttl: ttl.filter(|ttl| *ttl <= 0), why }
            };
            self.stored(rep, outcome).await?;
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
    async fn shared(&mut self, mut wait: Wait, preview: &Preview) -> Result<Step, C::Gone> {
        if preview.failed
            && let Some(stale) = wait.stale.take().filter(|s| s.if_error)
        {
            return self.stale(stale, StaleWhy::Error).await;
        }
        let mut subscriber = wait.subscriber;
        let outcome = self.missed(wait.fwd, preview, &subscriber);
        // Conditions and ranges are answered from the page that is being stored.
        let waits = self.facts.conditional || self.request.method == "HEAD";
        if !waits || preview.failed || self.whole {
            return self.streamed(subscriber, preview, outcome).await;
        }
        let end = tokio::select! {
            biased;
            end = subscriber.end() => end,
            gone = self.client.left() => return Err(gone),
        };
        match end {
            Ok(Some(rep)) => self.stored(rep, outcome).await,
            // It outgrew what is stored, and goes out as the origin sent it.
            Ok(None) if self.request.method == "HEAD" || subscriber.alone() => {
                let outcome = match outcome {
                    Outcome::Miss { fwd, status, collapsed, .. } => {
                        let stored = Err(Reason::TooLarge);
                        Outcome::Miss { fwd, status, stored, collapsed }
                    }
                    other => other,
                };
                self.streamed(subscriber, preview, outcome).await
            }
            // Others read it, and may be far ahead.
            Ok(None) => {
                self.whole = true;
                Ok(Step::Again)
            }
            Err(_) => Ok(Step::Failed(Failure::Reset)),
        }
    }

    async fn streamed(
        &mut self,
        mut subscriber: Subscriber,
        preview: &Preview,
        outcome: Outcome,
    ) -> Result<Step, C::Gone> {
        self.record.answers(outcome);
        let head = Head::of(preview, outcome, self.live.preset.cache_field());
        stream(self.client, &head, &mut subscriber).await?;
        Ok(Step::Done)
    }

    async fn stale(&mut self, stale: Stale, why: StaleWhy) -> Result<Step, C::Gone> {
        self.stored(stale.rep, Outcome::Stale { ttl: stale.ttl, why }).await
    }

    async fn stored(
        &mut self,
        rep: Arc<Representation>,
        outcome: Outcome,
    ) -> Result<Step, C::Gone> {
        let answer = self.answer(rep, outcome);
        self.write(&answer).await
    }

    async fn write(&mut self, answer: &Answer) -> Result<Step, C::Gone> {
        self.record.answers(answer.outcome());
        self.record.age = answer.age();
        self.client.answer(answer).await?;
        Ok(Step::Done)
    }

    async fn fail(&mut self, why: Failure) -> Result<(), C::Gone> {
        self.record.outcome = Outcome::Failed { why };
        self.client.failure(why).await
    }

    fn answer(&self, rep: Arc<Representation>, outcome: Outcome) -> Answer {
        self.engine.answer(&self.live, &self.wanted, rep, self.request, self.facts, outcome)
    }

    fn missed(&self, fwd: Fwd, preview: &Preview, subscriber: &Subscriber) -> Outcome {
        let server_rendered =
            !self.wanted.page && self.wanted.route.mode.is_page() && preview.stored.is_err();
        let server_rendered = server_rendered && !self.wanted.rendering.is_guarded();
        let stored = if server_rendered { Err(Reason::ServerRendered) } else { preview.stored };
        Outcome::Miss { fwd, status: preview.status, stored, collapsed: !subscriber.leader }
    }
}
