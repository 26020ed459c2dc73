//! The hit path by its parts: `cargo bench --bench micro`.
//!
//! Each bench is one step that a hit takes between the parsed head and the
//! bytes to write; `hit` is all of them together. What a request costs beside
//! that is the system's: see `benches/load/run` for the whole.

use std::sync::Arc;

use bytes::Bytes;
use divan::{Bencher, black_box};
use futures::executor::block_on;
use http::StatusCode;
use httparse::Header;
use perennial::bench::{
    AccessLog, Answer, Asked, Body, Born, Choice, Coding, Compress, Deployments, Facts, Fields,
    FieldsBuf, Form, Hardness, Judge, Judged, Judgement, KeyBuf, Live, Metrics, Name, Notes,
    Origins, Outcome, Page, Plan, Preset, Representation, Request, Routes, Store, Tags, Time, Uses,
    Via, canonical_path, choose, plan,
};
use perennial::config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const YAML: &str = "
origins: { web: 'http://127.0.0.1:1' }
routes:
  - path: /blog/**
    isr: { revalidate: 60s }
    query: [page]
  - path: /docs/**
    dsg: {}
  - path: /api/**
    pass: {}
";

/// What a browser sends.
const FIELDS: &[(&str, &str)] = &[
    ("Host", "www.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "de,en-US;q=0.7,en;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "https://www.example.com/"),
    ("Connection", "keep-alive"),
    ("Cookie", "session=0123456789abcdef; theme=dark"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
];

const TARGET: &str = "/blog/2026/on-caching?utm_source=x&page=2";

struct World {
    live: Live,
    notes: Notes,
    store: Store,
    fields: Vec<Header<'static>>,
    now: Time,
}

impl World {
    fn new() -> World {
        let (config, _) = Config::from_yaml(YAML, "bench", &|_| None).expect("it is right");
        // The origins want a runtime; nothing asks them here.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let _guard = runtime.enter();
        let store = Store::new(&config.cache);
        let live = Live {
            routes: Routes::new(&config),
            origins: Origins::new(&config.origins),
            preset: Preset::new(&config.framework),
            deployments: [Arc::new(Deployments::new(&config.deployment, None))].into(),
            metrics: Arc::new(Metrics::new(&["/**".to_owned()], &["web".to_owned()])),
            access: AccessLog::off(),
            via: Via::default(),
            config,
        };
        let fields =
            FIELDS.iter().map(|&(name, value)| Header { name, value: value.as_bytes() }).collect();
        let world =
            World { live, notes: Notes::new(1 << 20), store, fields, now: Time(1_700_000_000_000) };
        let mut key = KeyBuf::default();
        world.plan(&mut key);
        block_on(world.store.commit(
            &key.key(),
            &Tags::default(),
            vec![representation(world.now)],
            |_| false,
        ));
        world
    }

    fn request(&self) -> Request<'_> {
        Request {
            method: "GET",
            target: TARGET,
            host: "www.example.com",
            scheme: "http",
            fields: &self.fields,
            peer: [127, 0, 0, 1].into(),
        }
    }

    fn plan(&self, key: &mut KeyBuf) -> Form {
        let request = self.request();
        let facts = Facts::of(&request);
        match plan(&self.live, &self.notes, &request, &facts, key) {
            Plan::Page(wanted) => wanted.form,
            other => panic!("not a page: {other:?}"),
        }
    }

    fn page(&self) -> Arc<Page> {
        let mut key = KeyBuf::default();
        self.plan(&mut key);
        self.store.get(key.as_str()).expect("it was stored")
    }

    fn answer(&self, page: &Page, form: Form, out: &mut Vec<u8>) -> u64 {
        let request = self.request();
        let facts = Facts::of(&request);
        let standing =
            |page: &Page, rep: &Representation| self.store.standing(page, rep, &Tags::default());
        let route = self.live.routes.find("www.example.com", page.key.path());
        let judge = Judge { route, page: true, preset: &self.live.preset };
        let choice = choose(Some(page), form, &request, &facts, self.now, &judge, standing);
        let Choice::Serve { rep, ttl, .. } = choice else { panic!("not servable") };
        let outcome = Outcome::Hit { ttl };
        let answer = Answer::new(rep, &judge, &request, &facts, outcome, self.now);
        out.clear();
        answer.write_head(out);
        let mut length = 0;
        answer.each_body(&mut |part| length += part.len() as u64);
        length
    }
}

fn representation(now: Time) -> Representation {
    let mut fields = FieldsBuf::default();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("x-powered-by", "Next.js"),
        ("strict-transport-security", "max-age=63072000"),
        ("cache-control", "public, max-age=0, must-revalidate"),
        ("vary", "Accept, Accept-Encoding"),
    ] {
        fields.push(name, value.as_bytes());
    }
    let fields = fields.done();
    let body = |coding: Coding, size: usize| Body {
        coding,
        etag: format!("\"p0123456789abcdef-{coding}\"").into(),
        bytes: Bytes::from(vec![b'x'; size]),
    };
    Representation {
        form: Form::Document,
        vary: Box::default(),
        status: StatusCode::OK,
        // Judged by the route at the first hit.
        judged: Judged::new(Judgement { stamp: 1, terms: None, head: fields.clone() }),
        uses: Uses::default(),
        origin: fields,
        set_cookie: false,
        asked: Asked::Route,
        request: Fields::default(),
        origin_etag: false,
        last_modified: None,
        bodies: Box::new([
            body(Coding::Identity, 16 << 10),
            body(Coding::Gzip, 5 << 10),
            body(Coding::Brotli, 4 << 10),
            body(Coding::Zstd, 5 << 10),
        ]),
        compress: Compress::new(false),
        request_time: now,
        response_time: now,
        generated: now,
        born: Born::default(),
        tags: Arc::new(Tags::default()),
    }
}

#[divan::bench]
fn facts(bencher: Bencher<'_, '_>) {
    let world = World::new();
    bencher.bench_local(|| Facts::of(black_box(&world.request())));
}

#[divan::bench]
fn canonical(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| canonical_path(black_box("/blog/2026/on-caching")).len());
}

#[divan::bench]
fn find_route(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let find = |path| Arc::as_ptr(world.live.routes.find("www.example.com", black_box(path)));
    bencher.bench_local(|| find("/blog/2026/on-caching"));
}

#[divan::bench]
fn plan_and_key(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let mut key = KeyBuf::default();
    bencher.bench_local(|| world.plan(black_box(&mut key)));
}

#[divan::bench]
fn look_up(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let mut key = KeyBuf::default();
    world.plan(&mut key);
    bencher.bench_local(|| world.store.get(black_box(key.as_str())));
}

#[divan::bench]
fn choose_and_write(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let page = world.page();
    let mut out = Vec::with_capacity(2048);
    bencher.bench_local(|| world.answer(black_box(&page), Form::Document, &mut out));
}

#[divan::bench]
fn hit(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let mut key = KeyBuf::default();
    let mut out = Vec::with_capacity(2048);
    bencher.bench_local(|| {
        let form = world.plan(&mut key);
        let page = world.store.get(key.as_str()).expect("it was stored");
        world.answer(&page, form, &mut out)
    });
}

/// 100,000 tagged pages, and one purge of their tag: what its acknowledgement takes.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn purge_of_100_000_pages(bencher: Bencher<'_, '_>) {
    let world = World::new();
    let tags = Arc::new(Tags { names: Box::new(["t".into()]), overflow: false });
    let mut key = KeyBuf::default();
    for n in 0..100_000 {
        key.begin("", "http", "h", &format!("/{n}"));
        let mut rep = representation(world.now);
        rep.bodies = Box::new([Body { bytes: Bytes::new(), ..rep.bodies[0].clone() }]);
        rep.tags = Arc::clone(&tags);
        block_on(world.store.commit(&key.key(), &Tags::default(), vec![rep], |_| false));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    bencher.bench_local(|| {
        let names = vec![Name::Tag { host: None, tag: "t".into() }];
        runtime.block_on(world.store.invalidate(names, Hardness::Soft)).expect("it is in memory")
    });
}
