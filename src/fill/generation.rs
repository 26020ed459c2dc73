//! A generation: the members of a page that are brought together, and stored
//! together or not at all (semantics §4).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ask::{Ask, variant_fields};
use super::classify::Follow;
use super::context::Context;
use super::fetch::{Brought, Fetch, Fetched};
use super::follow::{self, ForAll, NOT_FOR_ALL};
use super::registry::{Flight, Member, Registry};
use super::stream::Lead;
use crate::framework::PageHints;
use crate::metrics::FillResult;
use crate::origin::Priority;
use crate::page::{Form, Representation, Standing};
use crate::rules::status::OnPage;
use crate::rules::storable::Class;
use crate::rules::{Reason, status};
use crate::store::Committed;

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
            // Nothing is wrong with the origin: the next request finds what is stored.
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

/// What a commit means to the caller that asked for the render; and why the render is not
/// stored, if it is not. `moved`: to another deployment; `keeps`: whether there is a
/// store at all.
fn told_by(committed: &Committed, moved: bool, keeps: bool) -> (Renewed, Option<Reason>) {
    let why = match committed {
        Committed::Stored { .. } if moved => return (Renewed::Elsewhere, None),
        Committed::Stored { standing: Standing::Live, .. } => return (Renewed::Stored, None),
        Committed::Stored { .. } => return (Renewed::Overtaken, None),
        Committed::Dead => Reason::Invalidated,
        Committed::Superseded => Reason::Superseded,
        // It has none of its forms any more.
        Committed::Removed => Reason::Status,
        Committed::NoRoom if keeps => Reason::TooLarge,
        Committed::NoRoom => Reason::NoCache,
    };
    (Renewed::Dropped(why), Some(why))
}

/// A member that has come, and its fill.
struct Arrival {
    fetched: Fetched,
    flight: Flight,
    crowd: u64,
    lead: Option<Lead>,
    /// Clients asked for what it takes the place of: it gets coded bodies at once.
    in_demand: bool,
}

impl Arrival {
    fn new(member: Member, fetched: Fetched, lead: Option<Lead>) -> Arrival {
        let Member { flight, crowd, replaces, .. } = member;
        let in_demand = lead.is_some() || replaces.is_some_and(|old| old.uses.count() > 0);
        Arrival { fetched, flight, crowd, lead, in_demand }
    }

    /// Ends the fill for its readers.
    fn end(self) {
        self.lead.into_iter().for_each(|lead| self.flight.fill.decide(lead));
        self.flight.fill.finish(Ok(Some(self.fetched.rep)));
    }
}

/// What the members of a generation have come to so far.
struct Gathered {
    /// It renews what is stored, or brings several members.
    regeneration: bool,
    pages: Vec<Arrival>,
    /// Stored members that the page has no more.
    gone: Vec<Arc<Representation>>,
    /// Why they are gone.
    why_gone: Reason,
    result: FillResult,
    /// How it ended, if it came to nothing.
    outcome: Option<Renewed>,
}

/// Brings generations. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Generations(pub(super) Arc<Registry>);

impl Generations {
    fn context(&self) -> &Context {
        &self.0.context
    }

    /// Brings all members and commits them together, or nothing.
    ///
    /// The first one goes ahead: it tells the build, and one render of the origin's
    /// serves all members. The others are fetched at the same time.
    pub(super) async fn run(
        &self,
        ask: &Ask,
        members: Vec<Member>,
        unwanted: Vec<Arc<Representation>>,
        priority: Priority,
    ) -> Renewed {
        if members.is_empty() {
            return Renewed::Failed("no form of it is known");
        }
        let began = Instant::now();
        let mut ask = ask.clone();
        if self.lead(&ask, &members, priority).await {
            // One render serves both.
            ask.anew = false;
        }
        let mut gathered = Gathered {
            regeneration: members.len() > 1 || priority == Priority::Background,
            pages: Vec::new(),
            gone: unwanted,
            why_gone: Reason::Status,
            result: FillResult::Stored,
            outcome: None,
        };
        let mut members = members.into_iter();
        for member in members.by_ref() {
            let brought = self.bring_member(&ask, &member, priority).await;
            let asked = brought.is_some();
            self.gather(&mut ask, member, brought, &mut gathered).await;
            // Its URL is not known: the next one is the first that is asked for.
            if asked {
                break;
            }
        }
        if gathered.outcome.is_none() {
            // One render serves all members: only the first one asks for it.
            ask.anew = false;
            let rest = members.map(|member| async {
                let brought = self.bring_member(&ask, &member, priority).await;
                (member, brought)
            });
            let rest = futures::future::join_all(rest).await;
            for (member, brought) in rest {
                self.gather(&mut ask, member, brought, &mut gathered).await;
            }
        }
        if gathered.outcome.is_none()
            && let Some(why) = self.catch_up(&ask, &mut gathered.pages, priority).await
        {
            gathered.outcome = Some(Renewed::Failed(why.into()));
            gathered.result = FillResult::Rejected(why);
        }
        let Some(outcome) = gathered.outcome else {
            return self.commit(&ask, gathered, began).await;
        };
        ask.metrics.fill(ask.route.origin, gathered.result, began.elapsed());
        gathered.pages.into_iter().for_each(Arrival::end);
        outcome
    }

