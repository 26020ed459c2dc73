//! What requests may join, begin and ask: fills that clients wait for, and regenerations,
//! with whose fields they are sent, and how long the next one waits after one that failed
//! (semantics §3).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use tokio::task::JoinHandle;

use super::arrived;
use super::ask::{Ask, Carries, variant_fields};
use super::compress::Compressor;
use super::context::Context;
use super::generation::{Generations, Renewed};
use super::notes::Notes;
use super::registry::{Flight, Joined, Joining, Member, Registry, variant};
use super::stream::{FOLLOW, Fill, Preview, Subscriber};
use crate::assets::Assets;
use crate::config;
use crate::framework::Preset;
use crate::metrics::Metrics;
use crate::origin::Priority;
use crate::page::{Asked, Born, FieldsBuf, Form, Page, PageKey, Representation, Standing, Tags};
use crate::rules::cache_status::StaleWhy;
use crate::store::Store;

/// What became of a page that was to be rendered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// How the renders ended; of several the worst.
    pub result: Renewed,
    /// How many variants were not rendered, and stay as they are.
    pub left: usize,
}

/// How often it is found out whether what one client is told holds for all.
const VERIFY_EVERY: Duration = Duration::from_secs(1);

/// What that is noted by, in place of a client.
const VERIFIED: u64 = 1;

/// Variants of one page that are rendered side by side; the origin's own limit comes
/// on top, and what waits for it has a bound that a page alone should not reach.
const SIDE_BY_SIDE: usize = 8;

/// Pages that are rendered at once because clients changed them.
const TURNS: usize = 16;

/// All fills of an edge. Cloning is cheap.
#[derive(Clone)]
pub struct Fills(Arc<Inner>);

struct Inner {
    generations: Generations,
    /// Pages that are rendered anew one after the other, by their hash: see
    /// [`Fills::renew_changed`].
    turns: [tokio::sync::Mutex<()>; TURNS],
}

/// Fills of others that a request waits for in vain before it begins its own.
const MAX_REFUSED: usize = 2;

impl Fills {
    /// No fills yet.
    #[must_use]
    pub fn new(store: Arc<Store>, assets: Assets, cache: &config::Cache) -> Fills {
        let registry = Registry::new(Context {
            compressor: Compressor::new(Arc::clone(&store)),
            store,
            cache: ArcSwap::from_pointee(cache.clone()),
            assets,
            notes: Notes::new(cache.max_notes),
        });
        Fills(Arc::new(Inner { generations: Generations(registry), turns: Default::default() }))
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.0.generations.0
    }

    pub(super) fn context(&self) -> &Context {
        &self.registry().context
    }

    fn generations(&self) -> &Generations {
        &self.0.generations
    }

    /// Goes by another configuration; fills in flight end by the one before.
    pub fn configure(&self, cache: &config::Cache) {
        self.context().cache.store(Arc::new(cache.clone()));
    }

