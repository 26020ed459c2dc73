//! The origin room against small scripted servers on loopback.

use http::header::CONTENT_LENGTH;
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::breaker::{MIN_ATTEMPTS, PROBE_INTERVAL};
use super::*;
use crate::kit::server::read_head;
use crate::via::Via;

// What the tests of the other files use, too.

pub(super) use crate::kit::server::Server;

/// An origin with generous limits; URLs with an explicit port.
pub(super) fn config(urls: &[&str]) -> config::Origin {
    let server = |url: &&str| {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (host, port) = rest.rsplit_once(':').unwrap();
        config::Server {
            tls: scheme == "https",
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().unwrap(),
        }
    };
    config::Origin {
        name: "web".to_owned(),
        servers: urls.iter().map(server).collect(),
        connect_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(60),
        resolve_interval: Duration::from_secs(30),
        ..config::Origin::default()
    }
}

pub(super) fn config_of(servers: &[&Server]) -> config::Origin {
    let urls: Vec<_> = servers.iter().map(|server| format!("http://{}", server.address)).collect();
    config(&urls.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn connector() -> Arc<Connector> {
    // With a certificate file of its own: no test depends on the platform's.
    Connector::new(Some(testdata("localhost.pem")))
}

pub(super) fn testdata(name: &str) -> String {
    format!("{}/src/origin/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Waits for what other tasks bring about, with patience and a bound.
pub(super) async fn eventually(mut is: impl FnMut() -> bool) {
    crate::kit::eventually("what other tasks bring about", || {
        let is = is();
        async move { is.then_some(()) }
    })
    .await;
}

fn origins(config: config::Origin) -> Origins {
    Origins::build(&[config], connector(), Arc::new(System))
}

fn origin(config: config::Origin) -> Arc<Origin> {
    origins(config).get(0).unwrap().clone()
}

fn get(path: &str) -> Box<RequestHeader> {
    let mut request = RequestHeader::build("GET", path.as_bytes(), None).unwrap();
    request.insert_header("Host", "www.example.com").unwrap();
    Box::new(request)
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn whole(exchange: &mut Exchange) -> Result<String, FetchError> {
    let mut body = Vec::new();
    while let Some(piece) = exchange.chunk().await? {
        assert!(!piece.is_empty());
        body.extend_from_slice(&piece);
    }
    Ok(String::from_utf8(body).unwrap())
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// Framing.

/// What a server does after its response.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Keeps the connection open.
    Keep,
    /// Closes it in an orderly way.
    Close,
    /// Resets it, once the head has arrived.
    Reset,
}

use Failure::Reset as Broken;
use Then::{Close, Keep, Reset};

/// response, then, body or failure, whether the connection is used again
#[rustfmt::skip]
const FRAMING: &[(&str, Then, Result<&str, Failure>, bool)] = &[
    // RFC 9112 §6.3, case 1: no body, whatever the fields say.
    ("HTTP/1.1 204 No Content\r\n\r\n", Keep, Ok(""), true),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Keep, Ok(""), true),
    // Case 4: chunked.
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Keep, Ok("hello"), true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", Keep, Ok(""), true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n", Keep, Ok("hello"), true),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Close, Ok("hello"), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Reset, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n", Keep, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n", Keep, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n", Keep, Err(Broken), false),
    // Case 3: both. Chunked wins, and the connection is not trusted any more.
    ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Keep, Ok("hello"), false),
    // Case 6: Content-Length.
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Keep, Ok("hello"), true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Keep, Ok(""), true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", Keep, Ok("hello"), true),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", Keep, Ok("hello"), false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Reset, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Close, Err(Broken), false),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more", Keep, Ok("hello"), false),
    // Case 8: until the connection closes; and the obsolete version that knew nothing else.
    ("HTTP/1.1 200 OK\r\n\r\nhello", Close, Ok("hello"), false),
    ("HTTP/1.1 200 OK\r\n\r\n", Close, Ok(""), false),
    ("HTTP/1.1 200 OK\r\n\r\nhello", Reset, Err(Broken), false),
    ("HTTP/1.0 200 OK\r\n\r\nhello", Close, Ok("hello"), false),
    ("HTTP/1.0 200 OK\r\n\r\nhello", Reset, Err(Broken), false),
    ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Keep, Ok("hello"), false),
    ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", Keep, Ok("hello"), true),
    ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhel", Close, Err(Broken), false),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Keep, Ok("hello"), false),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Close, Err(Broken), false),
    // A body that cannot be announced may come all the same.
    ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Keep, Ok(""), false),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Keep, Ok(""), false),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Keep, Ok(""), true),
    ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip\r\n\r\n", Keep, Ok(""), false),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Keep, Ok(""), true),
    // RFC 9110 §15.3.6: a 205 has none either, and its end is where its framing says.
    ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", Keep, Ok(""), true),
    ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\nhello", Keep, Ok(""), false),
    ("HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\n", Keep, Ok(""), false),
    ("HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nhello", Keep, Ok(""), false),
    ("HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Keep, Ok(""), false),
    ("HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n", Keep, Ok(""), false),
    ("HTTP/1.1 205 Reset Content\r\n\r\n", Keep, Ok(""), false),
    ("HTTP/1.1 205 Reset Content\r\n\r\nhello", Close, Ok(""), false),
    // How long the server says it keeps the connection, less a second.
    ("HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=5, max=100\r\n\r\n", Keep, Ok(""), true),
    ("HTTP/1.1 204 No Content\r\nKeep-Alive: max=9, timeout=1\r\n\r\n", Keep, Ok(""), false),
];