    /// Brings the document ahead of data that must not be what makes the renderer render
    /// (see [`Framework::needs_document_first`]); answers whether it did. Not where nothing
    /// says that the page is static: a page that is rendered for each client would be
    /// rendered twice.
    ///
    /// [`Framework::needs_document_first`]: crate::framework::Framework::needs_document_first
    async fn lead(&self, ask: &Ask, members: &[Member], priority: Priority) -> bool {
        let unknown = priority == Priority::Client
            && ask.route.mode.is_isr_by_origin()
            && ask.upstream.preset.build().is_none()
            && members.iter().all(|member| member.replaces.is_none());
        let needs = |member: &Member| ask.upstream.preset.needs_document_first(member.form);
        let led = members.iter().any(|member| member.form == Form::Document);
        if !ask.page || unknown || led || !members.iter().any(needs) {
            return false;
        }
        self.bring_document(ask).await
    }

    /// Brings the document of what is asked for; answers whether it was asked for.
    async fn bring_document(&self, ask: &Ask) -> bool {
        let document = ask.for_form(Form::Document, variant_fields(&ask.key));
        let Some(brought) = document.and_then(|ask| self.bring(ask)) else { return false };
        // If it failed, the data will show.
        let _ = brought.await;
        true
    }

    /// Fetches a member; none if its URL is not known.
    async fn bring_member(
        &self,
        ask: &Ask,
        member: &Member,
        priority: Priority,
    ) -> Option<Brought> {
        let ask = ask.for_form(member.form, member.fields.clone())?;
        let context = self.context();
        let opened = Fetch { context, ask: &ask, member, priority, ahead_of: None }.open().await;
        if opened.follow == Follow::WithoutCookies
            && priority == Priority::Client
            && !ask.carries.prefetch
            && let Some(for_all) = ForAll::without_cookies(context, &ask)
        {
            self.begin_for_all(for_all);
        }
        Some(opened.finish().await)
    }

    /// Sends a client's own request ahead of `ask`, which is for all. Only if the answer looks
    /// as if it were for all, `ask` is sent behind it.
    pub(super) async fn go_first(&self, own: &Ask, member: &Member, ask: &Ask) {
        let began = Instant::now();
        let (context, priority) = (self.context(), Priority::Client);
        let fetch = Fetch { context, ask: own, member, priority, ahead_of: Some(ask) };
        let opened = fetch.open().await;
        if opened.follow == Follow::ForAll {
            self.begin_for_all(ForAll::first(ask));
        }
        let result = match opened.finish().await {
            Brought::Failed(result) => result,
            Brought::Refused(reason, _) => {
                own.metrics.refused(reason);
                FillResult::Refused(reason)
            }
            // What goes first is refused, whatever it brings.
            _ => FillResult::Refused(Reason::FirstVisit),
        };
        own.metrics.fill(own.route.origin, result, began.elapsed());
    }

