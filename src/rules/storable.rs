//! May this response be stored, and under which terms? (RFC 9111 §3, and the
//! policy of the route.)

use std::time::Duration;

use http::header::{COOKIE, ETAG, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::cache_control::{Governing, Window, governing};
use super::freshness::{
    Source, Terms, age_value, explicit, heuristic_lifetime, initial_age, last_modified,
};
use super::status::{self, OnPage, OnSsr};
use super::vary::{self, Vary};
use super::{Reason, Time, media};

/// How a route caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `isr` and `dsg`: the route decides how long a page is fresh.
    Page(PagePolicy),
    /// `ssr`: the origin decides, by RFC 9111.
    Ssr(SsrPolicy),
    /// Nothing is stored.
    Pass,
}

/// How an `isr` or `dsg` route caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagePolicy {
    /// How long a page is fresh.
    pub revalidate: Lifetime,
    /// How long past that it is served while a regeneration runs. Without meaning for
    /// [`Lifetime::Forever`], where that is unbounded.
    pub stale_for: Duration,
    /// How long a missing page or a temporary redirect is fresh at most.
    pub not_found: Duration,
    /// The route drops `Set-Cookie`, so that it does not forbid storing.
    pub strip_set_cookie: bool,
}

/// How an `ssr` route caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SsrPolicy {
    /// Lifetimes may be guessed (RFC 9111 §4.2.2).
    pub heuristic: bool,
    /// The route drops `Set-Cookie`, so that it does not forbid storing.
    pub strip_set_cookie: bool,
    /// What was rendered for a request with cookies is for all unless the origin says
    /// otherwise: RFC 9111 to the letter.
    pub cookies_shared: bool,
}

/// How long a page is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// So long (`isr`).
    Fixed(Duration),
    /// Until it is revalidated (`dsg`).
    Forever,
    /// The origin's explicit lifetime where it names one above zero, otherwise
    /// until it is revalidated (`dsg: { revalidate: origin }`).
    OriginOrForever,
    /// The origin's explicit lifetime (`isr: { revalidate: origin }`).
    Origin,
}

/// The form that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever the URL stands for.
    Document,
    /// JSON, at a data URL of its own.
    Data,
    /// JSON, by `Accept`. What comes back otherwise is storable: whether it is
    /// JSON, [`media::is_json`] says.
    DataByAccept,
    /// What a client-side router asks for, at the document's own URL.
    Payload,
}

/// An origin's response and what its request was.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The final status.
    pub status: StatusCode,
    /// The response's fields as they came: nothing stripped yet. For a 304,
    /// status and fields of the stored response with the 304 merged in
    /// (`conditional::merge_304`).
    pub headers: &'a HeaderMap,
    /// The form that was asked for.
    pub expected: Expected,
    /// The media type of [`Expected::Payload`], which no other form has.
    pub payload_type: &'static str,
    /// The origin says that this is a stale copy of its own.
    pub says_stale: bool,
    /// The request to the origin carried `Authorization`.
    pub authorization: bool,
    /// The request to the origin carried `Cookie`.
    pub cookie: bool,
    /// The request to the origin carried `Cache-Control: no-store`. On page
    /// routes it is ours and never does.
    pub no_store: bool,
    /// When the request was sent.
    pub request_time: Time,
    /// When the response's head was received.
    pub response_time: Time,
}

/// What is to be done with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be stored.
    Store {
        /// Under these terms.
        terms: Terms,
        /// The origin sent a stale copy of its own, so that this one is stale
        /// on arrival: ask again after the route's `backoff.min`.
        origin_stale: bool,
    },
    /// It may not be stored.
    Refuse {
        /// Why.
        reason: Reason,
        /// What that means for what is stored and for followers.
        class: Class,
    },
}

/// What a refusal means for what is stored, and for followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A failed render: what is stored stays. The response is delivered where
    /// nothing stored may take its place, on page routes to all followers.
    Failed,
    /// A complete answer that forbids storing, or says that the page is no
    /// longer public: removes what is stored and never reaches a follower.
    Forbidden,
    /// Not storable and for this client only; what is stored stays.
    Unshared,
    /// A page that is server-rendered after all (`revalidate: origin`): it is
    /// thrown away, the whole request goes to the origin as on `ssr`, and what
    /// is stored is removed, being superseded.
    ServerRendered,
}

/// Judges a response.
#[must_use]
pub fn judge(policy: Policy, exchange: &Exchange<'_>) -> Verdict {
    let governing = governing(exchange.headers);
    match policy {
        Policy::Page(policy) => policy.judge(exchange, &governing),
        Policy::Ssr(policy) => policy.judge(exchange, &governing),
        Policy::Pass => refuse(Reason::NoCache, Class::Unshared),
    }
}

/// Why a complete response forbids storing it (RFC 9111 §3), if it does; in every mode.
fn forbidding(
    status: StatusCode,
    headers: &HeaderMap,
    strip_set_cookie: bool,
    governing: &Governing,
) -> Option<Reason> {
    if governing.directives.private {
        Some(Reason::Private)
    } else if governing.directives.forbids_store(status::meaning(status).is_understood()) {
        Some(Reason::NoStore)
    } else if headers.contains_key(SET_COOKIE) && !strip_set_cookie {
        Some(Reason::SetCookie)
    } else if vary::has_star(headers) {
        Some(Reason::VaryStar)
    } else {
        None
    }
}

const fn refuse(reason: Reason, class: Class) -> Verdict {
    Verdict::Refuse { reason, class }
}