#[tokio::test]
async fn every_framing_whole_and_broken_off() {
    for (response, then, expected, reused) in FRAMING {
        let head_arrived = Arc::new(tokio::sync::Notify::new());
        let wait = head_arrived.clone();
        let server = Server::run(move |_, mut stream| {
            let wait = wait.clone();
            async move {
                while read_head(&mut stream).await.is_some() {
                    stream.write_all(response.as_bytes()).await.unwrap();
                    match then {
                        Keep => {}
                        Close => return,
                        Reset => {
                            wait.notified().await;
                            let socket = socket2::SockRef::from(&stream);
                            return socket.set_linger(Some(Duration::ZERO)).unwrap();
                        }
                    }
                }
            }
        })
        .await;
        let origin = origin(config_of(&[&server]));
        let mut exchange = origin.fetch(get("/"), far()).await.expect(response);
        head_arrived.notify_one();
        let body = whole(&mut exchange).await;
        assert_eq!(body.as_deref().map_err(|error| error.failure), *expected, "{response:?}");
        if let Err(error) = body {
            assert_eq!(error.stage, Stage::Body, "{response:?}");
            assert_eq!(error.server, Some(server.address));
            assert_eq!(
                exchange.chunk().await,
                Err(error),
                "never complete after all: {response:?}"
            );
        } else {
            assert_eq!(exchange.chunk().await, Ok(None));
        }
        assert!(
            !(exchange.head.headers.contains_key("transfer-encoding")
                && exchange.head.headers.contains_key(CONTENT_LENGTH))
        );
        exchange.finish().await;

        assert!(origin.fetch(get("/"), far()).await.is_ok(), "{response:?}");
        assert_eq!(server.accepted(), if *reused { 1 } else { 2 }, "{response:?}");
    }
}

#[tokio::test]
async fn what_is_no_response() {
    use Stage::{Head, Malformed};
    for (response, stage) in [
        ("", Head),
        ("HTTP/1.1 200", Head),
        ("HTTP/1.1 200 OK\r\nContent-", Head),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", Head),
        ("SSH-2.0-OpenSSH\r\n\r\n", Malformed),
        ("HTTP/1.1 20 OK\r\n\r\n", Malformed),
        ("HTTP/1.1 200 OK\r\nno field\r\n\r\n", Malformed),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Malformed),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", Malformed),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", Malformed),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Malformed),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Malformed,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            Malformed,
        ),
    ] {
        let server = Server::run(move |_, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(response.as_bytes()).await.unwrap();
        })
        .await;
        let error = origin(config_of(&[&server])).fetch(get("/"), far()).await.expect_err(response);
        assert_eq!((error.failure, error.stage), (Failure::Reset, stage), "{response:?}");
        assert_eq!(server.accepted(), 1, "a fresh connection that fails is not retried");
    }
}

