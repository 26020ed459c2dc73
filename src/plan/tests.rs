//! The plan of a request in tables: key, route and what is sent. What is not in the
//! key must not be sent on page routes, so a row shows both.

use super::*;
use crate::config::Config;
use crate::deployment::Deployments;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use crate::origin::Origins;
use crate::request::testing;
use crate::route::Routes;
use crate::via::Via;

const ROUTES: &str = "
routes:
  - path: /isr/**
    isr: { revalidate: 60s }
    query: [page]
  - path: /variants/**
    isr: { revalidate: origin }
    vary: [accept-language, x-tier]
  - path: /images/**
    dsg: {}
    query: all
    vary: [accept]
  - path: /origin/**
    isr: { revalidate: origin }
  - path: /pass/**
    pass: {}
  - host: other.test
    path: /**
    dsg: {}
";

struct Site {
    live: Live,
    notes: Notes,
    _runtime: tokio::runtime::Runtime,
}

impl Site {
    fn new(yaml: &str) -> Site {
        let yaml = format!("origins: {{ web: 'http://127.0.0.1:1' }}\n{yaml}");
        let (config, _) =
            Config::from_yaml(&yaml, "test.yaml", &|_| None).unwrap_or_else(|e| panic!("{e}"));
        // The origins want a runtime; nothing asks them here.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        let preset = Preset::new(&config.framework);
        let build = preset.build().map(str::to_owned);
        let live = Live {
            routes: Routes::new(&config),
            origins: Origins::new(&config.origins),
            deployments: [Arc::new(Deployments::new(&config.deployment, build.as_deref()))].into(),
            metrics: Arc::new(Metrics::for_tests()),
            access: AccessLog::off(),
            via: Via::default(),
            preset,
            config,
        };
        drop(guard);
        Site { live, notes: Notes::new(1 << 20), _runtime: runtime }
    }

    /// What is done with a request, in a line: terms, form and key, and what is
    /// sent: the target, and those of `fields` that go on.
    fn of(&self, line: &str, fields: &[(&str, &str)]) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let (host, target) = match target.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap()),
            None => ("a.test", target),
        };
        let fields = testing::fields(fields);
        let request = Request { method, host, ..testing::get(target, &fields) };
        let facts = Facts::of(&request);
        let mut key = KeyBuf::default();
        match plan(&self.live, &self.notes, &request, &facts, &mut key) {
            Plan::Webhook => "webhook".to_owned(),
            Plan::Bypass(_, why) => format!("bypass {why}"),
            Plan::Page(wanted) => {
                let ask = ask(&self.live, &request, &facts, &key, &wanted);
                let sent: Vec<String> = ask
                    .fields
                    .iter()
                    .filter(|(name, _)| !name.eq_ignore_ascii_case("x-forwarded-for"))
                    .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
                    .collect();
                let key = key.as_str().trim_end().replace('\0', "|").replace('\n', ",");
                let terms = if wanted.page { "page" } else { "ssr" };
                format!("{terms} {:?} {key} -> {} [{}]", wanted.form, ask.target, sent.join("; "))
            }
        }
    }

    /// Notes that the document of this target is server-rendered.
    fn note(&self, target: &str) {
        let request = testing::get(target, &[]);
        let mut key = KeyBuf::default();
        let _ = plan(&self.live, &self.notes, &request, &Facts::default(), &mut key);
        let about = self.notes.form(key.as_str(), Form::Document, 0);
        self.notes.set_server_rendered(about);
    }
}

#[test]
fn keys_and_what_is_sent_for_any_renderer() {
    let site = Site::new(ROUTES);
    let long = "x".repeat(300);
    for (line, fields, expected) in [
        // Nothing of the client is sent on page routes but what is in the key.
        (
            "GET /isr/a?b=1&page=2",
            &[("Cookie", "a=b"), ("X-Forwarded-Host", "evil"), ("X-Api-Key", "k")][..],
            "page Document |http://a.test/isr/a?page=2 -> /isr/a?page=2 []",
        ),
        ("HEAD /isr/a", &[], "page Document |http://a.test/isr/a -> /isr/a []"),
        (
            "GET /isr/a",
            &[("Accept", "application/json")],
            "page Data |http://a.test/isr/a -> /isr/a []",
        ),
        ("GET //A.Test:80/isr/%61/../b", &[], "page Document |http://a.test/isr/b -> /isr/b []"),
        (
            "GET /variants/a",
            &[("Accept-Language", "en;q=0.5, DE"), ("X-Tier", "gold")],
            "page Document |http://a.test/variants/a|accept-language=de, en;q=0.5,x-tier=gold \
             -> /variants/a [accept-language: de, en;q=0.5; x-tier: gold]",
        ),
        (
            "GET /variants/a",
            &[("X-Tier", &long)],
            "page Document |http://a.test/variants/a|accept-language=,x-tier= -> /variants/a []",
        ),
        (
            "GET /images/a?w=1",
            &[("Accept", "image/avif,image/webp,*/*")],
            "page Document |http://a.test/images/a?w=1|accept=image/avif,image/webp \
             -> /images/a?w=1 [accept: image/avif,image/webp,*/*]",
        ),
        ("GET //other.test/x?a=b", &[], "page Document |http://other.test/x -> /x []"),
        // Elsewhere all of it.
        (
            "GET /x?a=b",
            &[("Cookie", "a=b"), ("If-None-Match", "\"x\""), ("Range", "bytes=0-1")],
            "ssr Document |http://a.test/x?a=b -> /x?a=b [Cookie: a=b]",
        ),
        // What the cache has no part in.
        ("POST /isr/a", &[], "bypass method"),
        ("GET /pass/a", &[], "bypass pass"),
        ("GET /isr/a", &[("Authorization", "x")], "bypass authorization"),
        ("GET /x", &[("Content-Length", "1")], "bypass method"),
        ("GET /__revalidate?secret=x", &[], "webhook"),
        ("GET /%5f_revalidate", &[], "webhook"),
    ] {
        assert_eq!(site.of(line, fields), expected, "{line} {fields:?}");
    }
}

