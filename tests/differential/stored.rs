//! Pages that are stored: one store, and every kind of request for what is in it.

use std::fmt::Write as _;

use crate::support::client::Response;
use crate::support::{Edge, Origin, Response as Render, eventually};

const ROUTES: &str = "
- path: /browser/**
  isr: { revalidate: 1h }
  browser: 'public, max-age=60'
- path: /dsg/**
  dsg: {}
- path: /lang/**
  isr: { revalidate: 1h }
  vary: [accept-language]
  query: [page]
- path: /ssr/**
  ssr: {}
# Stale on arrival, and not asked for again while this runs.
- path: /stale
  isr: { revalidate: 1h }
- path: /**
  isr: { revalidate: 1h }
backoff: { min: 1h, max: 1h }
";

/// Requests in a run, in batches that go down one connection at once.
const REQUESTS: usize = 24_000;
const BATCH: usize = 60;

/// The pages, with what the origin says of them.
fn render(path: &str, json: bool) -> Render {
    let text = "<p>the same words again</p>".repeat(200);
    match path {
        "/plain" => Render::html(text.clone()).header("ETag", "\"v1\""),
        "/dated" => Render::html("short").header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
        "/weak" => Render::html(text.clone()).header("ETag", "W/\"v2\""),
        "/empty" => Render::html(""),
        "/image" => Render::status(200).header("Content-Type", "image/png").body(text.clone()),
        "/fixed" => Render::html(text.clone()).cache("no-transform"),
        "/missing" => Render::html("nothing here").with_status(404),
        "/moved" => Render::status(308).header("Location", "/plain"),
        "/stale" => Render::html(text.clone()).header("Age", "4000"),
        "/tagged" => {
            Render::html(text.clone()).header("Cache-Tag", "a, b").header("X-Own", "\u{e9}")
        }
        "/browser/a" => {
            Render::html(text.clone()).header("Expires", "Tue, 14 Nov 2023 22:13:20 GMT")
        }
        "/ssr/a" => Render::html(text.clone()).cache("s-maxage=3600").header("Vary", "X-Theme"),
        _ if json => Render::json("{\"json\":true}"),
        _ => Render::html(text.clone()),
    }
}

const PATHS: &[&str] = &[
    "/plain",
    "/dated",
    "/weak",
    "/empty",
    "/image",
    "/fixed",
    "/missing",
    "/moved",
    "/stale",
    "/tagged",
    "/browser/a",
    "/dsg/a",
    "/lang/a",
    "/ssr/a",
];

/// Targets that mean the same pages, written in other ways.
fn target(rng: &mut fastrand::Rng) -> String {
    let path = PATHS[rng.usize(..PATHS.len())];
    match rng.u8(..12) {
        0 => format!("/x/..{path}"),
        1 => path.replacen('a', "%61", 1),
        2 => format!("{path}?utm_source=x"),
        3 => format!("{path}?"),
        4 => format!("{path}#").replace('#', ""),
        _ => path.to_owned(),
    }
}

pub(super) fn fields(rng: &mut fastrand::Rng, etags: &[String]) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut add = |name: &str, values: &[&str], rng: &mut fastrand::Rng| {
        let value = values[rng.usize(..values.len())];
        let name = match rng.u8(..4) {
            0 => name.to_ascii_uppercase(),
            1 => name.to_ascii_lowercase(),
            _ => name.to_owned(),
        };
        fields.push((name, value.to_owned()));
    };
    let etag = etags[rng.usize(..etags.len())].clone();
    let listed = format!("\"no\", {etag} ,W/\"x\"");
    let dates = [
        "Tue, 14 Nov 2023 22:13:20 GMT",
        "Wed, 15 Nov 2023 00:00:00 GMT",
        "Tuesday, 14-Nov-23 22:13:20 GMT",
        "Mon, 01 Jan 1990 00:00:00 GMT",
        "yesterday",
    ];
    for _ in 0..rng.usize(..5) {
        match rng.u8(..15) {
            0 => add(
                "Accept",
                &[
                    "text/html",
                    "application/json",
                    "*/*",
                    "application/json, text/html;q=0.9",
                    "text/html;q=0.5, application/json;q=0.4",
                    "",
                    ";;",
                ],
                rng,
            ),
            1 | 2 => add(
                "Accept-Encoding",
                &[
                    "gzip",
                    "br",
                    "zstd",
                    "gzip, deflate, br, zstd",
                    "gzip;q=0",
                    "identity;q=0, br",
                    "*",
                    "*;q=0",
                    "br;q=0.5, gzip;q=0.8",
                    "x-gzip",
                    "",
                    "identity",
                ],
                rng,
            ),
            3 | 4 => {
                add("If-None-Match", &[&etag, &listed, "*", "\"v1\"", "W/\"v1\"", "nonsense"], rng)
            }
            5 => add("If-Modified-Since", &dates, rng),
            6 => add("If-Match", &[&etag, "*", "\"v1\"", "W/\"v2\"", "\"other\""], rng),
            7 => add("If-Unmodified-Since", &dates, rng),
            8 => add(
                "Range",
                &[
                    "bytes=0-9",
                    "bytes=-5",
                    "bytes=100-",
                    "bytes=0-0,10-19",
                    "bytes=1-2,1-2,1-2",
                    "bytes=99999999-",
                    "bytes=5-1",
                    "items=0-1",
                    "bytes=0-1,-1,20-30",
                    "bytes=",
                ],
                rng,
            ),
            9 => add("If-Range", &[&etag, "\"v1\"", "W/\"v2\"", dates[0]], rng),
            10 => add("Cookie", &["a=1", "session=x; theme=y"], rng),
            11 => add("Purpose", &["prefetch", "other"], rng),
            12 => {
                add("Cache-Control", &["no-cache", "max-age=0", "only-if-cached", "no-store"], rng)
            }
            13 => add("Accept-Language", &["de", "en, de;q=0.5", "DE", "fr"], rng),
            _ => add("X-Theme", &["dark", "light"], rng),
        }
    }
    fields
}

