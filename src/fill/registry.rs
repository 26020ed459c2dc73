//! What is under way: where fills are found while they run, which requests join which, and
//! the guards that end them.

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::arrived;
use super::ask::Ask;
use super::context::Context;
use super::stream::{Broken, Fill, Lead, Preview, Subscriber};
use crate::page::{Fields, Form, Page, PageKey, Representation, Standing, Tags};
use crate::rules::cache_status::Failure;

/// What a fill brings: a form of a page, and which representation of it as far as
/// that is known beforehand (see [`Ask::selection`]).
type Place = (PageKey, Form, u64);

/// A page that is regenerated, and the variant of it; 0: all of the page.
type Mark = (PageKey, u64);

/// Where a fill for this is found.
fn place(ask: &Ask) -> Place {
    (ask.key.clone(), ask.form, ask.selection())
}

/// All that is under way.
pub(super) struct Registry {
    pub(super) context: Arc<Context>,
    /// What newcomers may join. Several for one form of a page, where what it varies on
    /// tells them apart.
    inflight: Mutex<HashMap<Place, Vec<Arc<Fill>>>>,
    /// Pages (and variants) with a regeneration under way.
    regenerating: Mutex<HashSet<Mark>>,
    running: watch::Sender<usize>,
}

/// One representation that a run of fills brings.
pub(super) struct Member {
    pub(super) form: Form,
    /// What is sent to select it (see [`Ask::fields`]).
    pub(super) fields: Fields,
    pub(super) flight: Flight,
    /// Which requests may wait for it (see `Ask::crowd`).
    pub(super) crowd: u64,
    /// What is stored, if the origin may say that it has not changed.
    pub(super) prior: Option<Arc<Representation>>,
    /// The member of the page that it takes the place of, if there is one.
    pub(super) replaces: Option<Arc<Representation>>,
}

/// How a request wants to join a fill.
pub(super) struct Joining<'a> {
    /// The request that is sent if it leads: what is asked for, or the client's own.
    pub(super) sends: &'a Ask,
    /// The page as it found it in the store.
    pub(super) seen: Option<&'a Arc<Page>>,
    /// Fills that turned out not to fit.
    pub(super) refused: &'a [Arc<Fill>],
    /// It neither follows a fill nor may be followed.
    pub(super) alone: bool,
    /// It may be sent back to the store, at which it looked then (see [`Store::changes`]).
    pub(super) looked: Option<u64>,
    /// How the origin answers may be the doing of the client whose fields are sent.
    pub(super) of_a_client: bool,
}

/// How a request has joined.
pub(super) enum Joined {
    /// It reads a fill that runs.
    Follows(Subscriber),
    /// A fill has ended since it looked, and the store has what it brought, or the notes
    /// what it found.
    LooksAgain,
    /// It leads a fill, which is still to be run.
    Leads(Subscriber, Flight),
}

impl Registry {
    pub(super) fn new(context: Context) -> Arc<Registry> {
        Arc::new(Registry {
            context: Arc::new(context),
            inflight: Mutex::default(),
            regenerating: Mutex::default(),
            running: watch::Sender::new(0),
        })
    }

    /// Joins the fill that brings what is asked for, or registers a new one.
    pub(super) fn join(self: &Arc<Registry>, ask: &Ask, joining: &Joining<'_>) -> Joined {
        let &Joining { sends, seen, refused, .. } = joining;
        let now = self.context.store.born();
        let varies = known_to_vary(ask, seen, refused);
        let kind = sends.kind(&sends.fields);
        let place = place(ask);
        let mut inflight = self.inflight.lock();
        if !joining.alone {
            // What began before a deployment was known brings the page of the first.
            let (key, form, selection) = &place;
            let unknown = (key.in_deployment(""), *form, *selection);
            let mut running =
                [inflight.get(&place), inflight.get(&unknown)].into_iter().flatten().flatten();
            let joined = running.find_map(|fill| {
                let known = refused.iter().any(|r| Arc::ptr_eq(r, fill));
                let may = !known && fill.is_worth_waiting() && self.fits(ask, fill, &varies);
                may.then(|| fill.join(now, kind)).flatten()
            });
            if let Some(subscriber) = joined {
                return Joined::Follows(subscriber);
            }
            // A fill commits before it leaves, and notes what it found: what
            // is not in flight any more is known by now.
            if joining.looked.is_some_and(|looked| self.context.has_news(ask, looked)) {
                return Joined::LooksAgain;
            }
        }
        let fill = Fill::new(now, sends.fields.clone(), joining.of_a_client, kind);
        let subscriber = fill.lead_by(now);
        // What it brings is for its leader alone; it may well wait for what is for all.
        if joining.alone || ask.is_personal(&varies) {
            fill.seal();
        } else {
            inflight.entry(place.clone()).or_default().push(Arc::clone(&fill));
        }
        drop(inflight);
        Joined::Leads(subscriber, Flight { registry: Arc::clone(self), place, fill })
    }

    /// Registers a fill without readers for what is asked for, unless there is one,
    /// or the page has a member of that form, or none is to be had.
    pub(super) fn claim(self: &Arc<Registry>, ask: &Ask) -> Option<Member> {
        let place = place(ask);
        // One step, or a client could ask for it in between.
        let mut inflight = self.inflight.lock();
        let page = self.context.store.get(ask.key.as_str());
        let has_form = |page: &Arc<Page>| page.members.iter().any(|m| m.form == ask.form);
        let stored = page.as_ref().is_some_and(has_form);
        if stored || inflight.contains_key(&place) || self.context.lacks(ask, page.as_deref()) {
            return None;
        }
        let kind = ask.kind(&ask.fields);
        let now = self.context.store.born();
        let fill = Fill::new(now, ask.fields.clone(), ask.of_a_client, kind);
        inflight.insert(place.clone(), vec![Arc::clone(&fill)]);
        drop(inflight);
        let flight = Flight { registry: Arc::clone(self), place, fill };
        let (form, fields, crowd) = (ask.form, ask.fields.clone(), ask.selection());
        Some(Member { form, fields, flight, crowd, prior: None, replaces: None })
    }

