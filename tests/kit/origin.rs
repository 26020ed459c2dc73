//! The scripted origin: a test queues *turns*, each for one request it expects,
//! and says what the origin does with it. A request that no turn expects fails
//! the test, and so does a turn that no request took.
//!
//! ```ignore
//! let origin = Origin::start().await;
//! origin.on("/p").reply(Response::html("one").cache("s-maxage=60"));
//! let second = origin.on("/p").hold(Response::html("two"));
//! …
//! let request = second.reached().await;   // the request is there, unanswered
//! second.release();                       // now it is answered
//! ```
//!
//! Turns are taken in the order they were queued, by the first request that
//! fits. It speaks raw TCP, so that it can do everything an origin must not.

mod message;
mod play;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::patient;
use message::Framing;
pub(crate) use message::{Break, Request, Response};

type Handler = Arc<dyn Fn(&Request) -> Response + Send + Sync>;
type Actor = Arc<dyn Fn(&Request) -> Act + Send + Sync>;
type Predicate = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// What an origin does with a request, where it decides when the request is there
/// (see [`Origin::act`]).
#[derive(Clone)]
pub(crate) enum Act {
    /// Answers.
    Reply(Response),
    /// Does it when the gate opens; the 1xx responses of an answer go at once.
    Gated(Gate, Box<Act>),
    /// Says nothing until the peer leaves.
    Silent,
    /// Breaks the connection off without a byte.
    Break(Break),
    /// Answers (with 101, say) and from then on sends back every byte it gets.
    Echo(Response),
}

/// Holds answers back until it opens. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// Lets through what waits, and all that comes.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Comes back when it is open.
    pub(super) async fn opened(&self) {
        // The sender lives in self.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// What the origin does with a request.
#[derive(Clone)]
enum Play {
    Reply(Response),
    With(Handler),
    Act(Actor),
    Hold(Response),
    Stream(Response),
    Endless(Response, Bytes),
    Raw(Bytes),
    Silent,
    Break(Break),
    Echo(Response),
}

/// What a test tells a streaming turn.
enum Cue {
    Piece(Bytes),
    Raw(Bytes),
    Finish,
    Break(Break),
}

/// A cue, and where to say that it was carried out.
type Message = (Cue, oneshot::Sender<()>);

/// What a turn and its handle share.
#[derive(Default)]
struct Line {
    reached: watch::Sender<Option<Request>>,
    released: watch::Sender<bool>,
    ended: watch::Sender<Option<End>>,
    written: AtomicU64,
    cues: Mutex<Option<mpsc::Receiver<Message>>>,
}

/// How a turn ended, as the origin saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did all it was to do.
    Done,
    /// The peer closed or reset the connection before.
    PeerLeft,
}

struct Expected {
    what: String,
    fits: Predicate,
    /// How many requests it still takes; none: any number, from none on.
    left: Option<usize>,
    play: Play,
    line: Arc<Line>,
}

#[derive(Default)]
struct State {
    expected: Vec<Expected>,
    fallback: Option<Play>,
    requests: Vec<Request>,
    complaints: Vec<String>,
    connections: u64,
    open: usize,
    busy: usize,
}

struct Shared {
    state: Mutex<State>,
    /// Counts every change of `state`.
    changed: watch::Sender<u64>,
    /// Counts the times that idle connections were told to close.
    hang_up: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.state());
        self.changed.send_modify(|n| *n += 1);
        value
    }

    fn complain(&self, what: String) {
        self.change(|state| state.complaints.push(what));
    }

    /// Records a request and takes the turn that expects it.
    fn take(&self, request: &Request) -> (Play, Arc<Line>) {
        self.change(|state| {
            state.requests.push(request.clone());
            let fits = |e: &Expected| e.left != Some(0) && (e.fits)(request);
            // Counted turns in their order, then the newest of those that always stand.
            let counted = state.expected.iter().position(|e| e.left.is_some() && fits(e));
            let found = counted
                .or_else(|| state.expected.iter().rposition(|e| e.left.is_none() && fits(e)));
            if let Some(found) = found {
                let turn = &mut state.expected[found];
                turn.left = turn.left.map(|n| n - 1);
                turn.line.reached.send_replace(Some(request.clone()));
                return (turn.play.clone(), Arc::clone(&turn.line));
            }
            if let Some(play) = &state.fallback {
                return (play.clone(), Arc::default());
            }
            state.complaints.push(format!("unexpected request:\n{request}"));
            (Play::Reply(Response::status(500).body("unexpected request")), Arc::default())
        })
    }
}

/// A scripted origin on a port of its own.
pub(crate) struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// Bound and never listening: keeps the port ours while connections are refused.
    _port: Socket,
}