#[tokio::test]
async fn a_large_body_in_many_pieces() {
    let body: String = (0..200_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let sent = body.clone();
    let server = Server::answering(move |_| {
        let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in sent.as_bytes().chunks(9_999) {
            response.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            response.extend_from_slice(piece);
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"0\r\n\r\n");
        response
    })
    .await;
    let origin = origin(config_of(&[&server]));
    let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
    assert_eq!(whole(&mut exchange).await.unwrap(), body);
}

// Heads.

#[tokio::test]
async fn interim_responses_are_handed_on_as_they_come_and_never_final() {
    let (go, mut gone) = mpsc::unbounded_channel();
    let hold = Arc::new(tokio::sync::Notify::new());
    let held = hold.clone();
    let server = Server::run(move |_, mut stream| {
        let held = held.clone();
        async move {
            read_head(&mut stream).await;
            let hints =
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
            stream.write_all(hints).await.unwrap();
            // The rest comes only when the hints have been relayed.
            held.notified().await;
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    let origin = origin(config_of(&[&server]));
    let mut relay = move |head: ResponseHeader| go.send(head).unwrap();
    let fetch = origin.fetch_with(get("/"), far(), &mut relay);
    let listen = async {
        assert_eq!(gone.recv().await.unwrap().status, 100);
        let hints = gone.recv().await.unwrap();
        assert_eq!(hints.status, 103);
        assert_eq!(hints.headers["link"], "</a.css>");
        hold.notify_one();
    };
    let (exchange, ()) = tokio::join!(fetch, listen);
    let mut exchange = exchange.unwrap();
    assert_eq!(exchange.head.status, 200);
    assert!(!exchange.head.headers.contains_key("link"));
    assert_eq!(whole(&mut exchange).await.unwrap(), "ok");
}

#[tokio::test]
async fn endless_interim_responses_are_an_error() {
    let server = Server::run(|_, mut stream| async move {
        read_head(&mut stream).await;
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {}
    })
    .await;
    let error = origin(config_of(&[&server])).fetch(get("/"), far()).await.unwrap_err();
    assert_eq!((error.failure, error.stage), (Failure::Reset, Stage::Malformed));
}

#[tokio::test]
async fn names_keep_their_case_and_the_request_goes_out_without_framing() {
    let server = Server::answering(|head| {
        assert_eq!(head, "GET /a?b HTTP/1.1\r\nHost: www.example.com\r\nX-CamelCase: 1\r\n\r\n");
        b"HTTP/1.1 200 OK\r\nETag: \"a\"\r\nX-My-field: \xe9\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let mut request = get("/a?b");
    request.insert_header("X-CamelCase", "1").unwrap();
    request.insert_header("Content-Length", "10").unwrap();
    request.insert_header("Transfer-Encoding", "chunked").unwrap();
    request.insert_header("Expect", "100-continue").unwrap();
    request.insert_header("Upgrade", "websocket").unwrap();
    let origin = origin(config_of(&[&server]));
    let before = crate::clock::now();
    let exchange = origin.fetch(request, far()).await.unwrap();
    let mut wire = Vec::new();
    exchange.head.header_to_h1_wire(&mut wire);
    assert_eq!(wire, b"ETag: \"a\"\r\nX-My-field: \xe9\r\nContent-Length: 0\r\n");
    assert_eq!(exchange.server, server.address);
    assert!(before <= exchange.request_time);
    assert!(exchange.request_time <= exchange.response_time);
}

// Retries.

#[tokio::test]
async fn when_connecting_fails_another_server_is_asked() {
    let (bad, good) = (Server::refusing().await, Server::answering(|_| OK.to_vec()).await);
    let origin = origin(config_of(&[&bad, &good]));
    for _ in 0..4 {
        let exchange = origin.fetch(get("/"), far()).await.unwrap();
        assert_eq!(exchange.server, good.address);
    }
    let health: Vec<_> = origin.servers().iter().map(|server| server.healthy).collect();
    assert_eq!(health, [false, true]);
}

#[tokio::test]
async fn a_server_that_answers_over_an_old_connection_is_up() {
    let server = Server::answering(|_| OK.to_vec()).await;
    let origin = origin(config_of(&[&server]));
    for _ in 0..2 {
        let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
        assert!(origin.servers()[0].healthy);
        whole(&mut exchange).await.unwrap();
        exchange.finish().await;
        origin.pick(&[]).unwrap().failed(Failure::Connect);
        assert!(!origin.servers()[0].healthy);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn when_connecting_fails_everywhere_the_fetch_does_after_three() {
    let mut servers = Vec::new();
    for _ in 0..5 {
        servers.push(Server::refusing().await);
    }
    let origin = origin(config_of(&servers.iter().collect::<Vec<_>>()));
    let error = origin.fetch(get("/"), far()).await.unwrap_err();
    assert_eq!((error.failure, error.stage), (Failure::Connect, Stage::Connect));
    assert!(error.server.is_some());
    assert_eq!(origin.servers().iter().filter(|server| !server.healthy).count(), 3);

    // Fewer servers than tries: the error says what happened, not that none is left.
    let origin = self::origin(config_of(&[&servers[0]]));
    assert_eq!(origin.fetch(get("/"), far()).await.unwrap_err().failure, Failure::Connect);
}

#[tokio::test]
async fn a_dead_connection_from_the_pool_is_replaced_once() {
    // The first connection answers once, takes a second request, and closes:
    // at once, or in the middle of the head.
    for last_words in ["", "HTTP/1.1 200 O"] {
        let server = Server::run(move |number, mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            if read_head(&mut stream).await.is_some() && number == 0 {
                stream.write_all(last_words.as_bytes()).await.unwrap();
            }
        })
        .await;
        let origin = origin(config_of(&[&server]));
        for fetch in 1..=2 {
            let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
            assert_eq!(whole(&mut exchange).await.unwrap(), "ok");
            exchange.finish().await;
            assert_eq!(server.accepted(), fetch);
        }
        assert!(origin.servers()[0].healthy);
    }
}

#[tokio::test]
async fn a_dead_connection_and_then_no_connection_moves_on() {
    // The pooled connection dies, and its server takes no new ones.
    let good = Server::answering(|_| OK.to_vec()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dying = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        read_head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        read_head(&mut stream).await
    });
    let mut config = config_of(&[&good]);
    config.servers.insert(
        0,
        config::Server { tls: false, host: address.ip().to_string(), port: address.port() },
    );
    let origin = origin(config);
    for expected in [address, good.address, good.address] {
        let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
        assert_eq!(exchange.server, expected);
        whole(&mut exchange).await.unwrap();
        exchange.finish().await;
    }
    assert!(dying.await.unwrap().is_some());
}

#[tokio::test]
async fn a_connection_that_was_not_finished_is_closed() {
    let (say, mut said) = mpsc::unbounded_channel();
    let server = Server::run(move |_, mut stream| {
        let say = say.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok").await.unwrap();
            say.send(stream.read(&mut [0]).await.unwrap_or(0)).unwrap();
        }
    })
    .await;
    let origin = origin(config_of(&[&server]));
    let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
    assert_eq!(exchange.chunk().await.unwrap().unwrap(), "ok");
    exchange.finish().await;
    assert_eq!(said.recv().await, Some(0), "not read to its end");
    drop(origin.fetch(get("/"), far()).await.unwrap());
    assert_eq!(said.recv().await, Some(0), "dropped");
    assert_eq!(server.accepted(), 2);
}

// Time. Where a deadline is short, the server never does what is waited for.

const SHORT: Duration = Duration::from_millis(30);

fn soon() -> Instant {
    Instant::now() + SHORT
}

#[tokio::test]
async fn deadlines_while_connecting() {
    // A TLS handshake that never goes on is part of connecting.
    let server = Server::run(|_, stream| async move {
        let _open = stream;
        std::future::pending().await
    })
    .await;
    let url = format!("https://{}", server.address);

    let patient = origin(config(&[&url]));
    let error = patient.fetch(get("/"), soon()).await.unwrap_err();
    assert_eq!((error.failure, error.stage), (Failure::Timeout, Stage::Connect));
    assert!(patient.servers()[0].healthy, "our deadline says nothing about the server");

    let mut config = config(&[&url]);
    config.connect_timeout = SHORT;
    let hasty = origin(config);
    let error = hasty.fetch(get("/"), far()).await.unwrap_err();
    assert_eq!((error.failure, error.stage), (Failure::Timeout, Stage::Connect));
    assert!(!hasty.servers()[0].healthy);
}

#[tokio::test]
async fn deadlines_while_waiting_for_the_head() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let server = Server::answering(|_| beginning.as_bytes().to_vec()).await;
        let origin = origin(config_of(&[&server]));
        let error = origin.fetch(get("/"), soon()).await.unwrap_err();
        assert_eq!((error.failure, error.stage), (Failure::Timeout, Stage::Head), "{beginning:?}");
        assert!(server.accepted() <= 1, "a timeout is not retried");
    }
}

#[tokio::test]
async fn deadlines_and_idle_timeouts_while_reading_the_body() {
    let server =
        Server::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok".to_vec()).await;
    let origin = origin(config_of(&[&server]));

    type Set = fn(&mut Exchange);
    let sets: [Set; 3] = [
        |exchange| exchange.set_deadline(Some(soon())),
        |exchange| {
            exchange.set_deadline(None);
            exchange.set_idle(SHORT);
        },
        // Whichever comes first.
        |exchange| {
            exchange.set_deadline(Some(soon()));
            exchange.set_idle(Duration::from_secs(60));
        },
    ];
    for set in sets {
        let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
        assert_eq!(exchange.chunk().await.unwrap().unwrap(), "ok");
        set(&mut exchange);
        let error = exchange.chunk().await.unwrap_err();
        assert_eq!((error.failure, error.stage), (Failure::Timeout, Stage::Body));
        assert_eq!(exchange.chunk().await, Err(error));
        exchange.finish().await;
    }
    assert_eq!(server.accepted(), 3, "none was reused");
}

#[tokio::test]
async fn without_a_deadline_a_slow_body_goes_on() {
    let (go, goes) = tokio::sync::watch::channel(0usize);
    let server = Server::run(move |_, mut stream| {
        let mut goes = goes.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            for n in 1..=3 {
                goes.wait_for(|so_far| *so_far >= n).await.unwrap();
                stream.write_all(b"data\n").await.unwrap();
            }
        }
    })
    .await;
    let origin = origin(config_of(&[&server]));
    let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
    exchange.set_deadline(None);
    for n in 1..=3 {
        // Reading may be given up at any time and goes on where it was.
        let nothing = tokio::time::timeout(Duration::from_millis(1), exchange.chunk()).await;
        assert!(nothing.is_err());
        go.send_replace(n);
        assert_eq!(exchange.chunk().await.unwrap().unwrap(), "data\n");
    }
    assert_eq!(exchange.chunk().await, Ok(None));
}

// TLS.

/// A server with the certificate in `testdata`, for `localhost`, made with
/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
/// -days 36500 -subj "/CN=Perennial test only" -addext subjectAltName=DNS:localhost
/// -addext basicConstraints=critical,CA:FALSE`.
async fn tls_server() -> Server {
    pingora::tls::install_default_crypto_provider();
    let (certificates, key) = pingora::tls::load_certs_and_key_files(
        &testdata("localhost.pem"),
        &testdata("localhost.key.pem"),
    )
    .unwrap()
    .unwrap();
    let config = pingora::tls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let acceptor = pingora::tls::TlsAcceptor::from(Arc::new(config));
    Server::run(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = Vec::new();
            while let Ok(byte) = stream.read_u8().await {
                head.push(byte);
                if head.ends_with(b"\r\n\r\n") {
                    // Close-delimited: only a proper goodbye ends it well.
                    if head.starts_with(b"GET /close") {
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok").await.unwrap();
                        if head.starts_with(b"GET /closed-well") {
                            stream.shutdown().await.unwrap();
                        }
                        return;
                    }
                    head.clear();
                    stream.write_all(OK).await.unwrap();
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn tls_with_a_certificate_that_is_trusted() {
    let server = tls_server().await;
    let origin = origin(config(&[&format!("https://localhost:{}", server.address.port())]));
    for _ in 0..2 {
        let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
        assert_eq!(whole(&mut exchange).await.unwrap(), "ok");
        exchange.finish().await;
    }
    assert_eq!(server.accepted(), 1, "reused");

    let mut exchange = origin.fetch(get("/closed-well"), far()).await.unwrap();
    assert_eq!(whole(&mut exchange).await.unwrap(), "ok");
    // RFC 9112 §9.8: without `close_notify` somebody may have cut it off.
    let mut exchange = origin.fetch(get("/closed-badly"), far()).await.unwrap();
    assert_eq!(whole(&mut exchange).await.unwrap_err().failure, Failure::Reset);
}

#[tokio::test]
async fn tls_with_a_bad_certificate_or_none_is_refused() {
    let server = tls_server().await;
    // The certificate is for localhost, not for the address.
    let wrong_name = origin(config(&[&format!("https://{}", server.address)]));
    let error = wrong_name.fetch(get("/"), far()).await.unwrap_err();
    assert_eq!((error.failure, error.stage), (Failure::Tls, Stage::Connect), "{error}");
    assert!(!wrong_name.servers()[0].healthy);

    // Nobody the platform trusts has signed it.
    let config = config(&[&format!("https://localhost:{}", server.address.port())]);
    let unknown = Origins::new(&[config]).get(0).unwrap().clone();
    let error = unknown.fetch(get("/"), far()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Tls, "{error}");

    // No TLS at all.
    let plain = Server::run(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let origin = origin(self::config(&[&format!("https://{}", plain.address)]));
    let error = origin.fetch(get("/"), far()).await.unwrap_err();
    assert_eq!(error.failure, Failure::Tls, "{error}");
}

#[test]
fn the_platform_has_certificates() {
    assert_eq!(check_certificates(), Ok(()));
}

// The rest of the origin.

#[test]
fn plain_runtimes_are_enough_and_no_connection_is_lost() {
    // No runtime of pingora's, and every fetch a task of its own, as fills are.
    for mut builder in
        [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()]
    {
        builder.worker_threads(2).enable_all().build().unwrap().block_on(async {
            let server = Server::answering(|_| OK.to_vec()).await;
            let origin = origin(config_of(&[&server]));
            for _ in 0..500 {
                let origin = origin.clone();
                let fetch = async move {
                    let mut exchange = origin.fetch(get("/"), far()).await.unwrap();
                    whole(&mut exchange).await.unwrap();
                    exchange.finish().await;
                };
                tokio::spawn(fetch).await.unwrap();
            }
            assert_eq!(server.accepted(), 1);
        });
    }
}

#[tokio::test]
async fn names_are_waited_for_at_the_start() {
    let server = Server::answering(|_| OK.to_vec()).await;
    #[derive(Debug)]
    struct Fixed(SocketAddr);
    #[async_trait::async_trait]
    impl Resolve for Fixed {
        async fn lookup(&self, host: &str, _port: u16) -> std::io::Result<Vec<SocketAddr>> {
            match host {
                "known.example" => Ok(vec![self.0]),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }
    let configs = [config(&["http://known.example:80"]), config(&["http://unknown.example:80"])];
    let origins = Origins::build(&configs, connector(), Arc::new(Fixed(server.address)));
    let known = origins.get(0).unwrap();
    assert_eq!(known.pick(&[]).unwrap_err(), Failure::Dns, "nobody has looked yet");
    assert!(known.fetch(get("/"), far()).await.is_ok());
    assert_eq!(known.target(&[], far()).await.unwrap().address(), server.address);
    let error = origins.get(1).unwrap().fetch(get("/"), far()).await.unwrap_err();
    assert_eq!((error.failure, error.server), (Failure::Dns, None));
}

#[tokio::test]
async fn a_reload_carries_over_what_is_unchanged() {
    let server = Server::answering(|_| OK.to_vec()).await;
    let first = config_of(&[&server]);
    let mut second = first.clone();
    second.name = "api".to_owned();
    let old = Origins::build(&[first.clone(), second.clone()], connector(), Arc::new(System));
    let mut exchange = old.get(1).unwrap().fetch(get("/"), far()).await.unwrap();
    whole(&mut exchange).await.unwrap();
    exchange.finish().await;

    let mut changed = second.clone();
    changed.fill_timeout += Duration::from_secs(1);
    let new = old.reload(&[changed, first]);
    assert!(Arc::ptr_eq(new.get(1).unwrap(), old.get(0).unwrap()), "found again by its config");
    assert!(!old.iter().any(|origin| Arc::ptr_eq(origin, new.get(0).unwrap())));
    assert!(new.get(2).is_none());
    drop(old);
    new.get(0).unwrap().fetch(get("/"), far()).await.unwrap();
    assert_eq!(server.accepted(), 1, "connections are carried over in any case");
}

fn site(via: &Via) -> ProbeSite<'_> {
    ProbeSite { host: "www.example.com", scheme: "https", via }
}

/// A dead origin: so many attempts, each to another page, find nobody.
fn dies(origin: &Origin) {
    for n in 0..MIN_ATTEMPTS {
        let via = Via::default();
        let attempt = origin.admit(&format!("/{n}?q"), &site(&via)).unwrap();
        origin.record(attempt, Some(Liveness::Unreachable), &site(&via));
    }
}

#[tokio::test(start_paused = true)]
async fn the_breaker_through_the_origin() {
    let origin = origin(config_of(&[&Server::refusing().await]));
    let via = Via::default();
    let site = site(&via);
    dies(&origin);
    assert!(origin.breaker_open());
    assert_eq!(origin.admit("/a", &site).unwrap_err(), Failure::Breaker);
    tokio::time::advance(PROBE_INTERVAL).await;
    assert!(!origin.breaker_rejects("/a") && !origin.breaker_rejects("/b"), "asking takes no turn");
    assert_eq!(origin.admit("/a", &site).unwrap_err(), Failure::Breaker, "a probe goes instead");
    assert!(origin.breaker_rejects("/a") && origin.breaker_rejects("/b"));
    tokio::time::advance(PROBE_INTERVAL).await;
    let turn = origin.admit("/a", &site).unwrap();
    assert!(origin.breaker_rejects("/a") && origin.breaker_rejects("/b"));
    assert_eq!(origin.admit("/b", &site).unwrap_err(), Failure::Breaker);
    origin.record(turn, None, &site);
    assert!(origin.breaker_open(), "nothing is known of it");
    origin.record(turn, Some(Liveness::Answered), &site);
    assert!(!origin.breaker_open() && !origin.breaker_rejects("/a"));
    assert!(origin.admit("/a", &site).is_ok());
}

#[tokio::test(start_paused = true)]
async fn health_checks_close_the_breaker() {
    let mut config = config(&["http://192.0.2.1:80"]);
    let second = Duration::from_secs(1);
    config.health =
        Some(config::Health { path: "/".into(), interval: second * 3600, timeout: second });
    let origin = origin(config);
    let server = origin.servers.list()[0].clone();
    server.checked(Err("it is down".to_owned()));
    dies(&origin);
    tokio::time::advance(PROBE_INTERVAL).await;
    let via = Via::default();
    assert!(
        origin.breaker_rejects("/a") && origin.admit("/a", &site(&via)).is_err(),
        "no requests"
    );
    server.checked(Ok(()));
    assert!(origin.admit("/a", &site(&via)).is_ok() && !origin.breaker_open());
    dies(&origin);
    assert!(!origin.breaker_open(), "the checks say that it answers");
}

#[tokio::test(start_paused = true)]
async fn passes_wait_for_a_bounded_time_and_tunnels_not_at_all() {
    let mut config = config(&["http://192.0.2.1:80"]);
    (config.max_concurrent_passes, config.max_waiting_passes, config.max_websockets) = (1, 1, 1);
    let origin = origin(config);
    let held = origin.enter(Pass::Request).await.unwrap();
    let waits = {
        let origin = origin.clone();
        tokio::spawn(async move { origin.enter(Pass::Request).await.map(drop) })
    };
    tokio::task::yield_now().await;
    assert_eq!((origin.passes().running, origin.passes().waiting), (1, 1));
    assert_eq!(origin.enter(Pass::Request).await.unwrap_err(), Failure::Busy);
    let began = Instant::now();
    assert_eq!(waits.await.unwrap(), Err(Failure::Busy), "not a deadline of the origin's");
    assert_eq!(began.elapsed().as_secs(), MAX_PASS_WAIT.as_secs());
    let socket = origin.enter(Pass::WebSocket).await.unwrap();
    assert_eq!(origin.enter(Pass::WebSocket).await.unwrap_err(), Failure::Busy);
    assert_eq!((origin.passes().running, origin.passes().websockets), (1, 1));
    drop((held, socket));
    assert_eq!(origin.passes(), Passes::default());
}

#[tokio::test]
async fn a_shortage_of_ours_takes_no_server_down() {
    let origin = origin(config(&["http://192.0.2.1:80"]));
    origin.pick(&[]).unwrap().failed(Failure::Unavailable);
    assert!(origin.servers()[0].healthy);
    origin.pick(&[]).unwrap().failed(Failure::Timeout);
    assert!(!origin.servers()[0].healthy);
}

#[tokio::test]
async fn the_host_field_and_the_limit() {
    let mut config = config(&["http://192.0.2.1:80"]);
    config.max_concurrent_fills = 1;
    config.max_waiting_fills = 0;
    let preserve = origin(config.clone());
    assert_eq!(preserve.host_field("www.example.com:8080"), "www.example.com:8080");
    let permit = preserve.acquire(Priority::Client, far()).await.unwrap();
    assert_eq!((preserve.running(), preserve.waiting()), (1, 0));
    let busy = preserve.acquire(Priority::Background, far()).await.unwrap_err();
    assert_eq!(busy, Failure::Busy);
    drop(permit);
    config.host = HostField::Name("app.internal".to_owned());
    assert_eq!(origin(config).host_field("www.example.com"), "app.internal");
}
