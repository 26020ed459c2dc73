//! The listening sockets: bound before anything runs, so that a port that
//! can't be had is known at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel keeps for us until they are accepted; it cuts this to `somaxconn`.
const BACKLOG: i32 = 4096;

/// Sockets that listen, before the runtime has seen them.
#[derive(Debug)]
pub struct Listeners(Vec<std::net::TcpListener>);

/// A listening address that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error("{0} is in use by another process")]
    InUse(SocketAddr),
    /// Ports below 1024 need a privilege.
    #[error("no permission to listen on {0}")]
    Denied(SocketAddr),
    /// The address is not one of this machine.
    #[error("{0} is not an address of this machine")]
    NotHere(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(SocketAddr, #[source] io::Error),
}

impl Listeners {
    /// Listens on all of `addrs`. Port 0 picks a free one: see [`Listeners::addrs`].
    ///
    /// # Errors
    /// The first address that can't be had; then nothing listens.
    pub fn bind(addrs: &[SocketAddr]) -> Result<Listeners, BindError> {
        let listen = |addr: &SocketAddr| {
            listen(*addr, only_v6(*addr, addrs)).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse(*addr),
                io::ErrorKind::PermissionDenied => BindError::Denied(*addr),
                io::ErrorKind::AddrNotAvailable => BindError::NotHere(*addr),
                _ => BindError::Other(*addr, error),
            })
        };
        addrs.iter().map(listen).collect::<Result<_, _>>().map(Listeners)
    }

    /// The addresses, with the ports that the system picked.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

/// `[::]` takes IPv4 visitors, too, unless `0.0.0.0` is listed beside it.
fn only_v6(addr: SocketAddr, all: &[SocketAddr]) -> bool {
    !addr.ip().is_unspecified()
        || all.contains(&SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()))
}

fn listen(addr: SocketAddr, only_v6: bool) -> io::Result<std::net::TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Or the connections of the process before this one keep the port for minutes.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts from all listeners in turn.
#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Vec<TcpListener>,
    /// Who is asked first, so that a busy listener starves no other.
    first: usize,
}

impl Acceptor {
    /// Hands the listeners to the runtime this is called on.
    pub(super) fn new(listeners: Listeners) -> io::Result<Acceptor> {
        let listeners =
            listeners.0.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?;
        Ok(Acceptor { listeners, first: 0 })
    }

    /// The next connection of any listener.
    pub(super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        for offset in 0..self.listeners.len() {
            let at = (self.first + offset) % self.listeners.len();
            if let Poll::Ready(accepted) = self.listeners[at].poll_accept(cx) {
                self.first = at + 1;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Whether a client waits to be accepted. Where no descriptor is left, accepting
    /// fails before the system looks whether there is any.
    pub(super) fn is_anyone_waiting(&self) -> bool {
        let fds = self.listeners.iter().map(|one| PollFd::new(one, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = fds.collect();
        // An error is no reason to leave somebody out.
        !poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
    }
}

/// Whether accepting failed for want of a resource, so that trying again at once is vain.
/// Anything else concerns one connection that is gone already.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own; the numbers are those of
    // Linux, the BSDs and macOS alike. ENOBUFS differs.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn port_zero_is_learnable_and_a_busy_port_fails_at_once() {
        let first = Listeners::bind(&[addr("127.0.0.1:0"), addr("127.0.0.1:0")]).unwrap();
        let taken = first.addrs();
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|a| a.port() != 0) && taken[0] != taken[1]);
        let error = Listeners::bind(&[addr("127.0.0.1:0"), taken[1]]).unwrap_err();
        assert!(matches!(error, BindError::InUse(a) if a == taken[1]), "{error}");
        assert_eq!(error.to_string(), format!("{} is in use by another process", taken[1]));
    }

    #[test]
    fn an_address_of_another_machine_is_told_apart() {
        // TEST-NET-1, RFC 5737
        let error = Listeners::bind(&[addr("192.0.2.1:0")]).unwrap_err();
        assert!(matches!(error, BindError::NotHere(_)), "{error}");
    }

    #[test]
    fn any_v6_takes_v4_unless_v4_is_listed() {
        let (v4, v6) = (addr("0.0.0.0:80"), addr("[::]:80"));
        assert!(!only_v6(v6, &[v6]));
        assert!(only_v6(v6, &[v6, v4]));
        assert!(!only_v6(v6, &[v6, addr("0.0.0.0:81")]));
        assert!(only_v6(addr("[::1]:80"), &[addr("[::1]:80")]));
    }
}
