//! Presets: which page and representation a URL means, and which URLs a page
//! has (semantics §4).

mod generic;

use std::borrow::Cow;

use crate::config::Framework;
use crate::page::Form;
use crate::request::Request;

/// A preset. Everything that is particular to a framework is asked here.
#[derive(Clone, Copy, Debug)]
pub enum Preset {
    /// Any renderer: HTML and JSON at one URL, by `Accept`.
    Generic,
}

impl Preset {
    /// The preset that the configuration names.
    #[must_use]
    pub fn new(framework: &Framework) -> Preset {
        match framework {
            Framework::Generic | Framework::Nextjs(_) | Framework::Gatsby(_) => Preset::Generic,
        }
    }

    /// Which page a canonical path means, and which form of it.
    #[must_use]
    pub fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> (Cow<'a, str>, Form) {
        match self {
            Preset::Generic => (Cow::Borrowed(path), generic::form(request)),
        }
    }

    /// The target to ask the origin for, to get a form of the page at `target`
    /// (path and keyed query).
    #[must_use]
    pub fn target<'a>(&self, target: &'a str, _form: Form) -> Cow<'a, str> {
        match self {
            Preset::Generic => Cow::Borrowed(target),
        }
    }

    /// The `Accept` field that asks the origin for a form.
    #[must_use]
    pub fn accept(&self, form: Form) -> &'static str {
        match self {
            Preset::Generic => generic::accept(form),
        }
    }

    /// The forms that a page may have, the document first.
    #[must_use]
    pub fn forms(&self) -> &'static [Form] {
        match self {
            Preset::Generic => &[Form::Document, Form::Data],
        }
    }

    /// Whether a form of a page can only be told by trying: its JSON may not
    /// exist, and asking for it then brings something else.
    #[must_use]
    pub fn is_probe(&self, form: Form) -> bool {
        match self {
            Preset::Generic => form == Form::Data,
        }
    }

    /// The request fields that choose between forms at one URL, for `Vary`.
    #[must_use]
    pub fn vary(&self) -> Option<&'static str> {
        match self {
            Preset::Generic => Some("Accept"),
        }
    }

    /// Whether the request carries an editor's draft cookie and bypasses the cache.
    #[must_use]
    pub fn draft(&self, _request: &Request<'_>) -> bool {
        match self {
            Preset::Generic => false,
        }
    }
}
