//! Pages whose build is at hand: what middleware says is for who asked, what the page
//! below it says is for all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::support::origin::Request;
use crate::support::{Edge, Origin, Response};

const ISR: &str = "s-maxage=900, stale-while-revalidate=31535100";
const PRIVATE: &str = "private, no-cache, no-store, max-age=0, must-revalidate";

/// A build of Next.js: middleware runs on `/member/**`.
fn build() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, text).expect("a file");
    };
    write("BUILD_ID", "b1");
    write("required-server-files.json", r#"{"config":{"basePath":"","i18n":null}}"#);
    write(
        "prerender-manifest.json",
        r#"{"version":4,"preview":{"previewModeId":"true-id"},
        "routes":{"/about":{"initialRevalidateSeconds":900,"srcRoute":"/about"},
          "/member/page":{"initialRevalidateSeconds":900,"srcRoute":"/member/page"},
          "/member/static":{"initialRevalidateSeconds":false}}}"#,
    );
    write(
        "routes-manifest.json",
        r#"{"version":3,"staticRoutes":[{"page":"/about","regex":"^/about$"},
        {"page":"/account","regex":"^/account$"},
        {"page":"/member/own","regex":"^/member/own$"}]}"#,
    );
    write(
        "server/middleware-manifest.json",
        r#"{"version":3,"middleware":{"/":{"name":"middleware","matchers":[
        {"regexp":"^(?:\\/(_next\\/data\\/[^/]{1,}))?\\/member(?:\\/((?:[^\\/#\\?]+?)(?:\\/(?:[^\\/#\\?]+?))*))?(\\.json)?[\\/#\\?]?$"}
        ]}}}"#,
    );
    folder
}

fn config(build: &TempDir) -> String {
    let build = build.path().display();
    format!("framework: nextjs\nnextjs: {{ build: {build} }}\ndeployment: {{ probe: off }}\n")
}

/// The members of a site, and its page.
struct Site {
    members: Mutex<Vec<&'static str>>,
    page: Mutex<String>,
    /// Pages that were sent whole.
    sent: AtomicUsize,
    down: AtomicBool,
}

