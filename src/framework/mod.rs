//! Presets: which page and form a URL means, which URLs a page has, and what
//! else is particular to a framework (semantics §§1, 4, 6).
//!
//! Nothing outside this room knows a framework by name, but the configuration
//! that chooses one.

mod gatsby;
mod generic;
mod nextjs;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderMap;

use crate::config::Framework;
use crate::page::{Fields, Form};
use crate::request::{Facts, Request};

/// A preset. Everything that is particular to a framework is asked here.
/// Cloning is cheap.
#[derive(Clone, Debug)]
pub enum Preset {
    /// Any renderer: HTML and JSON at one URL, by `Accept`.
    Generic,
    /// Next.js.
    Nextjs(Arc<nextjs::Nextjs>),
    /// Gatsby.
    Gatsby(Arc<gatsby::Gatsby>),
}

/// What a URL means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The page, by the path of its document.
    pub path: Cow<'a, str>,
    /// Which form of it.
    pub form: Form,
    /// The build that the URL names.
    pub build: Option<&'a str>,
}

/// What a stored body tells of its page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The build that rendered it.
    pub build: Option<Box<str>>,
    /// The other form that the page surely has.
    pub pair: Option<Form>,
}

impl Preset {
    /// The preset that the configuration names.
    #[must_use]
    pub fn new(framework: &Framework) -> Preset {
        match framework {
            Framework::Generic => Preset::Generic,
            Framework::Nextjs(site) => Preset::Nextjs(Arc::new(nextjs::Nextjs::new(site))),
            Framework::Gatsby(site) => Preset::Gatsby(Arc::new(gatsby::Gatsby::new(site))),
        }
    }

