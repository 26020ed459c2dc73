//! From what one client got to what is for all (semantics §1): who goes first where
//! nothing is known of a path, and what is asked for again without what is a client's own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::commit::Arrived;
use super::fetch::Brought;
use super::flight::place;
use super::request::{Ask, without};
use super::stream::{Fill, Subscriber};
use super::{Fills, Member, Renewed};
use crate::framework::Told;
use crate::metrics::FillResult;
use crate::origin::Priority;
use crate::page::{FieldsBuf, Form, KeyBuf, Page, PageKey, Representation, Standing};
use crate::rules::Reason;
use crate::rules::freshness::State;
use crate::rules::storable::{Class, Verdict};

/// How long it is not asked again, for the same client, whether a page is for all.
const NOT_FOR_ALL: Duration = Duration::from_secs(120);

impl Fills {
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
        let inner = &self.0;
        let now = inner.store.born();
        // What one client is told makes nobody ask alone but who sends the same.
        let crowd = whole.crowd(whole.form, &whole.fields, None);
        let alone = alone || !inner.notes.collapsible(whole.about(&inner.notes, whole.form, crowd));
        let kind = whole.kind(&whole.fields);
        let place = place(ask);
        let fill;
        {
            let mut inflight = inner.inflight.lock();
            if !alone {
                if let Some(running) = self.running_for(&inflight, ask, &[], &[], kind) {
                    return Some(running);
                }
                if may_look_again && self.learned(ask, None) {
                    return None;
                }
            }
            fill = Fill::new(now, whole.fields.clone(), true, kind);
            if alone {
                fill.seal();
            } else {
                inflight.entry(place.clone()).or_default().push(Arc::clone(&fill));
            }
        }
        let subscriber = fill.lead_by(now);
        let member = Member {
            form: ask.form,
            fields: whole.fields.clone(),
            flight: self.flight(place, Arc::clone(&fill)),
            crowd,
            goes_first: Some(Box::new(ask.clone())),
            prior: None,
            replaces: None,
        };
        let (this, running) = (self.clone(), self.running());
        tokio::spawn(async move {
            let began = Instant::now();
            let brought = tokio::select! {
                biased;
                brought = this.fetch(&whole, &member, Priority::Visitor) => brought,
                () = fill.abandoned() => return,
            };
            let result = match brought {
                Brought::Failed(result) => result,
                Brought::Refused(reason, _) => {
                    whole.metrics.refused(reason);
                    FillResult::Refused(reason)
                }
                // What goes first is refused, whatever it brings.
                _ => FillResult::Refused(Reason::FirstVisit),
            };
            whole.metrics.fill(whole.route.origin, result, began.elapsed());
            drop(running);
        });
        Some(subscriber)
    }

    /// What went first has an answer: notes what it says of the path, or begins the fill
    /// that is for all, before anybody hears of it. `ask` is what that one asks for, `whole`
    /// what the client carried, and `verdict` judges the answer as one for all. Answers why
    /// it is not stored.
    pub(super) fn went_first(
        &self,
        ask: &Ask,
        whole: &Ask,
        arrived: &Arrived,
        verdict: Verdict,
    ) -> Reason {
        let notes = &self.0.notes;
        if ask.preset.is_probe(ask.form) && arrived.brought_no_data(ask.form) {
            notes.set_no_data(ask.about(notes, ask.form, ask.selection()), self.0.store.born());
            return Reason::ContentType;
        }
        match verdict {
            Verdict::Store { .. } => {
                self.begin_for_all(ask, None, None, None, Priority::Visitor);
                Reason::FirstVisit
            }
            // A failed render: the others share one attempt for all.
            Verdict::Refuse { class: Class::Failed, reason } => reason,
            // It may be so because of what this client carries, and anybody can carry it.
            // So the path is not noted: who sends the like asks without waiting, that is all.
            Verdict::Refuse { reason, class } => {
                let crowd = whole.crowd(whole.form, &whole.fields, None);
                notes.set_uncollapsible(whole.about(notes, whole.form, crowd));
                if class == Class::ServerRendered { Reason::ServerRendered } else { reason }
            }
        }
    }

    /// What was rendered for a client with cookies looks as if it were for all: asks
    /// without them, in the background, and that is what others get (semantics §1).
    pub(super) fn bring_for_all(&self, ask: &Ask) {
        let inner = &self.0;
        let ask = Ask { anew: false, ..ask.without_person() };
        let page = inner.store.get(ask.key.as_str());
        let selected = page.as_ref().and_then(|page| {
            let mut members = page.members.iter();
            members.find(|rep| rep.form == ask.form && rep.is_selected_by(&ask.fields))
        });
        let mut prior = None;
        if let (Some(page), Some(rep)) = (&page, selected) {
            let standing = inner.store.standing_under(page, rep, &ask.route.tags);
            let age = crate::clock::now().since(rep.generated);
            let stale = standing == Standing::Stale;
            let terms = ask.judge().of(rep).terms.filter(|_| standing != Standing::Dead);
            if terms.is_some_and(|terms| matches!(terms.state(age, stale), State::Fresh { .. })) {
                return;
            }
            prior = terms.map(|_| Arc::clone(rep));
        }
        let replaces = selected.map(Arc::clone);
        self.begin_for_all(&ask, page.as_ref(), prior, replaces, Priority::Background);
    }

    /// Asks without what is a client's own, unless that was not for all just now, or
    /// failed, or is under way.
    fn begin_for_all(
        &self,
        ask: &Ask,
        page: Option<&Arc<Page>>,
        prior: Option<Arc<Representation>>,
        replaces: Option<Arc<Representation>>,
        priority: Priority,
    ) {
        let inner = &self.0;
        let mark = mark(ask);
        let about = inner.notes.client(ask.key.as_str(), ask.client() ^ mark);
        if self.is_waiting(about, &ask.key, page) {
            return;
        }
        let Some(guard) = self.mark((ask.key.clone(), mark)) else { return };
        let born = inner.store.born();
        let replaces_nothing = replaces.is_none();
        let member = self.member(ask, ask.form, ask.fields.clone(), prior, replaces);
        let (this, ask, running) = (self.clone(), ask.clone(), self.running());
        tokio::spawn(async move {
            if ask.page && replaces_nothing && ask.preset.needs_document_first(ask.form) {
                // The client's own request may have been what made the renderer render.
                this.bring_document(&Ask { anew: true, ..ask.clone() }).await;
            }
            let renewed = this.run(&ask, vec![member], Vec::new(), priority).await;
            let notes = &this.0.notes;
            if let Renewed::Failed(_) = renewed {
                notes.failed(about, Duration::ZERO, ask.route.backoff, born);
            } else if renewed.failure().is_some() {
                notes.wait(about, NOT_FOR_ALL, born);
            }
            drop((guard, running));
        });
    }
}

