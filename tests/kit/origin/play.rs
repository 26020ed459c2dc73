//! The origin at work: a task per connection that reads requests, and does what
//! their turns say.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::super::http1::{Broken, Left, RequestHead, Wire, framing};
use super::{Act, Break, Cue, End, Line, Play, Request, Response, Shared};

/// Accepts until it is aborted.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let id = shared.change(|state| {
            state.connections += 1;
            state.open += 1;
            state.connections - 1
        });
        let shared = Arc::clone(&shared);
        let hang_up = shared.hang_up.subscribe();
        tokio::spawn(async move {
            connection(Wire::new(stream), id, &shared, hang_up).await;
            shared.change(|state| state.open -= 1);
        });
    }
}

/// What becomes of a connection after a turn.
enum Next {
    Keep(Wire),
    Close,
    /// The peer left during the turn.
    Left,
}

/// Serves one connection until either side is done with it.
async fn connection(mut wire: Wire, id: u64, shared: &Shared, mut hang_up: watch::Receiver<u64>) {
    loop {
        let head = tokio::select! {
            head = wire.request_head() => head,
            _ = hang_up.changed() => return,
        };
        let head = match head {
            Ok(head) => head,
            Err(Broken::Garbage(what)) => return shared.complain(format!("garbage: {what}")),
            Err(_) => return,
        };
        shared.change(|state| state.busy += 1);
        let next = request(wire, head, id, shared).await;
        shared.change(|state| state.busy -= 1);
        match next {
            Next::Keep(kept) if !hang_up.has_changed().unwrap_or(true) => wire = kept,
            _ => return,
        }
    }
}

/// Reads the rest of a request and plays its turn.
async fn request(mut wire: Wire, head: RequestHead, connection: u64, shared: &Shared) -> Next {
    check(&head, shared);
    if head.fields.list("expect").iter().any(|e| e == "100-continue")
        && wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err()
    {
        return Next::Left;
    }
    let body = match framing(&head.fields) {
        Ok(left) => wire.body(&mut left.unwrap_or(Left::End)).await,
        Err(error) => Err(error),
    };
    let body = match body {
        Ok(body) => body,
        Err(Broken::Garbage(what)) => {
            shared.complain(format!("garbage in the body: {what}\n{}", head.fields));
            return Next::Close;
        }
        Err(_) => return Next::Left,
    };
    let keep = head.minor == 1 && !head.fields.list("connection").iter().any(|o| o == "close");
    let RequestHead { method, target, fields, .. } = head;
    let request = Request { method, target, fields, body, connection };
    let (play, line) = shared.take(&request);
    let next = perform(wire, play, &line, &request).await;
    let end = if matches!(next, Next::Left) { End::PeerLeft } else { End::Done };
    line.ended.send_replace(Some(end));
    if keep { next } else { Next::Close }
}

/// What every request to an origin must be like, whoever sends it.
fn check(head: &RequestHead, shared: &Shared) {
    let mut wrong = Vec::new();
    if head.fields.all("host").count() != 1 {
        wrong.push("not exactly one Host".to_owned());
    }
    let options = head.fields.list("connection");
    for name in ["proxy-connection", "keep-alive", "te", "trailer", "upgrade"] {
        let announced = options.iter().any(|option| option == name);
        if head.fields.has(name) && !(announced && matches!(name, "te" | "upgrade")) {
            wrong.push(format!("hop-by-hop field {name}"));
        }
    }
    for option in options {
        if !matches!(option.as_str(), "close" | "keep-alive" | "te" | "upgrade")
            && head.fields.has(&option)
        {
            wrong.push(format!("field {option}, which Connection names"));
        }
    }
    if !wrong.is_empty() {
        let RequestHead { method, target, fields, .. } = head;
        shared.complain(format!("{}:\n{method} {target}\n{fields}", wrong.join(", ")));
    }
}

