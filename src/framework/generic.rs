//! The preset for any renderer: a page's HTML and JSON share its URL, and
//! `Accept` picks between them.

use std::borrow::Cow;

use super::preset::{DOCUMENTS, Framework, Located, PageHints, other};
use crate::page::Form;
use crate::request::Request;
use crate::rules::Lines;
use crate::rules::negotiate::prefers_json;

/// Any renderer.
#[derive(Debug)]
pub(super) struct Generic;

impl Framework for Generic {
    fn tells_build(&self) -> bool {
        false
    }

    fn locate<'a>(&self, path: &'a str, request: &Request<'_>) -> Located<'a> {
        let json = prefers_json(request.lines("accept"));
        let form = if json { Form::Data } else { Form::Document };
        Located { path: Cow::Borrowed(path), form, build: None }
    }

    fn target<'a>(&self, page: &'a str, _form: Form, _build: Option<&str>) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(page))
    }

    /// The other form is tried, see `is_probe`.
    fn page_hints(&self, form: Form, _body: &[u8]) -> PageHints {
        PageHints { build: None, pair: Some(other(form)) }
    }

    fn accept(&self, form: Form) -> &'static str {
        match form {
            Form::Data => "application/json",
            _ => DOCUMENTS,
        }
    }

    fn is_speculative(&self, form: Form) -> bool {
        form == Form::Data
    }

    fn vary(&self) -> &'static [&'static str] {
        &["Accept"]
    }

    fn names_assets(&self) -> bool {
        false
    }
}