/// What marks a form of a page as being asked for all. No variant's mark is even, but zero.
fn mark(ask: &Ask) -> u64 {
    let form = match ask.form {
        Form::Document => 2,
        Form::Data => 4,
        Form::Rsc => 6,
    };
    (ask.selection() & !7) | form
}

impl Fills {
    /// On `ssr` data that are stored for all bring their document, too: the visitor who asked
    /// for them may be the only one who comes by a link (semantics §4). It is asked for as its browser
    /// would, without cookies. What data have in their query more than the page has, the
    /// preset says; the other way round nobody knows what a client will say.
    pub(super) fn bring_document_of_data(&self, ask: &Ask, key: &PageKey, told: &Told) {
        /// What a browser says otherwise of documents.
        const OF_DATA: &[&str] = &[
            "accept",
            "authorization",
            "cache-control",
            "cookie",
            "origin",
            "pragma",
            "purpose",
            "referer",
            "sec-fetch-dest",
            "sec-fetch-mode",
            "sec-fetch-site",
            "sec-purpose",
        ];
        let of_all = !ask.page && !ask.cookie && !ask.authorization && !ask.no_store;
        if !of_all || ask.form != Form::Data || told.pair != Some(Form::Document) {
            return;
        }
        let (path, query) = key.target().split_once('?').unwrap_or((key.target(), ""));
        let Some(query) = ask.preset.query_of_document(query) else { return };
        let mut of_document = KeyBuf::default();
        of_document.begin(key.deployment(), key.scheme(), key.host(), path);
        if !query.is_empty() {
            of_document.query(&query);
        }
        key.variants().for_each(|(name, value)| of_document.variant(name, value));
        let key = of_document.key();
        let mut fields = FieldsBuf::default();
        for (name, value) in without(&ask.fields, OF_DATA).iter() {
            fields.push(name, value);
        }
        fields.push("accept", ask.preset.accept(Form::Document).as_bytes());
        let (target, form) = (key.target().into(), Form::Document);
        let fields = fields.done();
        let ask = Ask { key, target, form, fields, anew: false, prefetch: false, ..ask.clone() };
        // One that is not the same for all is asked for by those who want it.
        if self.0.notes.collapsible(ask.about(&self.0.notes, form, ask.selection())) {
            self.bring(ask);
        }
    }
}
