//! The renderer of the demo: an ordinary web server on a port of its own that
//! takes a noticeable second for every page and knows nothing of Perennial.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::{JoinHandle, JoinSet};

use super::pages::{self, PRODUCTS, Page, Render};

/// Pages whose renders are counted; a visitor may ask for any number.
const MAX_COUNTED: usize = 10_000;

/// Connections at once. Perennial has few; this is for whoever else finds the port.
const MAX_CONNECTIONS: usize = 512;

/// How often an event stream says that it is still there.
const PING: Duration = Duration::from_secs(15);

type Body = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>>;

/// A renderer that runs until it is dropped.
#[derive(Debug)]
pub struct Renderer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

/// What the renderer is to show besides its pages.
#[derive(Debug)]
pub(super) struct Shown {
    /// The webhook's secret.
    pub(super) secret: String,
    /// The configuration that runs.
    pub(super) config: String,
}

struct Site {
    delay: Duration,
    shown: Shown,
    /// Renders begun, by path and query.
    renders: Mutex<HashMap<String, u64>>,
    /// In cents, in the order of [`PRODUCTS`].
    prices: Mutex<[u64; PRODUCTS.len()]>,
    /// What happens, for event streams.
    events: broadcast::Sender<String>,
}

impl Renderer {
    /// A listener on a free port of loopback.
    pub(super) async fn bind() -> io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
    }

    /// Serves on the current runtime; each page takes `delay`.
    pub(super) fn serve(
        listener: TcpListener,
        shown: Shown,
        delay: Duration,
    ) -> io::Result<Renderer> {
        let addr = listener.local_addr()?;
        let (events, _) = broadcast::channel(64);
        let site = Arc::new(Site {
            delay,
            shown,
            renders: Mutex::default(),
            prices: Mutex::new([450, 520, 380, 690]),
            events,
        });
        Ok(Renderer { addr, task: tokio::spawn(accept(listener, site)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Renderer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&site)));
            }
            Err(error) => {
                tracing::warn!(%error, "the demo's renderer can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
    }
}

