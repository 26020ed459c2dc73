//! Fills: the detached tasks that ask the origin for pages and commit the
//! answers (semantics §3).
//!
//! A fill belongs to nobody. Whoever needs a page joins the fill that runs for
//! it or begins one; leaving ends nothing, but a fill that nobody else may join and
//! that the origin has not answered yet. What a fill brings is judged when the
//! response head arrives: storable, and everyone it fits streams it; or not, and
//! then its leader alone gets it and the others are told to ask for themselves.

mod commit;
mod compress;
mod decode;
mod fetch;
mod flight;
mod generation;
mod notes;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use flight::{Flight, InFlight, Place, Regenerating, Running, known_to_vary, place, variant};
pub use notes::{Notes, Subject};
pub use request::{
    Ask, FORWARDED_FOR, SERVER_RENDERED, end_to_end, forwarded_for, selection, variant_field,
    variant_fields, without,
};
pub use stream::{Broken, Fill, Lead, Next, Preview, Subscriber};

use crate::assets::Assets;
use crate::config;
use crate::framework::{Preset, Told};
use crate::metrics::Metrics;
use crate::origin::Priority;
use crate::page::{
    Asked, Fields, FieldsBuf, Form, Page, PageKey, Representation, Seq, Standing, Tags,
};
use crate::rules::Reason;
use crate::rules::cache_status::StaleWhy;
use crate::store::Store;

/// All fills of an edge. Cloning is cheap.
#[derive(Clone)]
pub struct Fills(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    cache: ArcSwap<config::Cache>,
    assets: Assets,
    notes: Notes,
    /// What newcomers may join.
    inflight: Mutex<InFlight>,
    /// Pages (and variants) with a regeneration under way.
    regenerating: Mutex<HashSet<(PageKey, u64)>>,
    compressor: compress::Compressor,
    running: watch::Sender<usize>,
}

/// Fills of others that a request waits for in vain before it begins its own.
pub const MAX_REFUSED: usize = 2;

/// How a regeneration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The new page is stored, and nothing was invalidated meanwhile.
    Stored,
    /// It is stored, and stale: another invalidation came while it was rendered.
    Overtaken,
    /// It is stored, but for another deployment than the current one.
    Elsewhere,
    /// The render was good and is not stored: an invalidation came meanwhile, what
    /// is stored began later, or there is no room.
    Dropped(Reason),
    /// The origin answered, and its answer is not for storing.
    NotStored(Reason),
    /// The render failed: what was stored is as it was.
    Failed(&'static str),
}

impl Renewed {
    /// Why what was stored is still to be renewed, if it is.
    #[must_use]
    fn failure(&self) -> Option<&'static str> {
        match self {
            // Nothing is wrong with the origin: who asks next finds what is there.
            Renewed::Stored | Renewed::Overtaken | Renewed::Dropped(_) => None,
            Renewed::Elsewhere => Some("another deployment answered"),
            Renewed::Failed(why) => Some(why),
            Renewed::NotStored(reason) => Some(reason.as_str()),
        }
    }

    /// Of what became of several members of a page, the worse one.
    #[must_use]
    pub fn worse(self, other: Renewed) -> Renewed {
        let badness = |renewed: &Renewed| match renewed {
            Renewed::Stored => 0,
            Renewed::Elsewhere => 1,
            Renewed::Overtaken => 2,
            Renewed::Dropped(_) => 3,
            Renewed::NotStored(_) => 4,
            Renewed::Failed(_) => 5,
        };
        if badness(&other) > badness(&self) { other } else { self }
    }
}

/// One representation that a run brings.
struct Member {
    form: Form,
    /// What is sent to select it (see [`Ask::fields`]).
    fields: Fields,
    flight: Flight,
    /// Who may wait for it (see `Ask::crowd`).
    crowd: u64,
    /// What is stored, if the origin may say that it has not changed.
    prior: Option<Arc<Representation>>,
    /// The member of the page that it takes the place of, if there is one.
    replaces: Option<Arc<Representation>>,
}

