//! The front as visitors see it: over loopback sockets, with a handler that
//! answers `/plain…` itself and gives the rest to a real `HttpProxy`.
//!
//! Every wait ends with an event, or fails after some seconds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::prelude::*;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::*;
use crate::rules::cache_status::Failure;

pub(super) use crate::kit::patient as within;
use crate::kit::server::{Server, read_head};

const BOUND: Duration = Duration::from_secs(20);

pub(super) fn limits() -> Limits {
    Limits {
        head_timeout: BOUND * 2,
        max_head: 16 * 1024,
        keepalive: BOUND * 2,
        write_timeout: BOUND * 2,
        body_timeout: BOUND * 2,
        max_connections: 1000,
        ..Limits::default()
    }
}

/// What the handler was told.
#[derive(Debug)]
enum Event {
    Served(String, Sent),
    Refused(u16),
    /// A request began to wait in the long way.
    Waiting,
    /// … and its visitor left.
    Left,
}

struct TestHandler {
    events: mpsc::UnboundedSender<Event>,
    proxy: Arc<HttpProxy<TestProxy>>,
    long_ways: AtomicUsize,
}

struct TestProxy {
    events: mpsc::UnboundedSender<Event>,
    go: Arc<Notify>,
    origin: Server,
}

fn find(text: &[u8], part: &str) -> bool {
    memchr::memmem::find(text, part.as_bytes()).is_some()
}

impl Handler for TestHandler {
    type Token = String;
    type Open = ();

    fn opened(&self) {}

    type Wait = ();

    async fn wait(&self, (): (), _stream: Withhold) -> Option<Withhold> {
        None
    }

    fn plain(&self, request: &Request<'_>, reply: &mut Reply<'_>) -> Plain<String, ()> {
        let Some(path) = request.target.strip_prefix("/plain") else { return Plain::No };
        let body = match path {
            "/huge" => Bytes::from(vec![b'h'; 64 << 20]),
            _ => Bytes::from(format!("{}{}", request.host, request.target)),
        };
        reply.head.extend_from_slice(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len()).as_bytes(),
        );
        if request.method == "GET" {
            // In two pieces, as multipart ranges are.
            let half = body.len() / 2;
            reply.body.push(body.slice(..half));
            reply.body.push(body.slice(half..));
        }
        Plain::Answered(request.target.to_owned())
    }

    fn served(&self, token: String, sent: Sent, head: &[u8]) {
        assert!(head.starts_with(b"GET ") || head.starts_with(b"HEAD "));
        assert!(head.ends_with(b"\r\n\r\n") && find(head, &token));
        let _ = self.events.send(Event::Served(token, sent));
    }

    fn refused(&self, _: SocketAddr, _: Failure, status: u16) {
        let _ = self.events.send(Event::Refused(status));
    }

    async fn long_way(&self, stream: Withhold) -> Option<Withhold> {
        self.long_ways.fetch_add(1, Ordering::Relaxed);
        through(&self.proxy, stream).await
    }
}

