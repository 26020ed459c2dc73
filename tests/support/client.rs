//! The client: an HTTP/1.1 client over raw TCP that reads strictly and checks
//! the invariants of *every* response ([`check`]), so that a leaked field or a
//! wrong length fails a hundred tests.
//!
//! ```ignore
//! let client = edge.client();
//! let page = client.get("/p").header("Accept", "application/json").await;
//! page.is(200, "MISS", "one");
//! ```

use std::fmt;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use super::check;
use super::http1::{Broken, Fields, Left, ResponseHead, Wire, framing};
use super::patient;

/// Which invariants hold for what a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checks {
    /// The peer is Perennial: all of [`check`]; otherwise only HTTP/1.1 itself.
    pub(crate) edge: bool,
    /// The route is `ssr` or `pass`: fields for other caches may stay.
    pub(crate) ssr: bool,
    /// The route says `forward_tags`.
    pub(crate) tags: bool,
    /// The route says `browser:`, so no `Age` is sent.
    pub(crate) browser: bool,
}

/// A client. Clones share their idle connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    addr: SocketAddr,
    host: String,
    checks: Checks,
    idle: Arc<Mutex<Vec<Wire>>>,
}

impl Client {
    /// A client of Perennial, on a page route unless it says otherwise.
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let checks = Checks { edge: true, ssr: false, tags: false, browser: false };
        Self { addr, host: "example.com".into(), checks, idle: Arc::default() }
    }

    /// The same, asking any HTTP server: only the rules of HTTP/1.1 are checked.
    pub(crate) fn plain(mut self) -> Self {
        self.checks.edge = false;
        self
    }

    /// The same, on an `ssr` or `pass` route.
    pub(crate) fn ssr(mut self) -> Self {
        self.checks.ssr = true;
        self
    }

    /// The same, on a route with `forward_tags: true`.
    pub(crate) fn tags_forwarded(mut self) -> Self {
        self.checks.tags = true;
        self
    }

    /// The same, on a route with `browser:`.
    pub(crate) fn browser_route(mut self) -> Self {
        self.checks.browser = true;
        self
    }

    /// The same, asking for another host.
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Begins a request. Await it, or call [`Ask::stream`] or [`Ask::outcome`].
    pub(crate) fn ask(&self, method: &str, target: &str) -> Ask {
        Ask {
            client: self.clone(),
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Fields::default(),
            body: Bytes::new(),
            chunked: false,
            narrow: false,
        }
    }

    /// Begins a GET.
    pub(crate) fn get(&self, target: &str) -> Ask {
        self.ask("GET", target)
    }

    /// Begins a HEAD.
    pub(crate) fn head(&self, target: &str) -> Ask {
        self.ask("HEAD", target)
    }

    /// Begins a POST.
    pub(crate) fn post(&self, target: &str, body: impl Into<Bytes>) -> Ask {
        self.ask("POST", target).body(body)
    }

    /// Opens a connection of its own, for raw bytes and pipelining.
    pub(crate) async fn connect(&self) -> Connection {
        Connection { wire: Some(self.open(false).await), client: self.clone() }
    }

    async fn open(&self, narrow: bool) -> Wire {
        let socket = TcpSocket::new_v4().expect("a socket");
        if narrow {
            // The kernel makes of it the least it has: a client who does not
            // read is felt by the server after a few KiB.
            socket.set_recv_buffer_size(1).expect("SO_RCVBUF");
        }
        let connected =
            patient(format!("a connection to {}", self.addr), socket.connect(self.addr));
        Wire::new(connected.await.unwrap_or_else(|e| panic!("connecting to {}: {e}", self.addr)))
    }

    fn take_idle(&self) -> Option<Wire> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep_idle(&self, wire: Wire) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(wire);
    }
}

/// A request being made.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    client: Client,
    pub(crate) method: String,
    target: String,
    pub(crate) fields: Fields,
    body: Bytes,
    chunked: bool,
    narrow: bool,
}

