//! Who may see what: semantics §§1 to 3 once more, as a model that looks back at
//! what the origin was asked, what it answered, and what clients saw.
//!
//! It says what is forbidden, never what a cache should have done.

use std::collections::{BTreeMap, BTreeSet};

use super::script::{Answer, Delivery, Directive, Kind, Leaves, Mode, Page, Preset, Visit};
use super::site::{END, Exchange, MADE, VISIT};
use crate::support::http1::Fields;

/// What a client saw.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// The visit, by its number in the case.
    pub(super) number: usize,
    pub(super) visit: Visit,
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) interim: Vec<(u16, Fields)>,
    /// Empty where the client left before it.
    pub(super) body: String,
}

/// What must not have happened.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    /// The same for what has the same cause, more or less.
    pub(super) kind: &'static str,
    pub(super) text: String,
}

impl Violation {
    pub(super) fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl Sight {
    fn stale(&self) -> bool {
        self.fields.get("x-cache") == Some("STALE")
    }

    /// The exchange that made the fields.
    fn made(&self) -> Option<usize> {
        self.fields.get(MADE)?.parse().ok()
    }

    /// The exchanges that rendered what it shows.
    fn rendered(&self) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> =
            self.body.split('#').skip(1).step_by(2).filter_map(|n| n.parse().ok()).collect();
        all.extend(self.fields.get("etag").and_then(|etag| numbered(etag, "made-")));
        all
    }

    fn cookies(&self) -> impl Iterator<Item = usize> {
        self.fields.all("set-cookie").filter_map(|cookie| numbered(cookie, "for="))
    }

    fn hints(&self) -> impl Iterator<Item = usize> {
        self.interim
            .iter()
            .flat_map(|(_, fields)| fields.all("link").filter_map(|link| numbered(link, "/made/")))
    }
}

/// The number after these characters.
fn numbered(text: &str, after: &str) -> Option<usize> {
    let digits = text.split_once(after)?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// All that a case left behind.
pub(super) struct Case<'a> {
    pub(super) preset: Preset,
    pub(super) pages: &'a [Page],
    pub(super) log: &'a [Exchange],
    pub(super) sights: &'a [Sight],
}