impl TestProxy {
    async fn answer(
        session: &mut Session,
        status: u16,
        fields: &[(&'static str, String)],
        body: String,
    ) -> Result<bool> {
        let mut head = ResponseHeader::build(status, None)?;
        for (name, value) in fields {
            head.insert_header(*name, value)?;
        }
        head.insert_header("Content-Length", body.len())?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(body.into()), true).await?;
        Ok(true)
    }
}

#[async_trait::async_trait]
impl ProxyHttp for TestProxy {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> Result<bool> {
        let head = session.req_header();
        let path = head.uri.path().to_owned();
        let host = head.headers.get("host").map(|h| h.to_str().unwrap().to_owned());
        let line = format!(
            "{} {} {} {}",
            head.method,
            String::from_utf8_lossy(head.raw_path()),
            host.unwrap_or_default(),
            session.client_addr().and_then(|a| a.as_inet()).unwrap().ip()
        );
        match path.as_str() {
            "/answer" | "/plain" => {
                let mut body = Vec::new();
                while let Some(part) = session.as_downstream_mut().read_request_body().await? {
                    body.extend_from_slice(&part);
                }
                let body = format!("{line} {}", String::from_utf8_lossy(&body));
                Self::answer(session, 200, &[], body).await
            }
            "/dated" => {
                let stream = stream_of(session.as_downstream()).unwrap();
                stream.keep_date(b"Sun, 06 Nov 1994 08:49:37 GMT");
                Self::answer(session, 200, &[], line).await
            }
            "/no-body-read" => Self::answer(session, 413, &[], "too much".into()).await,
            "/huge" => Self::answer(session, 200, &[], "h".repeat(64 << 20)).await,
            "/until-close" => {
                let head = ResponseHeader::build(200, None)?;
                session.write_response_header(Box::new(head), false).await?;
                session.write_response_body(Some("part".into()), false).await?;
                if session.req_header().uri.query() == Some("break") {
                    return Error::e_explain(InternalError, "on purpose");
                }
                Ok(true)
            }
            "/wait" => {
                while session.as_downstream_mut().read_request_body().await?.is_some() {}
                stream_of(session.as_downstream()).unwrap().body_is_read();
                let _ = self.events.send(Event::Waiting);
                let gone = tokio::select! {
                    () = self.go.notified() => false,
                    left = session.as_downstream_mut().read_body_or_idle(true) => left.is_err(),
                };
                if gone {
                    let _ = self.events.send(Event::Left);
                    return Error::e_explain(ConnectionClosed, "left");
                }
                Self::answer(session, 200, &[], line).await
            }
            _ => Ok(false),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.origin.address, false, String::new());
        if session.is_upgrade_req() {
            crate::proxy::may_open(&mut peer, BOUND);
        }
        Ok(Box::new(peer))
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        _: &mut Option<Bytes>,
        end: bool,
        (): &mut (),
    ) -> Result<()> {
        if end {
            stream_of(session.as_downstream()).unwrap().body_is_read();
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        (): &mut (),
    ) -> Result<()> {
        suit_http10(session.as_downstream_mut(), response);
        Ok(())
    }
}

/// An origin that answers every connection with `answer` when it has read a head, and then sends
/// back what it reads.
async fn origin(answer: &'static str) -> Server {
    Server::run(move |_, mut stream| async move {
        let asked = read_head(&mut stream).await.is_some();
        if !asked || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if answer.starts_with("HTTP/1.1 101") {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    })
    .await
}

/// A running front.
struct Edge {
    addr: SocketAddr,
    trigger: Trigger,
    run: JoinHandle<std::io::Result<Summary>>,
    events: mpsc::UnboundedReceiver<Event>,
    limits: Arc<ArcSwap<Limits>>,
    relief: Relief,
    go: Arc<Notify>,
    handler: Arc<TestHandler>,
}

impl Edge {
    async fn start(limits: Limits) -> Edge {
        Self::with(limits, BOUND, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await
    }

    async fn with(limits: Limits, patience: Duration, answer: &'static str) -> Edge {
        let (sender, events) = mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let origin = origin(answer).await;
        let proxy = TestProxy { events: sender.clone(), go: Arc::clone(&go), origin };
        let conf = Arc::new(ServerConf { max_retries: 1, ..ServerConf::default() });
        let handler = Arc::new(TestHandler {
            events: sender,
            proxy: Arc::new(http_proxy(&conf, proxy)),
            long_ways: AtomicUsize::new(0),
        });
        let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let addr = listeners.addrs()[0];
        let limits = Arc::new(ArcSwap::from_pointee(limits));
        let (trigger, stop) = shutdown();
        let relief = Relief::default();
        let run = tokio::spawn(run(
            listeners,
            Arc::clone(&handler),
            Arc::clone(&limits),
            relief.clone(),
            stop,
            move || patience,
        ));
        Edge { addr, trigger, run, events, limits, relief, go, handler }
    }

    async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: Vec::new() }
    }

    async fn event(&mut self) -> Event {
        within("an event", self.events.recv()).await.unwrap()
    }

    async fn stop(self) -> Summary {
        self.trigger.drain();
        within("the stop", self.run).await.unwrap().unwrap()
    }
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Response {
    head: String,
    body: String,
}

impl Response {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> std::io::Result<bool> {
        within("a read", self.stream.read_buf(&mut self.read)).await.map(|n| n > 0)
    }

    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more().await.unwrap(), "no head but {:?}", self.read);
        }
    }

    async fn response(&mut self) -> Response {
        let head = self.head().await;
        let mut response = Response { head, body: String::new() };
        let len = response.field("content-length").map(|len| len.parse::<usize>().unwrap());
        while self.read.len() < len.unwrap_or(usize::MAX) {
            let more = self.more().await.unwrap();
            assert!(more || len.is_none(), "the body breaks off after {:?}", self.read);
            if !more {
                break;
            }
        }
        let len = len.unwrap_or(self.read.len());
        response.body = String::from_utf8(self.read.drain(..len).collect()).unwrap();
        response
    }