    /// Registers a fill for a representation of the page that is asked for, whatever else
    /// is under way.
    pub(super) fn member(
        self: &Arc<Registry>,
        ask: &Ask,
        form: Form,
        fields: Fields,
        prior: Option<Arc<Representation>>,
        replaces: Option<Arc<Representation>>,
    ) -> Member {
        let kind = ask.kind(&fields);
        let fill = Fill::new(self.context.store.born(), fields.clone(), ask.of_a_client, kind);
        let place = (ask.key.clone(), form, ask.selection_of(form, &fields));
        self.inflight.lock().entry(place.clone()).or_default().push(Arc::clone(&fill));
        let flight = Flight { registry: Arc::clone(self), place, fill };
        let crowd = ask.crowd(form, &fields, None);
        Member { form, fields, flight, crowd, prior, replaces }
    }

    /// Whether a fill may answer this request, as far as is known: no hard
    /// invalidation since it began, and RFC 9111 §4.1 selects it. `varies`: what
    /// the page is known to vary on while the fill's head has not come.
    fn fits(&self, ask: &Ask, fill: &Fill, varies: &[Box<str>]) -> bool {
        let lead = fill.lead();
        let (tags, varies) = match &lead {
            Some(Lead::Shared(preview)) => (Some(&preview.tags), &*preview.vary),
            None => (None, varies),
            // Nothing to be had from these.
            Some(_) => return false,
        };
        self.context.store.fence(&ask.key, tags, fill.born) != Standing::Dead
            && arrived::selects(varies, &fill.fields, &ask.fields)
    }

    /// Whether what a fill brought may be given to a follower (semantics §3:
    /// RFC 9111 §4.1, and the fence).
    pub(super) fn suits(&self, ask: &Ask, subscriber: &Subscriber, preview: &Preview) -> bool {
        let fields = &subscriber.fill().fields;
        subscriber.leader
            || (preview.reusable
                && !self.fenced(ask, subscriber, &preview.tags)
                && arrived::selects(&preview.vary, fields, &ask.fields))
    }

    /// Whether a reader came after an acknowledged invalidation that the fill was
    /// begun before, now that its tags are known.
    pub(super) fn fenced(&self, ask: &Ask, subscriber: &Subscriber, tags: &Tags) -> bool {
        let born = subscriber.fill().born;
        let tags = || tags.union(&ask.route.tags);
        let fence = || self.context.store.fence(&ask.key, Some(&tags()), born);
        subscriber.joined > born && fence() == Standing::Dead
    }

    /// Marks a page (or a variant of it) as being regenerated, until what is returned
    /// is dropped; none if it is already.
    pub(super) fn mark(self: &Arc<Registry>, mark: Mark) -> Option<Regenerating> {
        let new = self.regenerating.lock().insert(mark.clone());
        new.then(|| Regenerating { registry: Arc::clone(self), mark })
    }

    /// Whether it is marked as being regenerated.
    pub(super) fn is_marked(&self, mark: &Mark) -> bool {
        self.regenerating.lock().contains(mark)
    }

    /// Counts a task as running until it is dropped.
    pub(super) fn running(self: &Arc<Registry>) -> Running {
        self.running.send_modify(|running| *running += 1);
        Running(Arc::clone(self))
    }

    /// Waits until no fill runs.
    pub(super) async fn idle(&self) {
        // The sender lives in self.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.inflight.lock().is_empty() && self.regenerating.lock().is_empty()
    }
}

/// What a page varies on as far as this request knows: by what is stored of it,
/// and by the fills it has waited for in vain.
fn known_to_vary(ask: &Ask, seen: Option<&Arc<Page>>, refused: &[Arc<Fill>]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let stored = seen.into_iter().flat_map(|page| page.members.iter());
    for rep in stored.filter(|rep| rep.form == ask.form) {
        names.extend(rep.names());
    }
    for fill in refused {
        match fill.lead() {
            Some(Lead::Shared(preview)) => names.extend(preview.vary.iter().cloned()),
            Some(Lead::Refreshed(rep, _)) => names.extend(rep.names()),
            _ => {}
        }
    }
    names
}

/// Which variant of a page a representation is.
pub(super) fn variant(rep: &Representation) -> u64 {
    if rep.vary.is_empty() {
        return 0;
    }
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for field in &rep.vary {
        hasher.write(field.name.as_bytes());
        hasher.write(field.value.as_deref().unwrap_or(b"\0"));
        hasher.write_u8(0);
    }
    hasher.finish() | 1
}

/// A fill under way. However its task ends, no reader is left waiting for it.
pub(super) struct Flight {
    registry: Arc<Registry>,
    place: Place,
    pub(super) fill: Arc<Fill>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.fill.decide(Lead::Failed(Failure::Reset));
        self.fill.finish(Err(Broken::Origin));
        let mut inflight = self.registry.inflight.lock();
        if let Some(fills) = inflight.get_mut(&self.place) {
            fills.retain(|fill| !Arc::ptr_eq(fill, &self.fill));
            if fills.is_empty() {
                inflight.remove(&self.place);
            }
        }
    }
}

/// A task under way, its last steps included.
pub(super) struct Running(Arc<Registry>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// A regeneration under way.
pub(super) struct Regenerating {
    registry: Arc<Registry>,
    mark: Mark,
}

impl Drop for Regenerating {
    fn drop(&mut self) {
        self.registry.regenerating.lock().remove(&self.mark);
    }
}
