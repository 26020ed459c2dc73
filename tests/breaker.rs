//! The breaker (semantics §3): it is for an origin that does not answer, and no
//! client can open it.

mod attacks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use perennial::{clock, rules::date};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::http1::Broken;
use crate::support::{Break, Client, Edge, Origin, Response, eventually};

const ROUTES: &str = "
routes:
- path: /isr/**
  isr: { revalidate: 60s }
- path: /pass/**
  pass: {}
- path: /**
  ssr: {}
";

const OPEN: &str = "perennial_origin_breaker_open{origin=\"web\"}";

/// An edge in front of one origin with these options.
async fn edge(origin: &Origin, options: &str) -> Edge {
    edge_of(origin.addr(), options)
}

fn edge_of(origin: SocketAddr, options: &str) -> Edge {
    let yaml =
        format!("origins:\n  web: {{ servers: [\"http://{origin}\"], {options} }}\n{ROUTES}");
    Edge::of(&yaml)
}

/// A page that is stale when it arrives, as far as `isr` is concerned.
fn stale(body: &'static str) -> Response {
    let then = clock::now().minus(Duration::from_secs(100));
    Response::html(body).header("Date", &date::format(then))
}

async fn is_open(edge: &Edge) -> bool {
    edge.metric(OPEN).await == 1.0
}

/// Everybody else is served, in every mode.
async fn others_are_served(edge: &Edge, client: &Client, round: &str) {
    for path in ["isr", "ssr", "pass"] {
        let answer = client.get(&format!("/{path}/others/{round}")).await;
        assert_eq!(answer.status, 200, "{answer}");
    }
    assert!(!is_open(edge).await);
}

/// An origin that plays `script` on every connection.
async fn scripted<F>(script: impl Fn(TcpStream, String) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = Option<TcpStream>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let script = script.clone();
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).expect("ASCII");
                    match script(stream, head).await {
                        Some(back) => stream = back,
                        None => return,
                    }
                }
            });
        }
    });
    address
}

async fn page(mut stream: TcpStream) -> Option<TcpStream> {
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok";
    stream.write_all(page).await.ok()?;
    Some(stream)
}

fn reset(stream: TcpStream) -> Option<TcpStream> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    None
}

/// A page that answers 500 is broken; its origin is not. Nor is one of which many
/// pages do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_requests_to_a_page_that_answers_500_harm_nobody() {
    let origin = Origin::serve(|request| match request.path() {
        path if path.contains("/broken") => Response::html("broken").with_status(500),
        _ => Response::html("page"),
    })
    .await;
    let edge = edge(&origin, "").await;
    let client = edge.client().ssr();
    for route in ["isr", "ssr", "pass"] {
        for n in 0..10 {
            assert_eq!(client.get(&format!("/{route}/broken")).await.status, 500);
            assert_eq!(client.get(&format!("/{route}/broken/{n}?{n}")).await.status, 500);
        }
        others_are_served(&edge, &client, route).await;
    }
}

/// An origin that does not want an upload closes the connection in the middle of
/// it, or at its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_the_origin_breaks_off_harm_nobody() {
    let address = scripted(|stream, head| async move {
        if head.starts_with("POST") { reset(stream) } else { page(stream).await }
    })
    .await;
    let edge = edge_of(address, "");
    let client = edge.client().ssr();
    for size in [2 << 20, 10] {
        for n in 0..30 {
            let upload = client.post(&format!("/pass/upload/{size}/{n}"), vec![b'x'; size]);
            match upload.outcome().await {
                Ok(answer) => assert_eq!(answer.status, 502, "{answer}"),
                Err(broken) => assert!(matches!(broken, Broken::Failed(_) | Broken::Nothing)),
            }
        }
        others_are_served(&edge, &client, &size.to_string()).await;
    }
}

/// WebSockets that fall silent end, and that is all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_websockets_harm_nobody() {
    let address = scripted(|mut stream, head| async move {
        if !head.to_ascii_lowercase().contains("upgrade: websocket") {
            return page(stream).await;
        }
        let switch = "HTTP/1.1 101 Switching Protocols\r\n\
                      Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(switch.as_bytes()).await.ok()?;
        // Silent until the other side ends it.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        None
    })
    .await;
    let edge = edge_of(address, "idle_timeout: 1s");
    let client = edge.client().ssr();
    let mut sockets = Vec::new();
    for n in 0..30 {
        let ask = client
            .get(&format!("/pass/socket/{n}"))
            .header("Connection", "upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Sec-WebSocket-Version", "13");
        let socket = ask.stream().await;
        assert_eq!(socket.status, 101);
        sockets.push(socket);
    }
    for mut socket in sockets {
        while let Ok(Some(_)) = socket.next().await {}
    }
    others_are_served(&edge, &client, "after").await;
}

/// One client with one broken URL, and all that can be made up around it: query,
/// host, spelling, method.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broken_url_harms_nobody_whatever_is_made_up_around_it() {
    for how in ["reset", "503", "silence"] {
        let address = scripted(move |mut stream, head| async move {
            if !head.to_ascii_lowercase().contains("/bro") {
                return page(stream).await;
            }
            match how {
                "reset" => reset(stream),
                "503" => {
                    let busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(busy).await.ok()?;
                    Some(stream)
                }
                _ => {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    None
                }
            }
        })
        .await;
        let edge = edge_of(address, "fill_timeout: 1s, idle_timeout: 1s");
        let client = edge.client().ssr();
        let mut asked = Vec::new();
        for n in 0..16 {
            for path in ["/broken", "/pass/broken", "/isr/broken"] {
                let path = match n % 4 {
                    0 => path.to_owned(),
                    1 => format!("{path}?{n}"),
                    2 => format!("{}?{n}", path.replace("broken", "BRO%4BEN")),
                    _ => format!("{path}/"),
                };
                let ask = if n % 3 == 0 { client.head(&path) } else { client.get(&path) };
                asked.push(tokio::spawn(ask.header("Host", &format!("h{n}.example")).outcome()));
            }
        }
        for answer in asked {
            let answer = answer.await.unwrap().unwrap();
            assert!((502..=504).contains(&answer.status), "{how}: {answer}");
            assert_ne!(answer.cache_status(), "perennial; detail=breaker", "{how}");
        }
        others_are_served(&edge, &client, how).await;
    }
}

/// Whoever sends a malformed head has answered, wrongly. URLs that provoke one are
/// a client's to make up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_heads_harm_nobody() {
    let fields = |n: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(n));
    for raw in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(),
        "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nno field\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100),
        fields(1000),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2 << 20)),
    ] {
        let bytes = raw.clone();
        let address = scripted(move |mut stream, head| {
            let bytes = bytes.clone();
            async move {
                if !head.contains("/broken") {
                    return page(stream).await;
                }
                // An edge that has seen enough closes before all of it is written.
                let _ = stream.write_all(bytes.as_bytes()).await;
                None
            }
        })
        .await;
        let edge = edge_of(address, "");
        let client = edge.client().ssr();
        let shown = &raw[..raw.len().min(60)];
        for n in 0..30 {
            let mode = ["isr", "ssr", "pass"][n % 3];
            let answer = client.get(&format!("/{mode}/broken/{n}")).await;
            assert_eq!(answer.cache_status(), "perennial; detail=reset", "{shown}: {answer}");
            assert_eq!(answer.status, 502, "{shown}: {answer}");
        }
        others_are_served(&edge, &client, "after").await;
    }
}

/// Below a route that is broken, a client can make up as many pages as they like.
/// Whoever asks for a page that was served before is served all the same, and
/// then the breaker has learnt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_pages_below_a_broken_route_harm_nobody_for_long() {
    let origin = Origin::serve(|request| match request.path() {
        path if path.starts_with("/broken") => Response::html("broken").with_status(503),
        _ => Response::html("page").cache("no-store"),
    })
    .await;
    let edge = edge(&origin, "").await;
    let client = edge.client().ssr();
    client.get("/home").await.is(200, "MISS", "page");
    for n in 0..40 {
        client.get(&format!("/broken/{n}")).await;
    }
    client.get("/home").await.is(200, "MISS", "page");
    for n in 40..200 {
        client.get(&format!("/broken/{n}")).await;
        if n % 40 == 0 {
            others_are_served(&edge, &client, &n.to_string()).await;
        }
    }
    // Where clients are served in between, it never opens in the first place.
    let edge = self::edge(&origin, "").await;
    let client = edge.client().ssr();
    for n in 0..200 {
        client.get(&format!("/broken/{n}")).await;
        if n % 8 == 0 {
            others_are_served(&edge, &client, &n.to_string()).await;
        }
    }
}

/// An origin that closes the connection for what is made up, and for everything once
/// it is dead. It counts the probes.
struct Closing {
    address: SocketAddr,
    dead: Arc<AtomicBool>,
    probes: Arc<AtomicUsize>,
}

impl Closing {
    async fn start() -> Closing {
        let (dead, probes) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (dies, counts) = (Arc::clone(&dead), Arc::clone(&probes));
        let address = scripted(move |stream, head| {
            if head.contains("User-Agent: perennial (probe)") {
                counts.fetch_add(1, Ordering::SeqCst);
            }
            let closes = dies.load(Ordering::SeqCst) || head.contains("made-up");
            async move { if closes { None } else { page(stream).await } }
        })
        .await;
        Closing { address, dead, probes }
    }

    fn probes(&self) -> usize {
        self.probes.load(Ordering::SeqCst)
    }
}

/// So many pages at once that nobody has ever been served. Returns how many of these
/// requests the breaker refused.
async fn made_up_at_once(client: &Client, round: &str, count: usize) -> usize {
    let ask = |n: usize| {
        let route = ["isr", "ssr", "pass"][n % 3];
        tokio::spawn(client.get(&format!("/{route}/made-up/{round}/{n}")).outcome())
    };
    let asked: Vec<_> = (0..count).map(ask).collect();
    let mut refused = 0;
    for answer in asked {
        let answer = answer.await.expect("no panic").expect("an answer");
        assert!((502..=504).contains(&answer.status), "{answer}");
        refused += usize::from(answer.cache_status() == "perennial; detail=breaker");
    }
    refused
}

/// Before it opens on the silence of pages that nobody has ever been served,
/// the origin is asked for one that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_pages_on_which_the_origin_closes_the_connection_harm_nobody() {
    for known in ["/isr/home", "/home"] {
        let origin = Closing::start().await;
        let edge = edge_of(origin.address, "");
        let client = edge.client().ssr();
        client.get(known).await.is(200, "MISS", "ok");
        // Nobody else asks meanwhile: no answer comes in between but the probe's.
        assert_eq!(made_up_at_once(&client, "alone", 40).await, 0);
        others_are_served(&edge, &client, "after").await;
        assert_eq!(origin.probes(), 1, "{known}");
        // It has learnt, and others come at the same time.
        let visitors = async {
            for n in 0..20 {
                others_are_served(&edge, &client, &n.to_string()).await;
            }
        };
        let (refused, ()) = tokio::join!(made_up_at_once(&client, "together", 200), visitors);
        assert_eq!(refused, 0);
        others_are_served(&edge, &client, "last").await;
        assert_eq!(origin.probes(), 1, "{known}");
    }
}

/// That they were served says nothing where a client has a say in what is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_breaks_pages_harms_nobody() {
    let origin = Closing::start().await;
    let edge = edge_of(origin.address, "");
    let client = edge.client().ssr();
    let page = |n: usize| format!("/ssr/{}", n % 8);
    for n in 0..8 {
        client.get(&page(n)).await.is(200, "MISS", "ok");
    }
    for round in 0..3 {
        let ask =
            |n| tokio::spawn(client.get(&format!("{}?made-up={round}.{n}", page(n))).outcome());
        for asked in (0..40).map(ask).collect::<Vec<_>>() {
            let answer = asked.await.expect("no panic").expect("an answer");
            assert_ne!(answer.cache_status(), "perennial; detail=breaker");
        }
        others_are_served(&edge, &client, &round.to_string()).await;
    }
    assert!(origin.probes() > 0);
}

/// If that page is silent, too, it opens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_closes_every_connection_opens_it() {
    for (known, probes) in [(&["/isr/home"][..], 2), (&["/isr/a", "/b", "/isr/c"], 3), (&[], 1)] {
        let origin = Closing::start().await;
        let edge = edge_of(origin.address, "");
        let client = edge.client().ssr();
        for path in known {
            client.get(path).await.is(200, "MISS", "ok");
        }
        origin.dead.store(true, Ordering::SeqCst);
        made_up_at_once(&client, "", 24).await;
        eventually("the breaker to open", async || is_open(&edge).await.then_some(())).await;
        assert_eq!(origin.probes(), probes);
    }
}

/// An origin that is really dead opens it: what is stored is served, everything
/// else is 503, one request a second goes, and one that is answered closes it. On
/// a site of which every page is stored that is a regeneration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_origin_opens_it_and_a_recovered_one_closes_it() {
    for dead in [None, Some(502), Some(503), Some(504)] {
        let origin = Origin::start().await;
        let edge = edge(&origin, "").await;
        let client = edge.client().ssr();
        let pages: Vec<String> = (0..12).map(|n| format!("/isr/old/{n}")).collect();
        for path in &pages {
            origin.on(path).reply(stale("old"));
            client.get(path).await.is(200, "MISS", "old");
        }
        match dead {
            None => origin.refuse().await,
            Some(status) => {
                origin.any().always().reply(Response::html("gateway").with_status(status));
            }
        }
        for n in 0..20 {
            for route in ["isr", "ssr", "pass"] {
                let answer = client.get(&format!("/{route}/{n}")).await;
                assert!((502..=504).contains(&answer.status), "{answer}");
            }
            if is_open(&edge).await {
                break;
            }
        }
        // Where it was silent, it is asked for an old page first.
        eventually("the breaker to open", async || is_open(&edge).await.then_some(())).await;

        // Within a second at most one of these goes to the origin.
        let mut shut = 0;
        for path in ["/isr/x", "/x", "/pass/x", "/isr/y", "/y", "/pass/y"] {
            let answer = client.get(path).await;
            if answer.cache_status() == "perennial; detail=breaker" {
                shut += 1;
                assert_eq!(answer.status, 503);
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
        }
        assert!(shut >= 3, "{shut} of 6 were refused");
        let mut details = Vec::new();
        for path in &pages {
            let page = client.get(path).await;
            details.push(page.is(200, "STALE", "old").cache_status().to_owned());
        }
        assert!(details.iter().any(|d| d.ends_with("detail=breaker")), "{details:?}");
        let ready = edge.admin().get("/readyz").await;
        assert!(ready.text().contains("web: it does not answer, the breaker is open"), "{ready}");

        // The origin is well again, and nobody asks for anything but stored pages.
        origin.forgive();
        origin.accept().await;
        origin.any().always().reply(Response::html("new"));
        eventually("the breaker to close", async || {
            for path in &pages {
                client.get(path).await;
            }
            (!is_open(&edge).await).then_some(())
        })
        .await;
        client.get("/isr/z").await.is(200, "MISS", "new");
        client.get("/pass/z").await.is(200, "BYPASS", "new");
        assert!(!edge.admin().get("/readyz").await.text().contains("breaker"));
    }
}

/// Where there are health checks, they decide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_decide_whether_it_is_open() {
    let origin = Origin::start().await;
    let page = |r: &crate::support::origin::Request| r.path() != "/healthz";
    origin.on("/healthz").always().reply(Response::status(204));
    origin.any().when("page", page).always().reply(Response::html("gateway").with_status(502));
    let edge = edge(&origin, "health: { path: /healthz, interval: 5ms }").await;
    let client = edge.client().ssr();
    let healthy = async |n: f64| {
        eventually(format!("{n} healthy servers"), async || {
            let name = "perennial_origin_servers{origin=\"web\",state=\"healthy\"}";
            (edge.metric(name).await == n).then_some(())
        })
        .await;
    };
    // A server that was not checked yet counts as healthy: it must have passed.
    eventually("a check", async || (origin.count("/healthz") > 1).then_some(())).await;
    for n in 0..40 {
        assert_eq!(client.get(&format!("/{n}")).await.status, 502);
    }
    assert!(!is_open(&edge).await, "the checks pass");
    origin.on("/healthz").always().reply(Response::status(503));
    healthy(0.0).await;
    let refused = async || {
        let answer = client.get("/a").await;
        answer.cache_status() == "perennial; detail=breaker"
    };
    client.get("/a").await;
    assert!(refused().await);
    origin.any().when("page", page).always().reply(Response::html("page"));
    assert!(refused().await, "no request closes it");
    origin.on("/healthz").always().reply(Response::status(204));
    eventually("the breaker to close", async || (!refused().await).then_some(())).await;
    client.get("/a").await.is(200, "MISS", "page");
}

/// Renders that break off tell nothing of the origin: it had answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renders_that_break_off_open_no_breaker() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "").await;
    let page = Response::html("0123456789").break_after(5, Break::Fin);
    origin.any().always().reply(page);
    for n in 0..30 {
        let end = edge.client().get(&format!("/isr/{n}")).outcome().await;
        assert!(matches!(end, Err(Broken::Short | Broken::Failed(_) | Broken::Nothing)), "{end:?}");
    }
    assert!(!is_open(&edge).await);
}

/// Nor do event streams that end as streams end, nor clients who leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_that_end_open_no_breaker() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "").await;
    let client = edge.client().ssr();
    for n in 0..24 {
        let path = format!("/events/{n}");
        let events = Response::status(200).header("Content-Type", "text/event-stream");
        let turn = origin.on(&path).stream(events);
        let visitor = client.get(&path).stream().await;
        if n % 2 == 0 {
            turn.break_off(Break::Rst).await;
            assert!(visitor.rest().await.is_err());
        } else {
            drop(visitor);
        }
        turn.ended().await;
    }
    origin.any().always().reply(Response::html("page"));
    others_are_served(&edge, &client, "after").await;
}

/// In the foreground: a page that may not be served stale while it is
/// revalidated is, when the breaker is open and `stale-if-error` lets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_counts_as_an_error() {
    let origin = Origin::start().await;
    let edge = edge(&origin, "").await;
    let client = edge.client().ssr();
    for n in 0..6 {
        let page = stale("old").cache("max-age=60, stale-if-error=600");
        origin.on(&format!("/{n}")).reply(page);
        client.get(&format!("/{n}")).await.is(200, "MISS", "old");
    }
    origin.any().always().reply(Response::status(503));
    for n in 0..20 {
        client.get(&format!("/isr/{n}")).await;
    }
    eventually("the breaker to open", async || is_open(&edge).await.then_some(())).await;
    let mut shut = 0;
    for n in 0..6 {
        let page = client.get(&format!("/{n}")).await;
        page.is(200, "STALE", "old");
        shut += usize::from(page.cache_status().ends_with("detail=breaker"));
    }
    assert!(shut >= 3, "{shut} of 6");
}
