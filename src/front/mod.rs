//! What stands behind the front: the plain case, answered on the connection's
//! own task, and the way to `HttpProxy` for everything else.

mod client;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::proxy::HttpProxy;

use crate::answer::{Answer, Choice};
use crate::cookies::Taken;
use crate::engine::Engine;
use crate::live::Live;
use crate::log::AccessLine;
use crate::metrics::Guard;
use crate::page::{Form, KeyBuf, Page};
use crate::plan::{Plan, Wanted, ask, plan};
use crate::proxy::Proxy;
use crate::request::{Facts, Request};
use crate::route::Route;
use crate::rules::Outcome;
use crate::rules::cache_status::{Bypass, Failure};
use crate::serve::{self, Asked, Record};
use crate::server::{self, Handler, Plain, Reply, Sent, Version, Withhold};
use client::Direct;

/// What stands behind the front: the plain case, and the way to `HttpProxy`.
pub(crate) struct Front {
    pub(crate) engine: Arc<Engine>,
    pub(crate) proxy: Arc<HttpProxy<Proxy>>,
}

/// Fields of a head, at most: the front reads no more.
const MAX_FIELDS: usize = 256;

thread_local! {
    /// The key in the making: looking a page up allocates nothing.
    static KEY: RefCell<KeyBuf> = RefCell::default();
}

/// What is left to say of a plain request when its answer is written.
pub(crate) struct Token {
    live: Arc<Live>,
    route: usize,
    outcome: Outcome,
    status: u16,
    age: Option<u64>,
    line: Option<Box<Line>>,
}

/// What is known of a plain request that has to wait.
pub(crate) struct Wait {
    live: Arc<Live>,
    plan: Waits,
    facts: Facts,
    scheme: &'static str,
    version: Version,
    peer: IpAddr,
    /// How many fields its head has.
    fields: usize,
}

/// What a plain request waits for.
enum Waits {
    /// A form of a page, under a key.
    Page(KeyBuf, Wanted),
    /// The origin's answer to itself.
    Pass(Arc<Route>, Bypass),
}

/// What the access line says of the request, where there is one.
struct Line {
    method: &'static str,
    host: String,
    target: String,
}

impl Line {
    /// From the head of a plain request, as it came: for the line that is only wanted when the
    /// answer has turned out to be cut off.
    fn read(head: &[u8]) -> Option<Box<Line>> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(head).ok()?;
        let host = request.headers.iter().find(|f| f.name.eq_ignore_ascii_case("host"))?.value;
        Some(Box::new(Line {
            method: method(request.method?),
            host: String::from_utf8_lossy(host).into_owned(),
            target: request.path?.to_owned(),
        }))
    }
}

/// The method of a plain request.
fn method(name: &str) -> &'static str {
    if name == "HEAD" { "HEAD" } else { "GET" }
}

impl Handler for Front {
    type Token = Token;
    type Open = Guard;

    fn opened(&self) -> Guard {
        self.engine.live.load().metrics.connection()
    }

    type Wait = Wait;

    fn plain(&self, request: &server::Request<'_>, reply: &mut Reply<'_>) -> Plain<Token, Wait> {
        if !self.engine.plain.load(Ordering::Relaxed) {
            return Plain::No;
        }
        KEY.with_borrow_mut(|key| self.answer(request, reply, key))
    }

    async fn wait(&self, wait: Wait, mut stream: Withhold) -> Option<Withhold> {
        let head = stream.take_request();
        let mut fields = vec![httparse::EMPTY_HEADER; wait.fields];
        let mut parsed = httparse::Request::new(&mut fields);
        // It was read before: neither of these fails.
        let _ = parsed.parse(&head);
        let host = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
        let host = host.and_then(|host| std::str::from_utf8(host.value).ok()).unwrap_or_default();
        let method = method(parsed.method.unwrap_or_default());
        let request = Request {
            method,
            target: parsed.path.unwrap_or_default(),
            host,
            scheme: wait.scheme,
            fields: parsed.headers,
            peer: wait.peer,
        };
        let mut record = Record::new(wait.live);
        let mut client = Direct::new(stream, method, wait.version);
        let bypass = match wait.plan {
            Waits::Pass(route, why) => Ok(Some((route, why))),
            Waits::Page(key, wanted) => {
                let asked = (&request, &wait.facts);
                serve::page(&self.engine, &mut client, &mut record, asked, key, wanted).await
            }
        };
        let served = match bypass {
            Ok(Some((route, why))) => {
                serve::pass(&mut client, &mut record, &request, route, why).await
            }
            Ok(None) => Ok(()),
            Err(gone) => Err(gone),
        };
        let mut ended = client.ended();
        if served.is_err() {
            match ended.status {
                // It left before there was an answer.
                None => record.outcome = Outcome::Left,
                Some(_) => ended.broke_off = true,
            }
        }
        let Request { host, target, peer, .. } = request;
        record.done(&self.engine, Asked { method, host, target, peer }, ended);
        client.release()
    }

