//! A server below HTTP: what it does with each connection is the test's own code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A server on loopback. It ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: Option<AbortHandle>,
    _socket: Option<TcpSocket>,
}

impl Server {
    /// Runs `script` for every connection, counted from 0.
    pub(crate) async fn run<F>(script: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(script(count.fetch_add(1, Ordering::SeqCst), stream));
            }
        });
        Self { address, accepted, task: Some(task.abort_handle()), _socket: None }
    }

    /// Answers every request on every connection, and keeps them open.
    pub(crate) async fn answering(
        answer: impl Fn(String) -> Vec<u8> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::run(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                while let Some(head) = read_head(&mut stream).await {
                    if stream.write_all(&answer(head)).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Holds a port that refuses connections: bound, so that no other test
    /// gets it, but not listening.
    pub(crate) async fn refusing() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = socket.local_addr().expect("bound");
        Self { address, accepted: Arc::default(), task: None, _socket: Some(socket) }
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Reads a head to its empty line; none where the peer leaves before.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("heads of tests are text"))
}

/// Sends a request, and reads what comes until the server closes.
pub(crate) async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("it takes bytes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer of text");
    answer
}
