//! The invariants of every response that Perennial sends (semantics §6), as
//! lists of what is wrong.

use super::client::{Ask, Checks, Response};
use super::http1::{Fields, ResponseHead};

/// Fields of which a response has one at most.
const SINGLE: [&str; 14] = [
    "age",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "location",
    "retry-after",
    "server",
    "transfer-encoding",
    "x-cache",
];

/// Hop-by-hop fields: none of them is ours to send (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 6] =
    ["keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "upgrade"];

/// Tag fields (semantics §5): a client sees none.
const TAGS: [&str; 4] = ["cache-tag", "surrogate-key", "x-next-cache-tags", "netlify-cache-tag"];

/// What is wrong with the head of an answer.
pub(crate) fn head(ask: &Ask, checks: Checks, head: &ResponseHead) -> Vec<String> {
    let ResponseHead { status, fields, .. } = head;
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    for name in SINGLE {
        must(fields.all(name).count() <= 1, &format!("several {name}"));
    }
    let allowed = |name: &str| *status == 101 && name == "upgrade" || *status == 426;
    for name in HOP_BY_HOP {
        must(!fields.has(name) || allowed(name), &format!("hop-by-hop field {name}"));
    }
    for option in fields.list("connection") {
        let known = matches!(option.as_str(), "close" | "keep-alive") || allowed(&option);
        must(known, &format!("Connection: {option}"));
    }
    for name in TAGS {
        must(checks.tags || !fields.has(name), &format!("{name} leaked"));
    }
    for name in ["cache-groups", "cdn-cache-control"] {
        must(checks.ssr || !fields.has(name), &format!("{name} leaked on a page route"));
    }
    let date = fields.get("date");
    let real_date = |date: &str| {
        httpdate::parse_http_date(date).is_ok_and(|d| httpdate::fmt_http_date(d) == date)
    };
    must(*status == 101 || date.is_some_and(real_date), "no Date as RFC 9110 §5.6.7 has it");
    must(
        fields.get("server").is_none_or(|name| !name.to_ascii_lowercase().contains("pingora")),
        "Server: Pingora",
    );
    must(*status != 206 || fields.has("content-range") || multipart(fields), "206 of no range");
    must(*status != 416 || fields.has("content-range"), "416 without Content-Range");
    if let Some(etag) = fields.get("etag") {
        let opaque = etag.strip_prefix("W/").unwrap_or(etag);
        let quoted = opaque.len() >= 2 && opaque.starts_with('"') && opaque.ends_with('"');
        must(quoted, "an ETag without quotes");
    }
    if *status != 101 {
        wrong.extend(cache_status(ask, checks, head));
    }
    wrong
}

/// What is wrong with what the head says of the cache.
fn cache_status(ask: &Ask, checks: Checks, head: &ResponseHead) -> Vec<String> {
    let ResponseHead { status, fields, .. } = head;
    let Some(ours) = ours(fields) else {
        return vec!["no Cache-Status of ours, or not as RFC 9211 has it".into()];
    };
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let Ours { hit, fwd, ttl, detail, stored, fwd_status } = &ours;
    let fwd = fwd.as_deref();
    let consistent = match fields.get("x-cache") {
        Some("HIT") => *hit && fwd.is_none() && !detail && ttl.is_none_or(|ttl| ttl >= 0),
        Some("STALE") => *hit && fwd.is_none() && *detail && ttl.is_none_or(|ttl| ttl <= 0),
        Some("MISS") if fwd.is_none() => !hit && *detail && !stored && *status >= 400,
        Some("MISS") => !hit && (*stored != *detail) && !matches!(fwd, Some("bypass" | "method")),
        Some("REVALIDATED") => !hit && fwd == Some("stale") && *fwd_status == Some(304),
        Some("BYPASS") => {
            !hit && !stored
                && matches!(fwd, None | Some("bypass" | "method"))
                && (*detail || fwd.is_some())
        }
        _ => false,
    };
    must(consistent, "X-Cache and Cache-Status disagree");
    let age = fields.get("age");
    let number = |age: &str| !age.is_empty() && age.bytes().all(|b| b.is_ascii_digit());
    must(age.is_none_or(number), "Age is no number");
    must(!checks.browser || age.is_none(), "Age on a route with `browser:`");
    // RFC 9111 §5.1: what comes from the store says how old it is.
    let aged = matches!(status, 200..=206 | 301 | 302 | 304 | 307 | 308 | 404 | 410);
    must(!hit || checks.browser || !aged || age.is_some(), "from the store, without Age");
    if *hit && let Some(coding) = fields.get("content-encoding") {
        let accepted = ask.fields.list("accept-encoding").iter().any(|member| {
            let (name, weight) = member.split_once(";q=").unwrap_or((member, "1"));
            [coding, "*"].contains(&name.trim()) && weight.parse().is_ok_and(|q: f32| q > 0.0)
        });
        must(accepted, "a coding that the visitor did not ask for");
        let varies = fields.list("vary").iter().any(|name| name == "accept-encoding");
        must(varies, "compressed without Vary: Accept-Encoding");
    }
    wrong
}

/// The parameters of our own member of `Cache-Status`, which is the last one.
struct Ours {
    hit: bool,
    fwd: Option<String>,
    fwd_status: Option<i64>,
    ttl: Option<i64>,
    detail: bool,
    stored: bool,
}

fn ours(fields: &Fields) -> Option<Ours> {
    let lines: Vec<_> = fields.all("cache-status").collect();
    let list = sfv::Parser::new(&lines.join(", ")).parse::<sfv::List>().ok()?;
    let Some(sfv::ListEntry::Item(item)) = list.last() else { return None };
    if item.bare_item.as_token()?.as_str() != "perennial" {
        return None;
    }
    let param = |name: &str| item.params.iter().find(|(key, _)| key.as_str() == name).map(|p| p.1);
    let flag = |name: &str| param(name).and_then(sfv::BareItem::as_boolean).unwrap_or(false);
    let integer = |name: &str| param(name).and_then(sfv::BareItem::as_integer).map(i64::from);
    Some(Ours {
        hit: flag("hit"),
        fwd: param("fwd").and_then(|v| v.as_token()).map(|token| token.as_str().to_owned()),
        fwd_status: integer("fwd-status"),
        ttl: integer("ttl"),
        detail: param("detail").is_some(),
        stored: flag("stored"),
    })
}

/// What is wrong with a whole answer, beyond its head.
pub(crate) fn body(ask: &Ask, response: &Response) -> Vec<String> {
    let Response { status, fields, body, .. } = response;
    let mut wrong = Vec::new();
    let range = fields.get("content-range").and_then(|range| range.strip_prefix("bytes "));
    if *status == 206
        && ask.method != "HEAD"
        && let Some((first, last, whole)) = range.and_then(split_range)
        && (last < first || last >= whole || last - first + 1 != body.len() as u64)
    {
        wrong.push("Content-Range and the body disagree".into());
    }
    if *status == 206 && multipart(fields) && !body.ends_with(b"--\r\n") {
        wrong.push("multipart/byteranges without its end".into());
    }
    wrong
}

/// `first-last/whole`.
fn split_range(range: &str) -> Option<(u64, u64, u64)> {
    let (range, whole) = range.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, whole.parse().ok()?))
}

fn multipart(fields: &Fields) -> bool {
    fields.get("content-type").is_some_and(|kind| kind.starts_with("multipart/byteranges"))
}
