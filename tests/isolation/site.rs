//! The origin of a case: it answers as its script says, names in everything it
//! makes whom it was made for, and keeps a log of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perennial::{clock, rules::date};

use super::script::{Answer, Delivery, Directive, Kind, Mode, Page, Renewal, Visit, field};
use crate::support::origin::{Act, Gate, Request};
use crate::support::{Break, Origin, Response};

/// The field by which a visit is known to an origin that is sent what clients
/// send: on page routes none is.
pub(super) const VISIT: &str = "x-visit";
/// The field that says which exchange made a response's fields.
pub(super) const MADE: &str = "x-made";
/// Ends every body.
pub(super) const END: &str = "(end)";

/// What went over the wire between the edge and the origin.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) page: usize,
    /// Who asked, where the origin was told.
    pub(super) visit: Option<usize>,
    pub(super) request: Request,
    /// What was answered; of a 304 with what it says.
    pub(super) answer: Answer,
    /// Of a 304: which exchange made what has not changed.
    pub(super) prior: Option<usize>,
}

impl Exchange {
    /// A field of the request.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }
}

#[derive(Default)]
struct State {
    case: u64,
    pages: Vec<Page>,
    log: Vec<Exchange>,
    gate: Option<Gate>,
    storm: bool,
}

/// The site. It is one case at a time, each with pages of its own.
#[derive(Clone, Default)]
pub(super) struct Site(Arc<Mutex<State>>);

impl Site {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its origin.
    pub(super) async fn origin(&self) -> Origin {
        let site = self.clone();
        Origin::act(move |request| site.act(request)).await
    }

    /// Becomes another case.
    pub(super) fn begin(&self, case: u64, pages: &[Page]) {
        *self.state() = State { case, pages: pages.to_vec(), ..State::default() };
    }

    /// Holds all answers from now on, until the gate opens; none: no longer.
    pub(super) fn hold(&self, gate: Option<Gate>) {
        self.state().gate = gate;
    }

    /// Breaks off all connections from now on, or does no longer.
    pub(super) fn storm(&self, on: bool) {
        self.state().storm = on;
    }

    /// All exchanges of the case so far.
    pub(super) fn log(&self) -> Vec<Exchange> {
        self.state().log.clone()
    }

    /// The target of a visit in the current case.
    pub(super) fn target(&self, visit: &Visit) -> String {
        let state = self.state();
        let mode = state.pages[visit.page].mode;
        let path = format!("{}/{}/{}", mode.prefix(), state.case, visit.page);
        match visit.data {
            Some(build) => format!("/_next/data/{build}{path}.json{}", visit.query),
            None => format!("{path}{}", visit.query),
        }
    }

    /// The last `ETag` that a page gave to anybody.
    pub(super) fn last_etag(&self, page: usize) -> Option<String> {
        let state = self.state();
        let last = state.log.iter().rposition(|e| e.page == page && e.answer.etag)?;
        Some(etag(state.log[last].prior.unwrap_or(last)))
    }

    fn act(&self, request: &Request) -> Act {
        let mut state = self.state();
        if state.storm {
            return Act::Break(Break::Rst);
        }
        let Some(page) = state.page_of(request.path()) else {
            // Of a case that is over, or nobody's.
            return Act::Reply(Response::status(404).cache("no-store"));
        };
        let act = state.answer(page, request);
        match &state.gate {
            Some(gate) => Act::Gated(gate.clone(), Box::new(act)),
            None => act,
        }
    }
}

impl State {
    /// The page of a path, which may be that of its data.
    fn page_of(&self, path: &str) -> Option<usize> {
        let path = match path.strip_prefix("/_next/data/") {
            Some(data) => data.split_once('/')?.1.strip_suffix(".json")?,
            None => path.strip_prefix('/')?,
        };
        let mut parts = path.split('/');
        let (prefix, case, page) = (parts.next()?, parts.next()?, parts.next()?);
        let page: usize = page.parse().ok()?;
        let mode = self.pages.get(page)?.mode;
        let own = case.parse() == Ok(self.case) && mode.prefix()[1..] == *prefix;
        (own && parts.next().is_none()).then_some(page)
    }

