//! What a preset can say of its framework, and what of it is so where it says nothing.

use std::borrow::Cow;
use std::fmt::Debug;

use http::HeaderMap;

use crate::page::{Fields, Form};
use crate::request::{Facts, Request};

/// A page was recognised as one of a framework.
pub(super) struct Recognised<S> {
    /// What the page tells of the site.
    pub(super) site: S,
    /// What told it.
    pub(super) because: &'static str,
}

/// Where something about a site is guessed, or could not be read: the key that would tell,
/// as in `["nextjs", "build"]`, and what to say of it.
pub(crate) type Doubt = (Vec<&'static str>, String);

/// What a URL means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// The page, by the path of its document.
    pub path: Cow<'a, str>,
    /// Which form of it.
    pub form: Form,
    /// The build that the URL names.
    pub build: Option<&'a str>,
}

/// What a stored body tells of its page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageHints {
    /// The build that rendered it.
    pub build: Option<Box<str>>,
    /// The other form that the page surely has.
    pub pair: Option<Form>,
}

/// What the site's build says of a page: for whom it is rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rendering {
    /// Nothing: no build is at hand, or it does not know the path.
    #[default]
    Unknown,
    /// Without any request's fields: it is the same for all.
    ForAll,
    /// For each client.
    ForEach,
    /// Middleware runs before it, whose answer is for who asked alone.
    Guarded {
        /// What it lets through may be the same for all.
        for_all: bool,
    },
}

impl Rendering {
    /// Whether middleware runs before the page: nothing is given to anybody of which the
    /// origin was not asked for them.
    #[must_use]
    pub const fn is_guarded(self) -> bool {
        matches!(self, Self::Guarded { .. })
    }
}

/// An answer says that pages were changed by its request: the one that was asked, at
/// least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Where its client goes from there, as a reference.
    pub next: Option<String>,
}

/// Everything that is particular to a framework. What one does not say is as for a
/// renderer with documents and, for each of them, data at a URL of its own.
pub trait Framework: Debug + Send + Sync {
    /// What a canonical path means.
    fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> Located<'a>;