async fn connection(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    // A connection that breaks is nothing to a renderer: some of its answers do so on purpose.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Site {
    async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let page = match path {
            "/" => {
                let shown = &self.shown;
                let at = crate::clock::now().0;
                return html(pages::index(&shown.config, &shown.secret, at));
            }
            "/renderer/events" => return self.events(),
            "/isr" => Page::Isr,
            "/ssr" => Page::Ssr(""),
            "/flaky" => Page::Flaky,
            "/shop" => Page::Shop,
            _ => {
                if let Some(slug) = path.strip_prefix("/renderer/raise/") {
                    return self.raise(slug, request.method());
                }
                let name = path.strip_prefix("/dsg/").filter(|name| !name.is_empty());
                let slug = path.strip_prefix("/shop/").and_then(pages::product);
                match (name, slug) {
                    (Some(name), _) => Page::Dsg(name),
                    (None, Some((_, _, slug))) => Page::Product(slug),
                    (None, None) => {
                        return text(StatusCode::NOT_FOUND, "nothing grows here\n".to_owned());
                    }
                }
            }
        };
        // A name as a person would write it.
        let decoded =
            |s: &str| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned();
        match page {
            Page::Dsg(name) => self.render(Page::Dsg(&decoded(name)), request).await,
            Page::Ssr(_) => {
                let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "q");
                let asked = asked.map(|(_, value)| value.into_owned()).unwrap_or_default();
                self.render(Page::Ssr(&asked), request).await
            }
            page => self.render(page, request).await,
        }
    }

    async fn render<B>(&self, page: Page<'_>, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        let accept = request.headers().get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
        let json = accept.contains("application/json") && !accept.contains("text/html");
        let number = self.count(request.uri().path_and_query().map_or(path, |p| p.as_str()), json);
        let begun = Instant::now();
        self.tell(path, "begins");
        tokio::time::sleep(self.delay).await;
        let prices = *self.prices.lock();
        let render = Render {
            number,
            at: crate::clock::now().0,
            took: begun.elapsed(),
            prices: &prices,
            secret: &self.shown.secret,
        };
        // Of three renders of this page the second and the third go wrong.
        let luck = if page == Page::Flaky { number % 3 } else { 1 };
        self.tell(path, if luck == 1 { "ends" } else { "fails" });
        let mut response = match luck {
            2 => text(StatusCode::INTERNAL_SERVER_ERROR, "a bad day\n".to_owned()),
            0 => broken(page.html(&render)),
            _ if json => {
                let mut response = whole(page.json(&render));
                set(&mut response, CONTENT_TYPE, "application/json");
                response
            }
            _ => html(page.html(&render)),
        };
        set(&mut response, HeaderName::from_static("x-render"), &number.to_string());
        if let Some(tags) = page.tags() {
            set(&mut response, HeaderName::from_static("cache-tag"), &tags);
        }
        if let Page::Ssr(_) = page {
            set(&mut response, CACHE_CONTROL, "s-maxage=5, stale-while-revalidate=15");
        }
        response
    }

    /// The number of this render, from 1.
    fn count(&self, target: &str, json: bool) -> u64 {
        let mut renders = self.renders.lock();
        if renders.len() >= MAX_COUNTED {
            renders.clear();
        }
        let key = if json { format!("{target} json") } else { target.to_owned() };
        let count = renders.entry(key).or_default();
        *count += 1;
        *count
    }

    fn tell(&self, path: &str, what: &str) {
        let event = serde_json::json!({ "path": path, "what": what });
        // Nobody may be listening.
        let _ = self.events.send(format!("data: {event}\n\n"));
    }

    fn raise(&self, slug: &str, method: &Method) -> Response<Body> {
        let Some((index, _, _)) = pages::product(slug).filter(|_| *method == Method::POST) else {
            return text(StatusCode::NOT_FOUND, "no such plant\n".to_owned());
        };
        let mut prices = self.prices.lock();
        let Some(price) = prices.get_mut(index) else {
            return text(StatusCode::NOT_FOUND, "no such plant\n".to_owned());
        };
        *price += 50;
        text(StatusCode::OK, format!("{price}\n"))
    }

    /// What the renderer does, as it happens, for as long as somebody listens.
    fn events(&self) -> Response<Body> {
        let events = self.events.subscribe();
        let stream = futures::stream::unfold((events, true), |(mut events, first)| async move {
            let text = if first {
                ": what the renderer does\n\n".to_owned()
            } else {
                match tokio::time::timeout(PING, events.recv()).await {
                    Ok(Ok(event)) => event,
                    Ok(Err(RecvError::Closed)) => return None,
                    Ok(Err(RecvError::Lagged(_))) | Err(_) => ": still here\n\n".to_owned(),
                }
            };
            Some((Ok(Frame::data(Bytes::from(text))), (events, false)))
        });
        let mut response = Response::new(StreamBody::new(Box::pin(stream) as _));
        set(&mut response, CONTENT_TYPE, "text/event-stream");
        set(&mut response, CACHE_CONTROL, "no-store");
        response
    }
}

fn whole(body: String) -> Response<Body> {
    let length = body.len().to_string();
    let stream = futures::stream::once(async { Ok(Frame::data(Bytes::from(body))) });
    let mut response = Response::new(StreamBody::new(Box::pin(stream) as _));
    set(&mut response, http::header::CONTENT_LENGTH, &length);
    response
}

