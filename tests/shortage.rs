//! A process that runs out of descriptors (Linux: it looks into `/proc`).

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

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

    /// A visitor, whose connections close when it is dropped.
    fn visitor(&self) -> Client {
        Client::new(self.address).ssr()
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

/// Where there is no descriptor left to connect with, that is 503, no server is
/// down, the breaker stays closed, and all is well as soon as there are some again.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortage_of_descriptors_is_not_the_origins_failure() {
    let origin = Origin::start().await;
    let edge = Poor::start(&format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nthreads: 1\n\
         log: {{ format: json, access: off }}\norigins: {{ web: \"{}\" }}\nroutes:\n\
         - path: /isr/**\n  isr: {{ revalidate: 60s }}\n- path: /pass/**\n  pass: {{}}\n",
        origin.url()
    ));
    // Connections that are there already.
    let mut visitors = Vec::new();
    for n in 0..2 {
        let path = format!("/isr/first/{n}");
        origin.on(&path).reply(Response::html("page").header("Connection", "close"));
        let mut visitor = edge.visitor().connect().await;
        visitor.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        visitor.answer("GET").await.expect("an answer");
        visitors.push(visitor);
    }
    // Two descriptors for each request that waits, and the last ones for who says nothing.
    let mut held = Vec::new();
    let mut busy = Vec::new();
    while edge.descriptors() + 3 <= DESCRIPTORS {
        let path = format!("/isr/held/{}", held.len());
        let turn = origin.on(&path).hold(Response::html("page"));
        busy.push(tokio::spawn(edge.visitor().get(&path).outcome()));
        turn.reached().await;
        held.push(turn);
    }
    let mut silent = Vec::new();
    loop {
        let before = edge.descriptors();
        if before == DESCRIPTORS {
            break;
        }
        silent.push(edge.visitor().connect().await);
        eventually("one descriptor less", async || (edge.descriptors() > before).then_some(()))
            .await;
    }
    // Nobody else comes: no connection has to give way, however often accepting is tried.
    // The second one last: its connection may end with an error page.
    let asked = [(0, "isr"); 30].into_iter().chain([(1, "pass")]);
    for (n, (visitor, route)) in asked.enumerate() {
        let visitor = &mut visitors[visitor];
        visitor.send(format!("GET /{route}/{n} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let answer = visitor.answer("GET").await.expect("an answer");
        assert_eq!(answer.status, 503, "{answer}");
        assert_eq!(answer.cache_status(), "perennial; detail=unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    drop(silent);
    held.iter().for_each(crate::support::origin::Turn::release);
    for visitor in busy {
        visitor.await.expect("no panic").expect("an answer").is(200, "MISS", "page");
    }
    origin.any().always().reply(Response::html("page"));
    edge.visitor().get("/isr/after").await.is(200, "MISS", "page");
    edge.visitor().get("/pass/after").await.is(200, "BYPASS", "page");
    let metrics = edge.admin.get("/metrics").await;
    for line in [
        "perennial_origin_breaker_open{origin=\"web\"} 0",
        "perennial_origin_servers{origin=\"web\",state=\"healthy\"} 1",
    ] {
        assert!(metrics.text().contains(line), "{metrics}");
    }
}