    /// The front closes, not with a reset, and nothing came before.
    async fn closed(&mut self) {
        let more = self.more().await.unwrap();
        assert!(!more && self.read.is_empty(), "unexpected: {:?}", self.read);
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn plain_requests_are_answered_on_one_connection() {
    let mut edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    for path in ["/plain/1", "/plain/2"] {
        client.send(get(path)).await;
        let response = client.response().await;
        assert_eq!(response.body, format!("h{path}"));
        assert_eq!(response.field("connection"), Some("keep-alive"));
        let Event::Served(token, sent) = edge.event().await else { panic!() };
        assert_eq!(token, path);
        assert_eq!((sent.bytes, sent.body), ((response.head.len() + 9) as u64, 9));
        assert!(sent.error.is_none());
        assert_eq!(sent.peer, client.stream.local_addr().unwrap());
    }
    client.send("HEAD /plain HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.contains("Content-Length: 7") && head.contains("Connection: close"), "{head}");
    client.closed().await;
    assert_eq!(edge.handler.long_ways.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_whichever_way_they_take() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    let mut requests = String::new();
    let mut expected = Vec::new();
    for i in 0..200 {
        match i % 5 {
            3 => {
                requests += &post("/answer", &format!("body {i}"));
                expected.push(format!("POST /answer h 127.0.0.1 body {i}"));
            }
            4 if i % 2 == 0 => {
                requests += &get("/origin");
                expected.push("ok".to_owned());
            }
            _ => {
                requests += &get(&format!("/plain/{i}"));
                expected.push(format!("h/plain/{i}"));
            }
        }
    }
    client.send(requests).await;
    for expected in expected {
        assert_eq!(client.response().await.body, expected);
    }
    assert_eq!(edge.handler.long_ways.load(Ordering::Relaxed), 60);
}

#[tokio::test]
async fn heads_may_come_byte_by_byte() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    let requests =
        format!("\r\n{}\r\n\r\n{}{}", get("/plain"), post("/answer", "b"), get("/plain"));
    for byte in requests.as_bytes() {
        client.send([*byte]).await;
    }
    assert_eq!(client.response().await.body, "h/plain");
    assert_eq!(client.response().await.body, "POST /answer h 127.0.0.1 b");
    assert_eq!(client.response().await.body, "h/plain");
}

#[tokio::test]
async fn what_is_refused_is_answered_reported_and_closed() {
    let mut edge = Edge::start(limits()).await;
    let rows = [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad-request"),
        ("\u{16}\u{3}\u{1}".to_owned(), 400, "bad-request"),
        ("\r\n".repeat(5), 400, "bad-request"),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405, "unsupported"),
        ("TRACE / HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n".to_owned(), 405, "unsupported"),
        (get(&format!("/{}", "a".repeat(9000))), 414, "uri-too-long"),
        (format!("GET /{}", "a".repeat(9000)), 414, "uri-too-long"),
        (format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(16384)), 431, "head-too-large"),
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n".to_owned(), 417, "unsupported"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, "unsupported"),
        // What follows a refused request is never read as one.
        (
            format!(
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\
                 \r\n\r\n0\r\n\r\n{}",
                get("/plain")
            ),
            400,
            "bad-request",
        ),
    ];
    for (request, status, detail) in rows {
        let mut client = edge.client().await;
        client.send(&request).await;
        let response = client.response().await;
        assert_eq!(response.status(), status, "{request}");
        assert_eq!(response.field("connection"), Some("close"));
        let cache_status = format!("perennial; detail={detail}");
        assert_eq!(response.field("cache-status"), Some(&*cache_status));
        assert!(response.body.starts_with(&status.to_string()), "{response:?}");
        client.closed().await;
        assert!(matches!(edge.event().await, Event::Refused(s) if s == status));
    }
    // Who is still sending gets to read why.
    let mut client = edge.client().await;
    client.send("POST / HTTP/1.1\r\n\r\n").await;
    client.send(vec![b'x'; 400_000]).await;
    assert_eq!(client.response().await.status(), 400);
    client.closed().await;
    edge.event().await;
    // After an answer, too: in its turn.
    let mut client = edge.client().await;
    client.send(format!("{}GET\r\n\r\n", get("/plain"))).await;
    assert_eq!(client.response().await.status(), 200);
    assert_eq!(client.response().await.status(), 400);
    client.closed().await;
}

#[tokio::test]
async fn a_head_has_one_deadline_from_its_first_byte() {
    let mut edge =
        Edge::start(Limits { head_timeout: Duration::from_millis(200), ..limits() }).await;
    let mut client = edge.client().await;
    client.send("GET /plain HTTP/1.1\r\nX: ").await;
    // Each byte would renew a timeout per read.
    let trickle = async {
        loop {
            match tokio::time::timeout(Duration::from_millis(5), client.more()).await {
                Ok(more) => break more.unwrap(),
                Err(_) => client.send("x").await,
            }
        }
    };
    assert!(within("the deadline", trickle).await);
    assert_eq!(client.response().await.status(), 408);
    assert!(matches!(edge.event().await, Event::Refused(408)));
}

/// Stops the clock for this runtime: it moves when the test moves it. Paused alone it would also
/// move whenever everyone waits, and who waits for a socket looks like that.
struct Clock(
    #[expect(dead_code, reason = "dropping it ends the thread that waits for it")]
    std::sync::mpsc::Sender<()>,
);

fn stop_the_clock() -> Clock {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    tokio::time::pause();
    tokio::task::spawn_blocking(move || receiver.recv());
    Clock(sender)
}

#[tokio::test]
async fn each_head_has_a_deadline_of_its_own() {
    let edge = Edge::start(Limits { head_timeout: Duration::from_secs(10), ..limits() }).await;
    let mut client = edge.client().await;
    let clock = stop_the_clock();
    // There is always a part of the next head in the buffer.
    client.send(get("/plain") + "GE").await;
    for _ in 0..10 {
        assert_eq!(client.response().await.status(), 200);
        tokio::time::advance(Duration::from_secs(6)).await;
        client.send("T /plain HTTP/1.1\r\nHost: h\r\n\r\nGE").await;
    }
    drop(clock);
}

#[tokio::test]
async fn who_reads_slowly_is_not_cut_off() {
    let limits = Limits { write_timeout: Duration::from_secs(10), ..limits() };
    let edge = Edge::start(limits).await;
    for path in ["/plain/huge", "/huge"] {
        let mut client = edge.client().await;
        let clock = stop_the_clock();
        client.send(get(path)).await;
        let mut part = vec![0; 16 << 20];
        for _ in 0..4 {
            // More than the system holds, so that the front has written since the last time.
            client.stream.read_exact(&mut part).await.unwrap();
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        drop(clock);
        tokio::time::resume();
        let mut end = [0; 1000];
        assert!(within("the end", client.stream.read(&mut end)).await.unwrap() > 0, "{path}");
    }
}

#[tokio::test]
async fn who_says_nothing_is_closed_without_a_word() {
    let mut edge = Edge::start(Limits { keepalive: Duration::from_millis(50), ..limits() }).await;
    // At once, after a request, after an empty line; and who leaves without a word.
    edge.client().await.closed().await;
    let mut client = edge.client().await;
    client.send(get("/plain")).await;
    assert_eq!(client.response().await.status(), 200);
    client.send("\r\n").await;
    client.closed().await;
    drop(edge.client().await);
    assert!(matches!(edge.event().await, Event::Served(..)));
    edge.trigger.drain();
    assert_eq!(within("the stop", edge.run).await.unwrap().unwrap().cut_off, 0);
    assert!(edge.events.try_recv().is_err(), "silence is nothing to report");
}

/// A place costs more than a connection that was never used is worth.
#[tokio::test]
async fn who_never_says_anything_has_the_time_of_a_head() {
    let limits = Limits { head_timeout: Duration::from_millis(50), ..limits() };
    let mut edge = Edge::start(limits).await;
    let mut spoke = edge.client().await;
    spoke.send(get("/plain")).await;
    assert_eq!(spoke.response().await.status(), 200);
    edge.event().await;
    edge.client().await.closed().await;
    // Empty lines are no request.
    let mut empty = edge.client().await;
    empty.send("\r\n").await;
    empty.closed().await;
    // Who has spoken is kept for `keepalive`.
    spoke.send(get("/plain")).await;
    assert_eq!(spoke.response().await.status(), 200);
    edge.event().await;
    assert!(edge.events.try_recv().is_err(), "silence is nothing to report");
}

#[tokio::test]
async fn a_head_that_breaks_off_is_refused() {
    let mut edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    client.send("GET /plain HTTP/1.1\r\nHo").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.response().await.status(), 400);
    assert!(matches!(edge.event().await, Event::Refused(400)));
}

#[tokio::test]
async fn the_next_request_is_withheld_from_the_one_before() {
    let mut edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    // pingora alone breaks a request off when the next one comes early.
    client.send(get("/wait")).await;
    assert!(matches!(edge.event().await, Event::Waiting));
    client.send(post("/answer", "b")).await;
    client.send(get("/plain")).await;
    edge.go.notify_one();
    assert_eq!(client.response().await.body, "GET /wait h 127.0.0.1");
    assert_eq!(client.response().await.body, "POST /answer h 127.0.0.1 b");
    assert_eq!(client.response().await.body, "h/plain");
}

#[tokio::test]
async fn the_next_request_breaks_off_no_chunked_one_either() {
    let mut edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    let head = "POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}3\r\nabc\r\n0\r\n\r\n")).await;
    assert!(matches!(edge.event().await, Event::Waiting));
    client.send(get("/plain")).await;
    // There is no telling when it is read; that it came is certain before the next event.
    let mut other = edge.client().await;
    other.send(get("/plain")).await;
    assert_eq!(other.response().await.status(), 200);
    assert!(matches!(edge.event().await, Event::Served(..)));
    edge.go.notify_one();
    let response = client.response().await;
    assert_eq!((response.status(), response.field("connection")), (200, Some("close")));
    client.closed().await;
}

