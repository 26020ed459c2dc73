//! Connections to an origin on which a request may become a tunnel (101).
//!
//! pingora learns from two sides at once, in an order drawn at random, that the
//! request has no body and that the origin has answered. Where it sees the
//! answer first, it takes the end of the body, which it sees then, for the end
//! of the tunnel, and closes it. An origin next door is fast enough for that to
//! happen to one tunnel in ten. So on these connections an answer can be seen
//! only one turn after something was written: by then the end of the body,
//! which needs no waiting for, has been.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Lets requests to `peer` become tunnels. `timeout` is for connecting.
pub(crate) fn may_open(peer: &mut HttpPeer, timeout: Duration) {
    let options = &mut peer.options;
    options.custom_l4 = Some(Arc::new(Connector { timeout }));
    // Where the origin does not switch, the connection serves nobody else.
    options.idle_timeout = Some(Duration::from_millis(1));
    peer.group_key = fastrand::u64(..);
}

#[derive(Debug)]
struct Connector {
    timeout: Duration,
}

#[async_trait]
impl Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "a tunnel needs TCP");
        };
        match tokio::time::timeout(self.timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let socket = Box::new(OneTurnLater { stream, wrote: false });
                Ok(Stream::from(VirtualSocketStream::new(socket)))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Error::e_because(ErrorType::ConnectRefused, "connecting for a tunnel", error)
            }
            Ok(Err(error)) => {
                Error::e_because(ErrorType::ConnectError, "connecting for a tunnel", error)
            }
            Err(_) => Error::e_explain(ErrorType::ConnectTimedout, "connecting for a tunnel"),
        }
    }
}

/// What can be read after something was written can be read one turn later.
#[derive(Debug)]
struct OneTurnLater {
    stream: TcpStream,
    /// Since the last try to read.
    wrote: bool,
}

impl AsyncRead for OneTurnLater {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.wrote) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for OneTurnLater {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wrote = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl VirtualSocket for OneTurnLater {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.set_nodelay(true),
            VirtualSockOpt::KeepAlive(wanted) => {
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(wanted.idle)
                    .with_interval(wanted.interval)
                    .with_retries(u32::try_from(wanted.count).unwrap_or(u32::MAX));
                socket2::SockRef::from(&self.stream).set_tcp_keepalive(&keepalive)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_seen_a_turn_after_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut origin, _) = listener.accept().await.unwrap();
        let mut socket = OneTurnLater { stream, wrote: false };
        for _ in 0..3 {
            socket.write_all(b"a").await.unwrap();
            assert_eq!(origin.read_u8().await.unwrap(), b'a');
            origin.write_all(b"b").await.unwrap();
            socket.stream.readable().await.unwrap();
            let mut turns = 0;
            let mut byte = [0];
            let mut read = ReadBuf::new(&mut byte);
            poll_fn(|cx| {
                turns += 1;
                Pin::new(&mut socket).poll_read(cx, &mut read)
            })
            .await
            .unwrap();
            assert_eq!((turns, read.filled()), (2, &b"b"[..]));
        }
    }

    #[tokio::test]
    async fn who_is_not_there_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let connector = Connector { timeout: Duration::from_secs(20) };
        let error = connector.connect(&SocketAddr::Inet(address)).await.unwrap_err();
        assert_eq!(error.etype(), &ErrorType::ConnectRefused);
    }
}
