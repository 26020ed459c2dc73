//! One client who asks for what the origin is silent about, a burst of requests and
//! then more of them: nobody else is kept away.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;

/// How the origin is silent.
#[derive(Clone, Copy, Debug)]
enum Silence {
    Closes,
    Says503,
}

use Silence::{Closes, Says503};

/// An origin that answers what contains none of the words it is silent about.
struct Partly {
    address: SocketAddr,
    silent: Arc<Mutex<&'static [&'static str]>>,
    /// The targets of the probes.
    probes: Arc<Mutex<Vec<String>>>,
}

const BAD: &[&str] = &["/bad/"];

const ALL: &[&str] = &["/"];

impl Partly {
    async fn start(silence: Silence) -> Partly {
        Partly::answering(silence, Duration::ZERO, "").await
    }

    /// It takes so long for a page, and sends these fields with it.
    async fn answering(silence: Silence, takes: Duration, fields: &'static str) -> Partly {
        let (silent, probes) = (Arc::new(Mutex::new(BAD)), Arc::<Mutex<Vec<String>>>::default());
        let (about, asked) = (Arc::clone(&silent), Arc::clone(&probes));
        let address = scripted(move |mut stream, head| {
            let target = head.split(' ').nth(1).expect("a target").to_owned();
            let is_silent = about.lock().iter().any(|word| target.contains(word));
            if head.contains("User-Agent: perennial (probe)") {
                asked.lock().push(target);
            }
            async move {
                if !is_silent {
                    tokio::time::sleep(takes).await;
                    let page = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
                    stream.write_all(page.as_bytes()).await.ok()?;
                    return Some(stream);
                }
                match silence {
                    Closes => None,
                    Says503 => {
                        let busy = b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n";
                        stream.write_all(busy).await.ok()?;
                        Some(stream)
                    }
                }
            }
        })
        .await;
        Partly { address, silent, probes }
    }

    fn falls_silent_about(&self, words: &'static [&'static str]) {
        *self.silent.lock() = words;
    }

    /// An edge with one route for everything.
    fn edge(&self, mode: &str, options: &str) -> Edge {
        let address = self.address;
        Edge::of(&format!(
            "origins:\n  web: {{ servers: [\"http://{address}\"], {options} }}\n\
             routes:\n- path: /**\n  {mode}\n"
        ))
    }

    fn probes(&self) -> Vec<String> {
        self.probes.lock().clone()
    }
}

/// So many pages at once, of which none is answered. Returns how many of these requests
/// the breaker refused.
async fn burst(client: &Client, round: usize, count: usize) -> usize {
    let ask = |n| tokio::spawn(client.get(&format!("/bad/{round}/{n}")).outcome());
    let mut refused = 0;
    for asked in (0..count).map(ask).collect::<Vec<_>>() {
        let answer = asked.await.expect("no panic").expect("an answer");
        assert!((502..=504).contains(&answer.status), "{answer}");
        refused += usize::from(answer.cache_status() == "perennial; detail=breaker");
    }
    refused
}