impl PagePolicy {
    fn judge(&self, exchange: &Exchange<'_>, governing: &Governing) -> Verdict {
        let &Exchange { status, headers, .. } = exchange;
        let explicit = explicit(governing, headers, exchange.response_time);
        let meaning = status::meaning(status).page;

        // Requests with credentials pass through such a route; if one comes
        // here, its answer is for its client alone.
        if exchange.authorization {
            return refuse(Reason::Authorization, Class::Unshared);
        }
        // A failed render first: error pages carry `no-store` as a rule, and
        // must not take the last good page with them.
        if let OnPage::Transient(reason) = meaning {
            return refuse(reason, Class::Failed);
        }

        let forbidden = forbidding(status, headers, self.strip_set_cookie, governing);
        let withdrawn = meaning == OnPage::Withdrawn;
        if self.revalidate == Lifetime::Origin {
            let dynamic = explicit.is_none_or(|(lifetime, _)| lifetime.is_zero());
            match forbidden {
                Some(reason @ (Reason::Private | Reason::NoStore)) => {
                    return refuse(reason, Class::ServerRendered);
                }
                _ if dynamic && withdrawn => {
                    return refuse(Reason::Unauthorized, Class::ServerRendered);
                }
                _ if dynamic => return refuse(Reason::ServerRendered, Class::ServerRendered),
                _ => {}
            }
        }
        if withdrawn {
            return refuse(Reason::Unauthorized, Class::Forbidden);
        }
        if let Some(reason) = forbidden {
            return refuse(reason, Class::Forbidden);
        }
        if let OnPage::NoPage(reason) = meaning {
            return refuse(reason, Class::Failed);
        }
        if wrong_type(exchange) {
            return refuse(Reason::ContentType, Class::Failed);
        }
        self.store(exchange, governing, explicit, meaning)
    }

    fn store(
        &self,
        exchange: &Exchange<'_>,
        governing: &Governing,
        explicit: Option<(Duration, Source)>,
        meaning: OnPage,
    ) -> Verdict {
        // `max-age=0` is for browsers here, and so is an `Expires` in the past.
        let own = match explicit {
            Some((Duration::ZERO, Source::Anyone)) | None => None,
            Some((lifetime, _)) => Some(lifetime),
        };
        let mut fresh_for = match self.revalidate {
            Lifetime::Fixed(lifetime) => Some(lifetime),
            Lifetime::Forever => None,
            Lifetime::Origin | Lifetime::OriginOrForever => own,
        };
        if matches!(meaning, OnPage::Missing | OnPage::Moved) {
            let shorter = |a: Option<Duration>, b| Some(a.map_or(b, |a| a.min(b)));
            fresh_for = shorter(fresh_for, self.not_found);
            if let Some(own) = own {
                fresh_for = shorter(fresh_for, own);
            }
        }
        let origin_stale = is_stale_copy(exchange, own, fresh_for);
        if origin_stale {
            let arrival = stale_on_arrival(exchange, own);
            fresh_for = Some(fresh_for.map_or(arrival, |lifetime| lifetime.min(arrival)));
        }
        Verdict::Store {
            terms: Terms {
                fresh_for,
                while_revalidating: match self.revalidate {
                    Lifetime::Forever => Window::Unbounded,
                    // An origin that names a lifetime may name this one, too.
                    Lifetime::OriginOrForever => {
                        match governing.directives.stale_while_revalidate {
                            named if own.is_some() && named != Window::None => named,
                            _ => Window::Unbounded,
                        }
                    }
                    Lifetime::Fixed(_) | Lifetime::Origin => Window::of(self.stale_for),
                },
                if_error: Window::Unbounded,
                if_unreachable: Window::Unbounded,
            },
            origin_stale,
        }
    }
}

impl SsrPolicy {
    /// RFC 9111 §3.
    fn judge(&self, exchange: &Exchange<'_>, governing: &Governing) -> Verdict {
        match self.lifetime(exchange, governing) {
            Ok(lifetime) => {
                let origin_stale = is_stale_copy(exchange, Some(lifetime), None);
                let fresh_for = if origin_stale {
                    lifetime.min(stale_on_arrival(exchange, Some(lifetime)))
                } else {
                    lifetime
                };
                Verdict::Store { terms: ssr_terms(governing, fresh_for), origin_stale }
            }
            Err(_) if exchange.status.is_server_error() => {
                refuse(Reason::ServerError, Class::Failed)
            }
            // What was answered to credentials says nothing of the page without.
            Err((reason, Class::Forbidden)) if exchange.authorization => {
                refuse(reason, Class::Unshared)
            }
            Err((reason, class)) => refuse(reason, class),
        }
    }