impl Fills {
    /// No fills yet.
    #[must_use]
    pub fn new(store: Arc<Store>, assets: Assets, cache: &config::Cache) -> Fills {
        Fills(Arc::new(Inner {
            compressor: compress::Compressor::new(Arc::clone(&store)),
            store,
            cache: ArcSwap::from_pointee(cache.clone()),
            assets,
            notes: Notes::new(cache.max_notes),
            inflight: Mutex::default(),
            regenerating: Mutex::default(),
            running: watch::Sender::new(0),
        }))
    }

    /// Goes by another configuration; fills in flight end by the one before.
    pub fn configure(&self, cache: &config::Cache) {
        self.0.cache.store(Arc::new(cache.clone()));
    }

    /// What fills remember about pages.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.0.notes
    }

    /// A stored representation was served that is still to be compressed.
    pub fn compress(&self, metrics: &Arc<Metrics>, key: &PageKey, rep: &Arc<Representation>) {
        self.0.compressor.compress(metrics, key, rep);
    }

    /// Waits until no fill runs.
    pub async fn idle(&self) {
        // The sender lives in self.
        let _ = self.0.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// Joins the fill that brings what is asked for, or begins one.
    ///
    /// `seen`: the page as this request found it in the store; where there is one,
    /// the last answer was storable, and requests with cookies wait for one
    /// another. `prior`: what of it the origin may call unchanged. `refused`: fills
    /// that turned out not to fit this request.
    ///
    /// None, where `may_look_again`: a fill has ended since the request looked, and
    /// the store has what it brought, or the notes what it found.
    #[must_use]
    pub fn join(
        &self,
        ask: &Ask,
        seen: Option<&Arc<Page>>,
        prior: Option<Arc<Representation>>,
        refused: &[Arc<Fill>],
        may_look_again: bool,
    ) -> Option<Subscriber> {
        let inner = &self.0;
        let seq = inner.store.seq();
        // Where so many varied otherwise, the next one may, too.
        let alone = refused.len() >= MAX_REFUSED
            || ask.authorization
            || ask.no_store
            || (ask.cookie && seen.is_none())
            || !self.collapsible(ask, seen);
        let varies = known_to_vary(ask, seen, refused);
        let place = place(ask);
        let fill;
        let subscriber;
        {
            let mut inflight = inner.inflight.lock();
            if !alone {
                // What began before a deployment was known brings the page of the first.
                let (key, form, selection) = &place;
                let unknown = (key.in_deployment(""), *form, *selection);
                let running = [inflight.get(&place), inflight.get(&unknown)];
                for fill in running.into_iter().flatten().flatten() {
                    let known = refused.iter().any(|r| Arc::ptr_eq(r, fill));
                    if !known
                        && fill.is_worth_waiting()
                        && self.fits(ask, fill, &varies)
                        && let Some(subscriber) = fill.join(seq)
                    {
                        return Some(subscriber);
                    }
                }
                // A fill commits before it leaves, and notes what it found: what
                // is not in flight any more is known by now.
                if may_look_again && self.learned(ask, seen) {
                    return None;
                }
            }
            fill = Fill::new(seq, ask.fields.clone(), ask.of_a_client);
            subscriber = fill.lead_by(seq);
            if alone {
                fill.seal();
            } else {
                inflight.entry(place.clone()).or_default().push(Arc::clone(&fill));
            }
        }
        let flight = self.flight(place, Arc::clone(&fill));
        let crowd = ask.crowd(ask.form, &ask.fields, seen.map(|page| &**page));
        let (this, mut ask) = (self.clone(), ask.clone());
        // What was removed for good must not come back out of a cache of the origin's.
        let tags = seen.map(|page| &*page.tags);
        ask.anew = ask.page && inner.store.fence(&ask.key, tags, 0) == Standing::Dead;
        let running = self.running();
        tokio::spawn(async move {
            let lifetime = prior.as_ref().map(|stale| ask.judge().lifetime(stale));
            let member = Member {
                form: ask.form,
                fields: ask.fields.clone(),
                flight,
                crowd,
                replaces: prior.clone(),
                prior,
            };
            let renewed = tokio::select! {
                biased;
                renewed = this.run(&ask, vec![member], Vec::new(), Priority::Visitor) => {
                    Some(renewed)
                }
                // Its place in the queue and its connection end with it.
                () = fill.abandoned() => None,
            };
            if let (Some(Renewed::Failed(why)), Some(lifetime)) = (renewed, lifetime) {
                this.failed(&ask, lifetime, seq, why);
            }
            drop(running);
        });
        Some(subscriber)
    }

    /// Whether requests like this one may wait for one another. `seen`: the page as it
    /// found it in the store.
    #[must_use]
    pub fn collapsible(&self, ask: &Ask, seen: Option<&Arc<Page>>) -> bool {
        let notes = &self.0.notes;
        let crowd = ask.crowd(ask.form, &ask.fields, seen.map(|page| &**page));
        notes.collapsible(ask.about(notes, ask.form, crowd))
    }

    /// Whether more is known of the page than when a request looked: it was
    /// stored, or turned out to be server-rendered or without this form.
    fn learned(&self, ask: &Ask, seen: Option<&Arc<Page>>) -> bool {
        let inner = &self.0;
        let stored = inner.store.get(ask.key.as_str());
        let by_origin = matches!(ask.route.mode, config::Mode::Isr { revalidate: None, .. });
        let about = ask.about(&inner.notes, ask.form, ask.selection());
        (ask.page && by_origin && inner.notes.server_rendered(about))
            || (ask.page && self.lacks(ask, stored.as_deref()))
            || stored.is_some_and(|stored| seen.is_none_or(|seen| !Arc::ptr_eq(seen, &stored)))
    }

    /// Whether a fill may answer this request, as far as is known: no hard
    /// invalidation since it began, and RFC 9111 §4.1 selects it. `varies`: what
    /// the page is known to vary on while the fill's head has not come.
    fn fits(&self, ask: &Ask, fill: &Fill, varies: &[Box<str>]) -> bool {
        let lead = fill.lead();
        let tags = match &lead {
            Some(Lead::Shared(preview)) => Some(&preview.tags),
            None => None,
            // Nothing to be had from these.
            Some(_) => return false,
        };
        if self.0.store.fence(&ask.key, tags, fill.born) == Standing::Dead {
            return false;
        }
        match &lead {
            Some(Lead::Shared(preview)) => {
                commit::selects(&preview.vary, &fill.fields, &ask.fields)
            }
            _ => commit::selects(varies, &fill.fields, &ask.fields),
        }
    }

    /// Whether what a fill brought may be given to a follower (semantics §3:
    /// RFC 9111 §4.1, and the fence).
    #[must_use]
    pub fn suits(&self, ask: &Ask, subscriber: &Subscriber, preview: &Preview) -> bool {
        let fields = &subscriber.fill().fields;
        subscriber.leader
            || (preview.reusable
                && !self.fenced(ask, subscriber, &preview.tags)
                && commit::selects(&preview.vary, fields, &ask.fields))
    }

    /// Whether a reader came after an acknowledged invalidation that the fill was
    /// begun before, now that its tags are known.
    #[must_use]
    pub fn fenced(&self, ask: &Ask, subscriber: &Subscriber, tags: &Tags) -> bool {
        let born = subscriber.fill().born;
        subscriber.joined > born && self.0.store.fence(&ask.key, Some(tags), born) == Standing::Dead
    }

    /// Brings what is asked for in the background, if nobody does it already.
    pub fn bring(&self, ask: Ask) -> Option<JoinHandle<()>> {
        let inner = &self.0;
        let place = place(&ask);
        let fill;
        {
            // One step, or a visitor could ask for it in between.
            let mut inflight = inner.inflight.lock();
            let page = inner.store.get(ask.key.as_str());
            let stored = page
                .as_ref()
                .is_some_and(|page| page.members.iter().any(|member| member.form == ask.form));
            if stored || inflight.contains_key(&place) || self.lacks(&ask, page.as_deref()) {
                return None;
            }
            fill = Fill::new(inner.store.seq(), ask.fields.clone(), ask.of_a_client);
            inflight.insert(place.clone(), vec![Arc::clone(&fill)]);
        }
        let member = Member {
            form: ask.form,
            fields: ask.fields.clone(),
            crowd: ask.selection(),
            flight: self.flight(place, fill),
            prior: None,
            replaces: None,
        };
        let (this, running) = (self.clone(), self.running());
        Some(tokio::spawn(async move {
            this.run(&ask, vec![member], Vec::new(), Priority::Background).await;
            drop(running);
        }))
    }

    /// A visitor got a stale page: sees to it that one regeneration runs, and
    /// says what is going on. `ask` is called only if one is begun.
    ///
    /// `page` is what was found, `key` where the new one goes: that is another
    /// place when the page is of the deployment before. `whole`: its members are
    /// renewed together.
    pub fn refresh(
        &self,
        key: &PageKey,
        page: &Arc<Page>,
        stale: &Arc<Representation>,
        whole: bool,
        breaker_shut: bool,
        ask: impl FnOnce() -> Ask,
    ) -> StaleWhy {
        let inner = &self.0;
        if self.waits(key, Some(page)) {
            return StaleWhy::Backoff;
        }
        let mark = (key.clone(), if whole { 0 } else { variant(stale) });
        if inner.regenerating.lock().contains(&mark) {
            return StaleWhy::Regenerating;
        }
        // A regeneration may be the probe: a site of which every page is stored
        // has nothing else to close the breaker with.
        if breaker_shut {
            return StaleWhy::Breaker;
        }
        let Some(guard) = self.mark(mark) else { return StaleWhy::Regenerating };
        // One that ended since the page was looked at has left its page in the
        // store, or begun the back-off, before it took its mark away.
        if self.waits(key, Some(page)) {
            return StaleWhy::Backoff;
        }
        if self.renewed(key, page, stale) {
            return StaleWhy::Regenerating;
        }
        let ask = ask();
        let of_nobody = ask.of_a_client.then(|| ask.of_nobody(stale));
        let of_a_client = of_nobody.as_ref().is_some_and(|other| !ask.says_no_more_than(other));
        let mut ask = Ask { anew: ask.page, of_a_client, ..ask };
        let born = inner.store.seq();
        let (members, unwanted) = self.members(&ask, page, stale, *key == page.key);
        let (this, lifetime) = (self.clone(), ask.judge().lifetime(stale));
        let (page, stale) = (Arc::clone(page), Arc::clone(stale));
        let running = self.running();
        tokio::spawn(async move {
            let renewed = match of_nobody.filter(|_| ask.of_a_client) {
                Some(of_nobody) => {
                    let renewed = this.renew_for(&ask, &of_nobody, members, &page, &stale).await;
                    ask = of_nobody;
                    renewed
                }
                None => this.run(&ask, members, unwanted, Priority::Background).await,
            };
            if let Some(why) = renewed.failure() {
                this.failed(&ask, lifetime, born, why);
            }
            drop((guard, running));
        });
        StaleWhy::Regenerating
    }

    /// Regenerates what a client's request on `ssr` found stale: first with the fields
    /// of that request. Where that brings no page, or takes long, it may be the client's
    /// doing: what then decides is how the origin answers when it is asked without them.
    async fn renew_for(
        &self,
        ask: &Ask,
        of_nobody: &Ask,
        members: Vec<Member>,
        page: &Arc<Page>,
        stale: &Arc<Representation>,
    ) -> Renewed {
        let priority = Priority::Background;
        let first = self.run(ask, members, Vec::new(), priority);
        match tokio::time::timeout(stream::FOLLOW, first).await {
            Ok(renewed) if renewed.failure().is_none() => renewed,
            _ => {
                let (members, unwanted) = self.members(of_nobody, page, stale, ask.key == page.key);
                self.run(of_nobody, members, unwanted, priority).await
            }
        }
    }

    /// Marks a page (or a variant of it) as being regenerated, until what is returned
    /// is dropped; none if it is already.
    fn mark(&self, mark: (PageKey, u64)) -> Option<Regenerating> {
        let new = self.0.regenerating.lock().insert(mark.clone());
        new.then(|| Regenerating { fills: self.clone(), mark })
    }

    /// Renders a page now, unconditionally: the webhook's `mode=regenerate`.
    /// `page` is what is stored.
    pub async fn renew(&self, ask: &Ask, page: Option<&Arc<Page>>) -> Renewed {
        let priority = Priority::Background;
        let _running = self.running();
        let ask = &Ask { anew: ask.page, ..ask.clone() };
        let mut result = Renewed::Stored;
        let stored: Vec<&Arc<Representation>> =
            page.iter().flat_map(|p| p.members.iter()).collect();
        if ask.page || stored.is_empty() {
            // A client who gets the stale page meanwhile starts no second render.
            let _guard = self.mark((ask.key.clone(), 0));
            let (mut members, unwanted) = match (page, stored.first()) {
                (Some(page), Some(first)) => self.members(ask, page, first, false),
                _ => (Vec::new(), Vec::new()),
            };
            if members.is_empty() {
                members.push(self.member(ask, ask.form, ask.fields.clone(), None, None));
            }
            result = self.run(ask, members, unwanted, priority).await;
        } else {
            // Variants are renewed one by one, each with what selected it.
            for stale in stored {
                let fields = commit::selecting(stale);
                let Some(ask) = ask.for_form(stale.form, fields.clone()) else { continue };
                let _guard = self.mark((ask.key.clone(), variant(stale)));
                let replaces = Some(Arc::clone(stale));
                let members = vec![self.member(&ask, stale.form, fields, None, replaces)];
                result = result.worse(self.run(&ask, members, Vec::new(), priority).await);
            }
        }
        if let Renewed::Failed(why) = result {
            tracing::warn!(page = %ask.key, why, "revalidation: the render failed");
            // The next request tries again at once.
            self.0.notes.forget_failures(self.0.notes.page(ask.key.as_str()));
        }
        result
    }

    /// Whether the next regeneration of a page waits, because one has failed since
    /// the page was last invalidated. `page` is what is stored.
    #[must_use]
    pub fn waits(&self, key: &PageKey, page: Option<&Arc<Page>>) -> bool {
        self.is_waiting(self.0.notes.page(key.as_str()), key, page)
    }

    /// Whether a request is not to ask the origin for a page that is stored: because a
    /// regeneration waits, or because what this client said failed just now.
    #[must_use]
    pub fn holds_back(&self, ask: &Ask, page: Option<&Arc<Page>>) -> bool {
        let failed = || self.is_waiting(ask.failures(&self.0.notes), &ask.key, page);
        self.waits(&ask.key, page) || (ask.of_a_client && failed())
    }

    fn is_waiting(&self, about: Subject, key: &PageKey, page: Option<&Arc<Page>>) -> bool {
        let inner = &self.0;
        let Some(born) = inner.notes.waiting(about) else { return false };
        let none = Tags::default();
        let tags = page.map_or(&none, |page| &*page.tags);
        if inner.store.fence(key, Some(tags), born) == Standing::Live {
            return true;
        }
        inner.notes.forget_failures(about);
        false
    }

    /// After a failed regeneration that began at `born`: wait, and say so. What was
    /// asked with a client's fields says nothing of others.
    fn failed(&self, ask: &Ask, lifetime: Option<Duration>, born: Seq, why: &'static str) {
        let lifetime = lifetime.unwrap_or(Duration::from_secs(30));
        let notes = &self.0.notes;
        let wait = notes.failed(ask.failures(notes), lifetime, ask.route.backoff, born);
        tracing::warn!(page = %ask.key, why, retry_in = ?wait, "regeneration failed; the stored page stays");
    }

    /// The members that a regeneration of `stale` brings, and those that it drops:
    /// of a page route all that are stored, less the variants that nobody asked for
    /// since they were; elsewhere that variant alone.
    fn members(
        &self,
        ask: &Ask,
        page: &Arc<Page>,
        stale: &Arc<Representation>,
        conditional: bool,
    ) -> (Vec<Member>, Vec<Arc<Representation>>) {
        let prior = |rep: &Arc<Representation>| {
            let dead = self.0.store.standing_under(page, rep, &ask.route.tags) == Standing::Dead;
            (conditional && !dead).then(|| Arc::clone(rep))
        };
        if !ask.page {
            let (fields, replaces) = (ask.fields.clone(), Some(Arc::clone(stale)));
            return (
                vec![self.member(ask, stale.form, fields, prior(stale), replaces)],
                Vec::new(),
            );
        }
        let mut members: Vec<Member> = Vec::new();
        let mut unwanted = Vec::new();
        for form in ask.preset.forms() {
            // What was stored while its path was server-rendered is none of them.
            let of_form = page.members.iter().filter(|m| m.form == *form);
            for rep in of_form.filter(|m| m.asked == Asked::Route) {
                let is_variant = rep.vary.iter().any(|field| field.value.is_some());
                if is_variant && !rep.uses.any() && !Arc::ptr_eq(rep, stale) {
                    unwanted.push(Arc::clone(rep));
                    continue;
                }
                let mut fields = FieldsBuf::default();
                let selecting = commit::selecting(rep);
                for (name, value) in variant_fields(&ask.key).iter().chain(selecting.iter()) {
                    fields.push(name, value);
                }
                let replaces = Some(Arc::clone(rep));
                members.push(self.member(ask, *form, fields.done(), prior(rep), replaces));
            }
        }
        (members, unwanted)
    }

    fn member(
        &self,
        ask: &Ask,
        form: Form,
        fields: Fields,
        prior: Option<Arc<Representation>>,
        replaces: Option<Arc<Representation>>,
    ) -> Member {
        let fill = Fill::new(self.0.store.seq(), fields.clone(), ask.of_a_client);
        let place = (ask.key.clone(), form, ask.selection_of(form, &fields));
        self.0.inflight.lock().entry(place.clone()).or_default().push(Arc::clone(&fill));
        let crowd = ask.crowd(form, &fields, None);
        Member { form, fields, flight: self.flight(place, fill), crowd, prior, replaces }
    }

    /// Whether another render has taken the place of `stale` since it was looked
    /// up: its own, or, of a page of another deployment, any.
    fn renewed(&self, key: &PageKey, page: &Page, stale: &Representation) -> bool {
        let Some(now) = self.0.store.get(key.as_str()) else { return false };
        if *key != page.key {
            return true;
        }
        let same = |rep: &&Arc<Representation>| rep.form == stale.form && rep.vary == stale.vary;
        now.members.iter().find(same).is_some_and(|rep| {
            rep.born != stale.born
                || rep.generated != stale.generated
                || rep.identity().bytes.as_ptr() != stale.identity().bytes.as_ptr()
        })
    }

    /// Counts a task as running until it is dropped.
    fn running(&self) -> Running {
        self.0.running.send_modify(|running| *running += 1);
        Running(Arc::clone(&self.0))
    }

    fn flight(&self, place: Place, fill: Arc<Fill>) -> Flight {
        Flight { fills: self.clone(), place, fill }
    }

    /// Where the pair of a page is known, and on `dsg`, the first request for either
    /// member brings the other in the background (semantics §4).
    fn bring_pair(&self, ask: &Ask, key: &PageKey, told: &Told) {
        let Some(form) = told.pair else { return };
        let inner = &self.0;
        let tried = ask.preset.is_probe(Form::Data);
        if !ask.page || (tried && !matches!(ask.route.mode, config::Mode::Dsg { .. })) {
            return;
        }
        if inner.store.get(key.as_str()).is_none() {
            return;
        }
        let build = told.build.as_deref().map(Into::into).or_else(|| ask.build.clone());
        let ask = Ask { key: key.clone(), build, anew: false, ..ask.clone() };
        if let Some(ask) = ask.for_form(form, variant_fields(key)) {
            self.bring(ask);
        }
    }

    /// Whether the page is known not to have this form.
    #[must_use]
    pub fn lacks_data(
        &self,
        preset: &Preset,
        key: &PageKey,
        form: Form,
        selection: u64,
        page: Option<&Page>,
    ) -> bool {
        if !preset.is_probe(form) {
            return false;
        }
        let about = self.0.notes.form(key.as_str(), form, selection);
        let Some(born) = self.0.notes.no_data(about) else { return false };
        let none = Tags::default();
        let tags = page.map_or(&none, |page| &*page.tags);
        if self.0.store.fence(key, Some(tags), born) == Standing::Live {
            return true;
        }
        self.0.notes.forget_no_data(about);
        false
    }

    fn lacks(&self, ask: &Ask, page: Option<&Page>) -> bool {
        self.lacks_data(&ask.preset, &ask.key, ask.form, ask.selection(), page)
    }
}