    /// What fills remember about pages.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.context().notes
    }

    /// A stored representation was asked for: it gets coded bodies, if they are still to be
    /// made. What passes by and is never asked for again costs no compression.
    pub fn compress(&self, metrics: &Arc<Metrics>, key: &PageKey, rep: &Arc<Representation>) {
        self.context().compressor.compress(metrics, key, rep);
    }

    /// Waits until no fill runs.
    pub async fn idle(&self) {
        self.registry().idle().await;
    }

    /// Joins the fill that brings what is asked for, or begins one.
    ///
    /// `seen`: the page as this request found it in the store; where there is one,
    /// the last answer was storable, and requests with cookies wait for one
    /// another. `prior`: what of it the origin may call unchanged. `refused`: fills
    /// that turned out not to fit this request.
    ///
    /// `looked`: at which change of the page the request looked (see [`Store::changes`]).
    ///
    /// None, where it may look again: a fill has ended since then, and the store has what
    /// it brought, or the notes what it found.
    #[must_use]
    pub fn join(
        &self,
        ask: &Ask,
        seen: Option<&Arc<Page>>,
        prior: Option<Arc<Representation>>,
        refused: &[Arc<Fill>],
        looked: Option<u64>,
    ) -> Option<Subscriber> {
        let Context { store, notes, .. } = self.context();
        let crowd = ask.crowd(ask.form, &ask.fields, seen.map(|page| &**page));
        // Where so many varied otherwise, the next one may, too.
        let alone = refused.len() >= MAX_REFUSED
            || ask.carries.authorization
            || ask.carries.no_store
            || ask.rendering.is_guarded()
            || (ask.carries.cookie && seen.is_none())
            || !notes.collapsible(ask.about(notes, ask.form, crowd));
        // How the origin answers the request that the stored page came from depends on no client.
        let as_stored = prior.as_ref().is_some_and(|stale| ask.is_as_stored(stale));
        let of_a_client = ask.of_a_client && !as_stored;
        let joining = Joining { sends: ask, seen, refused, alone, looked, of_a_client };
        let (subscriber, flight) = match self.registry().join(ask, &joining) {
            Joined::Follows(subscriber) => return Some(subscriber),
            Joined::LooksAgain => return None,
            Joined::Leads(subscriber, flight) => (subscriber, flight),
        };
        // What was removed for good must not come back out of a cache of the origin's.
        let tags = seen.map(|page| page.tags.union(&ask.route.tags));
        let dead = |tags| store.fence(&ask.key, tags, Born::default()) == Standing::Dead;
        let anew = ask.page && dead(tags.as_ref());
        let ask = Ask { of_a_client, anew, ..ask.clone() };
        self.lead(ask, flight, crowd, prior);
        Some(subscriber)
    }

    /// Runs a fill that a client leads.
    fn lead(&self, ask: Ask, flight: Flight, crowd: u64, prior: Option<Arc<Representation>>) {
        let (this, running) = (self.clone(), self.registry().running());
        let fill = Arc::clone(&flight.fill);
        // What middleware tells one client says nothing of the copy.
        let stale = prior.clone().filter(|_| !ask.rendering.is_guarded());
        let (form, fields, replaces) = (ask.form, ask.fields.clone(), prior.clone());
        let member = Member { form, fields, flight, crowd, prior, replaces };
        tokio::spawn(Box::pin(async move {
            let priority = Priority::Client;
            let renewed = tokio::select! {
                biased;
                renewed = this.generations().run(&ask, vec![member], Vec::new(), priority) => renewed,
                // Its place in the queue and its connection end with it.
                () = fill.abandoned() => return,
            };
            if let Some(stale) = stale {
                if let Renewed::Failed(why) = renewed {
                    this.failed(&ask, ask.judge().lifetime(&stale), fill.born, why);
                }
                if ask.of_a_client && renewed.failure().is_some() {
                    this.verify(&ask, &stale);
                }
            }
            drop(running);
        }));
    }

    /// Nothing is known of the path of a page, and the client carries more than a fill that
    /// is for all would send: `whole`. It goes to the origin first, with all of that, and
    /// what it gets is not stored. Only if that looks as if it were for all, a fill for all
    /// begins behind it. So a link that works once is rendered once. Others wait until that
    /// is known, but `alone`.
    ///
    /// None: as for [`join`](Self::join).
    #[must_use]
    pub fn join_first(
        &self,
        ask: &Ask,
        whole: Ask,
        looked: Option<u64>,
        alone: bool,
    ) -> Option<Subscriber> {
        let notes = self.notes();
        // What one client is told concerns only clients that send the same.
        let crowd = whole.crowd(whole.form, &whole.fields, None);
        let alone = alone || !notes.collapsible(whole.about(notes, whole.form, crowd));
        let (seen, refused, of_a_client) = (None, &[][..], true);
        let joining = Joining { sends: &whole, seen, refused, alone, looked, of_a_client };
        let (subscriber, flight) = match self.registry().join(ask, &joining) {
            Joined::Follows(subscriber) => return Some(subscriber),
            Joined::LooksAgain => return None,
            Joined::Leads(subscriber, flight) => (subscriber, flight),
        };
        let fill = Arc::clone(&flight.fill);
        let (form, fields) = (ask.form, whole.fields.clone());
        let member = Member { form, fields, flight, crowd, prior: None, replaces: None };
        let (this, ask, running) = (self.clone(), ask.clone(), self.registry().running());
        tokio::spawn(Box::pin(async move {
            tokio::select! {
                biased;
                () = this.generations().go_first(&whole, &member, &ask) => {}
                () = fill.abandoned() => {}
            }
            drop(running);
        }));
        Some(subscriber)
    }

    /// Whether requests like this one may wait for one another. `seen`: the page as it
    /// found it in the store.
    #[must_use]
    pub fn collapsible(&self, ask: &Ask, seen: Option<&Arc<Page>>) -> bool {
        let notes = self.notes();
        let crowd = ask.crowd(ask.form, &ask.fields, seen.map(|page| &**page));
        notes.collapsible(ask.about(notes, ask.form, crowd))
    }

    /// Whether what a fill brought may be given to a follower (semantics §3:
    /// RFC 9111 §4.1, and the fence).
    #[must_use]
    pub fn suits(&self, ask: &Ask, subscriber: &Subscriber, preview: &Preview) -> bool {
        self.registry().suits(ask, subscriber, preview)
    }

    /// Whether a reader came after an acknowledged invalidation that the fill was
    /// begun before, now that its tags are known.
    #[must_use]
    pub fn fenced(&self, ask: &Ask, subscriber: &Subscriber, tags: &Tags) -> bool {
        self.registry().fenced(ask, subscriber, tags)
    }

    /// Brings what is asked for in the background, if no fill does already.
    pub fn bring(&self, ask: Ask) -> Option<JoinHandle<()>> {
        self.generations().bring(ask)
    }

    /// Whether the page is known not to have this form. `route`: the tags of its route.
    #[must_use]
    pub fn lacks_data(
        &self,
        preset: &Preset,
        key: &PageKey,
        form: Form,
        selection: u64,
        page: Option<&Page>,
        route: &Tags,
    ) -> bool {
        self.context().lacks_data(preset, key, form, selection, page, route)
    }

    /// A client got a stale page: sees to it that one regeneration runs, and
    /// says what is going on. `ask` is called only if one is begun.
    ///
    /// `page` is what was found, `key` where the new one goes: that is another
    /// place when the page is of the deployment before. `route`: the tags of its route;
    /// `whole`: its members are renewed together.
    #[expect(clippy::too_many_arguments, reason = "all of them are of one request")]
    pub fn refresh(
        &self,
        key: &PageKey,
        page: &Arc<Page>,
        stale: &Arc<Representation>,
        route: &Tags,
        whole: bool,
        breaker_rejects: bool,
        ask: impl FnOnce() -> Ask,
    ) -> StaleWhy {
        if self.waits(key, Some(page), route) {
            return StaleWhy::Backoff;
        }
        let mark = (key.clone(), if whole { 0 } else { variant(stale) });
        if self.registry().is_marked(&mark) {
            return StaleWhy::Regenerating;
        }
        // A regeneration may be the probe: a site of which every page is stored
        // has nothing else to close the breaker with.
        if breaker_rejects {
            return StaleWhy::Breaker;
        }
        let Some(guard) = self.registry().mark(mark) else { return StaleWhy::Regenerating };
        // One that ended since the page was looked at has left its page in the
        // store, or begun the back-off, before it took its mark away.
        if self.waits(key, Some(page), route) {
            return StaleWhy::Backoff;
        }
        if self.renewed(key, page, stale) {
            return StaleWhy::Regenerating;
        }
        let ask = ask();
        let as_stored = if ask.is_as_stored(stale) { None } else { ask.as_stored(stale) };
        let mut ask = Ask { anew: ask.page, of_a_client: as_stored.is_some(), ..ask };
        let born = self.context().store.born();
        let (members, unwanted) = self.members(&ask, page, stale, *key == page.key);
        let (this, lifetime) = (self.clone(), ask.judge().lifetime(stale));
        let (page, stale) = (Arc::clone(page), Arc::clone(stale));
        let running = self.registry().running();
        tokio::spawn(Box::pin(async move {
            let renewed = match as_stored {
                Some(as_stored) => {
                    let renewed = this.renew_for(&ask, &as_stored, members, &page, &stale).await;
                    ask = as_stored;
                    renewed
                }
                None => this.generations().run(&ask, members, unwanted, Priority::Background).await,
            };
            if let Some(why) = renewed.failure() {
                this.failed(&ask, lifetime, born, why);
            }
            drop((guard, running));
        }));
        StaleWhy::Regenerating
    }

    /// Regenerates what a client's request on `ssr` found stale: first with the fields
    /// of that request. Where that brings no page, or takes long, it may be the client's
    /// doing: what then decides is how the origin answers when it is asked as it was for
    /// what is stored.
    async fn renew_for(
        &self,
        ask: &Ask,
        as_stored: &Ask,
        members: Vec<Member>,
        page: &Arc<Page>,
        stale: &Arc<Representation>,
    ) -> Renewed {
        let priority = Priority::Background;
        let first = self.generations().run(ask, members, Vec::new(), priority);
        match tokio::time::timeout(FOLLOW, first).await {
            Ok(renewed) if renewed.failure().is_none() => renewed,
            _ => {
                let (members, unwanted) = self.members(as_stored, page, stale, ask.key == page.key);
                self.generations().run(as_stored, members, unwanted, priority).await
            }
        }
    }

    /// A client who waited for it got no page where `stale` is stored, on `ssr`. Whether
    /// that is so for everybody is found out in the background, as in
    /// [`renew_for`](Self::renew_for). A client with cookies or credentials may be answered
    /// otherwise than others.
    fn verify(&self, ask: &Ask, stale: &Arc<Representation>) {
        if ask.carries != Carries::default() {
            return;
        }
        let context = self.context();
        let Some(page) = context.store.get(ask.key.as_str()) else { return };
        let Some(as_stored) = ask.as_stored(stale) else { return };
        // Clients could have it asked again and again.
        let about = context.notes.client(ask.key.as_str(), VERIFIED);
        if !context.is_waiting(about, &ask.key, Some(&page), &ask.route.tags) {
            context.notes.wait(about, VERIFY_EVERY, context.store.born());
            self.refresh(&ask.key, &page, stale, &ask.route.tags, false, false, || as_stored);
        }
    }

    /// Renders a page now, unconditionally: the webhook's `mode=regenerate`.
    /// `page` is what is stored.
    pub async fn renew(&self, ask: &Ask, page: Option<&Arc<Page>>) -> Renewal {
        let _running = self.registry().running();
        let ask = &Ask { anew: ask.page, ..ask.clone() };
        let renewal = match page {
            Some(page) if !ask.page && !page.members.is_empty() => {
                self.renew_variants(ask, &page.members).await
            }
            _ => Renewal { result: self.renew_whole(ask, page).await, left: 0 },
        };
        if let Renewed::Failed(why) = renewal.result {
            tracing::warn!(page = %ask.key, why, "revalidation: the render failed");
            // The next request tries again at once.
            let notes = &self.context().notes;
            notes.forget_failures(notes.page(ask.key.as_str()));
        }
        renewal
    }

    /// All members of a page together.
    async fn renew_whole(&self, ask: &Ask, page: Option<&Arc<Page>>) -> Renewed {
        // A client who gets the stale page meanwhile starts no second render.
        let _guard = self.registry().mark((ask.key.clone(), 0));
        let first = page.and_then(|page| Some((page, page.members.first()?)));
        let (mut members, unwanted) = match first {
            Some((page, first)) => self.members(ask, page, first, false),
            None => (Vec::new(), Vec::new()),
        };
        if members.is_empty() {
            members.push(self.registry().member(ask, ask.form, ask.fields.clone(), None, None));
        }
        self.generations().run(ask, members, unwanted, Priority::Background).await
    }

    /// Variants of a page on `ssr`, each for itself, with what brought it.
    async fn renew_variants(&self, ask: &Ask, stored: &[Arc<Representation>]) -> Renewal {
        let of_variant =
            |stale: &Arc<Representation>| Some((ask.as_stored(stale)?, Arc::clone(stale)));
        // Clients can make variants up: those that no client asked for since
        // they were stored stay stale. Something of the page is rendered in any case.
        let is_wanted = |rep: &&Arc<Representation>| !is_variant(rep) || rep.uses.any();
        let mut wanted: Vec<_> = stored.iter().filter(is_wanted).filter_map(of_variant).collect();
        if wanted.is_empty() {
            wanted.extend(stored.iter().rev().find_map(of_variant));
        }
        let left = stored.len() - wanted.len();
        let mut result = match wanted.is_empty() {
            true => Renewed::Failed("no form of it is known"),
            false => Renewed::Stored,
        };
        let renders = wanted.into_iter().map(|(ask, stale)| async move {
            let _guard = self.registry().mark((ask.key.clone(), variant(&stale)));
            let (form, fields) = (stale.form, ask.fields.clone());
            let members = vec![self.registry().member(&ask, form, fields, None, Some(stale))];
            self.generations().run(&ask, members, Vec::new(), Priority::Background).await
        });
        let mut renders = futures::stream::iter(renders).buffer_unordered(SIDE_BY_SIDE);
        while let Some(renewed) = renders.next().await {
            result = result.worse(renewed);
        }
        Renewal { result, left }
    }

    /// Renders a page now that a client has changed, as far as it is stored and was marked
    /// stale for that: then this client sees what it did, others do not wait, and what is
    /// stored stays where the render fails. Clients that change the same page meanwhile
    /// wait for their turn, and then for one render together.
    pub async fn renew_changed(&self, ask: &Ask) {
        let store = &self.context().store;
        let hash = xxhash_rust::xxh3::xxh3_64(ask.key.as_str().as_bytes());
        let Some(turn) = self.0.turns.get(hash as usize % self.0.turns.len()) else { return };
        let _turn = turn.lock().await;
        let Some(page) = store.load(ask.key.as_str()).await else { return };
        let standing = |rep| store.standing(&page, rep, &ask.route.tags);
        if page.members.iter().any(|rep| standing(rep) != Standing::Live) {
            self.renew(ask, Some(&page)).await;
        }
    }

    /// Whether the next regeneration of a page waits, because one has failed since
    /// the page was last invalidated. `page` is what is stored.
    fn waits(&self, key: &PageKey, page: Option<&Arc<Page>>, route: &Tags) -> bool {
        let context = self.context();
        context.is_waiting(context.notes.page(key.as_str()), key, page, route)
    }

    /// Whether a request is not to ask the origin for a page that is stored: because a
    /// regeneration waits, or because what this client said failed just now.
    #[must_use]
    pub fn holds_back(&self, ask: &Ask, page: Option<&Arc<Page>>) -> bool {
        let context = self.context();
        let route = &ask.route.tags;
        let failed = || context.is_waiting(ask.failures(&context.notes), &ask.key, page, route);
        self.waits(&ask.key, page, route) || (ask.of_a_client && failed())
    }

    /// After a failed regeneration that began at `born`: wait, and say so. What was
    /// asked with a client's fields says nothing of others.
    fn failed(&self, ask: &Ask, lifetime: Option<Duration>, born: Born, why: &'static str) {
        let lifetime = lifetime.unwrap_or(Duration::from_secs(30));
        let notes = &self.context().notes;
        let wait = notes.failed(ask.failures(notes), lifetime, ask.route.backoff, born);
        tracing::warn!(page = %ask.key, why, retry_in = ?wait, "regeneration failed; the stored page stays");
    }

    /// The members that a regeneration of `stale` brings, and those that it drops:
    /// of a page route all that are stored, less the variants that no client asked for
    /// since they were; elsewhere that variant alone.
    fn members(
        &self,
        ask: &Ask,
        page: &Arc<Page>,
        stale: &Arc<Representation>,
        conditional: bool,
    ) -> (Vec<Member>, Vec<Arc<Representation>>) {
        let (store, registry) = (&self.context().store, self.registry());
        let prior = |rep: &Arc<Representation>| {
            let dead = store.standing(page, rep, &ask.route.tags) == Standing::Dead;
            (conditional && !dead).then(|| Arc::clone(rep))
        };
        if !ask.page {
            let (fields, replaces) = (ask.fields.clone(), Some(Arc::clone(stale)));
            return (
                vec![registry.member(ask, stale.form, fields, prior(stale), replaces)],
                Vec::new(),
            );
        }
        let mut members: Vec<Member> = Vec::new();
        let mut unwanted = Vec::new();
        for form in ask.upstream.preset.forms() {
            // What was stored while its path was server-rendered is none of them.
            let of_form = page.members.iter().filter(|m| m.form == *form);
            for rep in of_form.filter(|m| m.asked == Asked::Route) {
                if is_variant(rep) && !rep.uses.any() && !Arc::ptr_eq(rep, stale) {
                    unwanted.push(Arc::clone(rep));
                    continue;
                }
                let mut fields = FieldsBuf::default();
                let selecting = arrived::selecting(rep);
                for (name, value) in variant_fields(&ask.key).iter().chain(selecting.iter()) {
                    fields.push(name, value);
                }
                let replaces = Some(Arc::clone(rep));
                members.push(registry.member(ask, *form, fields.done(), prior(rep), replaces));
            }
        }
        (members, unwanted)
    }

    /// Whether another render has taken the place of `stale` since it was looked
    /// up: its own, or, of a page of another deployment, any.
    fn renewed(&self, key: &PageKey, page: &Page, stale: &Representation) -> bool {
        let Some(now) = self.context().store.get(key.as_str()) else { return false };
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
}

/// Whether it was selected by something that a request said: what clients can make up.
fn is_variant(rep: &Representation) -> bool {
    rep.vary.iter().any(|field| field.value.is_some())
}