impl Ask {
    /// With one more field. A `Host` replaces the client's.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push(name, value);
        self
    }

    /// With a body, and its `Content-Length`.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With its body chunked.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Over a connection of its own whose receive buffer holds next to nothing.
    pub(crate) fn narrow(mut self) -> Self {
        self.narrow = true;
        self
    }

    /// The request as it goes over the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.fields.has("host") {
            out.put_slice(format!("Host: {}\r\n", self.client.host).as_bytes());
        }
        for (name, value) in self.fields.iter() {
            out.put_slice(name.as_bytes());
            out.put_slice(b": ");
            out.put_slice(value);
            out.put_slice(b"\r\n");
        }
        if self.chunked {
            out.put_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in self.body.chunks(1000) {
                out.put_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                out.put_slice(piece);
                out.put_slice(b"\r\n");
            }
            out.put_slice(b"0\r\n\r\n");
            return out;
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            out.put_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.put_slice(b"\r\n");
        out.put_slice(&self.body);
        out
    }

    /// Sends the request and reads the head of its answer; the body is the test's to read.
    pub(crate) async fn stream(self) -> Stream {
        let shown = self.to_string();
        match patient(format!("the head of the answer to {shown}"), self.start()).await {
            Ok(stream) => stream,
            Err(broken) => panic!("{shown}: {broken:?}"),
        }
    }

    /// The whole answer, or how it broke off.
    pub(crate) async fn outcome(self) -> Result<Response, Broken> {
        let shown = self.to_string();
        patient(format!("the answer to {shown}"), async { self.start().await?.whole().await }).await
    }

    /// The head of the answer, or how it broke off.
    pub(crate) async fn begin(self) -> Result<Stream, Broken> {
        let shown = self.to_string();
        patient(format!("the head of the answer to {shown}"), self.start()).await
    }

    async fn start(self) -> Result<Stream, Broken> {
        let bytes = self.to_bytes();
        while !self.narrow
            && let Some(wire) = self.client.take_idle()
        {
            // An idle connection may be closed by the time it is used.
            match self.send(wire, &bytes).await {
                Err(Broken::Nothing | Broken::Failed(_)) => {}
                answer => return answer,
            }
        }
        let wire = self.client.open(self.narrow).await;
        self.send(wire, &bytes).await
    }

    async fn send(&self, mut wire: Wire, bytes: &[u8]) -> Result<Stream, Broken> {
        wire.write(bytes).await?;
        Stream::begin(wire, self.clone()).await
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        for (name, value) in self.fields.iter() {
            write!(f, " [{name}: {}]", value.escape_ascii())?;
        }
        Ok(())
    }
}

impl IntoFuture for Ask {
    type Output = Response;
    type IntoFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async {
            let shown = self.to_string();
            self.outcome().await.unwrap_or_else(|broken| panic!("{shown}: {broken:?}"))
        })
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) body: Bytes,
    /// The 1xx responses before it.
    pub(crate) interim: Vec<(u16, Fields)>,
    asked: String,
}

impl Response {
    /// The first field of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|_| panic!("not text:\n{self}"))
    }

    /// `X-Cache`, or nothing where there is none.
    pub(crate) fn x_cache(&self) -> &str {
        self.header("x-cache").unwrap_or_default()
    }

    /// `Cache-Status`, or nothing where there is none.
    pub(crate) fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or_default()
    }

    /// `Age` in seconds.
    pub(crate) fn age(&self) -> Option<u64> {
        self.header("age").map(|age| age.parse().unwrap_or_else(|_| panic!("no age:\n{self}")))
    }

    /// Fails the test unless status, `X-Cache` and body are these.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, x_cache: &str, body: &str) -> &Self {
        let right = self.status == status
            && self.x_cache() == x_cache
            && self.body.as_ref() == body.as_bytes();
        assert!(right, "expected {status} {x_cache} {body:?}, got\n{self}");
        self
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n→ {}\n{}", self.asked, self.status, self.fields)?;
        let shown = &self.body[..self.body.len().min(500)];
        write!(f, "{} bytes: {}", self.body.len(), shown.escape_ascii())
    }
}

/// A response whose body is read piece by piece. Dropping it leaves: the
/// connection closes.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) status: u16,
    pub(crate) fields: Fields,
    pub(crate) interim: Vec<(u16, Fields)>,
    wire: Wire,
    left: Left,
    keep: bool,
    ask: Ask,
}

impl Stream {
    /// Reads the head of the answer to `ask`, and checks it.
    async fn begin(mut wire: Wire, ask: Ask) -> Result<Self, Broken> {
        let mut interim = Vec::new();
        let head = loop {
            match wire.response_head().await? {
                head if head.status < 200 && head.status != 101 => {
                    let bodiless = framing(&head.fields) == Ok(None);
                    assert!(bodiless, "{ask}: {} with framing", head.status);
                    interim.push((head.status, head.fields));
                }
                head => break head,
            }
        };
        let ResponseHead { status, minor, ref fields } = head;
        let framed = framing(fields)?;
        let options = fields.list("connection");
        let close = options.iter().any(|option| option == "close")
            || (minor == 0 && !options.iter().any(|option| option == "keep-alive"));
        let left = match framed {
            _ if ask.method == "HEAD" || matches!(status, 204 | 304) => Left::End,
            // The connection is no longer HTTP/1.1: its bytes are the test's.
            None if status == 101 => Left::UntilClose,
            Some(left) => left,
            None if close => Left::UntilClose,
            None => return Err(Broken::Garbage(format!("no framing:\n{fields}"))),
        };
        if status == 204 && framed.is_some() {
            return Err(Broken::Garbage(format!("204 with framing:\n{fields}")));
        }
        if ask.client.checks.edge {
            let wrong = check::head(&ask, ask.client.checks, &head);
            assert!(wrong.is_empty(), "{ask}: {}\n{status}\n{fields}", wrong.join("; "));
        }
        let keep = !close && left != Left::UntilClose;
        Ok(Self { status, fields: head.fields, interim, wire, left, keep, ask })
    }