/// A path that is server-rendered for now is sent all that a client sent, and keeps
/// its declared variants in a key of its own.
#[test]
fn paths_that_are_server_rendered_for_now() {
    let site = Site::new(ROUTES);
    site.note("/origin/a");
    site.note("/variants/a");
    for (line, fields, expected) in [
        (
            "GET /origin/a?q=1",
            &[("Cookie", "a=b")][..],
            "ssr Document |http://a.test/origin/a?q=1|~server-rendered= \
             -> /origin/a?q=1 [Cookie: a=b]",
        ),
        ("GET /origin/b", &[], "page Document |http://a.test/origin/b -> /origin/b []"),
        // The note is of the document alone.
        (
            "GET /origin/a",
            &[("Accept", "application/json")],
            "page Data |http://a.test/origin/a -> /origin/a []",
        ),
        // And of that variant alone, which stays in the key.
        (
            "GET /variants/a",
            &[],
            "ssr Document |http://a.test/variants/a|accept-language=,x-tier=,~server-rendered= \
             -> /variants/a []",
        ),
        (
            "GET /variants/a",
            &[("Accept-Language", "de")],
            "page Document |http://a.test/variants/a|accept-language=de,x-tier= \
             -> /variants/a [accept-language: de]",
        ),
        ("POST /origin/a", &[], "bypass method"),
    ] {
        assert_eq!(site.of(line, fields), expected, "{line} {fields:?}");
    }
}

const NEXT: &str = "
framework: nextjs
deployment: { id: v2 }
routes:
  - path: /docs/**
    isr: { revalidate: 60s }
  - path: /account/**
    ssr: {}
";

/// What anybody can make up is not stored under a page: builds that are not known,
/// and payload fields that no router sends.
#[test]
fn forms_of_a_page_of_next() {
    let site = Site::new(NEXT);
    for (line, fields, expected) in [
        ("GET /docs/a", &[][..], "page Document v2|http://a.test/docs/a -> /docs/a []"),
        (
            "GET /docs/a",
            &[("RSC", "1"), ("Next-Router-Prefetch", "1")],
            "page Payload v2|http://a.test/docs/a -> /docs/a [next-router-prefetch: 1]",
        ),
        (
            "GET /docs/a",
            &[("RSC", "1"), ("Next-Router-Segment-Prefetch", "/_tree")],
            "page Payload v2|http://a.test/docs/a -> /docs/a [next-router-segment-prefetch: /_tree]",
        ),
        ("GET /docs/a", &[("RSC", "1"), ("Next-Router-Prefetch", "17")], "bypass unknown"),
        ("GET /docs/a", &[("RSC", "1"), ("Next-Router-Segment-Prefetch", "x")], "bypass unknown"),
        ("GET /docs/a", &[("RSC", "1"), ("Next-Url", "x y")], "bypass unknown"),
        ("GET /docs/a", &[("RSC", "1"), ("Next-Url", "/a"), ("Next-Url", "/b")], "bypass unknown"),
        // Without RSC they mean nothing.
        (
            "GET /docs/a",
            &[("Next-Router-Prefetch", "17")],
            "page Document v2|http://a.test/docs/a -> /docs/a []",
        ),
        // The deployment is no build.
        ("GET /_next/data/v2/docs/a.json", &[], "bypass unknown"),
        ("GET /_next/data/made-up/docs/a.json", &[], "bypass unknown"),
        ("GET /docs/a", &[("Cookie", "__prerender_bypass=x")], "bypass draft"),
    ] {
        assert_eq!(site.of(line, fields), expected, "{line} {fields:?}");
    }
    let deployments = site.live.deployments(site.live.routes.find("a.test", "/docs/a"));
    let _ = deployments.learn_from(&http::HeaderMap::new(), Some("BUILD"));
    assert_eq!(
        site.of("GET /_next/data/BUILD/docs/a.json", &[]),
        "page Data v2|http://a.test/docs/a -> /_next/data/BUILD/docs/a.json []"
    );
}