/// Why somebody may see a response.
enum May {
    See,
    /// If nobody else does.
    SeeAlone,
    Not(&'static str),
}

impl Case<'_> {
    /// All that must not have happened.
    pub(super) fn judge(&self) -> Vec<Violation> {
        let mut wrong = Vec::new();
        for (serial, exchange) in self.log.iter().enumerate() {
            if let Some(kind) = self.sent(exchange) {
                let text = format!("exchange {serial}: {}", exchange.request);
                wrong.push(Violation::new(kind, text));
            }
        }
        // Who has seen what only one may see.
        let mut alone: BTreeMap<(usize, &'static str), BTreeSet<usize>> = BTreeMap::new();
        for sight in self.sights {
            for (serial, what, may) in self.shown(sight) {
                match may {
                    May::See => {}
                    May::SeeAlone => {
                        alone.entry((serial, what)).or_default().insert(sight.number);
                    }
                    May::Not(kind) => wrong.push(Violation::new(
                        kind,
                        format!("the {what} of {}\n{}", self.told(serial), shown(sight)),
                    )),
                }
            }
            if let Some(kind) = cut_short(sight) {
                wrong.push(Violation::new(kind, shown(sight)));
            }
        }
        for ((serial, what), viewers) in alone.iter().filter(|(_, viewers)| viewers.len() > 1) {
            let kind = match *what {
                "103" => "a 103 that several saw",
                "cookie" => "a cookie that several saw",
                _ => "a response for one that several saw",
            };
            let text = format!("the {what} of {} by {viewers:?}", self.told(*serial));
            wrong.push(Violation::new(kind, text));
        }
        wrong
    }

    fn told(&self, serial: usize) -> String {
        match self.log.get(serial) {
            Some(e) => format!(
                "exchange {serial} for visit {:?}: {} {} → {}",
                e.visit, e.request.method, e.request.target, e.answer
            ),
            None => format!("exchange {serial}, which there was not"),
        }
    }

    fn mode(&self, page: usize) -> Mode {
        self.pages[page].mode
    }

    /// What is wrong with what the origin was sent.
    fn sent(&self, exchange: &Exchange) -> Option<&'static str> {
        let personal = ["cookie", "x-api-key", "authorization"];
        let mode = self.mode(exchange.page);
        match exchange.visit {
            // Semantics §1: what is not in the key is not sent.
            None => {
                if mode == Mode::Ssr || mode.by_origin() {
                    // A renewal of what was rendered for a client says what browsers say,
                    // and asks for a variant of it.
                    let selects = |name: &str| {
                        let mut of_it = self.log.iter().filter(|e| e.page == exchange.page);
                        of_it.any(|e| e.answer.vary.iter().any(|v| v.eq_ignore_ascii_case(name)))
                    };
                    return personal
                        .iter()
                        .any(|name| exchange.field(name).is_some() && !selects(name))
                        .then_some("a renewal was sent what is a visitor's");
                }
                let language = Some("accept-language").filter(|_| !mode.by_language());
                let mut told = personal.into_iter().chain(language);
                let sent = told.any(|name| exchange.field(name).is_some());
                let query = exchange.request.target.split_once('?').is_some_and(|(_, query)| {
                    query.split('&').any(|parameter| !parameter.starts_with("_rsc="))
                });
                (sent || query).then_some("a page route's origin was sent what is a visitor's")
            }
            Some(number) => {
                let visit = self.visit(number)?;
                let another = |name: &&str| {
                    exchange.field(name).is_some_and(|v| visit.field(name).as_deref() != Some(v))
                };
                if personal.iter().any(another) {
                    return Some("a request of one visitor with another's credentials");
                }
                let by_route = matches!(mode, Mode::Isr | Mode::Lang | Mode::Dsg);
                let passes = exchange.field("authorization").is_some()
                    || exchange.field("cookie").is_some_and(|c| c.contains("__prerender_bypass"))
                    || exchange.request.method != "GET" && exchange.request.method != "HEAD"
                    // Of a build that is not known, or not yet.
                    || exchange.request.target.contains("/_next/data/")
                    || odd_payload(exchange);
                (by_route && !passes).then_some("a page route's origin was sent a whole request")
            }
        }
    }

    fn visit(&self, number: usize) -> Option<&Visit> {
        self.sights.iter().find(|sight| sight.number == number).map(|sight| &sight.visit)
    }