    /// Asks without what is a client's own, unless that was not for all just now, or
    /// failed, or is under way.
    fn begin_for_all(&self, for_all: ForAll) {
        let mark = for_all.mark();
        let ForAll { ask, page, prior, replaces, priority } = for_all;
        let context = self.context();
        let about = context.notes.client(ask.key.as_str(), ask.client() ^ mark);
        if context.is_waiting(about, &ask.key, page.as_ref(), &ask.route.tags) {
            return;
        }
        let Some(guard) = self.0.mark((ask.key.clone(), mark)) else { return };
        let born = context.store.born();
        let is_new = replaces.is_none();
        let member = self.0.member(&ask, ask.form, ask.fields.clone(), prior, replaces);
        let (this, running) = (self.clone(), self.0.running());
        tokio::spawn(Box::pin(async move {
            if ask.page && is_new && ask.upstream.preset.needs_document_first(ask.form) {
                // The client's own request may have been what made the renderer render.
                this.bring_document(&Ask { anew: true, ..ask.clone() }).await;
            }
            let renewed = this.run(&ask, vec![member], Vec::new(), priority).await;
            let notes = &this.context().notes;
            if let Renewed::Failed(_) = renewed {
                notes.failed(about, Duration::ZERO, ask.route.backoff, born);
            } else if renewed.failure().is_some() {
                notes.wait(about, NOT_FOR_ALL, born);
            }
            drop((guard, running));
        }));
    }

    /// Brings what is asked for in the background, if no fill does already.
    pub(super) fn bring(&self, ask: Ask) -> Option<JoinHandle<()>> {
        let member = self.0.claim(&ask)?;
        let (this, running) = (self.clone(), self.0.running());
        Some(tokio::spawn(Box::pin(async move {
            this.run(&ask, vec![member], Vec::new(), Priority::Background).await;
            drop(running);
        })))
    }

    /// Takes note of what a member has come to.
    async fn gather(
        &self,
        ask: &mut Ask,
        member: Member,
        brought: Option<Brought>,
        gathered: &mut Gathered,
    ) {
        // What data or a payload answer concerns that member alone, unless the
        // document says the same (semantics §4).
        let alone = gathered.regeneration && member.form != Form::Document;
        match brought {
            // Its URL is not known any more.
            None => gathered.gone.extend(member.replaces),
            Some(Brought::NoData) => {
                gathered.gone.extend(member.replaces);
                gathered.why_gone = Reason::ContentType;
            }
            Some(Brought::Refreshed(rep, cookies, stale)) => {
                if gathered.result == FillResult::Stored {
                    gathered.result = FillResult::Refreshed;
                }
                if let Some(prior) = member.prior.clone()
                    && !prior.is_in_place_of(&rep)
                {
                    gathered.gone.push(prior);
                }
                let lead = Lead::Refreshed(Arc::clone(&rep), cookies.into());
                let fetched = Fetched { rep, hints: PageHints::default(), deployment: None, stale };
                gathered.pages.push(Arrival::new(member, fetched, Some(lead)));
            }
            Some(Brought::Confirmed) => {
                if let Some(stored) = &member.prior {
                    self.context().compressor.compress(&ask.metrics, &ask.key, stored);
                }
                gathered.outcome = Some(Renewed::Stored);
                gathered.result = FillResult::Refreshed;
            }
            Some(Brought::Page(fetched)) => {
                if alone && status::meaning(fetched.rep.status).page == OnPage::Missing {
                    gathered.gone.extend(member.replaces.clone());
                    member.flight.fill.finish(Ok(Some(fetched.rep)));
                    return;
                }
                if let Some(build) = &fetched.hints.build {
                    // What belongs to it is of that build.
                    ask.build = Some((**build).into());
                }
                gathered.pages.push(Arrival::new(member, fetched, None));
            }
            Some(Brought::ServerRendered | Brought::Refused(_, Class::Forbidden)) if alone => {
                gathered.gone.extend(member.replaces);
            }
            Some(Brought::ServerRendered) => {
                let reason = Reason::ServerRendered;
                self.withdraw(ask, &member).await;
                gathered.outcome = Some(Renewed::NotStored(reason));
                gathered.result = FillResult::Refused(reason);
            }
            Some(Brought::Refused(reason, class)) => {
                ask.metrics.refused(reason);
                // It may have become private or unpublished.
                let removed = class == Class::Forbidden && self.withdraw(ask, &member).await;
                gathered.outcome = Some(Renewed::NotStored(reason));
                gathered.result =
                    if removed { FillResult::Removed(reason) } else { FillResult::Refused(reason) };
            }
            Some(Brought::Failed(how)) => {
                if let FillResult::Rejected(reason) = how {
                    ask.metrics.refused(reason);
                }
                gathered.outcome = Some(Renewed::Failed(how.reason().unwrap_or("failed")));
                gathered.result = how;
            }
        }
    }