    /// Whether both are for the same framework.
    #[must_use]
    pub fn is_like(&self, other: &Preset) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// What a canonical path means.
    #[must_use]
    pub fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> Place<'a> {
        match self {
            Preset::Generic => {
                Place { path: Cow::Borrowed(path), form: generic::form(request), build: None }
            }
            Preset::Nextjs(next) => next.locate(path, request),
            Preset::Gatsby(gatsby) => gatsby.locate(path),
        }
    }

    /// The target to ask the origin for, to get a form of the page at `page`
    /// (path and keyed query); none if the page cannot have that form, or if the
    /// build is not known that its URL would name.
    #[must_use]
    pub fn target<'a>(
        &self,
        page: &'a str,
        form: Form,
        build: Option<&str>,
    ) -> Option<Cow<'a, str>> {
        match self {
            Preset::Generic => Some(Cow::Borrowed(page)),
            Preset::Nextjs(next) => next.target(page, form, build),
            Preset::Gatsby(gatsby) => gatsby.target(page, form),
        }
    }

    /// A path that is cheap to render and tells the build, to look for a new one.
    #[must_use]
    pub fn probe(&self) -> Option<String> {
        match self {
            Preset::Generic => None,
            Preset::Nextjs(next) => Some(next.probe()),
            Preset::Gatsby(gatsby) => Some(gatsby.probe()),
        }
    }

    /// The build that was read from the site's files.
    #[must_use]
    pub fn build(&self) -> Option<&str> {
        match self {
            Preset::Generic => None,
            Preset::Nextjs(next) => next.build(),
            Preset::Gatsby(gatsby) => gatsby.build(),
        }
    }

    /// The `Accept` field that asks the origin for a form.
    #[must_use]
    pub fn accept(&self, form: Form) -> &'static str {
        match self {
            Preset::Generic => generic::accept(form),
            Preset::Nextjs(_) | Preset::Gatsby(_) => match form {
                Form::Document => generic::accept(form),
                Form::Data | Form::Rsc => "*/*",
            },
        }
    }

    /// The field by which a fill says which form it wants, where the URL alone does not.
    #[must_use]
    pub fn asks(&self, form: Form) -> Option<(&'static str, &'static str)> {
        match (self, form) {
            (Preset::Nextjs(_), Form::Rsc) => Some(("RSC", "1")),
            // Middleware answers such a request with fields instead of a redirect.
            (Preset::Nextjs(_), Form::Data) => Some(("x-nextjs-data", "1")),
            _ => None,
        }
    }

    /// What a fill on a page route sends as `User-Agent`.
    #[must_use]
    pub fn agent(&self) -> &'static str {
        match self {
            Preset::Generic | Preset::Gatsby(_) => concat!("Perennial/", env!("CARGO_PKG_VERSION")),
            Preset::Nextjs(_) => nextjs::AGENT,
        }
    }

    /// The forms that a page may have, the document first.
    #[must_use]
    pub fn forms(&self) -> &'static [Form] {
        match self {
            Preset::Generic | Preset::Gatsby(_) => &[Form::Document, Form::Data],
            Preset::Nextjs(_) => &[Form::Document, Form::Data, Form::Rsc],
        }
    }

    /// Whether a form of a page can only be told by trying: its JSON, or the
    /// payload of a page of Next's other router, may not exist, and asking for it
    /// then brings something else.
    #[must_use]
    pub fn is_probe(&self, form: Form) -> bool {
        matches!((self, form), (Preset::Generic, Form::Data) | (Preset::Nextjs(_), Form::Rsc))
    }

    /// Whether a fill with these fields asks for a part of a page only: that there
    /// is none, or that it is private, says nothing of the page.
    #[must_use]
    pub fn is_part(&self, form: Form, fields: &Fields) -> bool {
        match self {
            Preset::Nextjs(_) => nextjs::is_part(form, fields),
            Preset::Generic | Preset::Gatsby(_) => false,
        }
    }

    /// The request fields that choose between representations of one form, on
    /// page routes. They are sent with a fill; whether they are part of what is
    /// stored, [`selecting`](Self::selecting) says.
    #[must_use]
    pub fn fields(&self, form: Form) -> &'static [&'static str] {
        match self {
            Preset::Nextjs(_) if form == Form::Rsc => nextjs::RSC_FIELDS,
            _ => &[],
        }
    }

    /// Whether a request has values in those fields that no client of the framework
    /// sends.
    #[must_use]
    pub fn is_foreign(&self, request: &Request<'_>, form: Form) -> bool {
        match self {
            Preset::Nextjs(_) if form == Form::Rsc => nextjs::is_foreign(request),
            _ => false,
        }
    }

    /// Those of [`fields`](Self::fields) that select what is stored, given the
    /// response.
    #[must_use]
    pub fn selecting(&self, form: Form, response: &HeaderMap) -> Vec<Box<str>> {
        match self {
            Preset::Nextjs(_) if form == Form::Rsc => nextjs::selecting(response),
            _ => Vec::new(),
        }
    }

    /// The request fields that choose between forms at one URL, for `Vary`.
    #[must_use]
    pub fn vary(&self) -> &'static [&'static str] {
        match self {
            Preset::Generic => &["Accept"],
            Preset::Nextjs(_) => nextjs::VARY,
            Preset::Gatsby(_) => &[],
        }
    }

    /// A query parameter that says nothing of the page: neither keyed nor sent as
    /// the visitor wrote it. Payloads are asked for with a value of the origin's
    /// choice, a *mark*, that is learnt from it.
    #[must_use]
    pub fn parameter(&self) -> Option<&'static str> {
        match self {
            Preset::Nextjs(_) => Some(nextjs::RSC_PARAMETER),
            Preset::Generic | Preset::Gatsby(_) => None,
        }
    }

    /// The request fields that such a mark is of.
    #[must_use]
    pub fn marked_by(&self) -> &'static [&'static str] {
        match self {
            Preset::Nextjs(_) => nextjs::MARKED_BY,
            Preset::Generic | Preset::Gatsby(_) => &[],
        }
    }

    /// Whether the request is an editor's: it carries a draft cookie, the true one
    /// where that is known, or calls an action, and bypasses the cache.
    #[must_use]
    pub fn draft(&self, request: &Request<'_>, facts: &Facts) -> bool {
        match self {
            Preset::Nextjs(next) => next.draft(request, facts),
            Preset::Generic | Preset::Gatsby(_) => false,
        }
    }

    /// Whether a visitor may not send this field: it would speak to the
    /// renderer's inside.
    #[must_use]
    pub fn strips(&self, name: &str, form: Form) -> bool {
        match self {
            Preset::Nextjs(_) => nextjs::strips(name, form),
            Preset::Generic | Preset::Gatsby(_) => false,
        }
    }

    /// The field with which a fill tells the renderer to render anew, instead of
    /// answering from a cache of its own.
    #[must_use]
    pub fn anew(&self) -> Option<(&'static str, &str)> {
        match self {
            Preset::Nextjs(next) => next.anew(),
            Preset::Generic | Preset::Gatsby(_) => None,
        }
    }

    /// Where `X-Cache` is said once more, in the framework's own field. The
    /// origin's field of that name does not go on.
    #[must_use]
    pub fn cache_field(&self) -> Option<&'static str> {
        match self {
            Preset::Nextjs(_) => Some("x-nextjs-cache"),
            Preset::Generic | Preset::Gatsby(_) => None,
        }
    }

    /// Whether a path names its content by a hash: such a URL is the same in
    /// every deployment.
    #[must_use]
    pub fn is_asset(&self, path: &str) -> bool {
        match self {
            Preset::Generic => false,
            Preset::Nextjs(next) => next.is_asset(path),
            Preset::Gatsby(gatsby) => gatsby.is_asset(path),
        }
    }

    /// What the body of a successful response tells of its page.
    #[must_use]
    pub fn told(&self, form: Form, body: &[u8]) -> Told {
        match self {
            // The pair of a page is tried, see `is_probe`.
            Preset::Generic => Told { build: None, pair: Some(other(form)) },
            Preset::Nextjs(_) => nextjs::told(form, body),
            Preset::Gatsby(_) => gatsby::told(form, body),
        }
    }

    /// Whether the build makes pages of which the origin says nothing: Next says of every
    /// other page how long it lives, or that it does not. So may others behind it, such
    /// as an older site that it rewrites to: see [`is_exported`](Self::is_exported).
    #[must_use]
    pub fn silent_is_static(&self) -> bool {
        matches!(self, Preset::Nextjs(_))
    }

    /// Whether a document says that the build made it.
    #[must_use]
    pub fn is_exported(&self, body: &[u8]) -> bool {
        match self {
            Preset::Nextjs(_) => nextjs::is_exported(body),
            Preset::Generic | Preset::Gatsby(_) => false,
        }
    }

    /// Whether bodies name hashed assets.
    #[must_use]
    pub fn names_assets(&self) -> bool {
        !matches!(self, Preset::Generic)
    }

    /// The hashed assets that a body names, by path: the first [`MAX_NAMES`] of
    /// them. Takes time in proportion to the body's size, whatever is in it.
    #[must_use]
    pub fn assets(&self, path: &str, body: &[u8]) -> Vec<String> {
        match self {
            Preset::Generic => Vec::new(),
            Preset::Nextjs(next) => next.assets(path, body),
            Preset::Gatsby(gatsby) => gatsby.assets(path, body),
        }
    }
}

/// Assets of one page that are looked at. A page of a large site names some dozens.
pub const MAX_NAMES: usize = 256;

/// The longest name of an asset, in bytes.
const MAX_NAME: usize = 256;

/// Names of assets that were found, each once, in order.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    fn add(&mut self, name: String) {
        if !self.is_full() && !self.seen.contains(&name) {
            self.seen.insert(name.clone());
            self.list.push(name);
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() >= MAX_NAMES
    }
}

/// The other one of a document and its data.
fn other(form: Form) -> Form {
    if form == Form::Document { Form::Data } else { Form::Document }
}

/// A path below a prefix (empty, or `/docs`), beginning with a slash.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    match rest.as_bytes().first() {
        Some(b'/') => Some(rest),
        None => Some("/"),
        Some(_) => None,
    }
}

/// Path and query of a target.
fn split(target: &str) -> (&str, &str) {
    target.find('?').map_or((target, ""), |at| target.split_at(at))
}
