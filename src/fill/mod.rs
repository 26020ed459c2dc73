//! Fills: the detached tasks that ask the origin for pages and commit the
//! answers (semantics §3).
//!
//! A fill belongs to nobody. Whoever needs a page joins the fill that runs for
//! it or begins one; leaving ends nothing, but a fill that nobody else may join and
//! that the origin has not answered yet. What a fill brings is judged when the
//! response head arrives: storable, and everyone it fits streams it; or not, and
//! then its leader alone gets it and the others are told to ask for themselves.

//!
//! The layers, each of which knows only those below it: [`Fills`] (what a request may
//! join, begin and ask), `regeneration` (when a stored page is renewed, and how long the
//! next attempt waits), `generation` (the members of a page that are brought and stored
//! together), `fetch` (one request to the origin), which asks `classify` what becomes of
//! the response and has `pump` move its body. `registry` knows what is under way, `follow`
//! what else an answer makes worth asking for, `arrived` makes a response what is stored,
//! `stream` is what readers share, `ask` what is asked for.

mod arrived;
mod ask;
mod classify;
mod compress;
mod context;
mod decode;
mod fetch;
mod follow;
mod generation;
mod guarded;
mod notes;
mod pump;
mod regeneration;
mod registry;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

pub use ask::{
    Ask, FORWARDED_FOR, GUARDED, SERVER_RENDERED, end_to_end, forwarded_for, selection,
    variant_field, variant_fields, without,
};
use context::Context;
use generation::Generations;
pub use generation::Renewed;
pub use notes::{Notes, Subject};
use regeneration::Regenerations;
pub use regeneration::Renewal;
use registry::{Flight, Joined, Joining, Member, Registry};
pub use stream::{Broken, Fill, Lead, Next, Preview, Subscriber};

use crate::assets::Assets;
use crate::config;
use crate::framework::Preset;
use crate::metrics::Metrics;
use crate::origin::Priority;
use crate::page::{Born, Form, Page, PageKey, Representation, Standing, Tags};
use crate::rules::cache_status::StaleWhy;
use crate::store::Store;

/// All fills of an edge. Cloning is cheap.
#[derive(Clone)]
pub struct Fills(Arc<Regenerations>);

/// Fills of others that a request waits for in vain before it begins its own.
const MAX_REFUSED: usize = 2;

impl Fills {
    /// No fills yet.
    #[must_use]
    pub fn new(store: Arc<Store>, assets: Assets, cache: &config::Cache) -> Fills {
        let registry = Registry::new(Context {
            compressor: compress::Compressor::new(Arc::clone(&store)),
            store,
            cache: ArcSwap::from_pointee(cache.clone()),
            assets,
            notes: Notes::new(cache.max_notes),
        });
        Fills(Regenerations::new(Generations(registry)))
    }

    /// Goes by another configuration; fills in flight end by the one before.
    pub fn configure(&self, cache: &config::Cache) {
        self.0.context().cache.store(Arc::new(cache.clone()));
    }