fn html(body: String) -> Response<Body> {
    let mut response = whole(body);
    set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    response
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = whole(body);
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

/// An answer that looks right and breaks off half-way.
fn broken(page: String) -> Response<Body> {
    let half = page.len() / 2;
    let first = Bytes::from(page).slice(..half);
    let stream = futures::stream::unfold(Some(first), |half| async move {
        match half {
            Some(half) if !half.is_empty() => Some((Ok(Frame::data(half)), Some(Bytes::new()))),
            Some(_) => {
                // What was written before goes out while this waits.
                tokio::task::yield_now().await;
                Some((Err(io::Error::other("broken off on purpose")), None))
            }
            None => None,
        }
    });
    let mut response = Response::new(StreamBody::new(Box::pin(stream) as _));
    set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    // All are made here, of printable ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start() -> Renderer {
        let shown = Shown { secret: "s3cret".to_owned(), config: "routes: []".to_owned() };
        Renderer::serve(Renderer::bind().await.unwrap(), shown, Duration::ZERO).unwrap()
    }

    async fn connect(renderer: &Renderer, request: &str, field: &str) -> TcpStream {
        let mut stream = TcpStream::connect(renderer.addr()).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{field}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(renderer: &Renderer, request: &str, field: &str) -> String {
        let mut stream = connect(renderer, request, field).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_page_answers() {
        let renderer = start().await;
        for (path, status, contains) in [
            ("/", 200, "routes: []"),
            ("/isr", 200, "<b>Render 1</b>"),
            ("/isr", 200, "<b>Render 2</b>"),
            ("/dsg/one", 200, "Plate “one”"),
            ("/dsg/caf%C3%A9", 200, "Plate “café”"),
            ("/ssr", 200, "cache-control: s-maxage=5, stale-while-revalidate=15\r\n"),
            ("/ssr?q=red%20roses", 200, "says about red roses"),
            ("/shop", 200, "cache-tag: shop, aster, echinacea, salvia, geranium\r\n"),
            ("/shop/aster", 200, "cache-tag: aster\r\n"),
            ("/shop/oak", 404, "nothing grows here"),
            ("/dsg/", 404, "nothing grows here"),
            ("/renderer/raise/aster", 404, "no such plant"),
        ] {
            let answer = ask(&renderer, &format!("GET {path}"), "").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
            assert!(answer.contains(contains), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_page_has_its_data_by_accept() {
        let renderer = start().await;
        let answer = ask(&renderer, "GET /dsg/one", "Accept: application/json\r\n").await;
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert!(answer.contains("\"title\": \"Plate “one”\""), "{answer}");
        let browser = "Accept: text/html,application/json;q=0.9\r\n";
        assert!(ask(&renderer, "GET /dsg/one", browser).await.contains("text/html"));
    }

    #[tokio::test]
    async fn the_flaky_page_fails_in_both_ways() {
        let renderer = start().await;
        assert!(ask(&renderer, "GET /flaky", "").await.starts_with("HTTP/1.1 200 "));
        assert!(ask(&renderer, "GET /flaky", "").await.starts_with("HTTP/1.1 500 "));
        let mut stream = connect(&renderer, "GET /flaky", "").await;
        let mut half = Vec::new();
        let _ = stream.read_to_end(&mut half).await;
        let half = String::from_utf8_lossy(&half);
        assert!(half.starts_with("HTTP/1.1 200 ") && !half.contains("</html>"), "{half}");
        assert!(!half.ends_with("0\r\n\r\n"), "not ended as if complete");
        assert!(ask(&renderer, "GET /flaky", "").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn a_price_that_is_raised_is_shown() {
        let renderer = start().await;
        assert!(ask(&renderer, "GET /shop/aster", "").await.contains("€ 4.50"));
        assert!(ask(&renderer, "POST /renderer/raise/aster", "").await.ends_with("500\n"));
        assert!(ask(&renderer, "GET /shop/aster", "").await.contains("€ 5.00"));
        assert!(ask(&renderer, "GET /shop", "").await.contains("€ 5.00"));
    }

    #[tokio::test]
    async fn events_tell_what_it_does() {
        let renderer = start().await;
        let mut stream = connect(&renderer, "GET /renderer/events", "").await;
        let mut read = String::new();
        let mut until = async |what: &str| {
            let mut buffer = [0; 1024];
            while !read.contains(what) {
                let bound = Duration::from_secs(10);
                let n =
                    tokio::time::timeout(bound, stream.read(&mut buffer)).await.unwrap().unwrap();
                assert!(n > 0, "the stream ended: {read}");
                read.push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        };
        until("what the renderer does").await;
        ask(&renderer, "GET /isr", "").await;
        until(r#"data: {"path":"/isr","what":"begins"}"#).await;
        until(r#"data: {"path":"/isr","what":"ends"}"#).await;
    }
}
