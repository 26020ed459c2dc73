//! Which stored representation answers a request, in a table.

use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::framework::Preset;
use crate::page::testing::{self, key, varying};
use crate::page::{Asked, Fields, FieldsBuf, Judged};
use crate::request;
use crate::route::Routes;
use crate::rules::date;

const NOW: Time = Time(1_700_000_000_000);

/// A representation that arrived so many seconds ago with these fields.
fn stored(
    form: Form,
    asked: Asked,
    ago: u64,
    fields: &[(&str, &str)],
    body: &str,
) -> Representation {
    let at = Time(NOW.0 - ago * 1000);
    let mut origin = FieldsBuf::default();
    origin.push("content-type", b"text/html");
    origin.push("date", date::format(at).as_bytes());
    fields.iter().for_each(|(name, value)| origin.push(name, value.as_bytes()));
    Representation {
        asked,
        request: Fields::default(),
        origin: origin.done(),
        generated: at,
        request_time: at,
        response_time: at,
        // Of no route yet.
        judged: Judged::new(Judgement { stamp: 1, terms: None, head: Fields::default() }),
        ..testing::rep(form, 0, &[], body)
    }
}

fn client(cookie: bool) -> Asked {
    Asked::Client { authorization: false, cookie, no_store: false }
}

#[test]
fn which_representation_answers() {
    let doc = Form::Document;
    let cc = |value| [("cache-control", value)];
    let page = |ago| stored(doc, Asked::Route, ago, &[], "page");
    let ssr = |ago, value| stored(doc, client(false), ago, &cc(value), "ssr");
    let old = Standing::Dead;
    for (what, route, members, standing, fields, expected) in [
        ("fresh", "isr: { revalidate: 60s }", vec![page(10)], Standing::Live, vec![], "page 50"),
        (
            "stale",
            "isr: { revalidate: 60s }",
            vec![page(100)],
            Standing::Live,
            vec![],
            "page stale",
        ),
        ("purged softly", "dsg: {}", vec![page(10)], Standing::Stale, vec![], "page stale"),
        ("purged hard", "dsg: {}", vec![page(10)], old, vec![], "uri-miss"),
        ("static", "dsg: {}", vec![page(1_000_000)], Standing::Live, vec![], "page static"),
        (
            "past stale_for",
            "isr: { revalidate: 60s, stale_for: 10s }",
            vec![page(100)],
            Standing::Live,
            vec![],
            "stale if-error if-unreachable",
        ),
        (
            "of another form",
            "dsg: {}",
            vec![stored(Form::Data, Asked::Route, 1, &[], "data")],
            Standing::Live,
            vec![],
            "vary-miss",
        ),
        // Semantics §6: under the terms of the route that reads it.
        ("rendered for all, on ssr", "ssr: {}", vec![page(10)], Standing::Live, vec![], "uri-miss"),
        (
            "rendered for one, on a page route",
            "dsg: {}",
            vec![ssr(10, "s-maxage=60")],
            Standing::Live,
            vec![],
            "uri-miss",
        ),
        ("RFC 9111 §4.2", "ssr: {}", vec![ssr(10, "max-age=60")], Standing::Live, vec![], "ssr 50"),
        (
            "RFC 5861 §3",
            "ssr: {}",
            vec![ssr(70, "max-age=60, stale-while-revalidate=20")],
            Standing::Live,
            vec![],
            "ssr stale",
        ),
        (
            "RFC 5861 §4",
            "ssr: {}",
            vec![ssr(70, "s-maxage=60, stale-if-error=20")],
            Standing::Live,
            vec![],
            "stale if-error if-unreachable",
        ),
        (
            "RFC 9111 §4.2.4",
            "ssr: {}",
            vec![ssr(70, "max-age=60")],
            Standing::Live,
            vec![],
            "stale if-unreachable",
        ),
        (
            "a lifetime of zero",
            "ssr: {}",
            vec![ssr(1, "max-age=0")],
            Standing::Live,
            vec![],
            "stale",
        ),
        (
            "RFC 9111 §5.2.2.2",
            "ssr: {}",
            vec![ssr(70, "max-age=60, must-revalidate")],
            Standing::Live,
            vec![],
            "stale",
        ),
        // RFC 9111 §3.5
        (
            "credentials",
            "ssr: {}",
            vec![ssr(10, "max-age=60")],
            Standing::Live,
            vec![("Authorization", "x")],
            "request",
        ),
        (
            "credentials, and public",
            "ssr: {}",
            vec![ssr(10, "max-age=60, public")],
            Standing::Live,
            vec![("Authorization", "x")],
            "ssr 50",
        ),
        // RFC 9111 §4.1
        (
            "another variant",
            "ssr: {}",
            vec![varying(ssr(10, "max-age=60"), "accept-language", "de")],
            Standing::Live,
            vec![("Accept-Language", "en")],
            "vary-miss",
        ),
        (
            "the variant that is selected, not the newer one",
            "ssr: {}",
            vec![
                varying(ssr(20, "max-age=60"), "accept-language", "de"),
                varying(
                    stored(doc, client(false), 1, &cc("max-age=60"), "en"),
                    "accept-language",
                    "en",
                ),
            ],
            Standing::Live,
            vec![("Accept-Language", "de")],
            "ssr 40",
        ),
    ] {
        let yaml = format!(
            "origins: {{ web: 'http://127.0.0.1:1' }}\nroutes: [ {{ path: /**, {route} }} ]\n"
        );
        let (config, _) = Config::from_yaml(&yaml, "test.yaml", &|_| None).unwrap();
        let routes = Routes::new(&config);
        let judge = Judge {
            route: routes.find("h", "/a"),
            page: !route.starts_with("ssr"),
            preset: &Preset::generic(),
        };
        let fields = request::testing::fields(&fields);
        let request = request::testing::get("/a", &fields);
        let facts = Facts::of(&request);
        let page = Page::new(key("/a"), members.into_iter().map(Arc::new).collect());
        let choice = choose(Some(&page), doc, &request, &facts, NOW, &judge, |_, _| standing);
        let found = match choice {
            Choice::Serve { rep, ttl, stale } => {
                let body = String::from_utf8_lossy(&rep.identity().bytes).into_owned();
                let ttl = ttl.map_or("static".to_owned(), |ttl| ttl.to_string());
                format!("{body} {}", if stale { "stale" } else { &ttl })
            }
            Choice::Fetch { fwd, stale } => {
                let mut said = fwd.to_string();
                let stale = stale.as_ref();
                said += if stale.is_some_and(|stale| stale.if_error) { " if-error" } else { "" };
                let unreachable = stale.is_some_and(|stale| stale.if_unreachable);
                said + if unreachable { " if-unreachable" } else { "" }
            }
        };
        assert_eq!(found, expected, "{what}");
    }
}

/// What is judged once is not judged again until the options change.
#[test]
fn a_judgement_is_kept_until_the_route_changes() {
    let rep = stored(Form::Document, Asked::Route, 0, &[], "x");
    let judge = |options: &str| {
        let yaml = format!(
            "origins: {{ web: 'http://127.0.0.1:1' }}\nroutes: [ {{ path: /**, {options} }} ]\n"
        );
        let (config, _) = Config::from_yaml(&yaml, "test.yaml", &|_| None).unwrap();
        let routes = Routes::new(&config);
        let route = Arc::clone(routes.find("h", "/a"));
        let judge = Judge { route: &route, page: true, preset: &Preset::generic() };
        Arc::clone(&judge.of(&rep))
    };
    let first = judge("isr: { revalidate: 60s }");
    assert!(Arc::ptr_eq(&first, &judge("isr: { revalidate: 60s }, origin: web")));
    let other = judge("isr: { revalidate: 10s }, browser: no-cache");
    assert_eq!(other.terms.unwrap().fresh_for, Some(Duration::from_secs(10)));
    assert_eq!(other.head.get("cache-control"), Some(&b"no-cache"[..]));
}
