//! What stands behind the front: the plain case, answered on the connection's
//! own task, and the way to `HttpProxy` for everything else.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::proxy::HttpProxy;

use crate::answer::Choice;
use crate::cookies::Taken;
use crate::engine::Engine;
use crate::live::Live;
use crate::log::AccessLine;
use crate::metrics::Guard;
use crate::page::{Form, KeyBuf};
use crate::plan::{Plan, ask, plan};
use crate::proxy::Proxy;
use crate::request::{Facts, Request};
use crate::rules::Outcome;
use crate::rules::cache_status::Failure;
use crate::server::{self, Door, Reply, Sent, Withhold};

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

impl Door for Front {
    type Token = Token;
    type Open = Guard;

    fn opened(&self) -> Guard {
        self.engine.live.load().metrics.connection()
    }

    fn plain(&self, request: &server::Request<'_>, reply: &mut Reply<'_>) -> Option<Token> {
        if !self.engine.plain.load(Ordering::Relaxed) {
            return None;
        }
        KEY.with_borrow_mut(|key| self.answer(request, reply, key))
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
    ) -> Option<Token> {
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
            return None;
        }
        let Plan::Page(mut wanted) = plan(&live, engine.fills.notes(), &view, &facts, key) else {
            return None;
        };
        engine.to_build_of_client(&live, &view, key);
        let page = engine.store.get(key.as_str())?;
        if wanted.form != Form::Document
            && engine.fills.lacks_data(
                &live.preset,
                &page.key,
                wanted.form,
                wanted.selection,
                Some(&page),
            )
        {
            wanted.form = Form::Document;
        }
        let taken = Taken::of(&wanted.route.cookies, &view, &facts);
        let fields;
        let (view, facts) = match &taken {
            Some(taken) => {
                fields = taken.fields(view.fields);
                (Request { fields: &fields, ..view }, taken.facts(&facts))
            }
            None => (view, facts),
        };
        let now = crate::clock::now();
        let Choice::Serve { rep, ttl, stale } =
            engine.choose(&live, &wanted, Some(&page), &view, &facts, now)
        else {
            return None;
        };
        if rep.compress.wanted() {
            engine.fills.compress(&live.metrics, &page.key, &rep);
        }
        let outcome = if stale {
            let why = engine.regenerate(&live, &page.key, &page, &rep, &wanted, &facts, || {
                ask(&live, &view, &facts, key, &wanted)
            });
            Outcome::Stale { ttl, why }
        } else {
            Outcome::Hit { ttl }
        };
        let answer = engine.answer(&live, &wanted, rep, &view, &facts, outcome);
        answer.write_head(reply.head);
        answer.each_body(&mut |part| reply.body.push(part));
        let status = answer.status().as_u16();
        let line = live.access.wants(outcome, status, false).then(|| {
            Box::new(Line {
                method: method(request.method),
                host: request.host.to_owned(),
                target: request.target.to_owned(),
            })
        });
        let (age, route) = (answer.age(), wanted.route.index);
        Some(Token { live: Arc::clone(&live), route, outcome, status, age, line })
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