    fn served(&self, token: Token, sent: Sent, head: &[u8]) {
        let Token { live, route, outcome, status, age, line } = token;
        live.metrics.request(route, outcome, status, sent.first_byte.unwrap_or(sent.took));
        let cut_off = sent.error.is_some();
        let line = match line {
            None if cut_off && live.access.wants(outcome, status, cut_off) => Line::read(head),
            line => line,
        };
        if let Some(line) = line {
            live.access.access(&AccessLine {
                method: line.method,
                host: &line.host,
                target: &line.target,
                route: live.routes.iter().nth(route).map_or("", |route| &*route.label),
                status,
                outcome,
                age,
                bytes: sent.body,
                total: sent.took,
                first_byte: sent.first_byte,
                origin: None,
                peer: Some(sent.peer.ip()),
                cut_off,
            });
        }
    }

    fn refused(&self, peer: SocketAddr, why: Failure, status: u16) {
        let live = self.engine.live.load();
        self.engine.done(
            &live,
            None,
            &AccessLine {
                method: "-",
                host: "",
                target: "-",
                route: "",
                status,
                outcome: Outcome::Failed { why },
                age: None,
                bytes: 0,
                total: Duration::ZERO,
                first_byte: None,
                origin: None,
                peer: Some(peer.ip()),
                cut_off: false,
            },
        );
    }

    async fn long_way(&self, stream: Withhold) -> Option<Withhold> {
        server::through(&self.proxy, stream).await
    }
}

impl Front {
    fn answer(
        &self,
        request: &server::Request<'_>,
        reply: &mut Reply<'_>,
        key: &mut KeyBuf,
    ) -> Plain<Token, Wait> {
        let engine = &*self.engine;
        let live = engine.live.load();
        let peer: IpAddr = request.peer.ip();
        let view = Request {
            method: request.method,
            target: request.target,
            host: request.host,
            scheme: live.scheme(peer, request.fields),
            fields: request.fields,
            peer,
        };
        let facts = Facts::of(&view);
        if facts.via && live.via.is_in(&view) {
            return Plain::No;
        }
        let waits = |plan| {
            Plain::Waits(Wait {
                live: Arc::clone(&live),
                plan,
                facts,
                scheme: view.scheme,
                version: request.version,
                peer,
                fields: request.fields.len(),
            })
        };
        let mut wanted = match plan(&live, engine.fills.notes(), &view, &facts, key) {
            Plan::Webhook => return Plain::No,
            Plan::Bypass(route, why) => return waits(Waits::Pass(route, why)),
            Plan::Page(wanted) => wanted,
        };
        engine.to_build_of_client(&live, &view, key);
        let stored = engine.store.get(key.as_str());
        match stored.and_then(|page| self.stored(&live, &view, &facts, key, &mut wanted, &page)) {
            None => waits(Waits::Page(std::mem::take(key), wanted)),
            Some(answer) => {
                answer.write_head(reply.head);
                answer.each_body(&mut |part| reply.body.push(part));
                let (outcome, status) = (answer.outcome(), answer.status().as_u16());
                let line = live.access.wants(outcome, status, false).then(|| {
                    Box::new(Line {
                        method: method(request.method),
                        host: request.host.to_owned(),
                        target: request.target.to_owned(),
                    })
                });
                let (age, route) = (answer.age(), wanted.route.index);
                Plain::Answered(Token {
                    live: Arc::clone(&live),
                    route,
                    outcome,
                    status,
                    age,
                    line,
                })
            }
        }
    }

    /// The answer from what is stored, if nothing needs to be waited for.
    fn stored(
        &self,
        live: &Live,
        view: &Request<'_>,
        facts: &Facts,
        key: &KeyBuf,
        wanted: &mut Wanted,
        page: &Arc<Page>,
    ) -> Option<Answer> {
        let engine = &*self.engine;
        let Wanted { form, selection, .. } = *wanted;
        let (preset, tags) = (&live.preset, &wanted.route.tags);
        if form != Form::Document
            && engine.fills.lacks_data(preset, &page.key, form, selection, Some(page), tags)
        {
            wanted.form = Form::Document;
        }
        let taken = Taken::of(&wanted.route.cookies, view, facts);
        let fields = taken.as_ref().map(|taken| taken.fields(view.fields));
        let view = &Request { fields: fields.as_deref().unwrap_or(view.fields), ..*view };
        let facts = &taken.as_ref().map_or(*facts, |taken| taken.facts(facts));
        let now = crate::clock::now();
        let Choice::Serve { rep, ttl, stale } =
            engine.choose(live, wanted, Some(page), view, facts, now)
        else {
            return None;
        };
        if rep.compress.wanted() {
            engine.fills.compress(&live.metrics, &page.key, &rep);
        }
        let outcome = if stale {
            let why = engine.regenerate(live, &page.key, page, &rep, wanted, facts, || {
                ask(live, view, facts, key, wanted)
            });
            Outcome::Stale { ttl, why }
        } else {
            Outcome::Hit { ttl }
        };
        Some(engine.answer(live, wanted, rep, view, facts, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_from_the_head_of_a_plain_request() {
        let head = b"HEAD /a?b HTTP/1.1\r\nX: y\r\nhost: a.example\r\n\r\n";
        let line = Line::read(head).unwrap();
        assert_eq!((line.method, &*line.host, &*line.target), ("HEAD", "a.example", "/a?b"));
        assert!(Line::read(b"").is_none());
    }
}