#[tokio::test]
async fn too_much_that_comes_early_waits() {
    let mut edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    client.send(get("/wait")).await;
    assert!(matches!(edge.event().await, Event::Waiting));
    let (mut read, mut write) = client.stream.into_split();
    // Far more than the front holds, or the system for it.
    let sending = tokio::spawn(async move {
        write.write_all(get("/plain").repeat(200_000).as_bytes()).await.unwrap();
        write
            .write_all(b"HEAD /plain HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        write
    });
    edge.go.notify_one();
    let mut bytes = Vec::new();
    within("all responses", read.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(memchr::memmem::find_iter(&bytes, "HTTP/1.1 200 OK").count(), 200_002);
    assert_eq!(memchr::memmem::find_iter(&bytes, "h/plain").count(), 200_000);
    drop(within("sending", sending).await.unwrap());
}

#[tokio::test]
async fn who_leaves_while_waiting_is_noticed() {
    let mut edge = Edge::start(limits()).await;
    // With and without an early next request.
    for early in [String::new(), get("/plain")] {
        let mut client = edge.client().await;
        client.send(get("/wait")).await;
        assert!(matches!(edge.event().await, Event::Waiting));
        client.send(early).await;
        drop(client);
        assert!(matches!(edge.event().await, Event::Left));
    }
}

/// RFC 9112 §9.6: a client may close its sending side, and read on.
#[tokio::test]
async fn who_only_ends_the_sending_side_is_served() {
    let edge = Edge::start(limits()).await;
    let chunked = "POST /answer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    for (requests, bodies) in [
        (get("/plain"), &["h/plain"][..]),
        (get("/answer"), &["GET /answer h 127.0.0.1 "]),
        (get("/origin"), &["ok"]),
        (post("/answer", "b"), &["POST /answer h 127.0.0.1 b"]),
        (post("/origin", "b"), &["ok"]),
        (chunked.to_owned(), &["POST /answer h 127.0.0.1 abc"]),
        (chunked.replace("answer", "origin"), &["ok"]),
        (get("/origin") + &get("/plain") + &get("/answer"), &["ok", "h/plain", "GET"]),
    ] {
        let mut client = edge.client().await;
        client.send(&requests).await;
        client.stream.shutdown().await.unwrap();
        for body in bodies {
            let response = client.response().await;
            assert!(response.body.starts_with(body), "{requests}: {response:?}");
        }
        client.closed().await;
    }
}

/// A FIN alone is no departure, and who waits learns nothing of having been asked.
#[tokio::test]
async fn a_fin_while_waiting_is_followed_by_the_answer() {
    let chunked = "POST /wait HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for request in [
        get("/wait"),
        post("/wait", "b"),
        "GET /wait HTTP/1.0\r\nHost: h\r\n\r\n".to_owned(),
        chunked.to_owned(),
    ] {
        let mut edge = Edge::start(limits()).await;
        let mut client = edge.client().await;
        client.send(&request).await;
        assert!(matches!(edge.event().await, Event::Waiting));
        client.stream.shutdown().await.unwrap();
        // The first byte of what is to come: the front has seen the FIN.
        assert!(client.more().await.unwrap());
        assert!(b"HTTP/1.".starts_with(&client.read), "{:?}", client.read);
        edge.go.notify_one();
        let response = client.response().await;
        assert!(response.head.starts_with("HTTP/1.1 200 OK\r\n"), "{response:?}");
        assert!(response.body.contains("/wait"));
        client.closed().await;
    }
}

