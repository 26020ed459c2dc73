//! What the hostile client sends: raw bytes, and it keeps to no rule.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::LASTS;

/// Requests a second.
const RATE: u32 = 24;

/// One blow.
struct Blow {
    bytes: Vec<u8>,
    /// How long it stays, if the connection is not closed before.
    stays: Duration,
}

/// How long it waits for an answer that it wants.
const PATIENT: Duration = Duration::from_secs(2);
/// It is gone before anybody can answer.
const AT_ONCE: Duration = Duration::ZERO;
/// It stays to the end.
const FOR_EVER: Duration = LASTS;

/// Goes on for as long as it is let, and says of which kind it is just now.
/// `PERENNIAL_BLOWS=5` lets it do nothing but one kind.
pub(super) async fn attack(edge: SocketAddr, now: Arc<AtomicU32>) {
    let only = std::env::var("PERENNIAL_BLOWS").ok().and_then(|kind| kind.parse().ok());
    let mut rng = Rng::with_seed(7);
    let mut tick = interval(Duration::from_secs(1) / RATE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Dropped with this task, and all blows with it.
    let mut blows = JoinSet::new();
    for n in 0.. {
        tick.tick().await;
        // A second of each kind, and one in eight of another.
        let of_this_second = n / RATE % KINDS;
        let kind = if rng.u8(..8) == 0 { rng.u32(..KINDS) } else { of_this_second };
        let kind = only.unwrap_or(kind);
        now.store(only.unwrap_or(of_this_second), Ordering::Relaxed);
        blows.spawn(strike(edge, blow(kind, n, &mut rng)));
        while blows.try_join_next().is_some() {}
    }
}

async fn strike(edge: SocketAddr, blow: Blow) {
    let Ok(mut stream) = TcpStream::connect(edge).await else { return };
    if stream.write_all(&blow.bytes).await.is_err() {
        return;
    }
    if blow.stays == AT_ONCE {
        // A reset: who only closes may still want the answer.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return;
    }
    let mut answer = [0; 4096];
    let _ = timeout(blow.stays, async {
        while matches!(stream.read(&mut answer).await, Ok(read) if read > 0) {}
    })
    .await;
}

/// Kinds of blows.
const KINDS: u32 = NAMES.len() as u32;

/// What they are called.
pub(super) const NAMES: [&str; 10] = [
    "502 and 503",
    "500",
    "a URL that never answers",
    "uploads that break off",
    "idle tunnels",
    "queued and gone",
    "made-up selections",
    "what a framework's client says",
    "odd fields",
    "methods and targets",
];

fn blow(kind: u32, n: u32, rng: &mut Rng) -> Blow {
    let cookie = format!("session=made-up-{n}");
    let cookie: &[(&str, &str)] = &[("Cookie", &cookie)];
    match kind {
        // An origin that seems not to answer, at as many pages as there are numbers.
        0 => match n % 2 {
            0 => get(&format!("/ssr/gone?n={n}"), cookie),
            _ => get(&format!("/ssr/busy?n={n}"), &[]),
        },
        1 => match n % 3 {
            0 => get("/ssr/error", cookie),
            1 => get(&format!("/isr/error-{n}"), &[]),
            _ => get(&format!("/ssr/error?n={n}"), &[]),
        },
        // It never answers: some wait for it, most are gone.
        2 => {
            let stays = if n.is_multiple_of(4) { PATIENT } else { AT_ONCE };
            Blow { stays, ..get(&format!("/ssr/silent?n={n}"), cookie) }
        }
        3 => upload(n),
        4 if n % RATE < 16 => Blow { stays: FOR_EVER, ..socket() },
        4 => Blow { stays: AT_ONCE, ..socket() },
        // Queued, and gone.
        5 => Blow { stays: AT_ONCE, ..get(&format!("/ssr/silent?gone={n}"), cookie) },
        6 => selections(n, cookie),
        7 => next(n),
        8 => headers(n, rng),
        _ => requests(n),
    }
}

/// A request with these fields.
fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Blow {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: example.com\r\n");
    for (name, value) in fields {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    bytes.push_str(body);
    Blow { bytes: bytes.into_bytes(), stays: PATIENT }
}

fn get(target: &str, fields: &[(&str, &str)]) -> Blow {
    request("GET", target, fields, "")
}

/// Bodies that end before their end, on either side.
fn upload(n: u32) -> Blow {
    let length: &[(&str, &str)] = &[("Content-Length", "1000")];
    match n % RATE {
        0..16 => request("POST", "/api/broken", &[("Content-Length", "3")], "one"),
        16..20 => Blow { stays: AT_ONCE, ..request("POST", "/api/upload", length, "ten bytes.") },
        20..23 => {
            let chunked: &[(&str, &str)] = &[("Transfer-Encoding", "chunked")];
            let begun = "a\r\nten bytes.\r\n";
            Blow { stays: AT_ONCE, ..request("POST", "/api/upload", chunked, begun) }
        }
        _ => Blow { stays: FOR_EVER, ..request("POST", "/api/upload", length, "ten bytes.") },
    }
}

/// A tunnel in which nobody speaks.
fn socket() -> Blow {
    let fields: &[(&str, &str)] = &[
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    get("/api/socket", fields)
}

/// Made-up variants, queries and forms of pages that others read.
fn selections(n: u32, cookie: &[(&str, &str)]) -> Blow {
    let language = format!("x-{n}");
    let language: &[(&str, &str)] = &[("Accept-Language", &language)];
    let coding = format!("coding-{n}");
    let coding: &[(&str, &str)] = &[("Accept-Encoding", &coding), ("Accept-Language", "de")];
    let json: &[(&str, &str)] = &[("Accept", "application/json")];
    match n % 12 {
        0 => get("/ssr/public", cookie),
        1..4 => get("/ssr/words", language),
        4 => get("/ssr/words", coding),
        5 => get("/lang/home", language),
        6 => get(&format!("/isr/home?made-up={n}"), cookie),
        7 => get("/isr/home", json),
        8 => get(&format!("/ssr/public?made-up={n}"), &[]),
        9 => get("/isr/home", &[("Accept", "application/json;q=1, text/html;q=0.1, ;;q=")]),
        10 => get("/lang/home", json),
        _ => get("/dsg/doc", &[("Accept", "application/json, text/html;q=0.9")]),
    }
}

/// What the client of a framework says, made up.
fn next(n: u32) -> Blow {
    let made_up = format!("made-up-{n}");
    let segment = format!("/made-up-{n}");
    let page = if n.is_multiple_of(2) { "/app/page" } else { "/isr/home" };
    match n % 10 {
        0 | 1 => get(page, &[("RSC", "1"), ("Next-Router-Segment-Prefetch", &segment)]),
        2..=5 => get(page, &[("RSC", "1"), ("Next-Router-Prefetch", &made_up)]),
        6 => get(page, &[("RSC", "1"), ("Next-Url", &segment), ("Next-Router-State-Tree", "%5B")]),
        7 => get(&format!("/_next/data/MADEUP-{n}/app/page.json"), &[("x-nextjs-data", "1")]),
        8 => get(page, &[("Cookie", "__prerender_bypass=made-up"), ("Next-Action", "made-up")]),
        _ => get(&format!("{page}?_rsc=made-up"), &[("X-Middleware-Subrequest", "middleware")]),
    }
}

/// Fields that ask for much, or for little.
fn headers(n: u32, rng: &mut Rng) -> Blow {
    let ranges: Vec<String> = (0..200).map(|_| format!("{}-", rng.u8(..40))).collect();
    let ranges = format!("bytes={}", ranges.join(","));
    let etags: Vec<String> = (0..200).map(|n| format!("\"{n}\"")).collect();
    let etags = etags.join(", ");
    let pages = ["/isr/home", "/ssr/public", "/lang/home", "/dsg/doc", "/app/page"];
    let page = pages[n as usize % pages.len()];
    match n % 8 {
        0 | 1 => get(page, &[("Range", &ranges)]),
        2 => get(page, &[("If-None-Match", &etags)]),
        3 => get(page, &[("Purpose", "prefetch"), ("Sec-Purpose", "prefetch")]),
        4 => {
            get(page, &[("Cache-Control", "no-cache, no-store, max-age=0"), ("Pragma", "no-cache")])
        }
        5 => get(page, &[("Authorization", "Bearer made-up")]),
        6 => get(page, &[("X-Forwarded-Host", "evil.example"), ("X-Original-URL", "/ssr/account")]),
        _ => request("HEAD", page, &[("If-Match", "\"made-up\""), ("Connection", "close")], ""),
    }
}

/// Methods, targets and heads.
fn requests(n: u32) -> Blow {
    let pages = ["/isr/home", "/ssr/public", "/lang/home", "/dsg/doc", "/app/page"];
    let page = pages[n as usize % pages.len()];
    let long = "x".repeat(16 << 10);
    let empty: &[(&str, &str)] = &[("Content-Length", "0")];
    match n % 12 {
        0 => request("POST", page, empty, ""),
        1 => request("PUT", page, &[("Content-Length", "1")], "x"),
        2 => request("DELETE", page, &[], ""),
        3 => request("PATCH", page, empty, ""),
        4 => request("MADEUP", page, &[], ""),
        5 => request("TRACE", page, &[], ""),
        6 => request("OPTIONS", page, &[], ""),
        7 => get(&format!("{page}?{long}"), &[]),
        8 => get(&format!("/isr/{}", "x".repeat(7 << 10)), &[]),
        9 => get(page, &[("Cookie", &long)]),
        10 => get("/__revalidate?secret=made-up&all=1", &[]),
        _ => get(page, &[("Host", "evil.example"), ("Content-Length", "1, 2")]),
    }
}
