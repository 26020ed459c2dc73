//! A generation: the members of a page that are brought together, and stored
//! together or not at all (semantics §4).

use std::sync::Arc;

use tokio::time::Instant;

use super::fetch::{Brought, Fetched};
use super::request::Ask;
use super::stream::Lead;
use super::{Fills, Flight, Member, Renewed};
use crate::framework::Told;
use crate::metrics::FillResult;
use crate::origin::Priority;
use crate::page::{Form, Seq};
use crate::rules::Reason;
use crate::rules::storable::Class;
use crate::store::Committed;

/// A member that has come, and who waits for it.
struct Arrival {
    fetched: Fetched,
    flight: Flight,
    lead: Option<Lead>,
}

impl Arrival {
    /// Tells who waits.
    fn end(self) {
        self.lead.into_iter().for_each(|lead| self.flight.fill.decide(lead));
        self.flight.fill.finish(Ok(Some(self.fetched.rep)));
    }
}

impl Fills {
    /// Brings all members and commits them together, or nothing.
    pub(super) async fn run(&self, ask: &Ask, members: Vec<Member>, priority: Priority) -> Renewed {
        let began = Instant::now();
        let regeneration = members.len() > 1 || priority == Priority::Background;
        let mut ask = ask.clone();
        let mut pages: Vec<Arrival> = Vec::new();
        let mut gone: Vec<Form> = Vec::new();
        let mut result = FillResult::Stored;
        let mut outcome = None;
        for member in members {
            let Some(form_ask) = ask.for_form(member.form, member.fields.clone()) else {
                // Nobody knows the URL of it any more.
                gone.push(member.form);
                continue;
            };
            // One render serves all members: only the first one asks for it.
            ask.anew = false;
            match self.fetch(&form_ask, &member, priority).await {
                Brought::Refreshed(rep, cookies, stale) => {
                    result = FillResult::Refreshed;
                    let lead = Lead::Refreshed(Arc::clone(&rep), cookies.into());
                    let fetched = Fetched { rep, told: Told::default(), deployment: None, stale };
                    pages.push(Arrival { fetched, flight: member.flight, lead: Some(lead) });
                }
                Brought::Page(fetched) => {
                    let status = fetched.rep.status.as_u16();
                    if regeneration && member.form != Form::Document && matches!(status, 404 | 410)
                    {
                        gone.push(member.form);
                        member.flight.fill.finish(Ok(Some(fetched.rep)));
                        continue;
                    }
                    if let Some(build) = &fetched.told.build {
                        // What belongs to it is of that build.
                        ask.build = Some((**build).into());
                    }
                    pages.push(Arrival { fetched, flight: member.flight, lead: None });
                }
                Brought::NoData => gone.push(member.form),
                Brought::ServerRendered => {
                    self.forget(&ask, member.flight.fill.born);
                    outcome = Some(Renewed::NotStored(Reason::ServerRendered));
                    result = FillResult::Refused(Reason::ServerRendered);
                }
                Brought::Refused(reason, class) => {
                    ask.metrics.refused(reason);
                    if class == Class::Forbidden {
                        // It has become private or unpublished.
                        self.forget(&ask, member.flight.fill.born);
                        result = FillResult::Removed(reason);
                    } else {
                        result = FillResult::Refused(reason);
                    }
                    outcome = Some(Renewed::NotStored(reason));
                }
                Brought::Failed(how) => {
                    if let FillResult::Rejected(reason) = how {
                        ask.metrics.refused(reason);
                    }
                    outcome = Some(Renewed::Failed(how.reason().unwrap_or("failed")));
                    result = how;
                }
            }
            if outcome.is_some() {
                break;
            }
        }
        ask.metrics.fill(ask.route.origin, result, began.elapsed());
        if outcome.is_none() {
            outcome = self.catch_up(&ask, &mut pages, priority).await;
        }
        if let Some(outcome) = outcome {
            pages.into_iter().for_each(Arrival::end);
            return outcome;
        }
        if pages.is_empty() && gone.is_empty() {
            return Renewed::Stored;
        }
        self.commit(&ask, pages, &gone)
    }