/// Half a status line is no response.
#[tokio::test]
async fn a_half_closed_client_whose_request_fails_gets_no_half_answer() {
    let mut edge = Edge::with(limits(), Duration::from_millis(100), "").await;
    let mut client = edge.client().await;
    client.send(get("/wait")).await;
    assert!(matches!(edge.event().await, Event::Waiting));
    client.stream.shutdown().await.unwrap();
    assert!(client.more().await.unwrap());
    edge.trigger.drain();
    let end = loop {
        match client.more().await {
            Ok(true) => {}
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

/// Closing with an unread byte resets a connection, and what is not read yet is lost.
#[tokio::test]
async fn a_last_reply_is_not_cut_off_by_what_the_client_sent_meanwhile() {
    let edge = Edge::start(limits()).await;
    for path in ["/plain/huge", "/huge"] {
        let mut client = edge.client().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.contains("Connection: close"), "{head}");
        client.send("x").await;
        let mut len = client.read.len();
        loop {
            client.read.clear();
            match client.more().await {
                Ok(true) => len += client.read.len(),
                end => break assert!(end.is_ok(), "{path}: {end:?} after {len}"),
            }
        }
        assert_eq!(len, 64 << 20, "{path}");
    }
}

#[tokio::test]
async fn a_body_whose_end_is_unknown_ends_the_connection() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    let head = "POST /answer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}3\r\nabc\r\n0\r\n\r\n{}", get("/plain"))).await;
    let response = client.response().await;
    assert_eq!(response.body, "POST /answer h 127.0.0.1 abc");
    assert_eq!(response.field("connection"), Some("close"));
    client.closed().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_arrives() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    let head = "POST /no-body-read HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n";
    client.send(head).await;
    // Closing with unread bytes would reset the connection, and the answer could get lost.
    client.send(vec![b'x'; 400_000]).await;
    let response = client.response().await;
    assert_eq!((response.status(), &*response.body), (413, "too much"));
    assert_eq!(response.field("connection"), Some("close"));
    client.closed().await;
}

