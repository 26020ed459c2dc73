//! What a response is good for under its route: whether it may be stored, its
//! terms, and the head that clients get.
//!
//! The store keeps what the origin said. The options of a route (mode, lifetimes,
//! `browser`, …) are applied when a page is *read*, so that a reload is true for
//! the next request (semantics §6). The judgement is kept beside the page until
//! they change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use http::header::{CONTENT_TYPE, ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::answer::head::{Audience, Shape};
use crate::config;
use crate::framework::{self, Preset};
use crate::page::{Asked, Fields, Form, Judgement, Representation};
use crate::route::Route;
use crate::rules::cache_control::governing;
use crate::rules::freshness::explicit_lifetime;
use crate::rules::storable::{self, Expected, Lifetime, PagePolicy, Policy, SsrPolicy, Verdict};
use crate::rules::{Time, date, media};

/// What judges responses: a route, under one of its two sets of terms.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The route.
    pub route: &'a Route,
    /// Under the terms of `isr` and `dsg`; otherwise of `ssr`.
    pub page: bool,
    /// The preset.
    pub preset: &'a Preset,
}

/// A response to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Which form was asked for.
    pub form: Form,
    /// Its status.
    pub status: StatusCode,
    /// Its fields as they came.
    pub headers: &'a HeaderMap,
    /// Whose fields the origin was asked with.
    pub asked: Asked,
    /// When the request was sent.
    pub request_time: Time,
    /// When the response's head had arrived.
    pub response_time: Time,
}