    /// The lifetime of a response that RFC 9111 §3 allows to store.
    fn lifetime(
        &self,
        exchange: &Exchange<'_>,
        governing: &Governing,
    ) -> Result<Duration, (Reason, Class)> {
        let &Exchange { status, headers, response_time, .. } = exchange;
        let meaning = status::meaning(status);
        let directives = &governing.directives;
        let unshared = |reason| Err((reason, Class::Unshared));

        // §3.4, §4.3.4: no whole response.
        if let OnSsr::Never(reason @ Reason::Partial) = meaning.ssr {
            return unshared(reason);
        }
        if let Some(reason) = forbidding(status, headers, self.strip_set_cookie, governing) {
            return Err((reason, Class::Forbidden));
        }
        // §5.2.1.5
        if exchange.no_store {
            return unshared(Reason::RequestNoStore);
        }
        match meaning.ssr {
            OnSsr::Never(reason) => return unshared(reason),
            // §3
            OnSsr::NotUnderstood if directives.must_understand => return unshared(Reason::Status),
            _ => {}
        }
        if wrong_type(exchange) {
            return unshared(Reason::ContentType);
        }
        // A list of names that cannot be read cannot be matched (§4.1).
        if vary::parse(headers) == Vary::Star {
            return Err((Reason::VaryStar, Class::Forbidden));
        }
        // §3.5
        let shareable =
            directives.must_revalidate || directives.public || directives.s_maxage.is_some();
        if exchange.authorization && !shareable {
            return unshared(Reason::Authorization);
        }
        let explicit = explicit(governing, headers, response_time).map(|(lifetime, _)| lifetime);
        let validator =
            headers.contains_key(ETAG) || last_modified(headers, response_time).is_some();
        let lifetime = match explicit {
            // Neither usable as it is nor by asking whether it still is (§5.2.2.4).
            Some(_) if directives.no_cache && !validator => None,
            Some(_) if directives.no_cache => Some(Duration::ZERO),
            Some(lifetime) => Some(lifetime),
            // What was rendered for a client's cookies needs the origin's word.
            None if exchange.cookie => None,
            None if directives.no_cache => validator.then_some(Duration::ZERO),
            None if self.heuristic && (meaning.ssr == OnSsr::Heuristic || directives.public) => {
                heuristic_lifetime(headers, response_time)
            }
            None => None,
        };
        match lifetime {
            // An error that is stale at once must not take a good page's place.
            Some(Duration::ZERO) if status.is_server_error() => unshared(Reason::ServerError),
            // Semantics §1: it may hold what is one client's, whatever the origin says of its
            // lifetime. Middleware and loaders read cookies without a word in `Vary`.
            Some(_) if exchange.cookie && !self.cookies_shared && !varies_on_cookie(headers) => {
                unshared(Reason::Cookie)
            }
            Some(lifetime) => Ok(lifetime),
            None if meaning.page == OnPage::Withdrawn => {
                Err((Reason::Unauthorized, Class::Forbidden))
            }
            None => unshared(Reason::NoLifetime),
        }
    }
}

/// Whether the origin has said that it rendered for the cookies of the request.
fn varies_on_cookie(headers: &HeaderMap) -> bool {
    matches!(vary::parse(headers), Vary::Names(names) if names.contains(&COOKIE))
}

/// What the origin's directives allow of a stale response (RFC 9111 §4.2.4,
/// RFC 5861).
fn ssr_terms(governing: &Governing, fresh_for: Duration) -> Terms {
    let directives = &governing.directives;
    let fresh_for = Some(fresh_for);
    if directives.must_validate() {
        return Terms {
            fresh_for,
            while_revalidating: Window::None,
            if_error: Window::None,
            if_unreachable: Window::None,
        };
    }
    // `s-maxage` forbids to serve stale (§5.2.2.10), but what says so
    // explicitly wins over what it implies. And what had no lifetime at all is not
    // served instead of an answer.
    let forbidden = directives.s_maxage.is_some() || fresh_for == Some(Duration::ZERO);
    let unreachable = if forbidden { Window::None } else { Window::Unbounded };
    Terms {
        fresh_for,
        while_revalidating: directives.stale_while_revalidate,
        if_error: directives.stale_if_error,
        // No response is an error, too (RFC 5861 §4).
        if_unreachable: unreachable.or(directives.stale_if_error),
    }
}

/// Whether the origin answered with a stale copy of its own: it says so, or
/// the `Age` that it sends is past the lifetime it sends, or past ours.
fn is_stale_copy(
    exchange: &Exchange<'_>,
    own: Option<Duration>,
    fresh_for: Option<Duration>,
) -> bool {
    let past = |lifetime: Option<Duration>| match (age_value(exchange.headers), lifetime) {
        (Some(age), Some(lifetime)) => !lifetime.is_zero() && age >= lifetime,
        _ => false,
    };
    exchange.says_stale || past(own) || past(fresh_for)
}

/// A lifetime that is over when the response arrives: with the origin's own, if
/// that is what has passed, so that its staleness is counted from there.
fn stale_on_arrival(exchange: &Exchange<'_>, own: Option<Duration>) -> Duration {
    let age = initial_age(exchange.headers, exchange.request_time, exchange.response_time);
    own.filter(|own| !own.is_zero()).map_or(age, |own| own.min(age))
}