#[tokio::test]
async fn an_upgrade_gets_everything() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\n\r\n";
    let edge = Edge::with(limits(), BOUND, answer).await;
    let mut client = edge.client().await;
    let upgrade =
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    // Frames may follow at once, and they may look like anything.
    client.send(format!("{upgrade}{}", get("/plain"))).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    let expected = get("/plain") + "more";
    client.send("more").await;
    while client.read.len() < expected.len() {
        assert!(client.more().await.unwrap());
    }
    assert_eq!(client.read, expected.as_bytes());
}

#[tokio::test]
async fn an_upgrade_that_is_not_taken_leaves_the_connection_usable() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    let upgrade = "GET /x HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    client.send(format!("{upgrade}{}", get("/plain"))).await;
    assert_eq!(client.response().await.body, "ok");
    assert_eq!(client.response().await.body, "h/plain");
}

#[tokio::test]
async fn http10_persists_only_when_asked() {
    let edge = Edge::start(limits()).await;
    for path in ["/plain", "/origin"] {
        let mut client = edge.client().await;
        for _ in 0..2 {
            client
                .send(format!("GET {path} HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"))
                .await;
            let response = client.response().await;
            assert_eq!(response.field("connection"), Some("keep-alive"), "{path}");
        }
        client.send(format!("GET {path} HTTP/1.0\r\nHost: h\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status(), response.field("connection")), (200, Some("close")));
        client.closed().await;
    }
}

#[tokio::test]
async fn http10_is_never_sent_interim_responses() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let edge = Edge::with(limits(), BOUND, answer).await;
    for (version, status) in [("1.1", "103"), ("1.0", "200")] {
        let mut client = edge.client().await;
        client.send(format!("GET /x HTTP/{version}\r\nHost: h\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.contains(status), "{version}: {head}");
    }
}

#[tokio::test]
async fn http10_is_never_sent_chunks() {
    let answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let edge = Edge::with(limits(), BOUND, answer).await;
    let mut client = edge.client().await;
    client.send("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.body, "abcde");
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.field("connection"), Some("close"));
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_ends_well_only_if_it_is_whole() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    client.send(get("/until-close")).await;
    assert_eq!(client.response().await.body, "part");

    let mut client = edge.client().await;
    client.send(get("/until-close?break")).await;
    client.head().await;
    let end = loop {
        match client.more().await {
            Ok(true) => {}
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_authority_of_an_absolute_target_overrides_host() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    let request = "GET http://b.example/answer?q HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    client.send(format!("{}{request}{}", get("/plain"), get("/plain"))).await;
    assert_eq!(client.response().await.body, "h/plain");
    assert_eq!(client.response().await.body, "GET /answer?q b.example 127.0.0.1 ");
    assert_eq!(client.response().await.body, "h/plain");
}

#[tokio::test]
async fn a_stored_date_is_kept_once() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    client.send(get("/dated") + &get("/answer")).await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let response = client.response().await;
    assert_eq!(response.field("date"), Some(date), "{}", response.head);
    assert_eq!(response.head.to_lowercase().matches("\ndate:").count(), 1);
    assert_ne!(client.response().await.field("date"), Some(date));
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_millis(100), ..limits() };
    let mut edge = Edge::start(limits).await;
    let mut client = edge.client().await;
    client.send(get("/plain/huge")).await;
    let Event::Served(_, sent) = edge.event().await else { panic!() };
    assert_eq!(sent.error, Some(std::io::ErrorKind::TimedOut));
    assert!(sent.bytes > 0 && sent.body < 64 << 20);
    // The long way: the connection is given up, so the stop need not wait for it.
    let mut client = edge.client().await;
    client.send(get("/huge")).await;
    client.head().await;
    assert_eq!(edge.stop().await.cut_off, 0);
}

#[tokio::test]
async fn draining_ends_idle_connections_at_once_and_lets_the_rest_finish() {
    let mut edge = Edge::start(limits()).await;
    let mut fresh = edge.client().await;
    let mut idle = edge.client().await;
    idle.send(get("/plain")).await;
    assert_eq!(idle.response().await.status(), 200);
    edge.event().await;
    let mut back = edge.client().await;
    back.send(get("/answer")).await;
    assert_eq!(back.response().await.status(), 200);
    let mut half = edge.client().await;
    half.send(format!("{}GET /pla", get("/plain"))).await;
    assert_eq!(half.response().await.status(), 200);
    edge.event().await;
    let mut busy = edge.client().await;
    busy.send(get("/wait")).await;
    assert!(matches!(edge.event().await, Event::Waiting));

    edge.trigger.drain();
    fresh.closed().await;
    idle.closed().await;
    back.closed().await;
    // A head under way is a request in flight.
    half.send("in HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let response = half.response().await;
    assert_eq!((response.status(), response.field("connection")), (200, Some("close")));
    half.closed().await;
    // The port is closed while the last request is still in flight.
    assert!(TcpStream::connect(edge.addr).await.is_err());
    assert!(!edge.run.is_finished());
    edge.go.notify_one();
    let response = busy.response().await;
    assert_eq!((response.status(), response.field("connection")), (200, Some("close")));
    busy.closed().await;
    assert_eq!(within("the stop", edge.run).await.unwrap().unwrap(), Summary { cut_off: 0 });
}

#[tokio::test]
async fn draining_cuts_off_what_takes_too_long() {
    let mut edge = Edge::with(limits(), Duration::from_millis(100), "").await;
    let mut client = edge.client().await;
    client.send(get("/wait")).await;
    assert!(matches!(edge.event().await, Event::Waiting));
    assert_eq!(edge.stop().await, Summary { cut_off: 1 });
    assert!(!client.more().await.unwrap_or(false));
}

#[tokio::test]
async fn above_the_limit_the_connection_that_idles_longest_gives_way() {
    let mut edge = Edge::start(Limits { max_connections: 3, ..limits() }).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = edge.client().await;
        client.send(get("/plain")).await;
        assert_eq!(client.response().await.status(), 200);
        clients.push(client);
    }
    // The first is the last one to have asked for something.
    clients[0].send(get("/plain")).await;
    assert_eq!(clients[0].response().await.status(), 200);
    clients[2].send(get("/wait")).await;
    while !matches!(edge.event().await, Event::Waiting) {}
    let mut fourth = edge.client().await;
    fourth.send(get("/plain")).await;
    assert_eq!(fourth.response().await.status(), 200);
    clients[1].closed().await;
    // Of the two that are left to choose from.
    let mut fifth = edge.client().await;
    fifth.send(get("/plain")).await;
    assert_eq!(fifth.response().await.status(), 200);
    clients[0].closed().await;
    fourth.send(get("/plain")).await;
    assert_eq!(fourth.response().await.status(), 200);
    edge.go.notify_one();
    assert_eq!(clients[2].response().await.status(), 200, "a request in flight gives no place up");
}

/// A limit that was lowered is kept from the next connection on.
#[tokio::test]
async fn a_lower_limit_closes_those_above_it() {
    let edge = Edge::start(limits()).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = edge.client().await;
        client.send(get("/plain")).await;
        assert_eq!(client.response().await.status(), 200);
        clients.push(client);
    }
    edge.limits.store(Arc::new(Limits { max_connections: 3, ..limits() }));
    let mut last = edge.client().await;
    last.send(get("/plain")).await;
    assert_eq!(last.response().await.status(), 200);
    for client in &mut clients[..8] {
        client.closed().await;
    }
    for client in clients[8..].iter_mut().chain([&mut last]) {
        client.send(get("/plain")).await;
        assert_eq!(client.response().await.status(), 200);
    }
}

#[tokio::test]
async fn who_comes_waits_while_all_places_have_a_request_in_flight() {
    let mut edge = Edge::start(Limits { max_connections: 2, ..limits() }).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = edge.client().await;
        client.send(get("/wait")).await;
        assert!(matches!(edge.event().await, Event::Waiting));
        busy.push(client);
    }
    let mut third = edge.client().await;
    third.send(get("/plain")).await;
    let mut fourth = edge.client().await;
    fourth.send(get("/plain")).await;
    assert!(third.stream.try_read(&mut [0]).is_err());
    // Whoever is done first has nothing to do, and gives way; they keep asking as long as not.
    edge.go.notify_one();
    assert_eq!(third.response().await.status(), 200);
    assert_eq!(fourth.response().await.status(), 200);
    edge.go.notify_one();
}

/// Who needs descriptors for something else gets those of connections that wait, and of no
/// other: neither of one with a request in flight, nor of one that has nothing to do later.
#[tokio::test]
async fn connections_that_wait_longest_give_way_to_who_asks_for_relief() {
    let mut edge = Edge::start(limits()).await;
    let mut busy = edge.client().await;
    busy.send(get("/wait")).await;
    assert!(matches!(edge.event().await, Event::Waiting));
    let mut clients = Vec::new();
    for _ in 0..GIVE_WAY + 2 {
        let mut client = edge.client().await;
        client.send(get("/plain")).await;
        assert_eq!(client.response().await.status(), 200);
        clients.push(client);
    }
    // The first is the last one to have asked for something.
    clients.rotate_left(1);
    let last = clients.last_mut().expect("some");
    last.send(get("/plain")).await;
    assert_eq!(last.response().await.status(), 200);
    within("relief", edge.relief.ask()).await;
    for client in &mut clients[..GIVE_WAY] {
        client.closed().await;
    }
    for client in &mut clients[GIVE_WAY..] {
        client.send(get("/plain")).await;
        assert_eq!(client.response().await.status(), 200);
    }
    // What is free is for who asked, and then for who comes.
    let mut next = edge.client().await;
    next.send(get("/plain")).await;
    assert_eq!(next.response().await.status(), 200);

    // Now those, and then there is nobody.
    clients.push(next);
    for _ in 0..2 {
        within("relief", edge.relief.ask()).await;
    }
    for client in &mut clients[GIVE_WAY..] {
        client.closed().await;
    }
    edge.go.notify_one();
    assert_eq!(busy.response().await.status(), 200);
    busy.send(get("/plain")).await;
    assert_eq!(busy.response().await.status(), 200);
}

#[tokio::test]
async fn new_limits_hold_for_the_next_request() {
    let edge = Edge::start(limits()).await;
    let mut client = edge.client().await;
    client.send(get("/plain/long")).await;
    assert_eq!(client.response().await.status(), 200);
    edge.limits.store(Arc::new(Limits { max_uri: 6, ..limits() }));
    client.send(get("/plain")).await;
    assert_eq!(client.response().await.status(), 200);
    client.send(get("/plain/long")).await;
    assert_eq!(client.response().await.status(), 414);
}

/// A stream that is neither given back nor used has no effect on others.
#[tokio::test]
async fn a_door_may_drop_the_stream() {
    struct Dropping;
    impl Handler for Dropping {
        type Token = ();
        type Open = ();
        fn opened(&self) {}
        type Wait = ();
        fn plain(&self, _: &Request<'_>, _: &mut Reply<'_>) -> Plain<(), ()> {
            Plain::No
        }
        async fn wait(&self, (): (), _: Withhold) -> Option<Withhold> {
            None
        }
        fn served(&self, (): (), _: Sent, _: &[u8]) {}
        fn refused(&self, _: SocketAddr, _: Failure, _: u16) {}
        async fn long_way(&self, stream: Withhold) -> Option<Withhold> {
            // Unanswered: not to be used again, whatever the handler thinks.
            let _session = ServerSession::new_http1(Box::new(stream));
            None
        }
    }
    let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let addr = listeners.addrs()[0];
    let (trigger, stop) = shutdown();
    let limits = Arc::new(ArcSwap::from_pointee(limits()));
    let run =
        tokio::spawn(run(listeners, Arc::new(Dropping), limits, Relief::default(), stop, || BOUND));
    let mut client = Client { stream: TcpStream::connect(addr).await.unwrap(), read: Vec::new() };
    client.send(get("/") + &get("/")).await;
    client.closed().await;
    trigger.drain();
    assert_eq!(within("the stop", run).await.unwrap().unwrap().cut_off, 0);
}