    /// Everything in a sight that names an exchange, and whether it may be there.
    fn shown(&self, sight: &Sight) -> Vec<(usize, &'static str, May)> {
        let own = |serial: usize| match self.log.get(serial) {
            None => May::Not("what no exchange made"),
            Some(exchange) => match exchange.visit {
                Some(visit) if visit == sight.number => May::See,
                Some(_) => May::Not("another visitor's own"),
                None => May::SeeAlone,
            },
        };
        let mut all: Vec<(usize, &'static str, May)> = Vec::new();
        for serial in sight.hints() {
            let may = match own(serial) {
                May::Not(_) => May::Not("another visitor's 103"),
                may => may,
            };
            all.push((serial, "103", may));
        }
        for serial in sight.cookies() {
            let may = match own(serial) {
                May::Not(_) => May::Not("another visitor's cookie"),
                may => may,
            };
            all.push((serial, "cookie", may));
        }
        let rendered = sight.rendered();
        let made = sight.made();
        for &serial in &rendered {
            all.push((serial, "body", self.may_see(serial, made.unwrap_or(serial), sight)));
        }
        if let (Some(made), true) = (made, rendered.is_empty()) {
            let rendered = self.log.get(made).and_then(|e| e.prior).unwrap_or(made);
            all.push((made, "head", self.may_see(rendered, made, sight)));
        }
        all
    }

    /// Whether a client may see what `rendered` rendered, with the fields that
    /// `made` made.
    fn may_see(&self, rendered: usize, made: usize, sight: &Sight) -> May {
        let (Some(body), Some(head)) = (self.log.get(rendered), self.log.get(made)) else {
            return May::Not("what no exchange made");
        };
        if made != rendered && head.prior != Some(rendered) {
            return May::Not("a response mixed of two");
        }
        if body.page != sight.visit.page {
            return May::Not("another page");
        }
        // Rendered for this visit, or validated for it.
        let own = |e: &Exchange| e.visit == Some(sight.number);
        let validated = |e: &Exchange| own(e) && e.prior == Some(rendered);
        if own(body) && made == rendered || self.log.iter().any(validated) {
            return May::See;
        }
        // What the 304 says counts, but for its cookie; and whoever had it validated, it
        // is young again.
        let renewed = self.log.iter().any(|e| e.prior == Some(rendered));
        let age = if renewed { 0 } else { body.answer.age };
        let sets_cookie = body.answer.sets_cookie;
        let answer = Answer { sets_cookie, age, ..head.answer.clone() };
        match body.visit {
            None if self.mode(body.page) == Mode::Ssr => self.of_ssr(rendered, &answer, sight),
            None => match self.of_a_page_route(body, &answer, sight) {
                // It may have been a renewal of a path that counts as `ssr`.
                May::Not(_) if self.mode(body.page).by_origin() => {
                    self.of_ssr(rendered, &answer, sight)
                }
                may => may,
            },
            Some(_) => self.of_ssr(rendered, &answer, sight),
        }
    }

    /// A response to a request that carried nothing of a client.
    fn of_a_page_route(&self, exchange: &Exchange, answer: &Answer, sight: &Sight) -> May {
        let mode = self.mode(exchange.page);
        let (visit, terms) = (&sight.visit, Terms::of(answer));
        if mode.by_language() && !same("accept-language", exchange, visit) {
            return May::Not("another language");
        }
        let payload = ["rsc", "next-router-prefetch", "next-router-segment-prefetch"];
        if exchange.field("rsc").is_some() && !payload.iter().all(|n| same(n, exchange, visit)) {
            return May::Not("another payload");
        }
        if unknown_build(&exchange.request.target) {
            return May::SeeAlone;
        }
        if answer.status >= 500 || matches!(answer.status, 408 | 421 | 425 | 428 | 429 | 431) {
            // A failed render is for all who waited.
            return May::See;
        }
        // That there are no such data says nothing of the page (semantics §4).
        let part =
            exchange.field("rsc").is_some() || exchange.request.target.contains("/_next/data/");
        if part && matches!(answer.status, 404 | 410) {
            let unshared = mode.by_origin() && terms.lifetime() == 0;
            let alone = unshared || terms.forbids() || answer.sets_cookie;
            return if alone || answer.vary.contains(&"*") { May::SeeAlone } else { May::See };
        }
        let dynamic = terms.lifetime() == 0 && !self.silent_is_static(exchange, answer);
        if mode.by_origin() && (terms.forbids() || dynamic) {
            // Server-rendered after all (semantics §1): it is for nobody who sent more.
            return match (visit.says_more(), part) {
                (false, _) => May::SeeAlone,
                (true, false) => May::Not("a page rendered without what its visitor sent"),
                (true, true) => May::Not("a payload rendered without what its visitor sent"),
            };
        }
        let withdrawn = matches!(answer.status, 401 | 403 | 451);
        if terms.forbids() || answer.sets_cookie || answer.vary.contains(&"*") || withdrawn {
            return May::SeeAlone;
        }
        May::See
    }

    /// With the preset `nextjs` a page that says nothing of its lifetime, and has a
    /// validator, was made by the build.
    fn silent_is_static(&self, exchange: &Exchange, answer: &Answer) -> bool {
        let silent = answer.cache.is_empty() && answer.cdn.is_empty() && answer.expires.is_none();
        let html = exchange.field("rsc").is_none() && answer.kind != Kind::Plain;
        self.preset == Preset::Nextjs && silent && html && answer.etag && answer.status == 200
    }

    /// A response to another client's whole request: on `ssr` and on paths that
    /// count as that, RFC 9111 and semantics §§1 and 3 say who may have it.
    fn of_ssr(&self, rendered: usize, answer: &Answer, sight: &Sight) -> May {
        let exchange = &self.log[rendered];
        let mode = self.mode(exchange.page);
        let (visit, terms) = (&sight.visit, Terms::of(answer));
        let authorized = exchange.field("authorization").is_some();
        let draft = exchange.field("cookie").is_some_and(|c| c.contains("__prerender_bypass"));
        let passed = match mode {
            Mode::Ssr => false,
            Mode::Origin | Mode::OriginLang => authorized || draft,
            Mode::Pass | Mode::Isr | Mode::Lang | Mode::Dsg => true,
        };
        if passed || exchange.request.method != "GET" && exchange.request.method != "HEAD" {
            return May::Not("what was passed through");
        }
        if mode != Mode::Ssr && unknown_build(&exchange.request.target) {
            return May::Not("what was passed through");
        }
        if query(&exchange.request.target) != query(visit.query) {
            return May::Not("another query");
        }
        if terms.forbids() || exchange.field("cache-control").is_some_and(|c| c == "no-store") {
            return May::Not("another visitor's private response");
        }
        if answer.sets_cookie {
            return May::Not("another visitor's response with a cookie");
        }
        // Unless the origin has said since that somebody without gets the same.
        let anybodys =
            |e: &Exchange| e.prior == Some(rendered) && e.field("authorization").is_none();
        if authorized && !terms.for_credentials() && !self.log.iter().any(anybodys) {
            return May::Not("what another visitor's credentials brought");
        }
        if mode.by_language() && !same("accept-language", exchange, visit) {
            return May::Not("another language");
        }
        if !answer.vary.iter().all(|name| same(name, exchange, visit)) {
            return May::Not("another variant");
        }
        if self.reusable(exchange, answer, sight) {
            return May::See;
        }
        May::Not(match sight.fields.get("x-cache") {
            Some("STALE") => "another visitor's stale response",
            Some("REVALIDATED") => "another visitor's response, validated for a third one",
            _ => "another visitor's response that needs validation",
        })
    }

    /// Whether it may be used without asking the origin: because it is fresh, or
    /// stale where that is allowed.
    fn reusable(&self, exchange: &Exchange, answer: &Answer, sight: &Sight) -> bool {
        let terms = Terms::of(answer);
        if terms.has(Directive::NoCache) {
            return false;
        }
        let lifetime = terms.lifetime();
        if answer.age < lifetime {
            return true;
        }
        if terms.has(Directive::MustRevalidate) || terms.has(Directive::ProxyRevalidate) {
            return false;
        }
        let past = answer.age - lifetime;
        let inside = |window: Option<u64>| window.is_some_and(|window| past < window);
        if inside(terms.stale_while_revalidate()) {
            return true;
        }
        if !sight.stale() {
            return false;
        }
        // No head came: Perennial's own refusal to ask (a full queue, an open
        // breaker) is nothing of the kind.
        let nothing =
            |e: &Exchange| e.page == exchange.page && e.answer.delivery == Delivery::Nothing;
        let disconnected = self.log.iter().any(nothing);
        inside(terms.stale_if_error()) || lifetime > 0 && disconnected && terms.s_maxage().is_none()
    }
}

/// What the governing field of an answer says (RFC 9213 §2.2).
struct Terms<'a> {
    directives: &'a [Directive],
    /// Whether that is the targeted field, by which `Expires` does not count.
    targeted: bool,
    expires: Option<i64>,
}