impl Origin {
    /// Starts an origin to which any request is unexpected until a turn says otherwise.
    pub(crate) async fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let port = bind(any);
        let addr = port.local_addr().expect("bound").as_socket().expect("an IP address");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: watch::Sender::default(),
            hang_up: watch::Sender::default(),
        });
        let origin = Self { addr, shared, accepting: tokio::sync::Mutex::new(None), _port: port };
        origin.accept().await;
        origin
    }

    /// Starts an origin that answers every request that no turn expects with `handler`.
    pub(crate) async fn serve(
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let origin = Self::start().await;
        origin.shared.state().fallback = Some(Play::With(Arc::new(handler)));
        origin
    }

    /// Starts an origin that does with every request that no turn expects what
    /// `actor` says.
    pub(crate) async fn act(actor: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let origin = Self::start().await;
        origin.shared.state().fallback = Some(Play::Act(Arc::new(actor)));
        origin
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Refuses connections from now on, and closes those that are idle.
    pub(crate) async fn refuse(&self) {
        if let Some(accepting) = self.accepting.lock().await.take() {
            accepting.abort();
            // Comes back when the listener is dropped, that is, closed.
            let _ = accepting.await;
        }
        self.hang_up().await;
    }

    /// Accepts connections again, on the same port.
    pub(crate) async fn accept(&self) {
        let mut accepting = self.accepting.lock().await;
        if accepting.is_some() {
            return;
        }
        let socket = bind(self.addr);
        socket.listen(16 * 1024).expect("listens on its own port");
        let listener = TcpListener::from_std(socket.into()).expect("within a tokio runtime");
        *accepting = Some(tokio::spawn(play::accept(listener, Arc::clone(&self.shared))));
    }

    /// Closes every connection that waits for its next request.
    pub(crate) async fn hang_up(&self) {
        self.shared.hang_up.send_modify(|n| *n += 1);
        self.until("idle connections to close", |state| (state.open == state.busy).then_some(()))
            .await;
    }

    /// Begins a turn for a request to `target`: a path, or a path and query.
    pub(crate) fn on(&self, target: &str) -> On<'_> {
        let with_query = target.contains('?');
        let target = target.to_owned();
        let what = target.clone();
        let fits = move |r: &Request| {
            if with_query { r.target == target } else { r.path() == target }
        };
        On { origin: self, what, fits: Arc::new(fits), times: Some(1) }
    }

    /// Begins a turn for any request.
    pub(crate) fn any(&self) -> On<'_> {
        On { origin: self, what: "any request".into(), fits: Arc::new(|_| true), times: Some(1) }
    }

    /// Every request so far, in the order their heads were complete.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// How many requests came for a path.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.shared.state().requests.iter().filter(|request| request.path() == path).count()
    }

    /// How many requests came.
    pub(crate) fn total(&self) -> usize {
        self.shared.state().requests.len()
    }

    /// Waits until `n` requests came in all, and gives the `n`th.
    pub(crate) async fn wait_for(&self, n: usize) -> Request {
        self.until(format!("request {n} to the origin"), |state| state.requests.get(n - 1).cloned())
            .await
    }

    /// How many connections were ever made.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// Waits until no connection is open.
    pub(crate) async fn wait_closed(&self) {
        self.until("all connections to close", |state| (state.open == 0).then_some(())).await;
    }

    async fn until<T>(&self, what: impl fmt::Display, probe: impl Fn(&State) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                if let Some(value) = probe(&self.shared.state()) {
                    return value;
                }
                changed.changed().await.expect("the sender lives in the origin");
            }
        };
        patient(what, waiting).await
    }

    /// Fails the test when a request came that no turn expected.
    #[track_caller]
    pub(crate) fn check(&self) {
        let complaints = self.shared.state().complaints.clone();
        assert!(complaints.is_empty(), "the origin complains: {}", complaints.join("\n"));
    }

    /// Forgets its complaints and turns, and gives the complaints: for tests of the origin.
    pub(crate) fn forgive(&self) -> Vec<String> {
        let mut state = self.shared.state();
        state.expected.clear();
        std::mem::take(&mut state.complaints)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.get_mut().take() {
            accepting.abort();
        }
        if std::thread::panicking() {
            return;
        }
        self.check();
        for turn in &self.shared.state().expected {
            let left = turn.left.unwrap_or(0);
            assert!(left == 0, "no request took the turn {:?} ({left} left)", turn.what);
        }
    }
}

/// A socket on `addr`, not listening yet.
fn bind(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.set_nonblocking(true).expect("non-blocking");
    socket.bind(&addr.into()).expect("a port of its own");
    socket
}

/// Which request a turn is for. Nothing is queued before one of the methods
/// that say what the origin does.
pub(crate) struct On<'a> {
    origin: &'a Origin,
    what: String,
    fits: Predicate,
    times: Option<usize>,
}