/// Does what the turn says.
async fn perform(mut wire: Wire, play: Play, line: &Line, request: &Request) -> Next {
    match play {
        Play::Reply(response) => reply(wire, response, line, request).await,
        Play::With(handler) => reply(wire, handler(request), line, request).await,
        Play::Act(actor) => act(wire, actor(request), line, request).await,
        Play::Hold(response) => {
            let mut released = line.released.subscribe();
            tokio::select! {
                _ = released.wait_for(|yes| *yes) => {}
                () = wire.gone() => return Next::Left,
            }
            reply(wire, response, line, request).await
        }
        Play::Stream(response) => stream(wire, response, line).await,
        Play::Endless(response, piece) => {
            let head = response.head();
            let piece_on_wire = response.frame(&piece);
            if wire.write(&head).await.is_err() {
                return Next::Left;
            }
            while wire.write(&piece_on_wire).await.is_ok() {
                line.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Next::Left
        }
        Play::Raw(bytes) => {
            let _ = wire.write(&bytes).await;
            Next::Close
        }
        Play::Silent => {
            wire.gone().await;
            Next::Left
        }
        Play::Break(how) => broken(wire, how),
        Play::Echo(response) => echo(wire, &response).await,
    }
}

/// Does what an actor decided.
async fn act(mut wire: Wire, mut act: Act, line: &Line, request: &Request) -> Next {
    while let Act::Gated(gate, then) = act {
        act = *then;
        if let Act::Reply(response) = &mut act
            && wire.write(&response.take_interim()).await.is_err()
        {
            return Next::Left;
        }
        tokio::select! {
            () = gate.opened() => {}
            () = wire.gone() => return Next::Left,
        }
    }
    match act {
        Act::Reply(response) => reply(wire, response, line, request).await,
        Act::Silent => {
            wire.gone().await;
            Next::Left
        }
        Act::Break(how) => broken(wire, how),
        Act::Echo(response) => echo(wire, &response).await,
        Act::Gated(..) => unreachable!("gates were waited for"),
    }
}

/// Answers, and sends back every byte from then on.
async fn echo(mut wire: Wire, response: &Response) -> Next {
    if wire.write(&response.head()).await.is_err() {
        return Next::Left;
    }
    loop {
        let bytes = wire.take_surplus();
        if wire.write(&bytes).await.is_err() || !matches!(wire.more().await, Ok(n) if n > 0) {
            return Next::Left;
        }
    }
}

fn broken(wire: Wire, how: Break) -> Next {
    match how {
        Break::Fin => drop(wire),
        Break::Rst => wire.reset(),
    }
    Next::Close
}

/// Writes a whole response.
async fn reply(mut wire: Wire, response: Response, line: &Line, request: &Request) -> Next {
    let mut bytes = response.head();
    let mut broken_off = None;
    if request.method != "HEAD" && !response.bodiless() {
        match response.break_after {
            Some((after, how)) => {
                bytes.extend(response.frame(&response.body[..after.min(response.body.len())]));
                broken_off = Some(how);
            }
            None => {
                bytes.extend(response.frame(&response.body));
                bytes.extend(response.end());
            }
        }
    }
    if wire.write(&bytes).await.is_err() {
        return Next::Left;
    }
    line.written.fetch_add(response.body.len() as u64, Ordering::Relaxed);
    match broken_off {
        Some(how) => broken(wire, how),
        None if response.closes() => Next::Close,
        None => Next::Keep(wire),
    }
}

/// Writes what the test tells it to.
async fn stream(mut wire: Wire, response: Response, line: &Line) -> Next {
    let taken = line.cues.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut cues) = taken else { return Next::Close };
    let mut bytes = response.head();
    bytes.extend(response.frame(&response.body));
    if wire.write(&bytes).await.is_err() {
        return Next::Left;
    }
    line.written.fetch_add(response.body.len() as u64, Ordering::Relaxed);
    loop {
        let next = tokio::select! {
            next = cues.recv() => next,
            () = wire.gone() => return Next::Left,
        };
        let Some((cue, done)) = next else {
            // The test let go of its hand: the response stays open.
            wire.gone().await;
            return Next::Left;
        };
        let (bytes, size, finish) = match cue {
            Cue::Piece(piece) => (response.frame(&piece), piece.len(), false),
            Cue::Raw(bytes) => (bytes.to_vec(), bytes.len(), false),
            Cue::Finish => (response.end(), 0, true),
            Cue::Break(how) => return broken(wire, how),
        };
        if wire.write(&bytes).await.is_err() {
            return Next::Left;
        }
        line.written.fetch_add(size as u64, Ordering::Relaxed);
        let _ = done.send(());
        if finish {
            return if response.closes() { Next::Close } else { Next::Keep(wire) };
        }
    }
}
