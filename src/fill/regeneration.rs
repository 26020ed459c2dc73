//! Regenerations: when one begins, with whose fields, and how long the next one waits
//! after one that failed (semantics §3).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::flight::{Regenerating, variant};
use super::notes::Subject;
use super::request::{Ask, variant_fields};
use super::stream::{FOLLOW, Fill};
use super::{Fills, Member, commit};
use crate::origin::Priority;
use crate::page::{Asked, Born, Fields, FieldsBuf, Form, Page, PageKey, Representation, Standing};
use crate::rules::Reason;
use crate::rules::cache_status::StaleWhy;

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
    pub(super) fn failure(&self) -> Option<&'static str> {
        match self {
            // Nothing is wrong with the origin: who asks next finds what is there.
            Renewed::Stored | Renewed::Overtaken | Renewed::Dropped(_) => None,
            Renewed::Elsewhere => Some("another deployment answered"),
            Renewed::Failed(why) => Some(why),
            Renewed::NotStored(reason) => Some(reason.into()),
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

impl Fills {
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
        let as_stored = if ask.is_as_stored(stale) { None } else { ask.as_stored(stale) };
        let mut ask = Ask { anew: ask.page, of_a_client: as_stored.is_some(), ..ask };
        let born = inner.store.born();
        let (members, unwanted) = self.members(&ask, page, stale, *key == page.key);
        let (this, lifetime) = (self.clone(), ask.judge().lifetime(stale));
        let (page, stale) = (Arc::clone(page), Arc::clone(stale));
        let running = self.running();
        tokio::spawn(async move {
            let renewed = match as_stored {
                Some(as_stored) => {
                    let renewed = this.renew_for(&ask, &as_stored, members, &page, &stale).await;
                    ask = as_stored;
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
        let first = self.run(ask, members, Vec::new(), priority);
        match tokio::time::timeout(FOLLOW, first).await {
            Ok(renewed) if renewed.failure().is_none() => renewed,
            _ => {
                let (members, unwanted) = self.members(as_stored, page, stale, ask.key == page.key);
                self.run(as_stored, members, unwanted, priority).await
            }
        }
    }

    /// A client who waited for it got no page where `stale` is stored, on `ssr`. Whether
    /// that is so for everybody is found out in the background, as in
    /// [`renew_for`](Self::renew_for). Who has cookies or credentials may be answered
    /// otherwise than others.
    pub(super) fn verify(&self, ask: &Ask, stale: &Arc<Representation>) {
        if ask.cookie || ask.authorization || ask.no_store || ask.prefetch {
            return;
        }
        let inner = &self.0;
        let Some(page) = inner.store.get(ask.key.as_str()) else { return };
        let Some(as_stored) = ask.as_stored(stale) else { return };
        // Clients could have it asked again and again.
        let about = inner.notes.client(ask.key.as_str(), VERIFIED);
        if !self.is_waiting(about, &ask.key, Some(&page)) {
            inner.notes.wait(about, VERIFY_EVERY, inner.store.born());
            self.refresh(&ask.key, &page, stale, false, false, || as_stored);
        }
    }

    /// Marks a page (or a variant of it) as being regenerated, until what is returned
    /// is dropped; none if it is already.
    pub(super) fn mark(&self, mark: (PageKey, u64)) -> Option<Regenerating> {
        let new = self.0.regenerating.lock().insert(mark.clone());
        new.then(|| Regenerating { fills: self.clone(), mark })
    }

    /// Renders a page now, unconditionally: the webhook's `mode=regenerate`.
    /// `page` is what is stored.
    pub async fn renew(&self, ask: &Ask, page: Option<&Arc<Page>>) -> Renewal {
        let priority = Priority::Background;
        let _running = self.running();
        let ask = &Ask { anew: ask.page, ..ask.clone() };
        let mut result = Renewed::Stored;
        let mut left = 0;
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
            // Variants are renewed each for itself, with what brought it.
            let of_variant = |stale: &&Arc<Representation>| {
                let ask = ask.as_stored(stale)?;
                let fields = ask.fields.clone();
                Some((ask, fields, Arc::clone(stale)))
            };
            // Variants are for clients to make up: those that nobody asked for since
            // they were stored stay stale. Something of the page is rendered in any case.
            let is_wanted = |rep: &&Arc<Representation>| !is_variant(rep) || rep.uses.any();
            let mut wanted: Vec<_> =
                stored.iter().copied().filter(is_wanted).filter_map(|r| of_variant(&r)).collect();
            if wanted.is_empty() {
                wanted.extend(stored.iter().rev().find_map(of_variant));
            }
            left = stored.len() - wanted.len();
            if wanted.is_empty() {
                result = Renewed::Failed("no form of it is known");
            }
            let renders = wanted.into_iter().map(|(ask, fields, stale)| async move {
                let _guard = self.mark((ask.key.clone(), variant(&stale)));
                let form = stale.form;
                let members = vec![self.member(&ask, form, fields, None, Some(stale))];
                self.run(&ask, members, Vec::new(), priority).await
            });
            let mut renders = futures::stream::iter(renders).buffer_unordered(SIDE_BY_SIDE);
            while let Some(renewed) = renders.next().await {
                result = result.worse(renewed);
            }
        }
        if let Renewed::Failed(why) = result {
            tracing::warn!(page = %ask.key, why, "revalidation: the render failed");
            // The next request tries again at once.
            self.0.notes.forget_failures(self.0.notes.page(ask.key.as_str()));
        }
        Renewal { result, left }
    }

    /// Renders a page now that a client has changed, as far as it is stored and was marked
    /// stale for that: then this client sees what it did, others do not wait, and what is
    /// stored stays where the render fails. Who changes the same page meanwhile waits for
    /// its turn, and then for one render with all the others.
    pub async fn renew_changed(&self, ask: &Ask) {
        let inner = &self.0;
        let hash = xxhash_rust::xxh3::xxh3_64(ask.key.as_str().as_bytes());
        let Some(turn) = inner.turns.get(hash as usize % inner.turns.len()) else { return };
        let _turn = turn.lock().await;
        let Some(page) = inner.store.lookup(ask.key.as_str()).await else { return };
        let standing = |rep| inner.store.standing_under(&page, rep, &ask.route.tags);
        if page.members.iter().any(|rep| standing(rep) != Standing::Live) {
            self.renew(ask, Some(&page)).await;
        }
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

    pub(super) fn is_waiting(
        &self,
        about: Subject,
        key: &PageKey,
        page: Option<&Arc<Page>>,
    ) -> bool {
        let inner = &self.0;
        let Some(born) = inner.notes.waiting(about) else { return false };
        if self.is_untouched(key, page.map(|page| &**page), born) {
            return true;
        }
        inner.notes.forget_failures(about);
        false
    }

    /// After a failed regeneration that began at `born`: wait, and say so. What was
    /// asked with a client's fields says nothing of others.
    pub(super) fn failed(
        &self,
        ask: &Ask,
        lifetime: Option<Duration>,
        born: Born,
        why: &'static str,
    ) {
        let lifetime = lifetime.unwrap_or(Duration::from_secs(30));
        let notes = &self.0.notes;
        let wait = notes.failed(ask.failures(notes), lifetime, ask.route.backoff, born);
        tracing::warn!(page = %ask.key, why, retry_in = ?wait, "regeneration failed; the stored page stays");
    }

    /// The members that a regeneration of `stale` brings, and those that it drops:
    /// of a page route all that are stored, less the variants that nobody asked for
    /// since they were; elsewhere that variant alone.
    pub(super) fn members(
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
                if is_variant(rep) && !rep.uses.any() && !Arc::ptr_eq(rep, stale) {
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

    pub(super) fn member(
        &self,
        ask: &Ask,
        form: Form,
        fields: Fields,
        prior: Option<Arc<Representation>>,
        replaces: Option<Arc<Representation>>,
    ) -> Member {
        let kind = ask.kind(&fields);
        let fill = Fill::new(self.0.store.born(), fields.clone(), ask.of_a_client, kind);
        let place = (ask.key.clone(), form, ask.selection_of(form, &fields));
        self.0.inflight.lock().entry(place.clone()).or_default().push(Arc::clone(&fill));
        let crowd = ask.crowd(form, &fields, None);
        let flight = self.flight(place, fill);
        Member { form, fields, flight, crowd, goes_first: None, prior, replaces }
    }

    /// Whether another render has taken the place of `stale` since it was looked
    /// up: its own, or, of a page of another deployment, any.
    pub(super) fn renewed(&self, key: &PageKey, page: &Page, stale: &Representation) -> bool {
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
}

/// Whether it was selected by something that a request said: what clients can make up.
fn is_variant(rep: &Representation) -> bool {
    rep.vary.iter().any(|field| field.value.is_some())
}