/// Whether the type is one that must not be stored under the form asked for.
fn wrong_type(exchange: &Exchange<'_>) -> bool {
    let headers = exchange.headers;
    // A 404 or a redirect has the form that errors and redirects have there.
    let success = exchange.status.is_success();
    let is_payload = || media::is(headers, exchange.payload_type);
    match exchange.expected {
        Expected::Payload => success && !is_payload(),
        Expected::Data => is_payload() || success && media::is_html(headers),
        Expected::Document | Expected::DataByAccept => is_payload(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::date;
    use super::super::freshness::State;
    use super::super::tests::{Fields, map};
    use super::*;
    use proptest::prelude::*;

    /// Sun, 01 Mar 2026 00:00:00 GMT
    const NOW: Time = Time(1_772_323_200_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    const fn page(revalidate: Lifetime) -> Policy {
        let (stale_for, not_found) = (YEAR, MINUTE);
        Policy::Page(PagePolicy { revalidate, stale_for, not_found, strip_set_cookie: false })
    }
    const ISR: Policy = page(Lifetime::Fixed(Duration::from_secs(300)));
    const DSG: Policy = page(Lifetime::Forever);
    const ORIGIN: Policy = page(Lifetime::Origin);
    const BY_RFC: SsrPolicy =
        SsrPolicy { heuristic: false, strip_set_cookie: false, cookies_shared: false };
    const SSR: Policy = Policy::Ssr(BY_RFC);
    const GUESS: Policy = Policy::Ssr(SsrPolicy { heuristic: true, ..BY_RFC });

    fn exchange(status: u16, headers: &HeaderMap) -> Exchange<'_> {
        Exchange {
            status: StatusCode::from_u16(status).expect("a status"),
            headers,
            expected: Expected::Document,
            payload_type: "text/x-component",
            says_stale: false,
            authorization: false,
            cookie: false,
            no_store: false,
            request_time: NOW,
            response_time: NOW,
        }
    }

    fn ask(policy: Policy, status: u16, fields: &[(&str, &str)]) -> Verdict {
        judge(policy, &exchange(status, &map(fields)))
    }

    fn cc(policy: Policy, status: u16, cache_control: &str) -> Verdict {
        ask(policy, status, &[("cache-control", cache_control)])
    }

    #[track_caller]
    fn stored(verdict: Verdict) -> (Terms, bool) {
        match verdict {
            Verdict::Store { terms, origin_stale } => (terms, origin_stale),
            Verdict::Refuse { .. } => panic!("not stored: {verdict:?}"),
        }
    }

    /// The freshness lifetime in seconds; none where it is unbounded.
    #[track_caller]
    fn fresh(verdict: Verdict) -> Option<u64> {
        stored(verdict).0.fresh_for.map(|d| d.as_secs())
    }

    #[test]
    fn statuses_of_page_routes() {
        // semantics §1: storable, short-lived, failed, withdrawn
        for status in [200, 301, 308] {
            assert_eq!(fresh(ask(ISR, status, &[])), Some(300), "{status}");
            assert_eq!(fresh(ask(DSG, status, &[])), None, "{status}");
        }
        for status in [404, 410, 302, 307] {
            for policy in [ISR, DSG] {
                assert_eq!(fresh(ask(policy, status, &[])), Some(60), "{status}");
                // the origin's own lifetime if shorter
                assert_eq!(fresh(cc(policy, status, "s-maxage=5")), Some(5), "{status}");
                assert_eq!(fresh(cc(policy, status, "max-age=5")), Some(5), "{status}");
                assert_eq!(fresh(cc(policy, status, "max-age=500")), Some(60), "{status}");
                // `max-age=0` is for browsers
                assert_eq!(fresh(cc(policy, status, "max-age=0")), Some(60), "{status}");
                assert_eq!(fresh(cc(policy, status, "s-maxage=0")), Some(0), "{status}");
            }
            let short = page(Lifetime::Fixed(Duration::from_secs(9)));
            assert_eq!(fresh(ask(short, status, &[])), Some(9), "{status}");
        }
        for status in [401, 403, 451] {
            let gone = refuse(Reason::Unauthorized, Class::Forbidden);
            for policy in [ISR, DSG] {
                assert_eq!(ask(policy, status, &[]), gone, "{status}");
                assert_eq!(cc(policy, status, "s-maxage=60"), gone, "{status}");
                assert_eq!(cc(policy, status, "no-store"), gone, "{status}");
            }
            assert_eq!(cc(ORIGIN, status, "s-maxage=60"), gone, "{status}");
        }
        let failed = |reason| refuse(reason, Class::Failed);
        for status in 100..600 {
            let want = match status {
                200 | 301 | 308 | 404 | 410 | 302 | 307 | 401 | 403 | 451 => continue,
                204 | 205 => failed(Reason::NoContent),
                206 | 304 => failed(Reason::Partial),
                500.. => failed(Reason::ServerError),
                _ => failed(Reason::Status),
            };
            for policy in [ISR, DSG] {
                assert_eq!(cc(policy, status, "s-maxage=60"), want, "{status}");
            }
        }
    }

    #[test]
    fn an_error_page_keeps_the_good_one_whatever_it_says_of_storing() {
        for policy in [ISR, DSG, ORIGIN] {
            for status in [500, 502, 503, 504, 511, 599, 429, 408, 425] {
                let fields = [
                    ("cache-control", "private, no-cache, no-store, max-age=0"),
                    ("set-cookie", "a=b"),
                    ("vary", "*"),
                ];
                let Verdict::Refuse { class, .. } = ask(policy, status, &fields) else {
                    panic!("{status} stored");
                };
                assert_eq!(class, Class::Failed, "{status}");
            }
        }
    }

    #[test]
    fn a_complete_answer_that_forbids_storing_removes_the_page() {
        let rows: &[(Fields<'_>, Reason)] = &[
            (&[("cache-control", "private")], Reason::Private),
            (&[("cache-control", "s-maxage=60, PRIVATE=\"x\"")], Reason::Private),
            (&[("cache-control", "max-age=60"), ("cache-control", "private")], Reason::Private),
            (&[("cache-control", "no-store")], Reason::NoStore),
            (&[("cache-control", "max-age=60, no-store")], Reason::NoStore),
            (&[("cdn-cache-control", "private"), ("cache-control", "public")], Reason::Private),
            (&[("cdn-cache-control", "no-store"), ("expires", "x")], Reason::NoStore),
            (&[("cache-control", "s-maxage=60"), ("set-cookie", "a=b")], Reason::SetCookie),
            (&[("cache-control", "s-maxage=60"), ("vary", "accept, *")], Reason::VaryStar),
        ];
        for policy in [ISR, DSG, SSR, GUESS] {
            for status in [200, 301, 404] {
                for (fields, reason) in rows {
                    let want = refuse(*reason, Class::Forbidden);
                    assert_eq!(ask(policy, status, fields), want, "{status} {fields:?}");
                }
            }
        }
        // A status that is never stored on a page route, but complete.
        let verdict = ask(ISR, 303, &[("set-cookie", "session=1")]);
        assert_eq!(verdict, refuse(Reason::SetCookie, Class::Forbidden));
    }

    #[test]
    fn what_does_not_forbid_storing() {
        // The targeted field governs (RFC 9213 §2.2).
        let fields = [("cdn-cache-control", "max-age=10"), ("cache-control", "private, no-store")];
        assert_eq!(fresh(ask(SSR, 200, &fields)), Some(10));
        assert_eq!(fresh(ask(ISR, 200, &fields)), Some(300));
        // An invalid one does not.
        let fields = [("cdn-cache-control", "max-age=x"), ("cache-control", "no-store")];
        assert_eq!(ask(ISR, 200, &fields), refuse(Reason::NoStore, Class::Forbidden));
        // RFC 9111 §5.2.2.3
        assert_eq!(fresh(cc(SSR, 200, "max-age=9, no-store, must-understand")), Some(9));
        assert_eq!(fresh(cc(ISR, 404, "no-store, must-understand")), Some(60));
        let unknown = cc(SSR, 599, "max-age=9, no-store, must-understand");
        assert_eq!(unknown, refuse(Reason::ServerError, Class::Failed));
        let unknown = cc(SSR, 299, "max-age=9, must-understand");
        assert_eq!(unknown, refuse(Reason::Status, Class::Unshared));
        // The route drops the cookies.
        let strip = Policy::Page(PagePolicy {
            revalidate: Lifetime::Forever,
            stale_for: YEAR,
            not_found: MINUTE,
            strip_set_cookie: true,
        });
        assert_eq!(fresh(ask(strip, 200, &[("set-cookie", "a=b")])), None);
        let strip = Policy::Ssr(SsrPolicy { strip_set_cookie: true, ..BY_RFC });
        let fields = [("set-cookie", "a=b"), ("cache-control", "max-age=3")];
        assert_eq!(fresh(ask(strip, 200, &fields)), Some(3));
        // On page routes these are for browsers; names in `Vary` were not sent.
        for line in ["must-revalidate", "max-age=0", "no-cache", "proxy-revalidate, max-age=x"] {
            let fields = [("cache-control", line), ("vary", "cookie"), ("expires", "0")];
            assert_eq!(fresh(ask(ISR, 200, &fields)), Some(300), "{line}");
            assert_eq!(fresh(ask(DSG, 200, &fields)), None, "{line}");
        }
        assert_eq!(fresh(ask(ISR, 200, &[("vary", "not, a name; at all")])), Some(300));
    }

    #[test]
    fn windows_of_page_routes() {
        let rows = [
            (ISR, "", Window::For(YEAR)),
            (ISR, "must-revalidate, no-cache, stale-while-revalidate=0", Window::For(YEAR)),
            (ORIGIN, "s-maxage=60, must-revalidate", Window::For(YEAR)),
            (DSG, "max-age=0, must-revalidate", Window::Unbounded),
        ];
        for (policy, line, want) in rows {
            let (terms, _) = stored(cc(policy, 200, line));
            assert_eq!(terms.while_revalidating, want, "{line}");
            assert_eq!(terms.if_error, Window::Unbounded, "{line}");
            assert_eq!(terms.if_unreachable, Window::Unbounded, "{line}");
        }
    }

    #[test]
    fn revalidate_origin() {
        // An explicit lifetime above zero, or it is server-rendered.
        let rows: &[(Fields<'_>, u16, Result<u64, Reason>)] = &[
            (&[("cache-control", "s-maxage=60")], 200, Ok(60)),
            (&[("cache-control", "max-age=60, no-cache")], 200, Ok(60)),
            (&[("cdn-cache-control", "max-age=7"), ("cache-control", "no-store")], 200, Ok(7)),
            (&[("cache-control", "s-maxage=600")], 301, Ok(600)),
            (&[("cache-control", "s-maxage=600")], 404, Ok(60)),
            (&[("cache-control", "s-maxage=6")], 302, Ok(6)),
            (&[], 200, Err(Reason::ServerRendered)),
            (&[("cache-control", "public")], 200, Err(Reason::ServerRendered)),
            (&[("cache-control", "max-age=0, must-revalidate")], 200, Err(Reason::ServerRendered)),
            (&[("cache-control", "s-maxage=0, max-age=60")], 200, Err(Reason::ServerRendered)),
            (&[("cache-control", "max-age=60, max-age=60")], 200, Err(Reason::ServerRendered)),
            (&[("expires", "0")], 200, Err(Reason::ServerRendered)),
            (&[("set-cookie", "a=b")], 200, Err(Reason::ServerRendered)),
            (&[("vary", "*")], 200, Err(Reason::ServerRendered)),
            (&[("cache-control", "private, max-age=60")], 200, Err(Reason::Private)),
            (&[("cache-control", "no-store")], 200, Err(Reason::NoStore)),
            (&[("cache-control", "private")], 401, Err(Reason::Private)),
            // Without cookie or query the origin may say anything.
            (&[], 302, Err(Reason::ServerRendered)),
            (&[], 303, Err(Reason::ServerRendered)),
            (&[], 400, Err(Reason::ServerRendered)),
            (&[], 404, Err(Reason::ServerRendered)),
            (&[], 401, Err(Reason::Unauthorized)),
            (&[], 403, Err(Reason::Unauthorized)),
        ];
        for (fields, status, want) in rows {
            let verdict = ask(ORIGIN, *status, fields);
            match want {
                Ok(secs) => assert_eq!(fresh(verdict), Some(*secs), "{status} {fields:?}"),
                Err(reason) => {
                    let want = refuse(*reason, Class::ServerRendered);
                    assert_eq!(verdict, want, "{status} {fields:?}");
                }
            }
        }
        let cookie = ask(ORIGIN, 200, &[("cache-control", "s-maxage=9"), ("set-cookie", "a=b")]);
        assert_eq!(cookie, refuse(Reason::SetCookie, Class::Forbidden));
        assert_eq!(ask(ORIGIN, 500, &[]), refuse(Reason::ServerError, Class::Failed));
        assert_eq!(ask(ORIGIN, 429, &[]), refuse(Reason::Status, Class::Failed));
    }

    #[test]
    fn ssr_by_rfc_9111_section_3() {
        let old = date::format(Time(NOW.0 - 86_400_000));
        let soon = date::format(Time(NOW.0 + 10_000));
        let unshared = |reason| Err((reason, Class::Unshared));
        let none = unshared(Reason::NoLifetime);
        type Row<'a> = (Policy, u16, Fields<'a>, Result<u64, (Reason, Class)>);
        let rows: &[Row<'_>] = &[
            (SSR, 200, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 200, &[("cache-control", "max-age=1, s-maxage=60")], Ok(60)),
            (SSR, 200, &[("cache-control", "max-age=0")], Ok(0)),
            (SSR, 200, &[("expires", &soon)], Ok(10)),
            (SSR, 200, &[("expires", "0")], Ok(0)),
            (SSR, 200, &[], none),
            (SSR, 200, &[("cache-control", "public")], none),
            (SSR, 200, &[("last-modified", &old)], none),
            (SSR, 200, &[("cdn-cache-control", "foo"), ("cache-control", "max-age=60")], none),
            // §5.2.2.4
            (SSR, 200, &[("cache-control", "no-cache"), ("etag", "\"x\"")], Ok(0)),
            (SSR, 200, &[("cache-control", "no-cache"), ("last-modified", &old)], Ok(0)),
            (SSR, 200, &[("cache-control", "no-cache"), ("last-modified", "x")], none),
            (SSR, 200, &[("cache-control", "no-cache, max-age=60"), ("etag", "\"x\"")], Ok(0)),
            (SSR, 200, &[("cache-control", "no-cache=\"a\", max-age=60")], none),
            (SSR, 200, &[("cache-control", "no-cache")], none),
            // §4.2.2
            (GUESS, 200, &[("last-modified", &old)], Ok(8640)),
            (GUESS, 404, &[("last-modified", &old)], Ok(8640)),
            (GUESS, 403, &[("last-modified", &old)], Err((Reason::Unauthorized, Class::Forbidden))),
            (GUESS, 201, &[("last-modified", &old)], none),
            (GUESS, 202, &[("last-modified", &old)], none),
            (GUESS, 302, &[("last-modified", &old)], none),
            (GUESS, 302, &[("last-modified", &old), ("cache-control", "public")], Ok(8640)),
            (GUESS, 299, &[("last-modified", &old), ("cache-control", "public")], Ok(8640)),
            (GUESS, 200, &[("last-modified", &old), ("cache-control", "max-age=0")], Ok(0)),
            (GUESS, 200, &[("last-modified", &old), ("cache-control", "no-cache")], Ok(0)),
            (GUESS, 200, &[], none),
            // any final status with an explicit lifetime
            (SSR, 203, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 204, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 299, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 303, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 400, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 401, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 499, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 500, &[("cache-control", "max-age=60")], Ok(60)),
            (SSR, 599, &[("cache-control", "max-age=60")], Ok(60)),
            // but those that never are
            (SSR, 103, &[("cache-control", "max-age=60")], unshared(Reason::Status)),
            (SSR, 206, &[("cache-control", "max-age=60")], unshared(Reason::Partial)),
            (SSR, 304, &[("cache-control", "max-age=60")], unshared(Reason::Partial)),
            (SSR, 428, &[("cache-control", "max-age=60")], unshared(Reason::Status)),
            (SSR, 429, &[("cache-control", "max-age=60")], unshared(Reason::Status)),
            (SSR, 431, &[("cache-control", "max-age=60")], unshared(Reason::Status)),
            (
                SSR,
                511,
                &[("cache-control", "max-age=60")],
                Err((Reason::ServerError, Class::Failed)),
            ),
            // errors that are no page to keep
            (SSR, 500, &[], Err((Reason::ServerError, Class::Failed))),
            (SSR, 503, &[("cache-control", "no-store")], Err((Reason::ServerError, Class::Failed))),
            (
                SSR,
                503,
                &[("cache-control", "max-age=0")],
                Err((Reason::ServerError, Class::Failed)),
            ),
            (
                SSR,
                500,
                &[("cache-control", "no-cache"), ("etag", "\"x\"")],
                Err((Reason::ServerError, Class::Failed)),
            ),
            (SSR, 401, &[], Err((Reason::Unauthorized, Class::Forbidden))),
            (SSR, 403, &[], Err((Reason::Unauthorized, Class::Forbidden))),
            (SSR, 451, &[], Err((Reason::Unauthorized, Class::Forbidden))),
            (SSR, 404, &[], none),
            // §4.1
            (
                SSR,
                200,
                &[("cache-control", "max-age=60"), ("vary", "not a name")],
                Err((Reason::VaryStar, Class::Forbidden)),
            ),
            (SSR, 200, &[("cache-control", "max-age=60"), ("vary", "cookie, x")], Ok(60)),
            (Policy::Pass, 200, &[("cache-control", "max-age=60")], unshared(Reason::NoCache)),
        ];
        for (policy, status, fields, want) in rows {
            let verdict = ask(*policy, *status, fields);
            match want {
                Ok(secs) => assert_eq!(fresh(verdict), Some(*secs), "{status} {fields:?}"),
                Err((reason, class)) => {
                    assert_eq!(verdict, refuse(*reason, *class), "{status} {fields:?}");
                }
            }
        }
    }

    #[test]
    fn requests_with_credentials() {
        // RFC 9111 §3.5; semantics §1
        let private = Err(Reason::Authorization);
        let rows = [
            (SSR, "max-age=60", private),
            (SSR, "max-age=60, proxy-revalidate", private),
            (SSR, "max-age=60, public", Ok(())),
            (SSR, "max-age=60, must-revalidate", Ok(())),
            (SSR, "s-maxage=60", Ok(())),
            (SSR, "private", Err(Reason::Private)),
            (SSR, "public", Err(Reason::NoLifetime)),
            (ISR, "s-maxage=60, public", private),
            (DSG, "s-maxage=60, public", private),
        ];
        for (policy, line, want) in rows {
            let headers = map(&[("cache-control", line)]);
            let verdict =
                judge(policy, &Exchange { authorization: true, ..exchange(200, &headers) });
            match want {
                Ok(()) => assert_eq!(fresh(verdict), Some(60), "{line}"),
                // says nothing of the page without credentials
                Err(reason) => assert_eq!(verdict, refuse(reason, Class::Unshared), "{line}"),
            }
        }
        let public = map(&[("cache-control", "public")]);
        let denied = judge(SSR, &Exchange { authorization: true, ..exchange(401, &public) });
        assert_eq!(denied, refuse(Reason::Unauthorized, Class::Unshared));

        // A response to cookies needs an explicit lifetime, and the origin's word that it
        // knows of them.
        let old = date::format(Time(NOW.0 - 86_400_000));
        let shared = Policy::Ssr(SsrPolicy { heuristic: true, cookies_shared: true, ..BY_RFC });
        let (stores, cookie) = (Ok(()), Err(Reason::Cookie));
        let no_lifetime = Err(Reason::NoLifetime);
        for (policy, fields, want) in [
            (GUESS, &[("cache-control", "max-age=60")][..], cookie),
            (GUESS, &[("cache-control", "public, s-maxage=60")], cookie),
            (GUESS, &[("cache-control", "no-cache, max-age=60"), ("etag", "\"x\"")], cookie),
            (GUESS, &[("cache-control", "max-age=60"), ("vary", "accept, Cookie")], stores),
            (GUESS, &[("last-modified", old.as_str()), ("vary", "cookie")], no_lifetime),
            (GUESS, &[("cache-control", "no-cache"), ("etag", "\"x\"")], no_lifetime),
            (shared, &[("cache-control", "max-age=60")], stores),
            (shared, &[("last-modified", old.as_str())], no_lifetime),
        ] {
            let headers = map(fields);
            match judge(policy, &Exchange { cookie: true, ..exchange(200, &headers) }) {
                Verdict::Store { .. } => assert_eq!(want, stores, "{fields:?}"),
                Verdict::Refuse { reason, class } => {
                    assert_eq!((Err(reason), class), (want, Class::Unshared), "{fields:?}");
                }
            }
        }

        // §5.2.1.5
        let headers = map(&[("cache-control", "max-age=60")]);
        let verdict = judge(SSR, &Exchange { no_store: true, ..exchange(200, &headers) });
        assert_eq!(verdict, refuse(Reason::RequestNoStore, Class::Unshared));
    }

    #[test]
    fn windows_of_ssr() {
        let w = |n| Window::For(Duration::from_secs(n));
        const N: Window = Window::None;
        const U: Window = Window::Unbounded;
        let rows = [
            // while revalidating, if error, if unreachable
            ("max-age=1", (N, N, U)), // RFC 9111 §4.2.4
            ("max-age=1, stale-while-revalidate=4", (w(4), N, U)), // RFC 5861 §3
            ("max-age=1, stale-while-revalidate", (U, N, U)),
            ("max-age=1, stale-while-revalidate=x", (N, N, U)),
            ("max-age=1, stale-if-error=60", (N, w(60), U)), // RFC 5861 §4
            ("s-maxage=1", (N, N, N)),                       // RFC 9111 §5.2.2.10
            ("s-maxage=1, stale-while-revalidate=4", (w(4), N, N)),
            ("s-maxage=1, stale-while-revalidate", (U, N, N)),
            ("s-maxage=1, stale-if-error=60", (N, w(60), w(60))),
            // §5.2.2.2, §5.2.2.8, §5.2.2.4
            ("max-age=1, must-revalidate", (N, N, N)),
            ("max-age=1, proxy-revalidate", (N, N, N)),
            ("max-age=1, no-cache", (N, N, N)),
            ("max-age=1, must-revalidate, stale-while-revalidate, stale-if-error", (N, N, N)),
            ("max-age=1, proxy-revalidate, stale-while-revalidate, stale-if-error", (N, N, N)),
            ("max-age=1, no-cache, stale-while-revalidate=9, stale-if-error=9", (N, N, N)),
        ];
        for (line, want) in rows {
            let fields = [("cache-control", line), ("etag", "\"x\"")];
            let (terms, _) = stored(ask(SSR, 200, &fields));
            let got = (terms.while_revalidating, terms.if_error, terms.if_unreachable);
            assert_eq!(got, want, "{line}");
        }
        // Only what governs counts (RFC 9213 §2.2).
        let fields = [
            ("cdn-cache-control", "max-age=1, stale-while-revalidate=2"),
            ("cache-control", "s-maxage=1, must-revalidate, stale-while-revalidate=9"),
        ];
        let (terms, _) = stored(ask(SSR, 200, &fields));
        assert_eq!((terms.while_revalidating, terms.if_unreachable), (w(2), U));
    }

    #[test]
    fn types_that_are_refused() {
        use Expected::{Data, DataByAccept, Document, Payload};
        const HTML: &str = "text/html; charset=utf-8";
        const JSON: &str = "application/json";
        const FLIGHT: &str = "text/x-component";
        let rows = [
            (Document, 200, HTML, true),
            (Document, 200, JSON, true),
            (Document, 200, "text/css", true),
            (Document, 200, "", true),
            (Document, 200, FLIGHT, false),
            (Document, 404, FLIGHT, false),
            (Payload, 200, FLIGHT, true),
            (Payload, 200, "Text/X-Component; charset=utf-8", true),
            (Payload, 200, HTML, false),
            (Payload, 200, "", false),
            (Payload, 404, HTML, true),
            (Payload, 307, "", true),
            (Data, 200, JSON, true),
            (Data, 200, "text/plain", true),
            (Data, 200, HTML, false),
            (Data, 200, FLIGHT, false),
            (Data, 404, HTML, true),
            (DataByAccept, 200, JSON, true),
            (DataByAccept, 200, HTML, true),
            (DataByAccept, 200, FLIGHT, false),
        ];
        for (expected, status, kind, want) in rows {
            let headers = map(&[("content-type", kind), ("cache-control", "s-maxage=60")]);
            for (policy, class) in
                [(ISR, Class::Failed), (DSG, Class::Failed), (SSR, Class::Unshared)]
            {
                let verdict = judge(policy, &Exchange { expected, ..exchange(status, &headers) });
                if want {
                    stored(verdict);
                } else {
                    let refused = refuse(Reason::ContentType, class);
                    assert_eq!(verdict, refused, "{expected:?} {status} {kind}");
                }
            }
        }
    }

    #[test]
    fn stale_copies_of_the_origin() {
        for (policy, says_stale) in [(ISR, true), (DSG, true), (SSR, true), (ISR, false)] {
            let headers = map(&[("cache-control", "s-maxage=60")]);
            let (_, stale) =
                stored(judge(policy, &Exchange { says_stale, ..exchange(200, &headers) }));
            assert_eq!(stale, says_stale, "{policy:?}");
        }
        let max = |n| format!("s-maxage={n}, stale-while-revalidate=600");
        let (m60, m600) = (max(60), max(600));
        let rows: &[(Policy, Fields<'_>, bool)] = &[
            // 61 s old with a lifetime of 60 s
            (ISR, &[("cache-control", "max-age=60"), ("age", "61")], true),
            (DSG, &[("cache-control", "max-age=60"), ("age", "61")], true),
            (ORIGIN, &[("cache-control", "max-age=60"), ("age", "61")], true),
            (SSR, &[("cache-control", &m60), ("age", "61")], true),
            (SSR, &[("cache-control", &m60), ("age", "59")], false),
            (ISR, &[("cache-control", &m600), ("age", "61")], false),
            // older than the route wants it
            (ISR, &[("cache-control", "s-maxage=3600"), ("age", "300")], true),
            (ISR, &[("age", "300")], true),
            (DSG, &[("age", "300")], false),
            // `max-age=0` is for browsers, not a copy that went stale
            (ISR, &[("cache-control", "max-age=0"), ("age", "5")], false),
            (SSR, &[("cache-control", "max-age=0"), ("age", "5")], false),
            (SSR, &[("cache-control", "no-cache, max-age=1"), ("etag", "x"), ("age", "5")], false),
        ];
        for (policy, fields, want) in rows {
            let headers = map(fields);
            let (terms, origin_stale) = stored(judge(*policy, &exchange(200, &headers)));
            assert_eq!(origin_stale, *want, "{fields:?}");
            if *want {
                // Stale at once, and servable while it is asked for again.
                let state = terms.state(initial_age(&headers, NOW, NOW), false);
                let servable = matches!(state, State::Stale { while_revalidating: true, .. });
                assert!(servable, "{fields:?}: {state:?}");
            }
        }
        // Staleness is counted from the origin's own lifetime.
        let fields = [("cache-control", "max-age=60, stale-while-revalidate=30"), ("age", "95")];
        let headers = map(&fields);
        let (terms, _) = stored(judge(SSR, &exchange(200, &headers)));
        let state = terms.state(initial_age(&headers, NOW, NOW), false);
        assert!(matches!(state, State::Stale { ttl: Some(-35), while_revalidating: false, .. }));
    }

    const LINES: &[(&str, &str)] = &[
        ("cache-control", "max-age=60"),
        ("cache-control", "s-maxage=60, stale-while-revalidate"),
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("cache-control", "no-cache"),
        ("cache-control", "must-understand"),
        ("cache-control", "public, stale-if-error=5"),
        ("cdn-cache-control", "max-age=5"),
        ("cdn-cache-control", "private"),
        ("set-cookie", "a=b"),
        ("vary", "*"),
        ("vary", "accept"),
        ("etag", "\"x\""),
        ("age", "61"),
        ("expires", "0"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-type", "text/x-component"),
    ];

    proptest! {
        /// Whatever comes together: what forbids storing is obeyed.
        #[test]
        fn private_responses_are_never_stored(
            picked in proptest::collection::vec(0..LINES.len(), 0..8),
            status in 100u16..600,
            which in 0usize..5,
            authorization: bool,
            cookie: bool,
            no_store: bool,
            payload: bool,
        ) {
            let fields: Vec<_> = picked.iter().map(|&i| LINES[i]).collect();
            let headers = map(&fields);
            let policy = [ISR, DSG, ORIGIN, SSR, GUESS][which];
            let expected = if payload { Expected::Payload } else { Expected::Document };
            let verdict = judge(policy, &Exchange {
                authorization, cookie, no_store, expected, ..exchange(status, &headers)
            });
            let has = |name: &str, value: &str| fields.contains(&(name, value));
            if let Verdict::Store { terms, origin_stale } = verdict {
                prop_assert!(!has("set-cookie", "a=b") && !has("vary", "*"));
                prop_assert!(status != 206 && status != 304 && status >= 200);
                let governing = governing(&headers);
                prop_assert!(!governing.directives.private);
                prop_assert!(!governing.directives.no_store || governing.directives.must_understand);
                let age = initial_age(&headers, NOW, NOW);
                let state = terms.state(age, false);
                let stale = matches!(state, State::Stale { .. });
                prop_assert!(stale || !origin_stale);
                if which >= 3 {
                    prop_assert!(!no_store);
                    prop_assert!(stale || !governing.directives.no_cache);
                }
            } else if which < 3 && status >= 500 {
                let Verdict::Refuse { class, .. } = verdict else { unreachable!() };
                let kept = matches!(class, Class::Failed | Class::Unshared);
                prop_assert!(kept);
            }
        }
    }
}
