//! Why connecting failed. Where there are no descriptors, ports or memory left for another
//! connection, that says nothing of the server.

use std::error::Error;
use std::io;

use pingora::{Error as PingoraError, ErrorType};

use crate::rules::cache_status::Failure;

/// How often a request asks for a descriptor to connect with, before it is told that
/// there is none.
pub const MAX_RELIEFS: usize = 3;

/// What connecting fails with where the process or the machine has run out of
/// something: descriptors, ports towards that address, buffers, memory.
const SHORTAGES: [i32; 5] =
    [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM];

/// Of these, what somebody else can give up.
const DESCRIPTORS: [i32; 2] = [libc::EMFILE, libc::ENFILE];

/// What an error of pingora's from connecting (`fail_to_connect`) means. A server that does
/// not answer in time is a timeout, as with nginx (504); what we ran out of ourselves is no
/// fault of the server's: [`Failure::Unavailable`].
#[must_use]
pub fn connect_failure(error: &PingoraError) -> Failure {
    if is_local(error) {
        return Failure::Unavailable;
    }
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Failure::Timeout,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSWantX509Lookup
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => Failure::Tls,
        _ => Failure::Connect,
    }
}

/// Whether connecting failed for want of something of ours.
pub(super) fn is_local(error: &PingoraError) -> bool {
    is_one_of(error, &SHORTAGES)
}

/// Whether connecting failed because there was no descriptor to connect with
/// (`fail_to_connect`).
#[must_use]
pub fn lacks_descriptors(error: &PingoraError) -> bool {
    is_one_of(error, &DESCRIPTORS)
}

fn is_one_of(error: &PingoraError, codes: &[i32]) -> bool {
    system_error(error).and_then(io::Error::raw_os_error).is_some_and(|n| codes.contains(&n))
}

/// The system's error that is behind one of pingora's.
fn system_error(error: &PingoraError) -> Option<&io::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error.root_cause());
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use pingora::upstreams::peer::HttpPeer;
    use pingora::{Error, ErrorType};

    use super::super::tests::{Server, connector};
    use super::*;

    /// As pingora wraps them when it connects.
    fn wrapped(code: i32) -> Box<Error> {
        let system = io::Error::from_raw_os_error(code);
        let inner = Error::because(ErrorType::SocketError, "failed to create socket", system);
        Error::because(ErrorType::InternalError, "Fail to connect", inner).into_up()
    }

    #[test]
    fn which_errors_are_ours() {
        for code in SHORTAGES {
            assert!(is_local(&wrapped(code)), "{code}");
            assert_eq!(lacks_descriptors(&wrapped(code)), DESCRIPTORS.contains(&code), "{code}");
        }
        for code in [libc::ECONNREFUSED, libc::ECONNRESET, libc::ETIMEDOUT, libc::EHOSTUNREACH] {
            assert!(!is_local(&wrapped(code)), "{code}");
        }
        assert!(!is_local(&Error::new(ErrorType::ConnectTimedout)));
    }

    /// A shortage as the system has it: no address to connect from.
    #[tokio::test]
    async fn one_that_the_system_makes() {
        let server = Server::answering(|_| Vec::new()).await;
        let mut peer = HttpPeer::new(server.address, false, String::new());
        let mut from = pingora::connectors::l4::BindTo::default();
        from.addr = Some(SocketAddr::from(([192, 0, 2, 1], 0)));
        peer.options.bind_to = Some(from);
        let error = connector().connect(&peer).await.expect_err("nobody has that address");
        assert!(is_local(&error), "{error}");
        let refused = Server::refusing().await;
        let peer = HttpPeer::new(refused.address, false, String::new());
        let error = connector().connect(&peer).await.expect_err("nobody listens");
        assert!(!is_local(&error), "{error}");
    }
}
