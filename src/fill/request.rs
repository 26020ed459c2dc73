//! What a fill asks for, and the request that it sends (semantics §3).

use std::sync::Arc;

use http::HeaderValue;
use pingora::http::RequestHeader;

use crate::framework::Preset;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::page::{Fields, FieldsBuf, Form, PageKey, Representation};
use crate::request::Request;
use crate::route::Route;
use crate::rules::{Lines, hop};

/// How Perennial names itself to origins (`User-Agent` on page routes, `Via`).
pub const AGENT: &str = concat!("Perennial/", env!("CARGO_PKG_VERSION"));

/// Everything a fill needs to know. Owned, because a fill outlives the request
/// that began it.
#[derive(Clone)]
pub struct Ask {
    /// The route.
    pub route: Arc<Route>,
    /// Under the terms of `isr` and `dsg`; otherwise of `ssr`.
    pub page: bool,
    /// The page that its route would make of the URL, were it not server-rendered
    /// for now.
    pub server_rendered: Option<PageKey>,
    /// Where to ask.
    pub origin: Arc<Origin>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// The page.
    pub key: PageKey,
    /// Which form of it.
    pub form: Form,
    /// Path and keyed query of the page.
    pub target: Box<str>,
    /// The host the visitor named.
    pub host: Box<str>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// On page routes the declared variants with their normalised values; on
    /// `ssr` the end-to-end fields of the visitor's request.
    pub fields: Fields,
    /// The request carries `Authorization` (RFC 9111 §3.5).
    pub authorization: bool,
    /// The request carries a cookie, and it is sent.
    pub cookie: bool,
    /// The request says `no-store` (RFC 9111 §5.2.1.5), and the route obeys it.
    pub no_store: bool,
}

/// Fields of a visitor that a server-rendered page's fill does not carry:
/// conditions and ranges belong to the visitor, framing to the hop, and the
/// rest names hosts and paths in ways that no key covers.
const NOT_SENT: &[&str] = &[
    "host",
    "content-length",
    "expect",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-host-override",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
];

/// The end-to-end fields of a request that a fill on `ssr` carries, with the
/// visitor's address added to `X-Forwarded-For`.
#[must_use]
pub fn end_to_end(request: &Request<'_>) -> Fields {
    let nominated = |name: &str| {
        request
            .lines("connection")
            .flat_map(|line| line.split(|b| *b == b','))
            .any(|n| n.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    };
    let mut out = FieldsBuf::default();
    for field in request.fields {
        let name = field.name;
        if hop::is_hop_by_hop(name)
            || nominated(name)
            || NOT_SENT.iter().any(|n| name.eq_ignore_ascii_case(n))
        {
            continue;
        }
        out.push(name, field.value);
    }
    let peer = request.peer.to_string();
    let chain: Vec<&[u8]> = request.lines("x-forwarded-for").chain([peer.as_bytes()]).collect();
    out.push("X-Forwarded-For", &chain.join(&b", "[..]));
    out.done()
}

/// Fields less those of these names.
#[must_use]
pub fn without(fields: &Fields, names: &[&str]) -> Fields {
    let mut out = FieldsBuf::default();
    for (name, value) in fields.iter() {
        if !names.iter().any(|n| name.eq_ignore_ascii_case(n)) {
            out.push(name, value);
        }
    }
    out.done()
}

impl Ask {
    /// The same for another form of the page.
    #[must_use]
    pub fn for_form(&self, form: Form) -> Ask {
        Ask { form, ..self.clone() }
    }

    /// The request head. `prior` is what is stored, if the origin may answer
    /// that it has not changed.
    ///
    /// # Errors
    /// The target cannot be sent.
    pub fn head(
        &self,
        preset: Preset,
        prior: Option<&Representation>,
    ) -> pingora::Result<Box<RequestHeader>> {
        let target = preset.target(&self.target, self.form);
        let mut head = RequestHeader::build("GET", target.as_bytes(), Some(16))?;
        head.insert_header("Host", self.origin.host_field(&self.host))?;
        if self.page {
            head.insert_header("User-Agent", AGENT)?;
            head.insert_header("Accept", preset.accept(self.form))?;
        }
        for (name, value) in self.fields.iter() {
            head.append_header(name.to_owned(), HeaderValue::from_bytes(value).unwrap_or(EMPTY))?;
        }
        head.insert_header("X-Forwarded-Host", &*self.host)?;
        head.insert_header("X-Forwarded-Proto", self.scheme)?;
        head.insert_header("Via", "1.1 perennial")?;
        if let Some(prior) = prior {
            if prior.origin_etag {
                head.insert_header("If-None-Match", &*prior.identity().etag)?;
            }
            if let (Some(date), Some(_)) = (prior.origin.get("last-modified"), prior.last_modified)
            {
                head.insert_header("If-Modified-Since", date)?;
            }
        }
        Ok(Box::new(head))
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");
