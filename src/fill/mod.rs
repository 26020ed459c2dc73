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
mod for_all;
mod generation;
mod guarded;
mod notes;
mod regeneration;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use flight::{Flight, InFlight, Place, Running, known_to_vary, place};
pub use notes::{Notes, Subject};
pub use regeneration::{Renewal, Renewed};
pub use request::{
    Ask, FORWARDED_FOR, GUARDED, SERVER_RENDERED, end_to_end, forwarded_for, selection,
    variant_field, variant_fields, without,
};
pub use stream::{Broken, Fill, Lead, Next, Preview, Subscriber};

use crate::assets::Assets;
use crate::config;
use crate::framework::{Preset, Told};
use crate::metrics::Metrics;
use crate::origin::Priority;
use crate::page::{Born, Fields, Form, Page, PageKey, Representation, Standing, Tags};
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
    /// Pages that are rendered anew one after the other, by their hash: see
    /// [`Fills::renew_changed`].
    turns: [tokio::sync::Mutex<()>; TURNS],
    compressor: compress::Compressor,
    running: watch::Sender<usize>,
}

/// Pages that are rendered at once because clients changed them.
const TURNS: usize = 16;

/// Fills of others that a request waits for in vain before it begins its own.
const MAX_REFUSED: usize = 2;

/// One representation that a run brings.
struct Member {
    form: Form,
    /// What is sent to select it (see [`Ask::fields`]).
    fields: Fields,
    flight: Flight,
    /// Who may wait for it (see `Ask::crowd`).
    crowd: u64,
    /// It goes first, for who asks for this (see [`Fills::join_first`]).
    goes_first: Option<Box<Ask>>,
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
            turns: Default::default(),
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

    /// A stored representation was asked for: it gets coded bodies, if they are still to be
    /// made. What passes by and is never asked for again costs no compression.
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
        let now = inner.store.born();
        let crowd = ask.crowd(ask.form, &ask.fields, seen.map(|page| &**page));
        // Where so many varied otherwise, the next one may, too.
        let alone = refused.len() >= MAX_REFUSED
            || ask.authorization
            || ask.no_store
            || ask.rendering.is_guarded()
            || (ask.cookie && seen.is_none())
            || !inner.notes.collapsible(ask.about(&inner.notes, ask.form, crowd));
        let varies = known_to_vary(ask, seen, refused);
        // What it brings is for nobody else; it may well wait for what is for all.
        let personal = ask.is_personal(&varies);
        let place = place(ask);
        // How the origin answers what it was asked for the stored page is nobody's doing.
        let as_stored = prior.as_ref().is_some_and(|stale| ask.is_as_stored(stale));
        let of_a_client = ask.of_a_client && !as_stored;
        let kind = ask.kind(&ask.fields);
        let fill;
        let subscriber;
        {
            let mut inflight = inner.inflight.lock();
            if !alone {
                if let Some(running) = self.running_for(&inflight, ask, refused, &varies, kind) {
                    return Some(running);
                }
                // A fill commits before it leaves, and notes what it found: what
                // is not in flight any more is known by now.
                if may_look_again && self.learned(ask, seen) {
                    return None;
                }
            }
            fill = Fill::new(now, ask.fields.clone(), of_a_client, kind);
            subscriber = fill.lead_by(now);
            if alone || personal {
                fill.seal();
            } else {
                inflight.entry(place.clone()).or_default().push(Arc::clone(&fill));
            }
        }
        let flight = self.flight(place, Arc::clone(&fill));
        let (this, mut ask) = (self.clone(), ask.clone());
        // What was removed for good must not come back out of a cache of the origin's.
        let tags = seen.map(|page| &*page.tags);
        ask.of_a_client = of_a_client;
        ask.anew = ask.page && inner.store.fence(&ask.key, tags, Born::default()) == Standing::Dead;
        let running = self.running();
        tokio::spawn(async move {
            // What middleware tells one client says nothing of the copy.
            let stale = prior.clone().filter(|_| !ask.rendering.is_guarded());
            let member = Member {
                form: ask.form,
                fields: ask.fields.clone(),
                flight,
                crowd,
                goes_first: None,
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
            if let (Some(renewed), Some(stale)) = (renewed, stale) {
                if let Renewed::Failed(why) = renewed {
                    this.failed(&ask, ask.judge().lifetime(&stale), now, why);
                }
                if ask.of_a_client && renewed.failure().is_some() {
                    this.verify(&ask, &stale);
                }
            }
            drop(running);
        });
        Some(subscriber)
    }

    /// Joins a fill that runs and may bring what is asked for, if there is one. `kind`: of
    /// the client (see [`Ask::kind`]).
    fn running_for(
        &self,
        inflight: &InFlight,
        ask: &Ask,
        refused: &[Arc<Fill>],
        varies: &[Box<str>],
        kind: u64,
    ) -> Option<Subscriber> {
        let now = self.0.store.born();
        // What began before a deployment was known brings the page of the first.
        let place = place(ask);
        let (key, form, selection) = &place;
        let unknown = (key.in_deployment(""), *form, *selection);
        let running = [inflight.get(&place), inflight.get(&unknown)];
        running.into_iter().flatten().flatten().find_map(|fill| {
            let known = refused.iter().any(|r| Arc::ptr_eq(r, fill));
            let may = !known && fill.is_worth_waiting() && self.fits(ask, fill, varies);
            may.then(|| fill.join(now, kind)).flatten()
        })
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
        let about = ask.about(&inner.notes, ask.form, ask.selection());
        (ask.page && ask.route.mode.is_by_origin() && inner.notes.server_rendered(about))
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
            let kind = ask.kind(&ask.fields);
            fill = Fill::new(inner.store.born(), ask.fields.clone(), ask.of_a_client, kind);
            inflight.insert(place.clone(), vec![Arc::clone(&fill)]);
        }
        let member = Member {
            form: ask.form,
            fields: ask.fields.clone(),
            crowd: ask.selection(),
            flight: self.flight(place, fill),
            goes_first: None,
            prior: None,
            replaces: None,
        };
        let (this, running) = (self.clone(), self.running());
        Some(tokio::spawn(async move {
            this.run(&ask, vec![member], Vec::new(), Priority::Background).await;
            drop(running);
        }))
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

    /// Whether a page was not invalidated since `born`, so that what was noted of it then
    /// still counts. `page` is what is stored.
    fn is_untouched(&self, key: &PageKey, page: Option<&Page>, born: Born) -> bool {
        let none = Tags::default();
        let tags = page.map_or(&none, |page| &*page.tags);
        self.0.store.fence(key, Some(tags), born) == Standing::Live
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
        if self.is_untouched(key, page, born) {
            return true;
        }
        self.0.notes.forget_no_data(about);
        false
    }

    fn lacks(&self, ask: &Ask, page: Option<&Page>) -> bool {
        self.lacks_data(&ask.preset, &ask.key, ask.form, ask.selection(), page)
    }
}