    /// An origin that sent a stale copy of one member and a fresh one of another has
    /// rendered in between: the stale ones are asked for once more. Where all are
    /// stale they are of one generation, if an old one.
    async fn catch_up(
        &self,
        ask: &Ask,
        pages: &mut [Arrival],
        priority: Priority,
    ) -> Option<Renewed> {
        let stale = pages.iter().filter(|page| page.fetched.stale).count();
        if stale == 0 || stale == pages.len() {
            return None;
        }
        for page in pages.iter_mut().filter(|page| page.fetched.stale) {
            let fields = page.flight.fill.fields.clone();
            let member = self.member(ask, page.fetched.rep.form, fields, None);
            let ask = ask.for_form(member.form, member.fields.clone())?;
            match self.fetch(&ask, &member, priority).await {
                Brought::Page(fetched) if !fetched.stale => {
                    let new = Arrival { fetched, flight: member.flight, lead: None };
                    std::mem::replace(page, new).end();
                }
                _ => return Some(Renewed::Failed("the origin sent a stale copy")),
            }
        }
        // What they said to wait for has happened.
        self.0.notes.forget_failures(ask.key.as_str());
        None
    }

    /// Stores members of one generation, under the deployment that rendered them.
    fn commit(&self, ask: &Ask, mut pages: Vec<Arrival>, gone: &[Form]) -> Renewed {
        let inner = &self.0;
        let asset = ask.preset.is_asset(ask.key.path());
        let deployment = pages
            .iter()
            .find_map(|page| page.fetched.deployment.clone())
            .filter(|_| ask.page && !asset);
        let key = match &deployment {
            Some(deployment) => {
                ask.deployments.seen(deployment);
                ask.key.in_deployment(deployment)
            }
            None => ask.key.clone(),
        };
        let moved = key != ask.key;
        let of_it = |page: &Arrival| {
            page.fetched.deployment.is_none() || page.fetched.deployment == deployment
        };
        let kept = pages.iter().filter(|page| !moved || of_it(page));
        let members = kept.map(|page| (*page.fetched.rep).clone()).collect();
        let gone = if moved { &[] } else { gone };
        let committed = inner.store.commit_generation(&key, members, gone);
        // That there is no such form says nothing of a render that failed.
        if !pages.is_empty() {
            inner.notes.succeeded(&ask.key);
        }
        // The pair of a stale copy might be of the next render.
        let told = pages
            .first_mut()
            .filter(|page| !page.fetched.stale)
            .map(|page| std::mem::take(&mut page.fetched.told));
        for page in pages {
            let rep = &page.fetched.rep;
            inner.notes.set_collapsible(&ask.key, rep.form);
            if let Committed::Stored { page, .. } = &committed {
                let stored = page.members.iter();
                for stored in stored.filter(|m| m.form == rep.form && m.vary == rep.vary) {
                    inner.compressor.compress(&ask.metrics, &key, stored);
                }
                if rep.status.is_success() {
                    inner.assets.named_by(&ask.preset, &ask.key, rep);
                }
            }
            // Readers hear of the end when the store has it, or their next
            // request would ask the origin again.
            page.end();
        }
        if let Some(told) = &told {
            self.bring_pair(ask, &key, told);
        }
        if moved && !ask.key.deployment().is_empty() { Renewed::Elsewhere } else { Renewed::Stored }
    }

    /// What is stored of a page is not to be served any more, under whichever
    /// deployment it would be found.
    fn forget(&self, ask: &Ask, born: Seq) {
        self.0.store.remove_until(&ask.key, born);
        let deployments = ask.deployments.load();
        if *ask.key.deployment() == *deployments.current() {
            for other in deployments.others() {
                self.0.store.remove_until(&ask.key.in_deployment(other), born);
            }
        }
    }
}
