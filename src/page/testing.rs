//! Pages for the tests of every room.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::{
    Asked, Body, Born, Coding, Fields, FieldsBuf, Form, Judged, Judgement, PageKey, Representation,
    Seq, Tags, Uses, VaryField,
};
use crate::rules::Time;
use crate::rules::cache_control::Window;
use crate::rules::freshness::Terms;

/// Fresh for a minute.
const TERMS: Terms = Terms {
    fresh_for: Some(Duration::from_secs(60)),
    while_revalidating: Window::Unbounded,
    if_error: Window::Unbounded,
    if_unreachable: Window::Unbounded,
};

/// The key of `path` on `example.com`.
pub(crate) fn key(path: &str) -> PageKey {
    PageKey::new("", "http", "example.com", path)
}

impl From<Seq> for Born {
    fn from(log: Seq) -> Born {
        Born { log, local: 0 }
    }
}

/// Began when that number of the log had been applied, and before any unsafe method.
pub(crate) fn logged(seq: Seq) -> Born {
    seq.into()
}

/// These tags.
pub(crate) fn tags(names: &[&str]) -> Tags {
    Tags { names: names.iter().map(|&name| name.into()).collect(), overflow: false }
}

/// A representation: 200, fresh for a minute, generated at the epoch.
pub(crate) fn rep(
    form: Form,
    born: impl Into<Born>,
    tag_names: &[&str],
    body: &str,
) -> Representation {
    let mut origin = FieldsBuf::default();
    origin.push("content-type", b"text/html");
    let origin = origin.done();
    Representation {
        form,
        vary: Box::default(),
        status: StatusCode::OK,
        judged: Judged::new(Judgement { stamp: 0, terms: Some(TERMS), head: origin.clone() }),
        uses: Uses::default(),
        origin,
        set_cookie: false,
        asked: Asked::Route,
        request: Fields::default(),
        origin_etag: false,
        last_modified: None,
        bodies: Box::new([Body {
            coding: Coding::Identity,
            etag: format!("\"{:x}\"", xxhash_rust::xxh3::xxh3_64(body.as_bytes())).into(),
            bytes: Bytes::copy_from_slice(body.as_bytes()),
        }]),
        compress: crate::page::Compress::new(false),
        request_time: Time(0),
        response_time: Time(0),
        generated: Time(0),
        born: born.into(),
        tags: Arc::new(tags(tag_names)),
    }
}

/// The same for the requests that send `value` in `field`.
pub(crate) fn varying(mut rep: Representation, field: &str, value: &str) -> Representation {
    rep.vary =
        Box::new([VaryField { name: field.into(), value: Some(Box::from(value.as_bytes())) }]);
    rep
}