    /// What fills remember about pages.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.0.context().notes
    }

    /// A stored representation was asked for: it gets coded bodies, if they are still to be
    /// made. What passes by and is never asked for again costs no compression.
    pub fn compress(&self, metrics: &Arc<Metrics>, key: &PageKey, rep: &Arc<Representation>) {
        self.0.context().compressor.compress(metrics, key, rep);
    }

    /// Waits until no fill runs.
    pub async fn idle(&self) {
        self.0.registry().idle().await;
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
        let Context { store, notes, .. } = self.0.context();
        let crowd = ask.crowd(ask.form, &ask.fields, seen.map(|page| &**page));
        // Where so many varied otherwise, the next one may, too.
        let alone = refused.len() >= MAX_REFUSED
            || ask.authorization
            || ask.no_store
            || ask.rendering.is_guarded()
            || (ask.cookie && seen.is_none())
            || !notes.collapsible(ask.about(notes, ask.form, crowd));
        // How the origin answers what it was asked for the stored page is nobody's doing.
        let as_stored = prior.as_ref().is_some_and(|stale| ask.is_as_stored(stale));
        let of_a_client = ask.of_a_client && !as_stored;
        let joining = Joining { sends: ask, seen, refused, alone, may_look_again, of_a_client };
        let (subscriber, flight) = match self.0.registry().join(ask, &joining) {
            Joined::Follows(subscriber) => return Some(subscriber),
            Joined::LooksAgain => return None,
            Joined::Leads(subscriber, flight) => (subscriber, flight),
        };
        // What was removed for good must not come back out of a cache of the origin's.
        let tags = seen.map(|page| &*page.tags);
        let anew = ask.page && store.fence(&ask.key, tags, Born::default()) == Standing::Dead;
        let ask = Ask { of_a_client, anew, ..ask.clone() };
        self.lead(ask, flight, crowd, prior);
        Some(subscriber)
    }

    /// Runs a fill that a client leads.
    fn lead(&self, ask: Ask, flight: Flight, crowd: u64, prior: Option<Arc<Representation>>) {
        let (this, running) = (Arc::clone(&self.0), self.0.registry().running());
        let fill = Arc::clone(&flight.fill);
        // What middleware tells one client says nothing of the copy.
        let stale = prior.clone().filter(|_| !ask.rendering.is_guarded());
        let (form, fields, replaces) = (ask.form, ask.fields.clone(), prior.clone());
        let member = Member { form, fields, flight, crowd, prior, replaces };
        tokio::spawn(async move {
            let priority = Priority::Visitor;
            let renewed = tokio::select! {
                biased;
                renewed = this.generations.run(&ask, vec![member], Vec::new(), priority) => renewed,
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
        });
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
        may_look_again: bool,
        alone: bool,
    ) -> Option<Subscriber> {
        let notes = self.notes();
        // What one client is told makes nobody ask alone but who sends the same.
        let crowd = whole.crowd(whole.form, &whole.fields, None);
        let alone = alone || !notes.collapsible(whole.about(notes, whole.form, crowd));
        let (seen, refused, of_a_client) = (None, &[][..], true);
        let joining = Joining { sends: &whole, seen, refused, alone, may_look_again, of_a_client };
        let (subscriber, flight) = match self.0.registry().join(ask, &joining) {
            Joined::Follows(subscriber) => return Some(subscriber),
            Joined::LooksAgain => return None,
            Joined::Leads(subscriber, flight) => (subscriber, flight),
        };
        let fill = Arc::clone(&flight.fill);
        let (form, fields) = (ask.form, whole.fields.clone());
        let member = Member { form, fields, flight, crowd, prior: None, replaces: None };
        let (this, ask, running) = (Arc::clone(&self.0), ask.clone(), self.0.registry().running());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = this.generations.go_first(&whole, &member, &ask) => {}
                () = fill.abandoned() => {}
            }
            drop(running);
        });
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
        self.0.registry().suits(ask, subscriber, preview)
    }

    /// Whether a reader came after an acknowledged invalidation that the fill was
    /// begun before, now that its tags are known.
    #[must_use]
    pub fn fenced(&self, ask: &Ask, subscriber: &Subscriber, tags: &Tags) -> bool {
        self.0.registry().fenced(ask, subscriber, tags)
    }

    /// Brings what is asked for in the background, if nobody does it already.
    pub fn bring(&self, ask: Ask) -> Option<JoinHandle<()>> {
        self.0.generations.bring(ask)
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
        self.0.context().lacks_data(preset, key, form, selection, page)
    }

    /// A client got a stale page: sees to it that one regeneration runs, and
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
        self.0.refresh(key, page, stale, whole, breaker_shut, ask)
    }

    /// Renders a page now, unconditionally: the webhook's `mode=regenerate`.
    /// `page` is what is stored.
    pub async fn renew(&self, ask: &Ask, page: Option<&Arc<Page>>) -> Renewal {
        self.0.renew(ask, page).await
    }

    /// Renders a page now that a client has changed, as far as it is stored and was marked
    /// stale for that: then this client sees what it did, others do not wait, and what is
    /// stored stays where the render fails. Who changes the same page meanwhile waits for
    /// its turn, and then for one render with all the others.
    pub async fn renew_changed(&self, ask: &Ask) {
        self.0.renew_changed(ask).await;
    }

    /// Whether a request is not to ask the origin for a page that is stored: because a
    /// regeneration waits, or because what this client said failed just now.
    #[must_use]
    pub fn holds_back(&self, ask: &Ask, page: Option<&Arc<Page>>) -> bool {
        self.0.holds_back(ask, page)
    }
}
