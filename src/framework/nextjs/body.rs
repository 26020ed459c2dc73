//! What bodies tell of a Next.js site: the build, the other form of a page, and the files
//! that it loads.

use std::borrow::Cow;

use memchr::memmem;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use super::super::html::{Tag, scripts, tags};
use super::super::preset::PageHints;
use super::super::urls::{MAX_NAME, Names};
use crate::page::Form;

/// What the pages router writes at the end of a document.
#[derive(Deserialize)]
pub(super) struct NextData<'a> {
    #[serde(rename = "buildId", borrow)]
    build: Option<Cow<'a, str>>,
    /// Rendered by `getStaticProps`: there is data.
    #[serde(default)]
    gsp: bool,
    /// A loading shell.
    #[serde(rename = "isFallback", default)]
    fallback: bool,
    #[serde(rename = "defaultLocale", borrow)]
    pub(super) default_locale: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub(super) locales: Vec<Cow<'a, str>>,
    /// Made by the build, of a page without data.
    #[serde(rename = "nextExport", default)]
    exported: bool,
}

/// What the document says of itself, if the pages router made it.
pub(super) fn next_data(body: &[u8]) -> Option<NextData<'_>> {
    let is_data = |tag: &Tag<'_>| {
        tag.is("script")
            && tag.get("id") == Some("__NEXT_DATA__")
            && tag.get("type") == Some("application/json")
    };
    serde_json::from_slice(tags(body).filter(is_data).last()?.content).ok()
}

/// Whether a document is a page that the build made.
pub(super) fn is_exported(body: &[u8]) -> bool {
    next_data(body).is_some_and(|data| data.exported)
}

/// What a document tells.
pub(super) fn page_hints(form: Form, body: &[u8]) -> PageHints {
    match form {
        Form::Document => of_document(body),
        Form::Payload => PageHints { build: in_flight(body), pair: Some(Form::Document) },
        Form::Data => PageHints { build: None, pair: Some(Form::Document) },
    }
}

fn of_document(body: &[u8]) -> PageHints {
    if let Some(data) = next_data(body) {
        let pair = (data.gsp && !data.fallback).then_some(Form::Data);
        return PageHints { build: data.build.as_deref().and_then(plain), pair };
    }
    let flight = flight_of(body);
    if flight.is_empty() {
        return PageHints::default();
    }
    PageHints { build: in_flight(&flight), pair: Some(Form::Payload) }
}

/// The payload that a document of the app router carries along, piece by piece.
fn flight_of(body: &[u8]) -> Vec<u8> {
    const TEXT: &[u8] = b"[1,";
    const BYTES: &[u8] = b"[3,";
    let mut flight = Vec::new();
    for piece in scripts(body).filter_map(|script| script.strip_prefix(PIECE)) {
        // Without it nobody knows where the next row begins.
        if piece.starts_with(BYTES) {
            break;
        }
        let Some(json) = piece.strip_prefix(TEXT) else { continue };
        let mut pieces = serde_json::Deserializer::from_slice(json).into_iter::<String>();
        if let Some(Ok(piece)) = pieces.next() {
            flight.extend_from_slice(piece.as_bytes());
        }
    }
    flight
}

/// How the scripts begin that bring a payload in pieces.
pub(super) const PIECE: &[u8] = b"self.__next_f.push(";

/// The build that a payload's row 0 names: `{…,"b":"BUILD"}`, or `["BUILD",…` in
/// Next 14 (there also as `buildId` among the properties in a document).
fn in_flight(payload: &[u8]) -> Option<Box<str>> {
    let row = rows(payload).find(|(id, _)| *id == b"0")?.1;
    match serde_json::from_slice(row).ok()? {
        Value::Object(row) => plain(row.get("b")?.as_str()?),
        Value::Array(row) => row
            .iter()
            .find_map(|item| plain(item.as_str().or_else(|| item.get("buildId")?.as_str())?)),
        _ => None,
    }
}

/// The rows of a payload, `ID:CONTENT` each: content ends with its line, or is as
/// long as it says (`T1f,…`) and may then hold anything.
fn rows(payload: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    const COUNTED: &[u8] = b"TAOboUSsLlGgMmV";
    let mut rest = payload;
    std::iter::from_fn(move || {
        let colon = memchr::memchr(b':', rest)?;
        let (id, content) = (&rest[..colon], &rest[colon + 1..]);
        let counted = content.first().is_some_and(|tag| COUNTED.contains(tag)).then(|| {
            let comma = memchr::memchr(b',', content.get(..18).unwrap_or(content))?;
            let length = std::str::from_utf8(&content[1..comma]).ok()?;
            let length = usize::from_str_radix(length, 16).ok()?;
            Some((comma + 1, length))
        });
        let (row, end) = match counted.flatten() {
            // Cut off: what is there of it may look like rows.
            Some((start, length)) => (content.get(start..)?.get(..length)?, start + length),
            None => {
                let end = memchr::memchr(b'\n', content).unwrap_or(content.len());
                (&content[..end], (end + 1).min(content.len()))
            }
        };
        rest = &content[end..];
        Some((id, row))
    })
}

/// A build id as Next allows it in a URL.
fn plain(id: &str) -> Option<Box<str>> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    ((1..=128).contains(&id.len()) && id.bytes().all(good)).then(|| id.into())
}

/// The bundles, style sheets and fonts below `folder` that the body at `path` names.
pub(super) fn assets(folder: &str, path: &str, body: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"static/";
    // As a browser encodes them, and as a canonical path is.
    const ESCAPED: &AsciiSet = &CONTROLS.add(b'[').add(b']').add(b' ');
    let in_name = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~' | b'%' | b'[' | b']')
            || matches!(b, b'(' | b')' | b'@' | b'+')
    };
    let mut found = Names::default();
    let mut end = 0;
    for at in memmem::find_iter(body, MARK) {
        if found.is_full() {
            break;
        }
        let start = at + MARK.len();
        // A name may hold the mark again: no byte is looked at twice.
        if start >= end {
            let length = body[start..].iter().position(|b| !in_name(b));
            end = length.map_or(body.len(), |length| start + length);
        }
        if end - start > MAX_NAME {
            continue;
        }
        let Ok(name) = std::str::from_utf8(&body[start..end]) else { continue };
        // A font in a style sheet is closed by the bracket of its `url(…)`.
        let name = name.strip_suffix(')').filter(|n| !n.contains('(')).unwrap_or(name);
        let kind = name.rsplit('.').next().unwrap_or("");
        let known = matches!(
            kind,
            "js" | "mjs"
                | "css"
                | "woff"
                | "woff2"
                | "ttf"
                | "otf"
                | "png"
                | "jpg"
                | "jpeg"
                | "webp"
                | "avif"
                | "svg"
                | "gif"
                | "ico"
                | "wasm"
                | "json"
        );
        if !known
            || name.contains("/.")
            || name.starts_with('.')
            || name.contains("..")
            || name.starts_with('/')
        {
            continue;
        }
        let asset = format!("{}{}", folder, utf8_percent_encode(name, ESCAPED));
        if asset != path {
            found.add(asset);
        }
    }
    found.list
}