    /// An origin that sent a stale copy of one member and a fresh one of another has
    /// rendered in between: the stale ones are asked for once more. Where all are
    /// stale they are of one generation, if an old one.
    async fn catch_up(
        &self,
        ask: &Ask,
        pages: &mut [Arrival],
        priority: Priority,
    ) -> Option<Reason> {
        let stale = pages.iter().filter(|page| page.fetched.stale).count();
        if stale == 0 || stale == pages.len() {
            return None;
        }
        for page in pages.iter_mut().filter(|page| page.fetched.stale) {
            let fields = page.flight.fill.fields.clone();
            let member = self.0.member(ask, page.fetched.rep.form, fields, None, None);
            match self.bring_member(ask, &member, priority).await {
                Some(Brought::Page(fetched)) if !fetched.stale => {
                    let in_demand = page.in_demand;
                    let new = Arrival { in_demand, ..Arrival::new(member, fetched, None) };
                    std::mem::replace(page, new).end();
                }
                _ => return Some(Reason::StaleCopy),
            }
        }
        // What they said to wait for has happened.
        let notes = &self.context().notes;
        notes.forget_failures(notes.page(ask.key.as_str()));
        None
    }

    /// Stores members of one generation, under the deployment that rendered them.
    /// `began`: when the first member was asked for.
    async fn commit(&self, ask: &Ask, gathered: Gathered, began: Instant) -> Renewed {
        let Gathered { mut pages, gone, why_gone, result, .. } = gathered;
        let context = self.context();
        let asset = ask.upstream.preset.is_asset(ask.key.path());
        let deployment = pages
            .iter()
            .find_map(|page| page.fetched.deployment.clone())
            // On `ssr` a page stays where it was asked for; but one of no deployment, which
            // came before any was known, would be lost as soon as one is.
            .filter(|_| (ask.page || ask.key.deployment().is_empty()) && !asset);
        let key = match &deployment {
            Some(deployment) => {
                ask.upstream.deployments.seen(deployment);
                ask.key.in_deployment(deployment)
            }
            // It does not say of which build it is: of the one that answers now.
            None if ask.page && ask.upstream.preset.is_of_build(ask.key.path()) => {
                match ask.upstream.deployments.load().newest() {
                    "" => ask.key.clone(),
                    newest => ask.key.in_deployment(newest),
                }
            }
            None => ask.key.clone(),
        };
        let moved = key != ask.key;
        let of_it = |page: &Arrival| {
            page.fetched.deployment.is_none() || page.fetched.deployment == deployment
        };
        let kept = pages.iter().filter(|page| !moved || of_it(page));
        let members = kept.map(|page| (*page.fetched.rep).clone()).collect();
        let gone = if moved { Vec::new() } else { gone };
        let is_gone = |rep: &Representation| gone.iter().any(|gone| gone.is_in_place_of(rep));
        let committed = context.store.commit(&key, &ask.route.tags, members, is_gone).await;
        let elsewhere = moved && !ask.key.deployment().is_empty();
        let (renewed, refused) = match &pages[..] {
            [] => (Renewed::Dropped(why_gone), Some(why_gone)),
            _ => told_by(&committed, elsewhere, context.store.keeps()),
        };
        let result = refused.map_or(result, FillResult::Refused);
        ask.metrics.fill(ask.route.origin, result, began.elapsed());
        // That there is no such form says nothing of a render that failed.
        if !pages.is_empty() {
            context.notes.succeeded(context.notes.page(ask.key.as_str()));
            context.notes.succeeded(ask.failures(&context.notes));
        }
        // The pair of a stale copy might be of the next render.
        let hints = pages
            .first_mut()
            .filter(|page| !page.fetched.stale)
            .map(|page| std::mem::take(&mut page.fetched.hints));
        for page in pages {
            let rep = &page.fetched.rep;
            let terms = || ask.judge().of(rep).terms;
            if ask.page || terms().is_some_and(|terms| !terms.always_validate()) {
                context.notes.set_collapsible(ask.about(&context.notes, rep.form, page.crowd));
            }
            if let Committed::Stored { page: stored, .. } = &committed {
                let same = stored.members.iter().find(|m| m.is_in_place_of(rep));
                if let Some(stored) = same.filter(|_| page.in_demand) {
                    context.compressor.compress(&ask.metrics, &key, stored);
                }
                context.assets.named_by(&ask.upstream.preset, &ask.key, &ask.target, rep);
            }
            // Readers hear of the end when the store has it, or their next
            // request would ask the origin again.
            page.end();
        }
        if let Some(hints) = &hints {
            let pair = follow::pair(context, ask, &key, hints);
            let document = follow::document_of_data(context, ask, &key, hints);
            for ask in pair.into_iter().chain(document) {
                self.bring(ask);
            }
        }
        renewed
    }

