//! Which request fields go on to origins.

use http::HeaderName;

use super::super::raw;
use super::super::resolved::RequestFields;
use super::super::source::Path;
use super::Report;
use crate::rules::hop;

/// Names in one list: every field of a request is compared with each.
const MAX_NAMES: usize = 64;

pub(super) fn request_fields(all: &raw::Raw, path: &Path, report: &mut Report) -> RequestFields {
    let raw = &all.request_fields;
    let fields = RequestFields {
        allow: names(&raw.allow, &path.key("allow"), report),
        trust: names(&raw.trust, &path.key("trust"), report),
        drop: names(&raw.drop, &path.key("drop"), report),
    };
    for name in &fields.drop {
        if fields.allow.contains(name) || fields.trust.contains(name) {
            report.error(path.key("drop"), format!("`{name}` is in another list, too"));
        }
    }
    for name in &fields.trust {
        if fields.allow.contains(name) {
            let message = format!("`{name}` is in `allow`, too, which is for everybody");
            report.error(path.key("trust"), message);
        }
    }
    declared(&fields, &all.routes, report);
    fields
}

/// What is declared is keyed as a visitor says it, and sent so.
fn declared(fields: &RequestFields, routes: &[raw::Route], report: &mut Report) {
    for (route, raw) in routes.iter().enumerate() {
        for (index, written) in raw.vary.iter().enumerate() {
            let is = |name: &HeaderName| name.as_str().eq_ignore_ascii_case(written);
            let list = match fields {
                fields if fields.trust.iter().any(is) => "trust",
                fields if fields.drop.iter().any(is) => "drop",
                _ => continue,
            };
            let path = Path::default().key("routes").item(route).key("vary").item(index);
            let message = format!("`request_fields.{list}` keeps what visitors say in it away");
            report.error(path, message);
        }
    }
}

fn names(raw: &[String], path: &Path, report: &mut Report) -> Vec<HeaderName> {
    if raw.len() > MAX_NAMES {
        report.error(path.clone(), format!("at most {MAX_NAMES} fields"));
    }
    let mut names = Vec::new();
    for (index, written) in raw.iter().enumerate() {
        let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
            report.error(path.item(index), format!("{written:?} is not the name of a field"));
            continue;
        };
        if name.as_str().contains('*') {
            report.error(
                path.item(index),
                format!("`{name}`: name each field, there is no wildcard"),
            );
        } else if let Some(why) = not_for_choice(&name) {
            report.error(path.item(index), format!("`{name}`: {why}"));
        } else if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Why nobody has a choice of sending this field or not.
fn not_for_choice(name: &HeaderName) -> Option<&'static str> {
    Some(match name.as_str() {
        "host" | "via" | "x-forwarded-host" | "x-forwarded-proto" => "it is set here",
        "content-length" | "expect" => "it belongs to the request's body",
        hop if hop::is_hop_by_hop(hop) => "it is of one connection only",
        _ => return None,
    })
}
