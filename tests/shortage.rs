//! A process that runs out of descriptors (Linux: it looks into `/proc`).

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::support::client::Connection;
use crate::support::{Client, Origin, Response, eventually};

/// Descriptors that the process may have.
const DESCRIPTORS: usize = 80;

/// The program with so few descriptors, and where it listens.
struct Poor {
    child: Child,
    address: SocketAddr,
    admin: Client,
    _config: tempfile::NamedTempFile,
}

impl Poor {
    fn start(yaml: &str) -> Poor {
        let mut config = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
        config.write_all(yaml.as_bytes()).expect("it takes text");
        let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" --config \"$1\" 2>&1");
        let mut child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_perennial")])
            .arg(config.path())
            .env_remove("PERENNIAL_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let ready = lines
            .by_ref()
            .map(|line| line.expect("the log is text"))
            .find(|line| line.contains("is ready"))
            .expect("it says that it is ready");
        // Read on, or the program would wait for us.
        std::thread::spawn(move || lines.for_each(drop));
        let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
        let address = |key: &str| ready[key].as_str().expect("where").parse().expect("an address");
        Poor {
            address: address("listen"),
            admin: Client::new(address("admin")).plain(),
            child,
            _config: config,
        }
    }

    /// A client, whose connections close when it is dropped.
    fn visitor(&self) -> Client {
        Client::new(self.address).ssr()
    }

    /// Waits until somebody has taken one more descriptor than `before`.
    async fn takes_one(&self, before: usize) {
        let taken = async || (self.descriptors() > before).then_some(());
        eventually("one descriptor less", taken).await;
    }

    /// Its breaker is closed, and no server is down.
    async fn blames_nobody(&self) {
        let metrics = self.admin.get("/metrics").await;
        for line in [
            "perennial_origin_breaker_open{origin=\"web\"} 0",
            "perennial_origin_servers{origin=\"web\",state=\"healthy\"} 1",
        ] {
            assert!(metrics.text().contains(line), "{metrics}");
        }
    }

    /// Descriptors that it has open, of those that the limit is about (it may have
    /// inherited others, with higher numbers).
    fn descriptors(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        let names = all
            .expect("the process lives")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).filter(|n: &usize| *n < DESCRIPTORS).count()
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn yaml(origin: &Origin) -> String {
    format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nthreads: 1\n\
         log: {{ format: json, access: off }}\norigins: {{ web: \"{}\" }}\nroutes:\n\
         - path: /isr/**\n  isr: {{ revalidate: 60s }}\n- path: /pass/**\n  pass: {{}}\n",
        origin.url()
    )
}

/// Where there is no descriptor left to connect with, and nobody can give one up, that is 503, no server is
/// down, the breaker stays closed, and all is well as soon as there are some again.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortage_of_descriptors_is_not_the_origins_failure() {
    let origin = Origin::start().await;
    let edge = Poor::start(&yaml(&origin));
    // A connection that is there already.
    origin.on("/isr/first").reply(Response::html("page").header("Connection", "close"));
    let mut visitor = edge.visitor().connect().await;
    visitor.send("GET /isr/first HTTP/1.1\r\nHost: a\r\n\r\n").await;
    visitor.answer("GET").await.expect("an answer");
    // Two descriptors for each request that is in flight, and the last ones for who waits
    // for the first of them, too: none of these can give way.
    let mut held = Vec::new();
    let mut busy = Vec::new();
    while edge.descriptors() + 3 <= DESCRIPTORS {
        let path = format!("/isr/held/{}", held.len());
        let turn = origin.on(&path).hold(Response::html("page"));
        busy.push(tokio::spawn(edge.visitor().get(&path).outcome()));
        turn.reached().await;
        held.push(turn);
    }
    loop {
        let before = edge.descriptors();
        if before == DESCRIPTORS {
            break;
        }
        busy.push(tokio::spawn(edge.visitor().get("/isr/held/0").outcome()));
        edge.takes_one(before).await;
    }
    // What is passed through comes last: the connection may end with an error page.
    for (n, route) in ["isr"; 24].into_iter().chain(["pass"]).enumerate() {
        visitor.send(format!("GET /{route}/{n} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let answer = visitor.answer("GET").await.expect("an answer");
        assert_eq!(answer.status, 503, "{answer}");
        assert_eq!(answer.cache_status(), "perennial; detail=unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    held.iter().for_each(crate::support::origin::Turn::release);
    for visitor in busy {
        visitor.await.expect("no panic").expect("an answer").is(200, "MISS", "page");
    }
    origin.any().always().reply(Response::html("page"));
    edge.visitor().get("/isr/after").await.is(200, "MISS", "page");
    edge.visitor().get("/pass/after").await.is(200, "BYPASS", "page");
    edge.blames_nobody().await;
}

/// Connections that say nothing take no descriptor from a request that needs one.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_give_way_to_connections_to_the_origin() {
    let origin = Origin::start().await;
    let edge = Poor::start(&yaml(&origin));
    origin.on("/isr/first").reply(Response::html("page").header("Connection", "close"));
    edge.visitor().host("a").get("/isr/first").await.is(200, "MISS", "page");
    let hit = |mut visitor: Connection| async {
        visitor.send("GET /isr/first HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(visitor.answer("GET").await.expect("an answer").x_cache(), "HIT");
        visitor
    };
    let mut idle = Vec::new();
    while edge.descriptors() < DESCRIPTORS {
        // Answered, and so it is accepted.
        idle.push(hit(edge.visitor().connect().await).await);
    }
    // The clients are not those who waited longest.
    let mut visitors = Vec::new();
    for visitor in idle.drain(..8) {
        visitors.push(hit(visitor).await);
    }
    // And there are more connections than can be accepted.
    for _ in 0..idle.len() / 3 {
        idle.push(edge.visitor().connect().await);
    }
    let mut held = Vec::new();
    let mut busy = Vec::new();
    for (n, mut visitor) in visitors.into_iter().enumerate() {
        let path = format!("/{}/{n}", if n % 2 == 0 { "isr" } else { "pass" });
        held.push(origin.on(&path).hold(Response::html("page")));
        busy.push(tokio::spawn(async move {
            visitor.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            visitor.answer("GET").await.expect("an answer")
        }));
    }
    for turn in &held {
        turn.reached().await;
    }
    held.iter().for_each(crate::support::origin::Turn::release);
    for (n, visitor) in busy.into_iter().enumerate() {
        let expected = if n % 2 == 0 { "MISS" } else { "BYPASS" };
        visitor.await.expect("no panic").is(200, expected, "page");
    }
    edge.blames_nobody().await;
}
