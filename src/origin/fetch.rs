//! The pooled client for fills: where to ask, and when to ask another server.

use std::net::SocketAddr;

use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::v1::client::HttpSession;
use tokio::time::{Instant, timeout_at};

use super::backend::Target;
use super::connect::{MAX_RELIEFS, connect_failure, lacks_descriptors};
use super::exchange::{Exchange, FetchError, detail, exchange};
use super::liveness::Stage;
use super::pool::Connector;
use super::servers::Servers;
use crate::rules::cache_status::Failure;

/// Servers that are tried when connecting fails. A name may have dozens of
/// addresses, and whoever waits for the page waits for every try.
const MAX_SERVERS_TRIED: usize = 3;

/// [`Origin::fetch_with`](super::Origin::fetch_with).
pub(super) async fn fetch(
    servers: &Servers,
    mut request: Box<RequestHeader>,
    deadline: Instant,
    interim: &mut (dyn FnMut(ResponseHeader) + Send),
) -> Result<Exchange, FetchError> {
    for framing in [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE] {
        request.remove_header(&framing);
    }
    let connector = servers.connector();
    let mut failed: Vec<SocketAddr> = Vec::new();
    let mut last = None;
    while failed.len() < MAX_SERVERS_TRIED {
        let target = match servers.target(&failed, deadline).await {
            Ok(target) => target,
            Err(failure) => {
                let none_left = || {
                    let detail = "no server to ask".to_owned();
                    FetchError { failure, stage: Stage::Connect, server: None, detail }
                };
                return Err(last.unwrap_or_else(none_left));
            }
        };
        if let Some(session) = pooled(connector, &target) {
            let mut relayed = false;
            let mut relay = |head: ResponseHeader| {
                relayed = true;
                interim(head);
            };
            let asked =
                exchange(connector, &target, session, request.clone(), deadline, &mut relay);
            match asked.await {
                Err(error) if error.failure == Failure::Reset && !relayed => {}
                done => return done,
            }
        }
        // Boxed: it is large, and most fetches find an idle connection.
        match Box::pin(connect(connector, &target, deadline)).await {
            Ok(session) => {
                return exchange(connector, &target, session, request, deadline, interim).await;
            }
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(error) => {
                failed.push(target.address());
                last = Some(error);
            }
        }
    }
    Err(last.expect("there was at least one try, and it failed"))
}

/// A connection from the pool, if there is one that looks alive.
fn pooled(connector: &Connector, target: &Target) -> Option<Box<HttpSession>> {
    let peer = target.http_peer();
    let stream = connector.reuse(peer)?;
    Some(Box::new(HttpSession::new_with_options(stream, peer)))
}

/// A new connection, TLS included, within `connect_timeout` (which the peer carries).
/// Where there is no descriptor for it, others are asked to give some up.
async fn connect(
    connector: &Connector,
    target: &Target,
    deadline: Instant,
) -> Result<Box<HttpSession>, FetchError> {
    let peer = target.http_peer();
    let fail = |failure, detail| FetchError {
        failure,
        stage: Stage::Connect,
        server: Some(target.address()),
        detail,
    };
    let connect = async {
        let mut reliefs = 0;
        loop {
            match connector.connect(peer).await {
                Err(error) if lacks_descriptors(&error) && reliefs < MAX_RELIEFS => {
                    reliefs += 1;
                    connector.relief().ask().await;
                }
                done => return done,
            }
        }
    };
    match timeout_at(deadline, connect).await {
        Ok(Ok(stream)) => {
            // Before the answer, which may take as long as a render does.
            target.connected();
            Ok(Box::new(HttpSession::new_with_options(stream, peer)))
        }
        Ok(Err(error)) => {
            let failure = connect_failure(&error);
            target.failed(failure);
            Err(fail(failure, detail(&error)))
        }
        // Our deadline, not the server's: it says nothing about its health.
        Err(_elapsed) => Err(fail(Failure::Timeout, "while connecting".to_owned())),
    }
}
