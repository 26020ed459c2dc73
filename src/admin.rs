//! What operators ask, on a listener of its own: `/metrics`, `/healthz`, `/readyz`.
//!
//! By default it listens on loopback. It never touches a page, a route or a
//! client, and needs nothing of the rest but a [`Metrics`] to render and a
//! [`Readiness`] to ask. Many slow connections can't hurt it: there are few
//! places, each has a deadline, and when all are taken one is given up for who
//! comes: of those who said nothing yet the first, or the first of all.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::metrics::Metrics;

/// Connections at once. Scrapers and probes are few, and each connection carries
/// one request.
const MAX_CONNECTIONS: usize = 32;

/// How long a connection may take for all of it, from accept to the last byte.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of a request head; hyper's smallest.
const MAX_HEAD: usize = 8192;

/// How long accepting rests after an error, most often: no descriptors left.
const REST: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
/// The text format that [`Metrics::render`] writes.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the rest of the program says about itself.
pub trait Readiness: Send + Sync + 'static {
    /// What does not work as it should while pages are served all the same,
    /// in a few words each, for example `origin web: breaker open`.
    fn degraded(&self) -> Vec<String>;

    /// Requests in flight end, and no new ones are taken.
    fn draining(&self) -> bool;

    /// Clients can't connect yet.
    fn starting(&self) -> bool {
        false
    }
}

