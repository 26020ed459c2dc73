//! Fills by themselves, where a test must know who has joined before the origin
//! answers.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::*;

use crate::assets::Assets;
use crate::config::Config;
use crate::deployment::Deployments;
use crate::framework::{Preset, Rendering};
use crate::kit::patient;
use crate::kit::server::{Server, read_head};
use crate::metrics::Metrics;
use crate::origin::Origins;
use crate::page::testing::{self, key};
use crate::page::{Fields, FieldsBuf, Form, KeyBuf, Tags};
use crate::route::Routes;
use crate::rules::Reason;
use crate::rules::cache_status::{Failure, StaleWhy};
use crate::store::{Committed, Hardness, Name, Store};
use crate::via::Via;

/// An origin that hands out each request with the means to answer it: bytes, and
/// then the connection closes.
struct Scripted {
    requests: mpsc::UnboundedReceiver<mpsc::Sender<String>>,
    _server: Server,
    fills: Fills,
    ask: Ask,
}

async fn scripted(mode: &str, memory: &str) -> Scripted {
    let (sender, requests) = mpsc::unbounded_channel();
    let server = Server::run(move |_, mut stream| {
        let sender = sender.clone();
        async move {
            if read_head(&mut stream).await.is_none() {
                return;
            }
            let (answer, mut answers) = mpsc::channel::<String>(1);
            let _ = sender.send(answer);
            while let Some(bytes) = answers.recv().await {
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let address = server.address;
    let options = if mode == "isr" { "revalidate: 60s" } else { "" };
    let yaml = format!(
        "origins: {{ web: 'http://{address}' }}\ncache: {{ memory: {memory} }}\n\
         routes: [ {{ path: /**, {mode}: {{ {options} }} }} ]\n"
    );
    let (config, _) = Config::from_yaml(&yaml, "test.yaml", &|_| None).unwrap();
    let routes = Routes::new(&config);
    let origins = Origins::new(&config.origins);
    let store = Arc::new(Store::new(&config.cache));
    let mut keys = KeyBuf::default();
    keys.begin("", "http", "example.com", "/a");
    let ask = Ask {
        route: Arc::clone(routes.find("example.com", "/a")),
        page: mode != "ssr",
        server_rendered: None,
        upstream: Upstream {
            origin: Arc::clone(origins.get(0).unwrap()),
            preset: Preset::generic(),
            via: Via::default(),
            request_fields: Arc::clone(&config.request_fields),
            deployments: Arc::new(Deployments::new(&config.deployment, None)),
        },
        build: None,
        anew: false,
        metrics: Arc::new(Metrics::new(&["/**".into()], &["web".into()])),
        key: keys.key(),
        form: Form::Document,
        target: "/a".into(),
        fields: Fields::default(),
        carries: Carries::default(),
        of_a_client: mode == "ssr",
        is_whole: false,
        rendering: Rendering::Unknown,
    };
    Scripted {
        requests,
        _server: server,
        fills: Fills::new(store, Assets::new().0, &config.cache),
        ask,
    }
}

async fn soon<T>(event: impl Future<Output = T>) -> T {
    patient("one who waits", event).await
}

fn with_language(ask: &Ask, language: &str) -> Ask {
    let mut fields = FieldsBuf::default();
    fields.push("accept-language", language.as_bytes());
    Ask { fields: fields.done(), ..ask.clone() }
}

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: s-maxage=60\r\nContent-Length: 4\r\n\r\n";

const PAGE_WITHOUT_LIFETIME: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n";

impl Scripted {
    fn join(&self) -> Subscriber {
        self.fills.join(&self.ask, None, None, &[], None).expect("nothing is stored")
    }

    async fn request(&mut self) -> mpsc::Sender<String> {
        soon(self.requests.recv()).await.unwrap()
    }

    /// Nothing is left of any fill.
    async fn is_clean(&mut self) {
        soon(self.fills.idle()).await;
        assert!(self.fills.registry().is_empty());
        assert!(self.requests.try_recv().is_err(), "the origin was asked again");
        assert_eq!(
            (self.ask.upstream.origin.running(), self.ask.upstream.origin.waiting()),
            (0, 0)
        );
    }
}

async fn lead(reader: &mut Subscriber) -> Lead {
    match soon(reader.head()).await {
        Next::Lead(lead) => lead,
        other => panic!("{other:?}"),
    }
}

async fn body(reader: &mut Subscriber) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    while let Some(chunk) = soon(reader.chunk()).await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_get_the_one_page() {
    for (mode, memory) in [("isr", "1MiB"), ("ssr", "1MiB"), ("isr", "0"), ("ssr", "0")] {
        let mut site = scripted(mode, memory).await;
        let mut readers: Vec<_> = (0..100).map(|_| site.join()).collect();
        let answer = site.request().await;
        answer.send(format!("{PAGE}pa")).await.unwrap();
        for reader in &mut readers {
            assert!(matches!(lead(reader).await, Lead::Shared(_)));
            assert_eq!(soon(reader.chunk()).await.unwrap().unwrap(), "pa");
        }
        answer.send("ge".into()).await.unwrap();
        for reader in &mut readers {
            assert_eq!(body(reader).await.unwrap(), b"ge");
        }
        let stored = site.fills.context().store.get(site.ask.key.as_str());
        assert_eq!(stored.is_some(), memory != "0");
        site.is_clean().await;
    }
}

/// A path that counts as server-rendered counts so for as long again when an answer says
/// so. That it was rendered for cookies says nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rendered_for_cookies_keeps_no_path_server_rendered() {
    for (answer, renews) in [(PAGE, false), (PAGE_WITHOUT_LIFETIME, true)] {
        let mut site = scripted("ssr", "1MiB").await;
        // This origin answers once on each connection.
        let answer = answer.replace("Content-Length", "Connection: close\r\nContent-Length");
        let page = site.fills.notes().page("its route's own");
        let carries = Carries { cookie: true, ..Carries::default() };
        site.ask = Ask { carries, server_rendered: Some(page), ..site.ask };
        let mut fields = FieldsBuf::default();
        fields.push("cookie", b"me");
        site.ask.fields = fields.done();
        let mut reader = site.join();
        let request = site.request().await;
        request.send(format!("{answer}page")).await.unwrap();
        assert!(matches!(lead(&mut reader).await, Lead::Private(_)));
        assert_eq!(body(&mut reader).await.unwrap(), b"page");
        if !renews {
            // It looks as if it were for all: asked for without.
            site.request().await.send(format!("{answer}page")).await.unwrap();
        }
        site.is_clean().await;
        assert_eq!(site.fills.notes().server_rendered(page), renews);
    }
}

/// An error on a page route is shared by all who waited for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_get_the_one_error() {
    let error = "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno";
    for answer in ["", "HTTP/1.1 2", "rubbish\r\n\r\n", error] {
        let mut site = scripted("isr", "1MiB").await;
        let mut readers: Vec<_> = (0..100).map(|_| site.join()).collect();
        let request = site.request().await;
        request.send(answer.into()).await.unwrap();
        drop(request);
        for reader in &mut readers {
            match lead(reader).await {
                Lead::Shared(preview) => {
                    assert!(answer == error && preview.failed);
                    assert_eq!(body(reader).await.unwrap(), b"no");
                }
                Lead::Failed(Failure::Reset) => assert_ne!(answer, error),
                other => panic!("{other:?}"),
            }
        }
        site.is_clean().await;
    }
}

/// What is not storable goes to the leader, and the others hear of it with the head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_private_is_the_leaders() {
    let mut site = scripted("ssr", "1MiB").await;
    let mut leader = site.join();
    let mut followers: Vec<_> = (0..20).map(|_| site.join()).collect();
    let answer = site.request().await;
    answer.send("HTTP/1.1 200 OK\r\nCache-Control: private\r\n\r\nmi".into()).await.unwrap();
    assert!(matches!(lead(&mut leader).await, Lead::Private(_)) && leader.leader);
    for follower in &mut followers {
        assert!(matches!(lead(follower).await, Lead::Private(_)) && !follower.leader);
    }
    // Whoever comes now waits for nobody.
    let mut other = site.join();
    let second = site.request().await;
    assert!(other.leader);
    second.send(format!("{PAGE}page")).await.unwrap();
    assert_eq!(body(&mut other).await.unwrap(), b"page");
    drop(followers);
    assert_eq!(soon(leader.chunk()).await.unwrap().unwrap(), "mi");
    answer.send("ne".into()).await.unwrap();
    drop(answer);
    assert_eq!(body(&mut leader).await.unwrap(), b"ne");
    site.is_clean().await;
}

/// A request that looked into the store before a fill committed, and joins after
/// it has ended, looks again.
#[tokio::test]
async fn who_looked_before_the_commit_looks_again() {
    let mut site = scripted("isr", "1MiB").await;
    let mut reader = site.join();
    site.request().await.send(format!("{PAGE}page")).await.unwrap();
    assert_eq!(body(&mut reader).await.unwrap(), b"page");
    assert!(site.fills.join(&site.ask, None, None, &[], Some(0)).is_none());
    // Who has seen the page and wants another asks.
    let store = &site.fills.context().store;
    let looked = Some(store.changes(site.ask.key.as_str()));
    let page = store.get(site.ask.key.as_str());
    let again = site.fills.join(&site.ask, page.as_ref(), None, &[], looked);
    assert!(again.is_some_and(|reader| reader.leader));
    drop(site.request().await);
    site.is_clean().await;
}

/// Coded bodies are made for what is asked for again, and at once for what takes its place.
#[tokio::test]
async fn what_is_asked_for_once_is_not_compressed() {
    let mut site = scripted("isr", "1MiB").await;
    let text = "the same words again, ".repeat(100);
    let head = PAGE.replace("Content-Length: 4", &format!("Content-Length: {}", text.len()));
    let answer = format!("{head}{text}");
    let mut reader = site.join();
    site.request().await.send(answer.clone()).await.unwrap();
    assert_eq!(body(&mut reader).await.unwrap(), text.as_bytes());
    let stored = |site: &Scripted| site.fills.context().store.get(site.ask.key.as_str()).unwrap();
    let renew = async |site: &mut Scripted| {
        let (fills, ask, page) = (site.fills.clone(), site.ask.clone(), stored(site));
        let renewing = tokio::spawn(async move { fills.renew(&ask, Some(&page)).await });
        site.request().await.send(answer.clone()).await.unwrap();
        assert_eq!(soon(renewing).await.unwrap().result, Renewed::Stored);
        stored(site)
    };
    assert!(stored(&site).members[0].compress.wanted(), "after the first answer");
    assert!(renew(&mut site).await.members[0].compress.wanted(), "renewed unasked");

    let page = stored(&site);
    page.members[0].uses.add();
    site.fills.compress(&site.ask.metrics, &page.key, &page.members[0]);
    soon(async {
        while stored(&site).members[0].bodies.len() == 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!renew(&mut site).await.members[0].compress.wanted(), "clients ask for it");
    site.is_clean().await;
}

/// The same for who was served the stale page of before.
#[tokio::test]
async fn who_was_served_stale_before_the_commit_starts_no_regeneration() {
    let mut site = scripted("isr", "1MiB").await;
    let rep = |body: &str| vec![testing::rep(Form::Document, 0, &[], body)];
    let Committed::Stored { page: old, .. } = site
        .fills
        .context()
        .store
        .commit(&site.ask.key, &Tags::default(), rep("old"), |_| false)
        .await
    else {
        panic!("not stored")
    };
    let stale = Arc::clone(&old.members[0]);
    let refresh = |site: &Scripted| {
        site.fills
            .refresh(&old.key, &old, &stale, &Tags::default(), true, false, || site.ask.clone())
    };
    assert_eq!(refresh(&site), StaleWhy::Regenerating);
    assert_eq!(refresh(&site), StaleWhy::Regenerating);
    site.request().await.send(format!("{PAGE}page")).await.unwrap();
    soon(site.fills.idle()).await;
    assert_eq!(refresh(&site), StaleWhy::Regenerating);
    site.is_clean().await;

    // And after a failure it waits.
    let now = site.fills.context().store.get(site.ask.key.as_str()).unwrap();
    let stale = Arc::clone(&now.members[0]);
    let refresh = |site: &Scripted| {
        site.fills
            .refresh(&now.key, &now, &stale, &Tags::default(), true, false, || site.ask.clone())
    };
    assert_eq!(refresh(&site), StaleWhy::Regenerating);
    drop(site.request().await);
    soon(site.fills.idle()).await;
    assert_eq!(refresh(&site), StaleWhy::Backoff);
    site.is_clean().await;
}

/// What failed before an invalidation says nothing of what comes after it.
#[tokio::test]
async fn a_back_off_ends_with_an_invalidation_of_its_page() {
    let mut site = scripted("isr", "1MiB").await;
    let store = Arc::clone(&site.fills.context().store);
    let path = |path: &str| Name::Path { host: None, path: path.into() };
    let tag = Name::Tag { host: None, tag: "t".into() };
    let rep = vec![testing::rep(Form::Document, 0, &["t"], "old")];
    let Committed::Stored { page, .. } =
        store.commit(&site.ask.key, &Tags::default(), rep, |_| false).await
    else {
        panic!("not stored")
    };
    let stale = Arc::clone(&page.members[0]);
    let refresh = |site: &Scripted| {
        site.fills
            .refresh(&page.key, &page, &stale, &Tags::default(), true, false, || site.ask.clone())
    };
    for name in [path("/a"), tag, Name::All] {
        assert_eq!(refresh(&site), StaleWhy::Regenerating);
        drop(site.request().await);
        soon(site.fills.idle()).await;
        assert_eq!(refresh(&site), StaleWhy::Backoff);
        store.invalidate(vec![path("/b")], Hardness::Soft).await.unwrap();
        assert_eq!(refresh(&site), StaleWhy::Backoff, "of another page");
        store.invalidate(vec![name], Hardness::Soft).await.unwrap();
    }
    // One that comes while it fails counts, too.
    assert_eq!(refresh(&site), StaleWhy::Regenerating);
    let request = site.request().await;
    store.invalidate(vec![path("/a")], Hardness::Soft).await.unwrap();
    drop(request);
    soon(site.fills.idle()).await;
    assert_eq!(refresh(&site), StaleWhy::Regenerating);
    drop(site.request().await);
    site.is_clean().await;
}

/// A render that is not stored is not said to be.
#[tokio::test]
async fn what_became_of_a_render_is_what_became_of_its_commit() {
    let mut site = scripted("isr", "1MiB").await;
    let store = Arc::clone(&site.fills.context().store);
    let names = || vec![Name::Path { host: None, path: "/a".into() }];
    for (hardness, expected) in [
        (None, Renewed::Stored),
        (Some(Hardness::Soft), Renewed::Overtaken),
        (Some(Hardness::Hard), Renewed::Dropped(Reason::Invalidated)),
    ] {
        let (fills, ask) = (site.fills.clone(), site.ask.clone());
        let renewing = tokio::spawn(async move { fills.renew(&ask, None).await });
        let request = site.request().await;
        if let Some(hardness) = hardness {
            store.invalidate(names(), hardness).await.unwrap();
        }
        request.send(format!("{PAGE}page")).await.unwrap();
        assert_eq!(soon(renewing).await.unwrap().result, expected);
    }
    for (memory, expected) in [("0", Reason::NoCache), ("1KiB", Reason::TooLarge)] {
        let mut site = scripted("isr", memory).await;
        let (fills, ask) = (site.fills.clone(), site.ask.clone());
        let renewing = tokio::spawn(async move { fills.renew(&ask, None).await });
        site.request().await.send(format!("{PAGE}page")).await.unwrap();
        assert_eq!(soon(renewing).await.unwrap().result, Renewed::Dropped(expected));
    }
    // What is stored began later.
    let (fills, ask) = (site.fills.clone(), site.ask.clone());
    let renewing = tokio::spawn(async move { fills.renew(&ask, None).await });
    let request = site.request().await;
    store
        .invalidate(vec![Name::Path { host: None, path: "/b".into() }], Hardness::Soft)
        .await
        .unwrap();
    store
        .commit(
            &site.ask.key,
            &Tags::default(),
            vec![testing::rep(Form::Document, store.born(), &[], "new")],
            |_| false,
        )
        .await;
    request.send(format!("{PAGE}page")).await.unwrap();
    assert_eq!(soon(renewing).await.unwrap().result, Renewed::Dropped(Reason::Superseded));
    site.is_clean().await;
}

/// What a page is known to vary on tells fills apart before their heads come.
#[tokio::test]
async fn variants_that_are_known_do_not_wait_for_one_another() {
    let mut site = scripted("ssr", "1MiB").await;
    let stored =
        testing::varying(testing::rep(Form::Document, 0, &[], "x"), "accept-language", "x");
    site.fills
        .context()
        .store
        .commit(&site.ask.key, &Tags::default(), vec![stored], |_| false)
        .await;
    let page = site.fills.context().store.get(site.ask.key.as_str());
    let join = |site: &Scripted, language: &str| {
        let ask = with_language(&site.ask, language);
        site.fills.join(&ask, page.as_ref(), None, &[], None).unwrap()
    };
    let readers = ["de", "en", "de", "fr", "en"].map(|language| join(&site, language));
    assert_eq!(readers.each_ref().map(|r| r.leader), [true, true, false, true, false]);
    for _ in 0..3 {
        drop(site.request().await);
    }
    drop(readers);
    site.is_clean().await;
}

/// And so does what a fill told that was waited for in vain.
#[tokio::test]
async fn a_fill_that_was_waited_for_in_vain_tells_what_the_page_varies_on() {
    let mut site = scripted("ssr", "1MiB").await;
    let de = with_language(&site.ask, "de");
    let join = |site: &Scripted, language: &str, refused: &[Arc<Fill>]| {
        site.fills.join(&with_language(&site.ask, language), None, None, refused, None).unwrap()
    };
    let mut first = join(&site, "de", &[]);
    let mut others = ["en", "fr", "en"].map(|language| join(&site, language, &[]));
    let answer = site.request().await;
    let head = PAGE.replace("\r\n\r\n", "\r\nVary: Accept-Language\r\n\r\n");
    answer.send(head).await.unwrap();
    assert!(matches!(lead(&mut first).await, Lead::Shared(_)));
    for (other, language) in others.iter_mut().zip(["en", "fr", "en"]) {
        let Lead::Shared(preview) = lead(other).await else { panic!("not shared") };
        let ask = with_language(&de, language);
        assert!(!site.fills.suits(&ask, other, &preview));
    }
    let refused = [Arc::clone(first.fill())];
    let again = ["en", "fr", "en"].map(|language| join(&site, language, &refused));
    assert_eq!(again.each_ref().map(|r| r.leader), [true, true, false]);
    for _ in 0..2 {
        drop(site.request().await);
    }
    drop((answer, again, others, first));
    site.is_clean().await;
}

/// A fill whose task dies leaves nobody waiting, and nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_dies_leaves_nobody_waiting() {
    let mut site = scripted("isr", "1MiB").await;
    for streamed in [false, true] {
        let registry = site.fills.registry();
        let member = registry.member(&site.ask, Form::Document, Fields::default(), None, None);
        let mut readers: Vec<_> = (0..3).map(|_| site.join()).collect();
        assert!(readers.iter().all(|reader| !reader.leader));
        let running = registry.running();
        let dies = tokio::spawn(async move {
            let _running = running;
            if streamed {
                let preview = Preview {
                    status: 200,
                    fields: Fields::default(),
                    date: None,
                    length: None,
                    coding: None,
                    stored: Ok(()),
                    reusable: true,
                    failed: false,
                    vary: Vec::new(),
                    tags: Tags::default(),
                };
                member.flight.fill.decide(Lead::Shared(Arc::new(preview)));
            }
            // A panic that is meant: no backtrace in the log of the tests.
            std::panic::resume_unwind(Box::new("the task dies"));
        });
        assert!(dies.await.unwrap_err().is_panic());
        for reader in &mut readers {
            if streamed {
                assert!(matches!(lead(reader).await, Lead::Shared(_)));
                assert_eq!(body(reader).await, Err(Broken::Origin));
            } else {
                assert!(matches!(lead(reader).await, Lead::Failed(_)));
            }
        }
        site.is_clean().await;
    }
    let guard = site.fills.registry().mark((key("/a"), 0)).expect("nothing else is marked");
    let dies = tokio::spawn(async move {
        let _guard = guard;
        std::panic::resume_unwind(Box::new("the task dies"));
    });
    assert!(dies.await.unwrap_err().is_panic());
    site.is_clean().await;
}

/// Requests that come, join, leave and look again while fills commit and end:
/// one render for each time that the page went away, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_render_for_each_time_the_page_is_gone() {
    let mut site = scripted("isr", "1MiB").await;
    let (fills, ask) = (site.fills.clone(), site.ask.clone());
    for round in 0..200 {
        let visitors: Vec<_> = (0..6)
            .map(|n| {
                let (fills, ask) = (fills.clone(), ask.clone());
                tokio::spawn(async move {
                    loop {
                        let store = &fills.context().store;
                        let looked = Some(store.changes(ask.key.as_str()));
                        if store.get(ask.key.as_str()).is_some() {
                            return;
                        }
                        if n % 2 == 0 {
                            tokio::task::yield_now().await;
                        }
                        let Some(mut reader) = fills.join(&ask, None, None, &[], looked) else {
                            continue;
                        };
                        if n == 5 {
                            // It leaves, and comes back.
                            drop(reader);
                            tokio::task::yield_now().await;
                            continue;
                        }
                        let _ = reader.head().await;
                        assert_eq!(body(&mut reader).await.unwrap(), b"page");
                    }
                })
            })
            .collect();
        site.request().await.send(format!("{PAGE}page")).await.unwrap();
        for visitor in visitors {
            soon(visitor).await.unwrap();
        }
        site.is_clean().await;
        let store = &fills.context().store;
        assert!(store.get(ask.key.as_str()).is_some(), "round {round}");
        store.remove(&ask.key);
    }
}