    /// The first field of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The next piece of the body as it arrives; none at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        self.at_most(usize::MAX).await
    }

    /// The next byte of the body.
    pub(crate) async fn byte(&mut self) -> Option<u8> {
        let byte = self.at_most(1).await;
        byte.unwrap_or_else(|broken| panic!("{}: {broken:?}", self.ask)).map(|bytes| bytes[0])
    }

    async fn at_most(&mut self, most: usize) -> Result<Option<Bytes>, Broken> {
        let what = format!("a piece of the answer to {}", self.ask);
        patient(what, self.wire.piece(&mut self.left, most)).await
    }

    /// Waits for these bytes, however they are cut.
    pub(crate) async fn expect(&mut self, wanted: impl AsRef<[u8]>) {
        let wanted = wanted.as_ref();
        let mut got = BytesMut::new();
        while got.len() < wanted.len() {
            match self.at_most(wanted.len() - got.len()).await {
                Ok(Some(piece)) => got.extend_from_slice(&piece),
                end => panic!("{}: {end:?} after {got:?}, waiting for {wanted:?}", self.ask),
            }
        }
        assert_eq!(got, wanted, "{}", self.ask);
    }

    /// The rest of the body, or how it broke off.
    pub(crate) async fn rest(self) -> Result<Bytes, Broken> {
        let what = format!("the rest of the answer to {}", self.ask);
        patient(what, self.whole()).await.map(|response| response.body)
    }

    /// Writes on a connection that was upgraded.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.wire.write(bytes).await.expect("the connection takes bytes");
    }

    /// Leaves with a RST.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }

    async fn whole(mut self) -> Result<Response, Broken> {
        let body = self.wire.body(&mut self.left).await?;
        let (keep, ask) = (self.keep, self.ask.clone());
        let (response, mut wire) = self.done(body);
        if !keep {
            patient(format!("the close after {ask}"), wire.gone()).await;
        }
        let surplus = wire.surplus();
        assert!(surplus.is_empty(), "{ask}: bytes beyond the answer: {surplus:?}");
        if keep && !ask.narrow {
            ask.client.keep_idle(wire);
        }
        Ok(response)
    }

    /// The whole response, checked.
    fn done(self, body: Bytes) -> (Response, Wire) {
        let Self { status, fields, interim, wire, ask, .. } = self;
        let response = Response { status, fields, body, interim, asked: ask.to_string() };
        if ask.client.checks.edge {
            let wrong = check::body(&ask, &response);
            assert!(wrong.is_empty(), "{}\n{response}", wrong.join("; "));
        }
        (response, wire)
    }
}

/// A connection for raw bytes, pipelining and half closing.
#[derive(Debug)]
pub(crate) struct Connection {
    /// None after an answer that broke off.
    wire: Option<Wire>,
    client: Client,
}

impl Connection {
    /// Writes bytes as they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.wire().write(bytes.as_ref()).await;
        sent.expect("the connection takes bytes");
    }

    /// Reads the next answer, which is to a request of this method.
    pub(crate) async fn answer(&mut self, method: &str) -> Result<Response, Broken> {
        let ask = self.client.ask(method, "(raw)");
        let wire = self.wire.take().expect("the last answer did not break off");
        patient("an answer on a raw connection", async {
            let mut stream = Stream::begin(wire, ask).await?;
            let body = stream.wire.body(&mut stream.left).await?;
            let (response, wire) = stream.done(body);
            self.wire = Some(wire);
            Ok(response)
        })
        .await
    }

    /// Waits for exactly these bytes, and takes them.
    pub(crate) async fn expect(&mut self, wanted: &str) {
        let wire = self.wire();
        while wire.surplus().len() < wanted.len() {
            let more = patient(format!("{wanted:?}"), wire.more()).await;
            assert!(more.is_ok_and(|n| n > 0), "the server closed before {wanted:?}");
        }
        let rest = wire.split_off(wanted.len());
        assert_eq!(rest, wanted.as_bytes());
    }

    /// Closes the sending side.
    pub(crate) async fn half_close(&mut self) {
        self.wire().stream.shutdown().await.expect("the connection is open");
    }

    /// Waits until the server closes, and gives what it sent before.
    pub(crate) async fn until_closed(mut self) -> Bytes {
        patient("the server to close", self.wire().gone()).await;
        self.wire().take_surplus()
    }

    /// Leaves with a RST.
    pub(crate) fn reset(self) {
        self.wire.expect("the last answer did not break off").reset();
    }

    fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("the last answer did not break off")
    }
}
