//! What the origin is asked for: misses, what passes through, what is stale or
//! has to be validated, errors. Two edges with an origin each that behaves alike,
//! and short stories about pages that nobody asked for before.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::{Way, difference, next, stored};
use crate::support::origin::{Act, Request};
use crate::support::{Break, Origin, Response as Render};

const ROUTES: &str = "
- path: /isr/**
  isr: { revalidate: 1h }
- path: /noted/**
  isr: { revalidate: origin }
- path: /dsg/**
  dsg: {}
- path: /browser/**
  isr: { revalidate: 1h }
  browser: 'public, max-age=60'
- path: /lang/**
  isr: { revalidate: 1h }
  vary: [accept-language]
  query: [page]
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
backoff: { min: 1h, max: 1h }
";

const ROUTES_OF_PATHS: &[&str] =
    &["isr", "isr", "noted", "dsg", "browser", "lang", "pass", "pass", "ssr", "ssr", "ssr"];

/// Stories in a run. Failing origins are few among them, or the breaker would open.
const STORIES: usize = 500;

/// How often a story is told anew, of other pages, before a difference counts:
/// what runs behind an answer may end before or after the next request.
const PATIENCE: usize = 4;

const HOUR: &str = "s-maxage=3600";

fn page() -> Render {
    Render::html("<p>a page</p>")
}

/// What the origin does with the `nth` request for a page.
fn behave(behaviour: &str, nth: usize, request: &Request) -> Act {
    let validators = |render: Render| {
        render.header("ETag", "\"v1\"").header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
    };
    let unchanged = request.header("if-none-match").is_some_and(|tags| tags.contains("\"v1\""));
    let later = |status| Act::Reply(Render::status(status).header("X-Nth", "later"));
    Act::Reply(match behaviour {
        "lasting" => page().cache(HOUR),
        "large" => Render::status(200)
            .header("Content-Type", "image/png")
            .cache(HOUR)
            .body("0123456789abcdef".repeat(20_000)),
        "silent" => page(),
        "fields" => page()
            .cache("public, max-age=60")
            .header("X-Twice", "one")
            .header("x-twice", "two")
            .header("Link", "</style.css>; rel=preload")
            .header("Server", "origin")
            .header("X-Own", "\u{e9}"),
        "private" => page().cache("private, max-age=60"),
        "no-store" => page().cache("no-store"),
        "cookie" => page().cache(HOUR).header("Set-Cookie", "a=1").header("Set-Cookie", "b=2"),
        "tags" => page().cache(HOUR).header("Cache-Tag", "a").header("Surrogate-Key", "b c"),
        "targeted" => page().cache("no-store").header("CDN-Cache-Control", "max-age=3600"),
        "validated" if unchanged => validators(Render::status(304)).cache("no-cache"),
        "validated" => validators(page()).cache("no-cache"),
        "stale" if unchanged => validators(Render::status(304)).header("Age", "4000").cache(HOUR),
        "stale" => validators(page()).header("Age", "4000").cache(HOUR),
        "behind" => {
            page().header("Age", "4000").cache("s-maxage=3600, stale-while-revalidate=86400")
        }
        "strict" => page().header("Age", "4000").cache("max-age=3600, must-revalidate"),
        "flaky" if nth > 0 => return later(500),
        "flaky" => page().header("Age", "4000").cache("max-age=3600, stale-if-error=86400"),
        "leaving" if nth > 0 => return Act::Break(Break::Fin),
        "leaving" => page().header("Age", "4000").cache("max-age=3600"),
        "withdrawn" if nth > 0 => return later(403),
        "withdrawn" => page().header("Age", "4000").cache("max-age=3600"),
        "turned" if nth > 0 => page().cache("private"),
        "turned" => page().cache("max-age=0, s-maxage=0"),
        "chunked" => page().cache(HOUR).chunked(),
        "trailers" => page().cache(HOUR).chunked().trailer("X-Sum", "1"),
        "until-close" => page().cache(HOUR).until_close(),
        "closing" => page().cache(HOUR).header("Connection", "close"),
        "hop" => page()
            .cache(HOUR)
            .header("Connection", "X-Hop")
            .header("X-Hop", "1")
            .header("Keep-Alive", "timeout=5"),
        "empty" => Render::html("").cache(HOUR),
        "empty-chunked" => Render::html("").cache("no-store").chunked(),
        "no-content" => Render::status(204).cache(HOUR),
        "not-modified" => Render::status(304).cache(HOUR),
        "partial" => page().with_status(206).header("Content-Range", "bytes 0-12/100"),
        "missing" => page().with_status(404),
        "gone" => page().with_status(410).cache("s-maxage=10"),
        "moved" => Render::status(308).header("Location", "/isr/lasting/0"),
        "found" => Render::status(302).header("Location", "/elsewhere?a=b"),
        "unauthorized" => page().with_status(401).header("WWW-Authenticate", "Basic"),
        "teapot" => page().with_status(418).cache("max-age=60"),
        "broken" => page().with_status(500).cache("max-age=60"),
        "unavailable" => page().with_status(503).header("Retry-After", "7"),
        "hints" => page().cache(HOUR).after_interim(103, &[("Link", "</a>; rel=preload")]),
        "theme" => page().cache(HOUR).header("Vary", "X-Theme"),
        "varying" => page().cache(HOUR).header("Vary", "*"),
        "cookies" => page().cache(HOUR).header("Vary", "Cookie"),
        "encoded" => page().cache(HOUR).header("Content-Encoding", "x-own"),
        "json" => Render::json("{\"json\":true}").cache(HOUR),
        "component" => Render::status(200).header("Content-Type", "text/x-component").body("0:1"),
        "gone-before" => return Act::Break(Break::Rst),
        other => unreachable!("{other}"),
    })
}

const BEHAVIOURS: &[&str] = &[
    "lasting",
    "large",
    "silent",
    "fields",
    "private",
    "no-store",
    "cookie",
    "tags",
    "targeted",
    "validated",
    "validated",
    "stale",
    "stale",
    "behind",
    "strict",
    "flaky",
    "leaving",
    "withdrawn",
    "turned",
    "chunked",
    "trailers",
    "until-close",
    "closing",
    "hop",
    "empty",
    "empty-chunked",
    "no-content",
    "not-modified",
    "partial",
    "missing",
    "gone",
    "moved",
    "found",
    "unauthorized",
    "teapot",
    "broken",
    "unavailable",
    "hints",
    "theme",
    "varying",
    "cookies",
    "encoded",
    "json",
    "component",
    "gone-before",
];

/// An origin that does what the second segment of a path says.
async fn behaving() -> Origin {
    let seen = Mutex::new(HashMap::<String, usize>::new());
    Origin::act(move |request| {
        let path = request.path();
        let behaviour = path.split('/').nth(2).unwrap_or_default();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = seen.entry(path.to_owned()).or_default();
        *nth += 1;
        behave(behaviour, *nth - 1, request)
    })
    .await
}

/// A request, less its target.
struct Line {
    method: &'static str,
    query: &'static str,
    version: &'static str,
    fields: String,
}

/// Requests that follow each other: all for one page, each after the answer to
/// the one before; or each for a page of its own, all at once on one connection.
struct Story {
    route: &'static str,
    behaviour: &'static str,
    lines: Vec<Line>,
    at_once: bool,
}

impl Story {
    fn invent(rng: &mut fastrand::Rng) -> Self {
        let etags = ["\"v1\"".to_owned(), "W/\"v1\"".to_owned(), "\"none\"".to_owned()];
        let line = |rng: &mut fastrand::Rng| {
            let mut fields = String::new();
            let common = if rng.u8(..3) == 0 { Vec::new() } else { stored::fields(rng, &etags) };
            for (name, value) in common {
                write!(fields, "{name}: {value}\r\n").expect("a String takes it");
            }
            fields.push_str(match rng.u8(..24) {
                0 => "Connection: close\r\n",
                1 => "Connection: keep-alive\r\n",
                2 => "Connection: X-Mine\r\nX-Mine: 1\r\n",
                3 => "Authorization: Basic YTpi\r\n",
                4 => "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: evil.example\r\n",
                5 => "Content-Length: 0\r\n",
                6 => "Via: 1.1 other\r\n",
                7 => "User-Agent: a browser\r\nReferer: http://edge.example/\r\n",
                8 => "X-Own: \u{e9}\r\n",
                _ => "",
            });
            Line {
                method: if rng.u8(..5) == 0 { "HEAD" } else { "GET" },
                query: ["", "", "", "?page=2", "?utm_source=x&page=3", "?"][rng.usize(..6)],
                version: if rng.u8(..16) == 0 { "1.0" } else { "1.1" },
                fields,
            }
        };
        Self {
            route: ROUTES_OF_PATHS[rng.usize(..ROUTES_OF_PATHS.len())],
            behaviour: BEHAVIOURS[rng.usize(..BEHAVIOURS.len())],
            lines: (0..rng.usize(1..5)).map(|_| line(rng)).collect(),
            at_once: rng.u8(..4) == 0,
        }
    }

    /// The path that all its pages are below, and of each line.
    fn paths(&self, n: usize) -> (String, Vec<String>) {
        let base = format!("/{}/{}/{n}", self.route, self.behaviour);
        let path = |i| if self.at_once { format!("{base}/{i}") } else { base.clone() };
        let paths = (0..self.lines.len()).map(path).collect();
        (base, paths)
    }

    /// The requests as they go over the wire.
    fn requests(&self, n: usize) -> Vec<String> {
        let request = |(line, path): (&Line, String)| {
            let Line { method, query, version, fields } = line;
            format!("{method} {path}{query} HTTP/{version}\r\nHost: edge.example\r\n{fields}\r\n")
        };
        self.lines.iter().zip(self.paths(n).1).map(request).collect()
    }

    /// What a client sees of it in one of the ways, and then the origin.
    async fn tell(&self, way: &Way, n: usize) -> Vec<String> {
        let requests = self.requests(n);
        let open = async || way.edge.client().plain().connect().await;
        let mut log = Vec::new();
        let mut connection = Some(open().await);
        if self.at_once {
            let mut all = open().await;
            all.send(requests.concat()).await;
            connection = Some(all);
        }
        for (line, request) in self.lines.iter().zip(&requests) {
            let mut now = match connection.take() {
                Some(connection) => connection,
                // What came behind a request that closes was never read.
                None if self.at_once => break,
                None => open().await,
            };
            if !self.at_once {
                now.send(request).await;
            }
            let (answer, after) = next(now, line.method).await;
            log.push(answer);
            connection = after;
            if !self.at_once {
                way.settle().await;
            }
        }
        way.settle().await;
        log.push(format!("the origin saw\n{}", way.asked(&self.paths(n).0).join("\n\n")));
        // Paths are told with other numbers the next time.
        log.into_iter().map(|text| text.replace(&format!("/{n}"), "/N")).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_ask_the_origin_the_same_and_say_the_same() {
    let [front, proxy] = Way::both(ROUTES, behaving).await;
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut n = 0;
    for _ in 0..STORIES {
        let story = Story::invent(&mut rng);
        for attempt in 1.. {
            n += 1;
            let (one, other) = tokio::join!(story.tell(&front, n), story.tell(&proxy, n));
            if one == other {
                break;
            }
            assert!(
                attempt < PATIENCE,
                "seed {seed}: the ways differ over\n{}{}",
                story.requests(n).concat(),
                difference(&one, &other),
            );
        }
    }
    front.edge.stop().await;
    proxy.edge.stop().await;
}
