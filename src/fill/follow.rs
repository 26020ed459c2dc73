//! What else is asked for because of what a fill brought: the form that a page has beside
//! it, and what is for all where one client's own request came first (semantics §§1, 4).

use std::sync::Arc;
use std::time::Duration;

use super::ask::{Ask, Carries, variant_fields, without};
use super::context::Context;
use crate::config::Mode;
use crate::framework::PageHints;
use crate::origin::Priority;
use crate::page::{FieldsBuf, Form, KeyBuf, Page, PageKey, Representation, Standing};
use crate::rules::freshness::State;

/// How long it is not asked again, for the same client, whether a page is for all.
pub(super) const NOT_FOR_ALL: Duration = Duration::from_secs(120);

/// What is asked for without what is a client's own.
pub(super) struct ForAll {
    pub(super) ask: Ask,
    /// What is stored of the page.
    pub(super) page: Option<Arc<Page>>,
    /// What of it the origin may call unchanged.
    pub(super) prior: Option<Arc<Representation>>,
    pub(super) replaces: Option<Arc<Representation>>,
    pub(super) priority: Priority,
}

impl ForAll {
    /// Behind a client's own request that went first, for the others that wait.
    pub(super) fn first(ask: &Ask) -> ForAll {
        let (ask, priority) = (ask.clone(), Priority::Client);
        ForAll { ask, page: None, prior: None, replaces: None, priority }
    }

    /// What was rendered for a client with cookies looks as if it were for all: asks without
    /// them, in the background, and that is what others get. None where it is stored fresh.
    pub(super) fn without_cookies(context: &Context, ask: &Ask) -> Option<ForAll> {
        let ask = Ask { anew: false, ..ask.without_person() };
        let page = context.store.get(ask.key.as_str());
        let selected = page.as_ref().and_then(|page| {
            let mut members = page.members.iter();
            members.find(|rep| rep.form == ask.form && rep.is_selected_by(&ask.fields))
        });
        let replaces = selected.map(Arc::clone);
        let mut prior = None;
        if let (Some(page), Some(rep)) = (&page, selected) {
            let standing = context.store.standing(page, rep, &ask.route.tags);
            let age = crate::clock::now().since(rep.generated);
            let stale = standing == Standing::Stale;
            let terms = ask.judge().of(rep).terms.filter(|_| standing != Standing::Dead);
            if terms.is_some_and(|terms| matches!(terms.state(age, stale), State::Fresh { .. })) {
                return None;
            }
            prior = terms.map(|_| Arc::clone(rep));
        }
        Some(ForAll { ask, page, prior, replaces, priority: Priority::Background })
    }

    /// What marks a form of a page as being asked for all. No variant's mark is even, but
    /// zero.
    pub(super) fn mark(&self) -> u64 {
        let form = match self.ask.form {
            Form::Document => 2,
            Form::Data => 4,
            Form::Payload => 6,
        };
        (self.ask.selection() & !7) | form
    }
}

/// The other form of a page that was stored under `key`: where its pair is known, and on
/// `dsg`, the first request for either brings the other in the background (semantics §4).
pub(super) fn pair(context: &Context, ask: &Ask, key: &PageKey, hints: &PageHints) -> Option<Ask> {
    let form = hints.pair?;
    let tried = ask.upstream.preset.is_speculative(Form::Data);
    if !ask.page
        || (tried && !matches!(ask.route.mode, Mode::Dsg { .. }))
        || context.store.get(key.as_str()).is_none()
    {
        return None;
    }
    let build = hints.build.as_deref().map(Into::into).or_else(|| ask.build.clone());
    let ask = Ask { key: key.clone(), build, anew: false, ..ask.clone() };
    ask.for_form(form, variant_fields(key))
}

/// On `ssr` data that are stored for all bring their document, too: the client who asked
/// for them may be the only one who comes by a link (semantics §4). It is asked for as its browser
/// would, without cookies. What data have in their query more than the page has, the
/// preset says; the other way round it is not known what a client will send.
pub(super) fn document_of_data(
    context: &Context,
    ask: &Ask,
    key: &PageKey,
    hints: &PageHints,
) -> Option<Ask> {
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
    let carries = Carries { prefetch: false, ..ask.carries };
    let of_all = !ask.page && carries == Carries::default();
    if !of_all || ask.form != Form::Data || hints.pair != Some(Form::Document) {
        return None;
    }
    let (path, query) = key.target().split_once('?').unwrap_or((key.target(), ""));
    let query = ask.upstream.preset.query_of_document(query)?;
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
    fields.push("accept", ask.upstream.preset.accept(Form::Document).as_bytes());
    let (target, form) = (key.target().into(), Form::Document);
    let fields = fields.done();
    let ask = Ask { key, target, form, fields, anew: false, carries, ..ask.clone() };
    // One that is not the same for all is fetched when a client asks for it.
    let about = ask.about(&context.notes, form, ask.selection());
    context.notes.collapsible(about).then_some(ask)
}