impl Judge<'_> {
    /// What a stored representation is good for now. One that was asked for with
    /// other fields than this route sends is good for nothing: on `isr` and `dsg`
    /// what was rendered with a client's fields is for that client, and on `ssr`
    /// what was rendered without them is not what the client asked for.
    #[must_use]
    pub fn of(&self, rep: &Representation) -> Guard<Arc<Judgement>> {
        rep.judged.under(self.stamp(), || {
            let terms = self.suits(rep.asked).then(|| self.stored(rep)).flatten();
            Judgement {
                stamp: self.stamp(),
                terms,
                head: self.head(
                    &rep.origin,
                    Audience::All,
                    rep.status,
                    rep.compress.worth(),
                    rep.response_time,
                ),
            }
        })
    }

    /// The freshness lifetime of a stored representation; none: fresh until it is
    /// revalidated, or of no use.
    #[must_use]
    pub fn lifetime(&self, rep: &Representation) -> Option<Duration> {
        self.of(rep).terms.and_then(|terms| terms.fresh_for)
    }

    /// Whether a representation may be used as it arrived, without asking the origin
    /// first (RFC 9111 §4): it was fresh, or stale inside an explicit
    /// `stale-while-revalidate`.
    #[must_use]
    pub fn without_validation(&self, rep: &Representation) -> bool {
        let age = rep.response_time.since(rep.generated);
        self.of(rep).terms.is_some_and(|terms| terms.state(age, false).without_validation())
    }

    /// Whether what was asked for with these fields can be used under these terms.
    #[must_use]
    pub fn suits(&self, asked: Asked) -> bool {
        self.page == (asked == Asked::Route)
    }

    /// Under which options of the route it is judged.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.route.stamp ^ u64::from(self.page)
    }

    fn stored(&self, rep: &Representation) -> Option<crate::rules::freshness::Terms> {
        let mut headers = rep.origin.to_map();
        if rep.set_cookie {
            // Only that there was one counts.
            headers.insert(SET_COOKIE, HeaderValue::from_static("stripped"));
        }
        let verdict = self.response(&Response {
            form: rep.form,
            status: rep.status,
            headers: &headers,
            asked: rep.asked,
            request_time: rep.request_time,
            response_time: rep.response_time,
        });
        match verdict {
            Verdict::Store { terms, .. } => Some(terms),
            Verdict::Refuse { .. } => None,
        }
    }

    /// Judges a response.
    #[must_use]
    pub fn response(&self, response: &Response<'_>) -> Verdict {
        let (authorization, cookie, no_store) = match response.asked {
            Asked::Route => (false, false, false),
            Asked::Client { authorization, cookie, no_store, .. } => {
                (authorization, cookie, no_store)
            }
        };
        let expected = match response.form {
            Form::Document => Expected::Document,
            Form::Data if self.preset.is_speculative(Form::Data) => Expected::DataByAccept,
            Form::Data => Expected::Data,
            Form::Payload => Expected::Payload,
        };
        storable::judge(
            self.policy(response),
            &storable::Exchange {
                status: response.status,
                headers: response.headers,
                expected,
                payload_type: framework::PAYLOAD_TYPE,
                says_stale: framework::is_stale_copy(response.headers),
                authorization,
                cookie,
                no_store,
                request_time: response.request_time,
                response_time: response.response_time,
            },
        )
    }

    /// Whether a page of which the origin says nothing, but that has a validator, is taken
    /// for one that its build made: with a preset that knows of such pages, where the
    /// route goes by the origin. What is stored was made by it: its body said so.
    #[must_use]
    pub fn is_silent(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let is_html = |value: &HeaderValue| value.as_bytes().starts_with(b"text/html");
        self.page
            && self.route.mode.is_isr_by_origin()
            && self.preset.silent_is_static()
            && status == 200
            && says_nothing_of_caching(headers)
            && headers.get(CONTENT_TYPE).is_some_and(is_html)
            && headers.contains_key(ETAG)
    }

    /// Whether only its body tells for whom a response was rendered that would be stored:
    /// see [`is_silent`](Self::is_silent), and where a `dsg` route goes by the origin, what
    /// says no lifetime and is no file.
    #[must_use]
    pub fn tells_by_body(&self, response: &Response<'_>) -> bool {
        let headers = response.headers;
        if self.is_silent(response.status, headers) {
            return true;
        }
        let by_origin = matches!(self.route.mode, config::Mode::Dsg { origin: true });
        let is_page = || media::is_html(headers) || media::is_json(headers);
        let lifetime = || explicit_lifetime(&governing(headers), headers, response.response_time);
        self.page
            && by_origin
            && self.preset.renders_silently()
            && !headers.contains_key(LAST_MODIFIED)
            && is_page()
            && lifetime().is_none_or(|lifetime| lifetime.is_zero())
    }

    /// The fields that clients get of a response.
    #[must_use]
    pub fn head(
        &self,
        origin: &Fields,
        audience: Audience,
        status: StatusCode,
        compressible: bool,
        received: Time,
    ) -> Fields {
        Shape {
            route: self.route,
            page: self.page,
            audience,
            preset: self.preset,
            status,
            compressible,
            received: &date::format(received),
        }
        .visitor(origin)
    }

    fn policy(&self, response: &Response<'_>) -> Policy {
        let route = self.route;
        let strip_set_cookie = route.strip_set_cookie;
        let page = |revalidate, stale_for| {
            let not_found = route.not_found;
            Policy::Page(PagePolicy { revalidate, stale_for, not_found, strip_set_cookie })
        };
        let ssr = |heuristic| {
            let cookies_shared = route.cookies == config::Cookies::Shared;
            Policy::Ssr(SsrPolicy { heuristic, strip_set_cookie, cookies_shared })
        };
        match route.mode {
            config::Mode::Isr { revalidate, stale_for } if self.page => {
                let revalidate = match revalidate {
                    Some(lifetime) => Lifetime::Fixed(lifetime),
                    None if self.is_silent(response.status, response.headers) => {
                        Lifetime::OriginOrForever
                    }
                    None => Lifetime::Origin,
                };
                page(revalidate, stale_for)
            }
            config::Mode::Dsg { origin: true } if self.page => {
                page(Lifetime::OriginOrForever, Duration::MAX)
            }
            config::Mode::Dsg { origin: false } if self.page => {
                page(Lifetime::Forever, Duration::MAX)
            }
            config::Mode::Ssr { heuristic } => ssr(heuristic),
            config::Mode::Pass => Policy::Pass,
            // A page route whose path is server-rendered for now.
            config::Mode::Isr { .. } | config::Mode::Dsg { .. } => ssr(false),
        }
    }
}

/// Whether no field of a response says how long caches may use it.
pub(crate) fn says_nothing_of_caching(headers: &HeaderMap) -> bool {
    let names = ["cache-control", "expires", "cdn-cache-control", "surrogate-control"];
    names.iter().all(|name| !headers.contains_key(*name))
}