impl Site {
    fn new() -> Arc<Site> {
        Arc::new(Site {
            members: Mutex::new(vec!["alice", "bob"]),
            page: Mutex::new("one".to_owned()),
            sent: AtomicUsize::new(0),
            down: AtomicBool::new(false),
        })
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// As Next answers: middleware first, then its own cache of pages.
    fn answer(&self, request: &Request) -> Response {
        if self.down.load(Ordering::SeqCst) {
            return Response::html("it broke").with_status(500).cache(PRIVATE);
        }
        let who = request.header("cookie").and_then(|cookie| cookie.strip_prefix("member="));
        let who = who.filter(|who| self.members.lock().expect("a lock").contains(who));
        let Some(who) = who else {
            return Response::status(307).header("Location", "/login");
        };
        let text = self.page.lock().expect("a lock").clone();
        let data = request.path().starts_with("/_next/data/");
        let etag = format!("\"{text}{}\"", u8::from(data));
        let known = request.header("if-none-match").is_some_and(|known| known == etag);
        let answer = match (known, data) {
            (true, _) => Response::status(304),
            (false, true) => Response::json(format!("{{\"{text}\"}}")),
            (false, false) => Response::html(text),
        };
        if !known {
            self.sent.fetch_add(1, Ordering::SeqCst);
        }
        let answer = answer.header("ETag", &etag).header("X-Who", who).cache(ISR);
        answer.header("Set-Cookie", &format!("seen={who}")).header("x-nextjs-cache", "HIT")
    }

    async fn origin(self: &Arc<Site>) -> Origin {
        let site = Arc::clone(self);
        Origin::serve(move |request| site.answer(request)).await
    }
}

#[tokio::test]
async fn a_members_page_is_confirmed_and_a_stranger_gets_no_byte_of_it() {
    let (folder, site) = (build(), Site::new());
    let origin = site.origin().await;
    let edge = Edge::start(&config(&folder), &origin).await;
    let client = edge.client().ssr();
    let member = |who: &str| client.get("/member/page").header("Cookie", &format!("member={who}"));
    let first = member("alice").await;
    first.is(200, "MISS", "one");
    assert!(first.cache_status().contains("stored"), "{first}");
    assert_eq!(first.header("set-cookie"), Some("seen=alice"), "{first}");
    for who in ["alice", "bob", "alice"] {
        let page = member(who).await;
        page.is(200, "REVALIDATED", "one");
        let own = (page.header("x-who"), page.header("set-cookie"), page.header("content-type"));
        let cookie = format!("seen={who}");
        assert_eq!(own, (Some(who), Some(&*cookie), first.header("content-type")), "{page}");
    }
    assert_eq!(site.sent(), 1, "the page itself was sent once");
    // Whatever a stranger says, and however the page is asked for.
    let stranger = |ask: crate::support::client::Ask| async move {
        let answer = ask.await;
        assert_eq!((answer.status, answer.header("location")), (307, Some("/login")), "{answer}");
        assert!(!answer.text().contains("one") && answer.header("etag").is_none(), "{answer}");
    };
    stranger(client.get("/member/page")).await;
    stranger(client.get("/member/page").header("If-None-Match", "\"one0\"")).await;
    stranger(client.get("/member/page").header("Range", "bytes=0-1")).await;
    stranger(client.get("/member/page").header("Cookie", "member=eve")).await;
    stranger(client.get("/member/page/").header("Cookie", "member=eve")).await;
    stranger(client.get("/m%65mber/page")).await;
    stranger(client.head("/member/page")).await;
    // Conditions and ranges of a member are answered from the copy.
    let known = member("bob").header("If-None-Match", "\"one0\"").await;
    assert_eq!((known.status, known.header("x-who")), (304, Some("bob")), "{known}");
    let part = member("bob").header("Range", "bytes=0-1").await;
    assert_eq!((part.status, part.text()), (206, "on"), "{part}");
    let head = client.head("/member/page").header("Cookie", "member=bob").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("3")), "{head}");
    // The same, whatever the query; middleware hears of it.
    let query = client.get("/member/page?utm=1").header("Cookie", "member=bob").await;
    query.is(200, "REVALIDATED", "one");
    assert_eq!(origin.requests().last().map(|r| &*r.target), Some("/member/page?utm=1"));
    assert_eq!(site.sent(), 1);
    // Who is no member any more is a stranger at once; the others are what they were.
    site.members.lock().expect("a lock").retain(|who| *who != "alice");
    stranger(member("alice")).await;
    member("bob").await.is(200, "REVALIDATED", "one");
    assert_eq!(site.sent(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_page_that_changes_takes_the_place_of_its_copy() {
    let (folder, site) = (build(), Site::new());
    let origin = site.origin().await;
    let edge = Edge::start(&config(&folder), &origin).await;
    let client = edge.client().ssr();
    for path in ["/member/page", "/_next/data/b1/member/page.json"] {
        let member = |who: &str| client.get(path).header("Cookie", &format!("member={who}"));
        for (text, sent) in [("one", 1), ("two", 2), ("one", 3)] {
            site.page.lock().expect("a lock").replace_range(.., text);
            let before = site.sent();
            let new = member("alice").await;
            assert_eq!((new.status, new.x_cache()), (200, "MISS"), "{new}");
            assert!(new.text().contains(text), "{sent} {new}");
            let again = member("bob").await;
            assert_eq!((again.status, again.x_cache()), (200, "REVALIDATED"), "{again}");
            assert_eq!((again.text(), again.header("x-who")), (new.text(), Some("bob")));
            assert_eq!(site.sent() - before, 1, "{sent}");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn without_the_origins_word_nobody_gets_anything() {
    let (folder, site) = (build(), Site::new());
    let origin = site.origin().await;
    let edge = Edge::start(&config(&folder), &origin).await;
    let client = edge.client().ssr();
    let member = || client.get("/member/page").header("Cookie", "member=alice");
    member().await.is(200, "MISS", "one");
    member().await.is(200, "REVALIDATED", "one");
    site.down.store(true, Ordering::SeqCst);
    let broken = member().await;
    assert_eq!((broken.status, broken.text()), (500, "it broke"), "{broken}");
    site.down.store(false, Ordering::SeqCst);
    member().await.is(200, "REVALIDATED", "one");
    origin.refuse().await;
    for ask in [member(), client.get("/member/page")] {
        let answer = ask.await;
        assert_eq!(answer.status, 502, "{answer}");
        assert!(!answer.text().contains("one"), "{answer}");
    }
    origin.accept().await;
    member().await.is(200, "REVALIDATED", "one");
    edge.stop().await;
}

/// Only what the answer says is made for all is kept, and not where the build says otherwise; and behind middleware
/// nothing is shared that RFC 9111 would share elsewhere, with cookies or without.
#[tokio::test]
async fn what_middleware_may_have_made_is_kept_by_nobody() {
    let folder = build();
    let origin = Origin::serve(|request| {
        let who = request.header("accept-language").unwrap_or("nobody");
        let page = Response::html(format!("hello {who}")).header("ETag", "\"v1\"");
        match request.path() {
            // Another page that it chose, which Next made for all.
            "/member/own" => page.cache(ISR).header("x-nextjs-cache", "HIT"),
            "/member/unknown" => page.cache("public, max-age=900"),
            // Its own answer, with a tag that says nothing of the content.
            "/member/page" => page.cache(ISR),
            _ => page,
        }
    })
    .await;
    let edge = Edge::start(&config(&folder), &origin).await;
    let client = edge.client().ssr();
    for path in ["/member/own", "/member/unknown", "/member/page", "/member/static"] {
        for (who, cookie) in [("a", ""), ("b", ""), ("c", "x=1"), ("a", "x=1")] {
            let ask = client.get(path).header("Accept-Language", who);
            let ask = if cookie.is_empty() { ask } else { ask.header("Cookie", cookie) };
            let page = ask.await;
            page.is(200, "MISS", &format!("hello {who}"));
            let asked = origin.requests().pop().expect("a request");
            assert_eq!(asked.header("if-none-match"), None, "{path}");
            assert_eq!(asked.header("cookie").unwrap_or_default(), cookie, "{path}");
        }
        assert_eq!(origin.count(path), 4);
    }
    edge.stop().await;
}

/// A page without data says nothing of its lifetime; its body says that the build made it.
#[tokio::test]
async fn a_page_that_the_build_exported() {
    let folder = build();
    let body = "<p>one</p><script id=\"__NEXT_DATA__\" type=\"application/json\">\
                {\"buildId\":\"b1\",\"nextExport\":true}</script>";
    let origin = Origin::serve(move |request| match request.header("if-none-match") {
        Some("\"e\"") => Response::status(304).header("ETag", "\"e\""),
        _ => Response::html(body).header("ETag", "\"e\""),
    })
    .await;
    let edge = Edge::start(&config(&folder), &origin).await;
    let client = edge.client().ssr();
    client.get("/member/static").await.is(200, "MISS", body);
    client.get("/member/static").header("Cookie", "a=1").await.is(200, "REVALIDATED", body);
    edge.stop().await;
}

/// A 304 that is not of the copy, or that says that the page is for one client, is no word
/// for the copy: the page is asked for once more, whole.
#[tokio::test]
async fn a_304_of_something_else() {
    for (etag, cache) in [(Some("\"other\""), ISR), (None, ISR), (Some("\"one\""), PRIVATE)] {
        let folder = build();
        let origin = Origin::serve(move |request| {
            let page = |text: &str| Response::html(text.to_owned()).header("x-nextjs-cache", "HIT");
            match (request.header("if-none-match"), request.header("cookie")) {
                (Some(_), _) => {
                    let answer = Response::status(304).cache(cache);
                    etag.into_iter().fold(answer, |answer, etag| answer.header("ETag", etag))
                }
                (None, Some(_)) => page("for bob").cache(PRIVATE),
                (None, None) => page("one").header("ETag", "\"one\"").cache(ISR),
            }
        })
        .await;
        let edge = Edge::start(&config(&folder), &origin).await;
        let client = edge.client().ssr();
        client.get("/member/page").await.is(200, "MISS", "one");
        let own = client.get("/member/page").header("Cookie", "a=1").await;
        own.is(200, "MISS", "for bob");
        edge.stop().await;
    }
}

/// What the build says is for each client goes to the origin whole, at once; what it says
/// is for all goes without anybody's fields.
#[tokio::test]
async fn what_the_build_says_needs_no_probe() {
    let folder = build();
    let origin = Origin::serve(|request| {
        let who = request.header("cookie").unwrap_or("everybody").to_owned();
        match request.path() {
            "/account" => Response::html(who).cache(PRIVATE),
            _ => Response::html(who).cache(ISR).header("x-nextjs-cache", "HIT"),
        }
    })
    .await;
    let edge = Edge::start(&config(&folder), &origin).await;
    let client = edge.client();
    for name in ["a=1", "b=2"] {
        let page = client.clone().ssr().get("/account?q=1").header("Cookie", name).await;
        page.is(200, "MISS", name);
    }
    assert_eq!(origin.count("/account"), 2, "once for each");
    client.get("/about").header("Cookie", "a=1").await.is(200, "MISS", "everybody");
    client.get("/about").header("Cookie", "b=2").await.is(200, "HIT", "everybody");
    assert_eq!(origin.count("/about"), 1);
    edge.stop().await;
}

/// A route of the configuration says more than the build.
#[tokio::test]
async fn a_route_of_ones_own_comes_first() {
    let folder = build();
    let origin = Origin::serve(|_| Response::html("one").cache(ISR)).await;
    let routes = "routes: [ { path: /member/**, isr: { revalidate: 60s } } ]";
    let edge = Edge::start(&format!("{}{routes}", config(&folder)), &origin).await;
    let client = edge.client();
    client.get("/member/page").header("Cookie", "a=1").await.is(200, "MISS", "one");
    client.get("/member/page").await.is(200, "HIT", "one");
    edge.stop().await;
}

/// The webhook has the page rendered anew past middleware, as Next allows who knows its
/// secret. What that brings is for nobody either.
#[tokio::test]
async fn the_webhook_gives_nobody_the_page() {
    let (folder, site) = (build(), Site::new());
    let behind = Arc::clone(&site);
    let origin = Origin::serve(move |request| match request.header("x-prerender-revalidate") {
        Some("true-id") => Response::html("one").header("ETag", "\"one0\"").cache(ISR),
        _ => behind.answer(request),
    })
    .await;
    let edge = Edge::start(&config(&folder), &origin).await;
    let client = edge.client().ssr();
    let member = || client.get("/member/page").header("Cookie", "member=alice");
    for arguments in ["path=/member/page", "path=/member/page&mode=expire", "all=1"] {
        member().await;
        member().await.is(200, "REVALIDATED", "one");
        let done = edge.revalidate(arguments).await;
        assert_eq!(done.status, 200, "{done}");
        assert_eq!(client.get("/member/page").await.status, 307, "{arguments}");
        let page = member().await;
        assert_eq!((page.status, page.text(), page.header("x-who")), (200, "one", Some("alice")));
    }
    edge.stop().await;
}