    fn answer(&mut self, page: usize, request: &Request) -> Act {
        let serial = self.log.len();
        let chosen = self.chosen(page, request);
        let prior = self.unchanged(page, request, &chosen);
        let answer = match prior {
            Some(prior) => renewal(&self.log[prior].answer, chosen),
            None => chosen,
        };
        let visit = request.header(VISIT).and_then(|visit| visit.parse().ok());
        let exchange =
            Exchange { page, visit, request: request.clone(), answer: answer.clone(), prior };
        let response = match prior {
            Some(prior) => renewed(serial, prior, &answer),
            None => made(serial, &exchange, self.pages[page].personal),
        };
        self.log.push(exchange);
        match answer.delivery {
            Delivery::Nothing if prior.is_none() => Act::Break(Break::Rst),
            _ => Act::Reply(response),
        }
    }

    /// What the page answers to this request.
    fn chosen(&self, page: usize, request: &Request) -> Answer {
        let Page { mode, public, answers, .. } = &self.pages[page];
        let turn = self.log.iter().filter(|e| e.page == page).count();
        let next = answers[turn % answers.len()].clone();
        let Some(public) = public else { return next };
        if public.asks.iter().any(|ask| selects(*mode, &public.answer.vary, ask, request)) {
            if *mode == Mode::Ssr && request.header("authorization").is_some() {
                // It selects the public page, but has been let through to the origin
                // (RFC 9111 §3.5): no answer to it may take the page's place.
                return Answer { cache: vec![Directive::Private], cdn: Vec::new(), ..next };
            }
            return public.answer.clone();
        }
        next
    }

    /// The exchange whose response has not changed, if the request's condition
    /// names one: a response that depends on who asks has not changed for the same
    /// client only.
    fn unchanged(&self, page: usize, request: &Request, chosen: &Answer) -> Option<usize> {
        let named = request.header("if-none-match")?;
        let named = named.trim_start_matches("W/").trim_matches('"');
        let prior: usize = named.strip_prefix("made-")?.parse().ok()?;
        let exchange = self.log.get(prior).filter(|e| e.page == page && e.prior.is_none())?;
        let depends_on = ["cookie", "x-api-key", "authorization", "accept-language", "rsc"];
        let same = |name: &&str| exchange.field(name) == request.header(name);
        let unchanged =
            if self.pages[page].personal { depends_on.iter().all(same) } else { same(&"rsc") };
        (unchanged && chosen.renewal != Renewal::Anew).then_some(prior)
    }
}

/// Whether a request is for what the page's public asks get: on `ssr` by RFC 9111
/// §4.1, on page routes by what a fill is sent.
fn selects(mode: Mode, vary: &[&str], ask: &Visit, request: &Request) -> bool {
    let same =
        |name: &str| ask.field(&name.to_ascii_lowercase()).as_deref() == request.header(name);
    if request.method != "GET" || request.target.contains("/_next/data/") {
        return false;
    }
    if mode == Mode::Ssr {
        let form = same("rsc") || request.header("rsc").is_none();
        return form && !request.target.contains('?') && vary.iter().all(|name| same(name));
    }
    // What carries a visit is whole: passed through, or the first where nothing is known of
    // the path. That one gets what is for all unless it says who asks.
    let own = ["cookie", "x-api-key", "authorization", "range", "cache-control"];
    let plain = !request.target.contains('?') && own.iter().all(|n| request.header(n).is_none());
    let may = request.header(VISIT).is_none() || (mode.by_origin() && plain);
    let json = request.header("accept") == Some("application/json");
    let payload = ["rsc", "next-router-prefetch", "next-router-segment-prefetch"];
    let declared = !mode.by_language() || same("accept-language");
    may && !json && declared && payload.iter().all(|name| same(name))
}

fn etag(serial: usize) -> String {
    format!("\"made-{serial}\"")
}

