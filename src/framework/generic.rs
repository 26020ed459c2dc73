//! The preset for any renderer: a page's HTML and JSON share its URL, and
//! `Accept` picks between them.

use crate::page::Form;
use crate::request::Request;
use crate::rules::Lines;
use crate::rules::negotiate::prefers_json;

/// The form that the request prefers.
pub(super) fn form(request: &Request<'_>) -> Form {
    if prefers_json(request.lines("accept")) { Form::Data } else { Form::Document }
}

/// What a fill sends as `Accept`.
pub(super) fn accept(form: Form) -> &'static str {
    match form {
        Form::Data => "application/json",
        _ => "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    }
}