/// Attacks, and others who ask for pages that nobody has asked for before get them.
async fn attacked(edge: &Edge, rounds: usize) {
    let client = edge.client().ssr();
    for round in 0..rounds {
        assert_eq!(burst(&client, round, if round == 0 { 24 } else { 2 }).await, 0);
        let ask = |n| tokio::spawn(client.get(&format!("/good-{round}-{n}")).outcome());
        for asked in (0..3).map(ask).collect::<Vec<_>>() {
            let answer = asked.await.expect("no panic").expect("an answer");
            assert_eq!(answer.status, 200, "{answer}");
        }
    }
    assert!(!is_open(edge).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn just_started_no_mode_and_no_silence_helps_an_attacker() {
    for mode in ["isr: { revalidate: 60s }", "dsg: {}", "ssr: {}", "pass: {}"] {
        for silence in [Closes, Says503] {
            let origin = Partly::start(silence).await;
            attacked(&origin.edge(mode, ""), 20).await;
            assert_eq!(origin.probes(), ["/"], "{mode} {silence:?}");
        }
    }
}

/// They are not stored, and may be meant for one client: none is asked for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_site_of_which_every_page_is_passed() {
    let origin = Partly::start(Closes).await;
    let edge = origin.edge("pass: {}", "");
    for path in ["/a", "/b", "/c/d"] {
        edge.client().ssr().get(path).await.is(200, "BYPASS", "ok");
    }
    attacked(&edge, 20).await;
    assert_eq!(origin.probes(), ["/"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_site_that_is_asked_for_json_alone() {
    let json = "Content-Type: application/json\r\nCache-Control: max-age=60\r\n";
    let origin = Partly::answering(Closes, Duration::ZERO, json).await;
    let edge = origin.edge("ssr: {}", "");
    let api = edge.client().ssr().get("/api/a").header("Accept", "application/json");
    api.await.is(200, "MISS", "ok");
    attacked(&edge, 20).await;
    assert_eq!(origin.probes(), ["/api/a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_site_whose_pages_take_more_than_half_of_their_time() {
    // With time to spare on a machine that is busy.
    let takes = Duration::from_millis(2600);
    let origin = Partly::answering(Closes, takes, "Cache-Control: no-store\r\n").await;
    let edge = origin.edge("ssr: {}", "fill_timeout: 5s");
    edge.client().ssr().get("/a").await.is(200, "MISS", "ok");
    attacked(&edge, 1).await;
    assert_eq!(origin.probes(), ["/"]);
}

/// All pages that were served are of a section that is broken now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_section_of_the_site_breaks() {
    for silence in [Closes, Says503] {
        let origin = Partly::start(silence).await;
        let edge = origin.edge("isr: { revalidate: 60s }", "");
        for n in 0..8 {
            edge.client().get(&format!("/proxy/{n}")).await.is(200, "MISS", "ok");
        }
        origin.falls_silent_about(&["/bad/", "/proxy/"]);
        attacked(&edge, 20).await;
        let mut probes = origin.probes();
        // One over an idle connection that the origin closes is sent once more.
        probes.dedup();
        assert_eq!((probes.len(), &*probes[2]), (3, "/"), "{probes:?}");
    }
}

/// What was for one client, or for one use, is asked for once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_probe_repeats_what_a_visitor_asked_for_alone() {
    for (fields, target) in [
        ("Cache-Control: private, no-store\r\n", "/magic/SECRET"),
        ("Cache-Control: private, no-store\r\n", "/magic?token=SECRET"),
        ("Cache-Control: max-age=60\r\n", "/magic?token=SECRET"),
        ("Cache-Control: public, max-age=60\r\n", "/with-credentials"),
    ] {
        let origin = Partly::answering(Closes, Duration::ZERO, fields).await;
        let edge = origin.edge("ssr: {}", "");
        let client = edge.client().ssr();
        let mut ask = client.get(target);
        if target == "/with-credentials" {
            ask = ask.header("Authorization", "Basic U0VDUkVU");
        }
        ask.await.is(200, "MISS", "ok");
        origin.falls_silent_about(ALL);
        burst(&client, 0, 24).await;
        // All that it knows was asked for.
        eventually("the breaker to open", async || is_open(&edge).await.then_some(())).await;
        assert_eq!(origin.probes(), ["/"]);
    }
}

/// An origin that is dead from the start opens it, and closes it when it is well: also
/// if nobody else is there than one who asks for what it is silent about, more often
/// than anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_is_dead_from_the_start_opens_it_and_needs_nobody_to_close_it() {
    for (mode, silence) in
        [("isr: { revalidate: 60s }", Closes), ("ssr: {}", Says503), ("pass: {}", Closes)]
    {
        let origin = Partly::start(silence).await;
        origin.falls_silent_about(ALL);
        let edge = origin.edge(mode, "");
        let client = edge.client().ssr();
        burst(&client, 0, 24).await;
        eventually("the breaker to open", async || is_open(&edge).await.then_some(())).await;
        assert_eq!(client.get("/good").await.cache_status(), "perennial; detail=breaker");

        origin.falls_silent_about(BAD);
        let asked = AtomicUsize::new(0);
        eventually("the breaker to close", async || {
            let n = asked.fetch_add(1, Ordering::SeqCst);
            client.get(&format!("/bad/again/{n}")).await;
            (!is_open(&edge).await).then_some(())
        })
        .await;
        assert_eq!(client.get("/good").await.status, 200);
    }
}