    /// The target to ask the origin for, to get a form of the page at `page`
    /// (path and keyed query); none if the page cannot have that form, or if the
    /// build is not known that its URL would name.
    fn target<'a>(&self, page: &'a str, form: Form, build: Option<&str>) -> Option<Cow<'a, str>>;

    /// What the body of a successful response tells of its page.
    fn page_hints(&self, form: Form, body: &[u8]) -> PageHints;

    /// A path that is cheap to render and tells the build, to look for a new one.
    fn probe(&self) -> Option<String> {
        None
    }

    /// The build that the answer to this names.
    fn probed(&self, body: &[u8]) -> Option<Box<str>> {
        self.page_hints(Form::Document, body).build
    }

    /// Whether what it renders tells the build.
    fn tells_build(&self) -> bool {
        true
    }

    /// What of the site is guessed, or could not be read.
    fn doubts(&self) -> Vec<Doubt> {
        Vec::new()
    }

    /// Whether it is known for whom its pages are rendered; none where that makes no
    /// difference.
    fn knows_pages(&self) -> Option<bool> {
        None
    }

    /// What `perennial check` says below the routes.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// What must not appear in a log.
    fn secret(&self) -> Option<&str> {
        None
    }

    /// The build that was read from the site's files.
    fn build(&self) -> Option<&str> {
        None
    }

    /// What the site's build says of the page at a canonical path. It is asked for every
    /// request: one look into a table.
    fn rendering(&self, _path: &str, _form: Form) -> Rendering {
        Rendering::Unknown
    }

    /// Whether a response says that it was made without any request's fields, and so is the
    /// same for all whom the site lets have it.
    fn says_for_all(&self, _response: &HeaderMap) -> bool {
        false
    }

    /// The `Accept` field that asks the origin for a form.
    fn accept(&self, form: Form) -> &'static str {
        match form {
            Form::Document => DOCUMENTS,
            Form::Data | Form::Payload => "*/*",
        }
    }

    /// The field by which a fill says which form it wants, where the URL alone does not.
    fn asks(&self, _form: Form) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The field that a fill on a page route sends for a form where it sends none of
    /// [`cache_buster_fields`](Self::cache_buster_fields): one that has no say in what is static, so that there
    /// is a mark all the same.
    fn asks_plainly(&self, _form: Form) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The paths that the origin has made of a request's own, one after the other, as it
    /// says in its answer.
    fn rewritten<'a>(&self, _response: &'a HeaderMap) -> Vec<&'a str> {
        Vec::new()
    }

    /// What a fill on a page route sends as `User-Agent`.
    fn agent(&self) -> &'static str {
        concat!("Perennial/", env!("CARGO_PKG_VERSION"))
    }

    /// The forms that a page may have, the document first.
    fn forms(&self) -> &'static [Form] {
        &[Form::Document, Form::Data]
    }

    /// Whether a form of a page can only be told by trying: its JSON, or the
    /// payload of a page of Next's other router, may not exist, and asking for it
    /// then brings something else.
    fn is_speculative(&self, _form: Form) -> bool {
        false
    }

    /// Whether a page's document must be asked for before this form of it: the renderer
    /// makes both in one go, and the document for the URL that it was asked for.
    fn needs_document_first(&self, _form: Form) -> bool {
        false
    }

    /// Whether a fill with these fields asks for a part of a page whose name clients can make
    /// up: that there is none is not stored, or it would take the place of what there is.
    fn can_be_made_up(&self, _form: Form, _fields: &Fields) -> bool {
        false
    }

    /// The request fields that choose between representations of one form, on
    /// page routes. They are sent with a fill; whether they are part of what is
    /// stored, [`selecting`](Self::selecting) says.
    fn fields(&self, _form: Form) -> &'static [&'static str] {
        &[]
    }

    /// Whether a request has values in those fields that no client of the framework
    /// sends.
    fn is_foreign(&self, _request: &Request<'_>, _form: Form) -> bool {
        false
    }

    /// Those of [`fields`](Self::fields) that select what is stored, given the
    /// response.
    fn selecting(&self, _form: Form, _response: &HeaderMap) -> Vec<Box<str>> {
        Vec::new()
    }

    /// The request fields that choose between forms at one URL, for `Vary`.
    fn vary(&self) -> &'static [&'static str] {
        &[]
    }

    /// A query parameter that says nothing of the page: neither keyed nor sent as
    /// the client wrote it. Payloads are asked for with a value of the origin's
    /// choice, a *mark*, that is learnt from it.
    fn cache_buster(&self) -> Option<&'static str> {
        None
    }

    /// The request fields that such a mark is of.
    fn cache_buster_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the request is an editor's: it carries a draft cookie, the true one
    /// where that is known, or calls an action, and bypasses the cache.
    fn draft(&self, _request: &Request<'_>, _facts: &Facts) -> bool {
        false
    }

    /// What the answer to a request that changes something tells of pages.
    fn changed(&self, _request: &Request<'_>, _response: &HeaderMap) -> Option<Changed> {
        None
    }

    /// The type of the answers to actions whose bodies may send their client to another
    /// page, which is not in their fields.
    fn sends_by(&self) -> Option<&'static str> {
        None
    }

    /// Where such a body sends its client; none if nowhere, or if it is not whole.
    fn sends_to(&self, _body: &[u8]) -> Option<String> {
        None
    }

    /// The query of a page's document, given that of its data, where those are pages of
    /// their own on `ssr`.
    fn query_of_document(&self, _query: &str) -> Option<String> {
        None
    }

    /// Whether the origin may send clients of this place elsewhere, by what they say of
    /// themselves.
    fn is_negotiated(&self, _place: &Located<'_>) -> bool {
        false
    }

    /// Whether a client may not send this field: it would speak to the
    /// renderer's inside.
    fn strips(&self, _name: &str, _form: Form) -> bool {
        false
    }

    /// The field with which a fill tells the renderer to render anew, instead of
    /// answering from a cache of its own.
    fn force_render(&self) -> Option<(&'static str, &str)> {
        None
    }

    /// Where `X-Cache` is said once more, in the framework's own field. The
    /// origin's field of that name does not go on.
    fn cache_field(&self) -> Option<&'static str> {
        None
    }

    /// Whether the build makes pages of which the origin says nothing: Next says of every
    /// other page how long it lives, or that it does not. So may others behind it, such
    /// as an older site that it rewrites to: see [`is_for_all`](Self::is_for_all).
    fn silent_is_static(&self) -> bool {
        false
    }

    /// Whether pages that are rendered for each client may say nothing of a lifetime, like
    /// those that are rendered for all: see [`is_for_all`](Self::is_for_all).
    fn renders_silently(&self) -> bool {
        false
    }

    /// Whether the body of a page says that it was rendered for all. Asked where the origin
    /// says nothing else of it.
    fn is_for_all(&self, _form: Form, _body: &[u8]) -> bool {
        false
    }

    /// Whether a path names its content by a hash: such a URL is the same in
    /// every deployment.
    fn is_asset(&self, _path: &str) -> bool {
        false
    }

    /// Whether what lies at a path is of one build, though neither its name nor what is in
    /// it says of which: it belongs to the pages of that build.
    fn is_of_build(&self, _path: &str) -> bool {
        false
    }

    /// Whether bodies name hashed assets.
    fn names_assets(&self) -> bool {
        true
    }

    /// The hashed assets that a body names, by path: the first [`MAX_NAMES`](super::urls::MAX_NAMES) of
    /// them. Takes time in proportion to the body's size, whatever is in it.
    fn assets(&self, _path: &str, _body: &[u8]) -> Vec<String> {
        Vec::new()
    }
}

/// The media type of [`Form::Payload`]: React's server components, whichever framework
/// renders them.
pub const PAYLOAD_TYPE: &str = "text/x-component";

/// What browsers accept who ask for a page.
pub(super) const DOCUMENTS: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// The other one of a document and its data.
pub(super) fn other(form: Form) -> Form {
    if form == Form::Document { Form::Data } else { Form::Document }
}