/// What the body and the hints say of whom they were rendered for.
fn names(serial: usize, exchange: &Exchange, personal: bool) -> String {
    let mut names = format!("#{serial}#");
    if personal {
        for name in [VISIT, "cookie", "x-api-key", "authorization", "accept-language"] {
            if let Some(value) = exchange.field(name) {
                names.push_str(&format!(" {name}={value}"));
            }
        }
    }
    names
}

/// A response with all that its answer says.
fn made(serial: usize, exchange: &Exchange, personal: bool) -> Response {
    let Exchange { request, answer, .. } = exchange;
    let rsc = request.header("rsc").is_some();
    let json = request.header("accept") == Some("application/json")
        || request.target.starts_with("/_next/data/");
    let kind = match answer.kind {
        Kind::Html => "text/html",
        Kind::Plain => "text/plain",
        Kind::Asked if rsc => "text/x-component",
        Kind::Asked if json => "application/json",
        Kind::Asked => "text/html",
    };
    let names = names(serial, exchange, personal);
    let body = match kind {
        "text/x-component" => format!("1:\"{names} {END}\"\n0:{{\"P\":null,\"b\":\"B1\"}}\n"),
        "application/json" => format!("{{\"for\":\"{names} {END}\"}}"),
        _ => {
            let data = "{\"props\":{},\"buildId\":\"B1\"}";
            format!(
                "<p>{names} {END}</p><script id=\"__NEXT_DATA__\" type=\"application/json\">{data}</script>"
            )
        }
    };
    let mut response = Response::status(answer.status).header("Content-Type", kind).body(body);
    response = says(response, serial, answer);
    if answer.age > 0 {
        response = response.header("Age", &answer.age.to_string());
    }
    if answer.etag {
        response = response.header("ETag", &etag(serial));
    }
    if answer.status / 100 == 3 {
        response = response.header("Location", "/elsewhere");
    }
    match answer.delivery {
        Delivery::Whole | Delivery::Nothing => response,
        Delivery::Chunked => response.chunked(),
        Delivery::UntilClose => response.until_close(),
        Delivery::Short => response.chunked().break_after(7, Break::Fin),
    }
}

/// A 304.
fn renewed(serial: usize, prior: usize, answer: &Answer) -> Response {
    let response = Response::status(304).header("ETag", &etag(prior));
    match answer.renewal {
        Renewal::Says(_) => says(response, serial, answer),
        Renewal::Bare | Renewal::Anew => response,
    }
}

/// What a 304 says of a response: the same as that one said, but for its
/// `Cache-Control`, perhaps, and what is for its requester.
fn renewal(prior: &Answer, chosen: Answer) -> Answer {
    let cache = match &chosen.renewal {
        Renewal::Says(cache) if !cache.is_empty() => cache.clone(),
        _ => prior.cache.clone(),
    };
    Answer {
        cache,
        age: 0,
        renewal: chosen.renewal,
        sets_cookie: chosen.sets_cookie,
        hints: chosen.hints,
        ..prior.clone()
    }
}

/// The fields that a 304 has, too.
fn says(mut response: Response, serial: usize, answer: &Answer) -> Response {
    response = response.header("X-Made", &serial.to_string());
    if !answer.cache.is_empty() {
        response = response.cache(&field(&answer.cache));
    }
    if !answer.cdn.is_empty() {
        response = response.header("CDN-Cache-Control", &field(&answer.cdn));
    }
    if let Some(seconds) = answer.expires {
        let far = Duration::from_secs(seconds.unsigned_abs());
        let now = clock::now();
        let then = if seconds < 0 { now.minus(far) } else { now.plus(far) };
        response = response.header("Expires", &date::format(then));
    }
    if !answer.vary.is_empty() {
        response = response.header("Vary", &answer.vary.join(", "));
    }
    if answer.sets_cookie {
        response = response.header("Set-Cookie", &format!("for={serial}; Path=/"));
    }
    if answer.hints {
        let link = format!("</made/{serial}>; rel=preload; as=style");
        response = response.after_interim(103, &[("Link", &link)]);
    }
    response
}