    /// A complete answer forbids storing: removes what its request selected
    /// (semantics §1), as far as it is older than that answer. Answers whether
    /// there was any.
    ///
    /// On `isr` and `dsg` that is the page, when it is the document that says so,
    /// under whichever deployment it would be found. A request that selected
    /// nothing that is stored removes nothing, nor does a prefetch. On `ssr` nor does
    /// what was asked with other fields than what is stored: clients make those up, and
    /// the origin is asked with those of what is stored, too (see `Fills::verify`).
    async fn withdraw(&self, ask: &Ask, member: &Member) -> bool {
        let (store, born) = (&self.context().store, member.flight.fill.born);
        let route = &ask.route.tags;
        if ask.page {
            let whole = member.form == Form::Document;
            let of = |rep: &Representation| {
                whole || (rep.form == member.form && rep.is_selected_by(&member.fields))
            };
            let mut removed = store.withdraw(&ask.key, route, born, of).await;
            let deployments = ask.upstream.deployments.load_full();
            if *ask.key.deployment() == *deployments.current() {
                for other in deployments.others() {
                    removed |= store.withdraw(&ask.key.in_deployment(other), route, born, of).await;
                }
            }
            return removed;
        }
        let of = |rep: &Representation| {
            rep.form == ask.form && rep.is_selected_by(&ask.fields) && ask.is_as_stored(rep)
        };
        store.withdraw(&ask.key, route, born, of).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Page;
    use crate::page::testing::{key, rep};

    #[test]
    fn what_a_commit_means() {
        let page = Arc::new(Page::new(key("/a"), vec![Arc::new(rep(Form::Document, 0, &[], "x"))]));
        let stored = |standing| Committed::Stored { page: Arc::clone(&page), standing };
        let dropped = |why| (Renewed::Dropped(why), Some(why));
        for (committed, moved, keeps, expected) in [
            (stored(Standing::Live), false, true, (Renewed::Stored, None)),
            (stored(Standing::Live), true, true, (Renewed::Elsewhere, None)),
            (stored(Standing::Stale), false, true, (Renewed::Overtaken, None)),
            (Committed::Dead, false, true, dropped(Reason::Invalidated)),
            (Committed::Dead, true, true, dropped(Reason::Invalidated)),
            (Committed::Superseded, false, true, dropped(Reason::Superseded)),
            (Committed::Removed, false, true, dropped(Reason::Status)),
            (Committed::NoRoom, false, true, dropped(Reason::TooLarge)),
            (Committed::NoRoom, false, false, dropped(Reason::NoCache)),
        ] {
            assert_eq!(told_by(&committed, moved, keeps), expected, "{committed:?}");
        }
    }

    #[test]
    fn of_several_members_the_worst_counts() {
        use Renewed::{Dropped, Failed, NotStored, Stored};
        for (one, other, worse) in [
            (Stored, Stored, Stored),
            (Stored, Dropped(Reason::Invalidated), Dropped(Reason::Invalidated)),
            (Failed("a"), Stored, Failed("a")),
            (NotStored(Reason::Private), Failed("a"), Failed("a")),
            (Failed("a"), NotStored(Reason::Private), Failed("a")),
        ] {
            assert_eq!(one.worse(other), worse);
        }
    }
}