/// The bound listener, not yet served.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Admin {
    /// Binds, so that a busy port is known before anything is served. Port 0
    /// picks a free one. Needs the context of a tokio runtime.
    ///
    /// # Errors
    /// When the address is in use, not ours, or needs a privilege.
    pub fn bind(addr: SocketAddr) -> io::Result<Admin> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        Ok(Admin { listener: TcpListener::from_std(listener)?, addr })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` is done, which is best the very end of the
    /// program: an edge that drains still tells so. Connections are then
    /// closed at once.
    pub async fn serve(
        self,
        metrics: Metrics,
        health: Arc<dyn Readiness>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        let mut places = Places::default();
        loop {
            // Dropping the set ends what is still connected.
            let stream = tokio::select! {
                () = &mut shutdown => return,
                accepted = accept(&self.listener) => match accepted {
                    Some(stream) => stream,
                    None => continue,
                },
            };
            while connections.try_join_next().is_some() {}
            places.make_room();
            let (metrics, health) = (metrics.clone(), Arc::clone(&health));
            let asked = Arc::<AtomicBool>::default();
            let asks = Arc::clone(&asked);
            let task = connections.spawn(async move {
                let connection = connection(stream, metrics, health, asks);
                if let Ok(Err(error)) = tokio::time::timeout(DEADLINE, connection).await {
                    tracing::debug!(%error, "an admin connection broke");
                }
            });
            places.0.push_back((asked, task));
        }
    }
}

/// The connections there are, in the order in which they came, and whether each
/// has asked for something.
#[derive(Default)]
struct Places(VecDeque<(Arc<AtomicBool>, AbortHandle)>);

impl Places {
    /// Gives one up if all are taken.
    fn make_room(&mut self) {
        self.0.retain(|(_, task)| !task.is_finished());
        if self.0.len() < MAX_CONNECTIONS {
            return;
        }
        let silent = self.0.iter().position(|(asked, _)| !asked.load(Ordering::Relaxed));
        if let Some((_, task)) = self.0.remove(silent.unwrap_or(0)) {
            task.abort();
        }
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "an admin connection can't be accepted");
            tokio::time::sleep(REST).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    metrics: Metrics,
    health: Arc<dyn Readiness>,
    asked: Arc<AtomicBool>,
) -> hyper::Result<()> {
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let (metrics, health) = (metrics.clone(), Arc::clone(&health));
        async move { Ok::<_, Infallible>(answer(&request, metrics, &*health).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer<B>(
    request: &Request<B>,
    metrics: Metrics,
    health: &dyn Readiness,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused =
            plain(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered here\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {
            // Hundreds of routes take milliseconds: not on a worker.
            match tokio::task::spawn_blocking(move || metrics.render()).await {
                Ok(text) => plain(StatusCode::OK, PROMETHEUS, text),
                Err(error) => {
                    tracing::error!(%error, "the metrics can't be rendered");
                    plain(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        TEXT,
                        "the metrics can't be rendered\n",
                    )
                }
            }
        }
        "/healthz" => plain(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => ready(health),
        "/" => plain(StatusCode::OK, TEXT, "Perennial\n\n/metrics\n/healthz\n/readyz\n"),
        _ => plain(
            StatusCode::NOT_FOUND,
            TEXT,
            "not here: this is Perennial's admin listener, with /metrics, /healthz and /readyz; \
             pages are on the public one\n",
        ),
    }
}

/// Ready as long as anything can be served: an edge whose origin is down
/// still has its pages, and taking it out of the balancer would lose them.
fn ready(health: &dyn Readiness) -> Response<Full<Bytes>> {
    if health.draining() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n");
    }
    if health.starting() {
        return plain(StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n");
    }
    let degraded = health.degraded();
    if degraded.is_empty() {
        return plain(StatusCode::OK, TEXT, "ready\n");
    }
    plain(StatusCode::OK, TEXT, format!("ready, degraded\n{}\n", degraded.join("\n")))
}

fn plain(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::kit::server::exchange;

    #[derive(Default)]
    struct Told {
        degraded: Mutex<Vec<String>>,
        draining: Mutex<bool>,
        starting: Mutex<bool>,
    }

    impl Readiness for Told {
        fn degraded(&self) -> Vec<String> {
            self.degraded.lock().clone()
        }
        fn draining(&self) -> bool {
            *self.draining.lock()
        }
        fn starting(&self) -> bool {
            *self.starting.lock()
        }
    }

    struct Running {
        addr: SocketAddr,
        health: Arc<Told>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    fn start() -> Running {
        let admin = Admin::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (addr, health) = (admin.local_addr(), Arc::<Told>::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let told = Arc::clone(&health);
        let task = tokio::spawn(async move {
            let stopped = async { stopped.await.unwrap_or_default() };
            admin.serve(Metrics::for_tests(), told, stopped).await;
        });
        Running { addr, health, stop, task }
    }

    impl Running {
        async fn ask(&self, request: &str) -> String {
            exchange(self.addr, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).await
        }
    }

    #[tokio::test]
    async fn each_path_has_its_answer() {
        let admin = start();
        for (request, status, contains) in [
            ("GET /metrics", "200 OK", "perennial_connections_open 0\n"),
            ("GET /metrics?x=1", "200 OK", "version=0.0.4"),
            ("GET /healthz", "200 OK", "\r\n\r\nok\n"),
            ("GET /readyz", "200 OK", "\r\n\r\nready\n"),
            ("GET /", "200 OK", "/metrics\n"),
            ("GET /blog/one", "404 Not Found", "pages are on the public one"),
            ("POST /metrics", "405 Method Not Allowed", "allow: GET, HEAD\r\n"),
        ] {
            let answer = admin.ask(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
            assert!(answer.contains(contains), "{request}: {answer}");
            assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
        }
        let head = admin.ask("HEAD /healthz").await;
        assert!(head.contains("content-length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn ready_while_it_can_serve_and_says_what_is_degraded() {
        let admin = start();
        admin.health.degraded.lock().push("origin web: breaker open".to_owned());
        let answer = admin.ask("GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("ready, degraded\norigin web: breaker open\n"), "{answer}");

        *admin.health.starting.lock() = true;
        let answer = admin.ask("GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("starting\n"), "{answer}");

        *admin.health.draining.lock() = true;
        let answer = admin.ask("GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("draining\n"), "{answer}");
        assert!(admin.ask("GET /healthz").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn a_busy_port_is_an_error_before_anything_is_served() {
        let admin = start();
        let error = Admin::bind(admin.addr).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_end() {
        let admin = start();
        let mut idle = TcpStream::connect(admin.addr).await.unwrap();
        admin.ask("GET /healthz").await;
        admin.stop.send(()).unwrap();
        let bound = Duration::from_secs(5);
        tokio::time::timeout(bound, admin.task).await.unwrap().unwrap();
        let end = tokio::time::timeout(bound, idle.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }

    /// The clock stands still: nobody waits for a deadline.
    #[tokio::test]
    async fn silent_connections_hold_up_nobody() {
        let admin = start();
        let mut silent = Vec::new();
        for n in 0..2 * MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(admin.addr).await.unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET /healthz HT").await.unwrap();
            }
            silent.push(stream);
        }
        let bound = Duration::from_secs(5);
        let answer = tokio::time::timeout(bound, admin.ask("GET /healthz")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // The first to come was the first to go.
        let end = tokio::time::timeout(bound, silent[0].read(&mut [0; 1])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }

    #[tokio::test]
    async fn who_said_nothing_goes_before_who_asked() {
        let mut places = Places::default();
        let mut tasks = JoinSet::<()>::new();
        for n in 0..MAX_CONNECTIONS {
            let task = tasks.spawn(std::future::pending());
            places.0.push_back((Arc::new(AtomicBool::new(n != 7)), task));
        }
        let ids: Vec<_> = places.0.iter().map(|(_, task)| task.id()).collect();
        for gone in [7, 0] {
            places.make_room();
            assert_eq!(tasks.join_next_with_id().await.unwrap().unwrap_err().id(), ids[gone]);
            places
                .0
                .push_back((Arc::new(AtomicBool::new(true)), tasks.spawn(std::future::pending())));
        }
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        places.make_room();
        assert!(places.0.is_empty(), "who is gone has no place");
    }

    #[tokio::test(start_paused = true)]
    async fn who_connects_and_says_nothing_loses_the_place() {
        let admin = start();
        let mut silent = TcpStream::connect(admin.addr).await.unwrap();
        // The clock moves when all wait.
        assert!(matches!(silent.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
}