impl On<'_> {
    /// Only for this method.
    pub(crate) fn method(self, method: &'static str) -> Self {
        self.when(method, move |request| request.method == method)
    }

    /// Only where the field of that name contains `part`, in any case.
    pub(crate) fn with(self, name: &'static str, part: &'static str) -> Self {
        self.when(&format!("with {name}: {part}"), move |request| {
            let part = part.to_ascii_lowercase();
            request.fields.all(name).any(|value| value.to_ascii_lowercase().contains(&part))
        })
    }

    /// Only where this holds; `what` names it when the test fails.
    pub(crate) fn when(
        mut self,
        what: &str,
        fits: impl Fn(&Request) -> bool + Send + Sync + 'static,
    ) -> Self {
        let before = self.fits;
        self.what = format!("{} {what}", self.what);
        self.fits = Arc::new(move |request| before(request) && fits(request));
        self
    }

    /// For so many requests, instead of one.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// For any number of requests, from none on.
    pub(crate) fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Answers.
    pub(crate) fn reply(self, response: Response) -> Turn {
        self.play(Play::Reply(response))
    }

    /// Answers with what `handler` makes of the request.
    pub(crate) fn reply_with(
        self,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Turn {
        self.play(Play::With(Arc::new(handler)))
    }

    /// Answers when the test calls [`Turn::release`].
    pub(crate) fn hold(self, response: Response) -> Turn {
        self.play(Play::Hold(response))
    }

    /// Sends head and body so far; the test sends the rest with [`Turn::send`]
    /// and ends it with [`Turn::finish`] or [`Turn::break_off`]. Chunked, or
    /// until close where the response says so.
    pub(crate) fn stream(self, mut response: Response) -> Turn {
        assert!(self.times == Some(1), "a streaming turn is for one request");
        if response.framing == Framing::Length {
            response = response.chunked();
        }
        self.play(Play::Stream(response))
    }

    /// Sends `piece` again and again until the peer leaves; see [`Turn::written`].
    pub(crate) fn endless(self, response: Response, piece: impl Into<Bytes>) -> Turn {
        self.play(Play::Endless(response.chunked(), piece.into()))
    }

    /// Sends these bytes and closes.
    pub(crate) fn raw(self, bytes: impl Into<Bytes>) -> Turn {
        self.play(Play::Raw(bytes.into()))
    }

    /// Says nothing until the peer leaves.
    pub(crate) fn silence(self) -> Turn {
        self.play(Play::Silent)
    }

    /// Breaks the connection off without a byte.
    pub(crate) fn break_off(self, how: Break) -> Turn {
        self.play(Play::Break(how))
    }

    /// Answers (with 101, say) and from then on sends back every byte it gets.
    pub(crate) fn echo(self, response: Response) -> Turn {
        self.play(Play::Echo(response))
    }

    fn play(self, play: Play) -> Turn {
        let (cue, cues) = mpsc::channel(1);
        let line = Arc::new(Line { cues: Mutex::new(Some(cues)), ..Line::default() });
        let turn = Turn { what: self.what.clone(), line: Arc::clone(&line), cue };
        let expected = Expected { what: self.what, fits: self.fits, left: self.times, play, line };
        self.origin.shared.change(|state| state.expected.push(expected));
        turn
    }
}

/// The test's hand on a turn. Dropping it changes nothing: what was held stays
/// held, what was streaming stays open.
pub(crate) struct Turn {
    what: String,
    line: Arc<Line>,
    cue: mpsc::Sender<Message>,
}

impl Turn {
    /// Waits until a request took the turn, and gives it.
    pub(crate) async fn reached(&self) -> Request {
        let mut reached = self.line.reached.subscribe();
        let request =
            patient(format!("a request for {:?}", self.what), reached.wait_for(Option::is_some));
        let request = request.await.expect("the sender lives in the turn").clone();
        request.expect("waited for it")
    }

    /// Whether a request took the turn already.
    pub(crate) fn is_reached(&self) -> bool {
        self.line.reached.borrow().is_some()
    }

    /// Lets a held answer go.
    pub(crate) fn release(&self) {
        self.line.released.send_replace(true);
    }

    /// Sends a piece of the body; comes back when the peer's kernel has room for it.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) {
        self.tell("a piece to be sent", Cue::Piece(piece.into())).await;
    }

    /// Sends bytes as they are, whatever the framing.
    pub(crate) async fn send_raw(&self, bytes: impl Into<Bytes>) {
        self.tell("bytes to be sent", Cue::Raw(bytes.into())).await;
    }

    /// Ends the body as it should be.
    pub(crate) async fn finish(&self) {
        self.tell("the end to be sent", Cue::Finish).await;
    }

    /// Breaks the response off.
    pub(crate) async fn break_off(&self, how: Break) {
        self.tell("the connection to be broken off", Cue::Break(how)).await;
    }

    async fn tell(&self, what: &str, cue: Cue) {
        let (done, is_done) = oneshot::channel();
        patient(format!("{what} on {:?}", self.what), async {
            let _ = self.cue.send((cue, done)).await;
            // Fails where the peer has left meanwhile: `ended` tells.
            let _ = is_done.await;
        })
        .await;
    }

    /// Waits for the end of the turn.
    pub(crate) async fn ended(&self) -> End {
        let mut ended = self.line.ended.subscribe();
        let end = patient(
            format!("the end of the turn {:?}", self.what),
            ended.wait_for(Option::is_some),
        );
        end.await.expect("the sender lives in the turn").expect("waited for it")
    }

    /// Bytes of the body that the kernel took so far.
    pub(crate) fn written(&self) -> u64 {
        self.line.written.load(Ordering::Relaxed)
    }
}