fn request(rng: &mut fastrand::Rng, etags: &[String]) -> (&'static str, String) {
    let method = if rng.u8(..4) == 0 { "HEAD" } else { "GET" };
    let host = ["edge.example", "EDGE.example", "edge.example:80"][rng.usize(..3)];
    let mut text = format!("{method} {} HTTP/1.1\r\nHost: {host}\r\n", target(rng));
    for (name, value) in fields(rng, etags) {
        let space = [" ", "", "  ", "\t"][rng.usize(..4)];
        write!(text, "{name}:{space}{value}\r\n").expect("a String takes it");
    }
    text.push_str("\r\n");
    (method, text)
}

/// What an answer comes to, less what may differ: the connection's own fields,
/// the clock, and the random boundary of a multipart body.
fn essence(response: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut fields: Vec<(String, String)> = response
        .fields
        .iter()
        .map(|(name, value)| (name.to_lowercase(), String::from_utf8_lossy(value).into_owned()))
        .filter(|(name, _)| name != "connection" && name != "keep-alive")
        .collect();
    let mut body = response.body.to_vec();
    for (name, value) in &mut fields {
        if let Some((_, boundary)) = value.split_once("boundary=") {
            body = String::from_utf8_lossy(&body).replace(boundary, "BOUNDARY").into_bytes();
            *value = "multipart".to_owned();
        }
        // A second may pass between the two ways.
        if name == "age" {
            *value = value.parse::<u64>().map_or("bad".to_owned(), |age| {
                if age > 3000 { "old".to_owned() } else { "young".to_owned() }
            });
        }
        if let Some((start, rest)) = value.split_once("ttl=") {
            let rest = rest.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
            *value = format!("{start}ttl{rest}");
        }
    }
    fields.sort();
    (response.status, fields, body)
}

async fn answers(edge: &Edge, requests: &[(&'static str, String)]) -> Vec<Response> {
    let mut connection = edge.client().plain().connect().await;
    let all: String = requests.iter().map(|(_, text)| text.as_str()).collect();
    connection.send(all).await;
    let mut answers = Vec::with_capacity(requests.len());
    for (method, text) in requests {
        let answer = connection.answer(method).await;
        answers.push(answer.unwrap_or_else(|broken| panic!("{broken:?} after\n{text}")));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_give_the_same_answers() {
    let origin = Origin::serve(|request| {
        let json = request.header("accept") == Some("application/json");
        let path = request.target.split('?').next().unwrap_or("");
        render(path, json)
    })
    .await;
    let edge = Edge::start(ROUTES.trim_start(), &origin).await;
    let client = edge.client().plain().host("edge.example");

    // Every page stored, and compressed where it will be.
    let mut etags = vec!["\"none\"".to_owned()];
    for path in PATHS {
        client.get(path).await;
        for language in ["de", "en, de;q=0.5", "fr"] {
            client.get(path).header("Accept-Language", language).await;
        }
        for theme in ["dark", "light"] {
            client.get(path).header("X-Theme", theme).await;
        }
        client.get(path).header("Accept", "application/json").await;
        let compressed = !matches!(
            *path,
            "/dated" | "/empty" | "/image" | "/fixed" | "/missing" | "/moved" | "/stale"
        );
        for coding in ["identity", "gzip", "br", "zstd"] {
            let response = eventually(format!("{path} in {coding}"), || async {
                let response = client.get(path).header("Accept-Encoding", coding).await;
                let is = response.header("content-encoding").unwrap_or("identity");
                (!compressed || is == coding).then_some(response)
            })
            .await;
            etags.extend(response.header("etag").map(str::to_owned));
        }
    }

    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut sent = 0;
    let mut by_front = 0;
    while sent < REQUESTS {
        let requests: Vec<_> = (0..BATCH).map(|_| request(&mut rng, &etags)).collect();
        edge.answer_plain(true);
        let front = answers(&edge, &requests).await;
        edge.answer_plain(false);
        let proxy = answers(&edge, &requests).await;
        for ((front, proxy), request) in front.iter().zip(&proxy).zip(&requests) {
            if !matches!(front.x_cache(), "HIT" | "STALE") {
                // The long way both times, and the first time it was stored.
                continue;
            }
            by_front += 1;
            let (mut front, mut proxy) = (essence(front), essence(proxy));
            for _ in 0..20 {
                if front == proxy {
                    break;
                }
                // A variant that was stored just now may have been compressed
                // between the two: what differs for another reason stays so.
                let again = std::slice::from_ref(request);
                edge.answer_plain(true);
                front = essence(&answers(&edge, again).await[0]);
                edge.answer_plain(false);
                proxy = essence(&answers(&edge, again).await[0]);
            }
            let text = &request.1;
            assert_eq!((front.0, front.1), (proxy.0, proxy.1), "seed {seed}, request\n{text}");
            assert!(front.2 == proxy.2, "bodies differ: seed {seed}, request\n{text}");
        }
        sent += requests.len();
    }
    assert!(by_front > REQUESTS / 2, "only {by_front} of {sent} were answered from the store");
    edge.stop().await;
}