impl<'a> Terms<'a> {
    fn of(answer: &'a Answer) -> Self {
        let targeted = !answer.cdn.is_empty();
        let directives = if targeted { &answer.cdn } else { &answer.cache };
        Self { directives, targeted, expires: answer.expires }
    }

    fn has(&self, directive: Directive) -> bool {
        self.directives.contains(&directive)
    }

    fn named(&self, of: impl Fn(&Directive) -> Option<u64>) -> Option<u64> {
        self.directives.iter().find_map(of)
    }

    fn s_maxage(&self) -> Option<u64> {
        self.named(|d| if let Directive::SMaxage(n) = d { Some(*n) } else { None })
    }

    fn stale_while_revalidate(&self) -> Option<u64> {
        self.named(|d| if let Directive::StaleWhileRevalidate(n) = d { Some(*n) } else { None })
    }

    fn stale_if_error(&self) -> Option<u64> {
        self.named(|d| if let Directive::StaleIfError(n) = d { Some(*n) } else { None })
    }

    /// The explicit freshness lifetime; zero where there is none.
    fn lifetime(&self) -> u64 {
        let max_age = || self.named(|d| if let Directive::MaxAge(n) = d { Some(*n) } else { None });
        let expires = || self.expires.filter(|_| !self.targeted);
        self.s_maxage()
            .or_else(max_age)
            .or_else(|| expires().and_then(|seconds| u64::try_from(seconds).ok()))
            .unwrap_or(0)
    }

    /// Whether storing is forbidden.
    fn forbids(&self) -> bool {
        self.has(Directive::Private) || self.has(Directive::NoStore)
    }

    /// RFC 9111 §3.5.
    fn for_credentials(&self) -> bool {
        self.has(Directive::Public)
            || self.has(Directive::MustRevalidate)
            || self.s_maxage().is_some()
    }
}

/// Whether a visit has in this field what an exchange had (RFC 9111 §4.1): `*` is
/// never the same.
fn same(name: &str, exchange: &Exchange, visit: &Visit) -> bool {
    let name = name.to_ascii_lowercase();
    let theirs = exchange.field(&name).map(|value| normal(&name, value));
    let ours = visit.field(&name).map(|value| normal(&name, &value));
    name != "*" && theirs == ours
}

/// Languages mean the same in any case, and equals in any order.
fn normal(name: &str, value: &str) -> String {
    let mut members: Vec<String> =
        value.split(',').map(|member| member.trim().to_ascii_lowercase()).collect();
    if name != "accept-language" {
        return value.to_owned();
    }
    members.sort_by(|a, b| {
        let weight = |m: &str| m.split_once(";q=").map_or(1.0, |(_, q)| q.parse().unwrap_or(0.0));
        let (a_weight, b_weight): (f32, f32) = (weight(a), weight(b));
        b_weight.total_cmp(&a_weight).then_with(|| a.cmp(b))
    });
    members.join(", ")
}

/// Whether a target is that of the data of a build that there is not.
fn unknown_build(target: &str) -> bool {
    target.contains("/_next/data/MADEUP/")
}

/// Whether a payload is asked for that the route need not know of.
fn odd_payload(exchange: &Exchange) -> bool {
    let prefetch = exchange.field("next-router-prefetch").is_some_and(|value| value != "1");
    prefetch
        || ["next-router-segment-prefetch", "next-url"].iter().any(|n| exchange.field(n).is_some())
}

/// A query less what no key has: `_rsc` is for browsers' own caches.
fn query(target: &str) -> Vec<&str> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter(|p| !p.is_empty() && !p.starts_with("_rsc=")).collect()
}

/// What is wrong with how a whole body ended.
fn cut_short(sight: &Sight) -> Option<&'static str> {
    let whole = sight.status == 200 && sight.visit.method == "GET" && sight.visit.leaves.is_none();
    let ours = sight.fields.has(MADE);
    (whole && ours && !sight.body.contains(END)).then_some("a broken body that looks complete")
}

/// A sight in full.
fn shown(sight: &Sight) -> String {
    let Sight { number, visit, status, fields, interim, body } = sight;
    let interim: String = interim.iter().map(|(s, f)| format!("{s} {f}")).collect();
    let left = if visit.leaves == Some(Leaves::AfterTheHead) { " (left)" } else { "" };
    format!("by visit {number}: {visit:?}\n{interim}{status}\n{fields}{body}{left}")
}

/// The field that names a visit to the origin.
pub(super) fn name_of(number: usize) -> (&'static str, String) {
    (VISIT, number.to_string())
}
