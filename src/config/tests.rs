//! The way from a text to a configuration, as a whole.

use std::time::Duration;

use http::HeaderName;
use proptest::prelude::*;

use super::*;

/// A minimal beginning.
const ORIGINS: &str = "origins: { web: http://127.0.0.1:3000 }\n";

fn no_env(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> Result<(Config, Vec<String>), Vec<String>> {
    load_with(text, &no_env)
}

fn load_with(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<String>), Vec<String>> {
    match Config::from_yaml(text, "p.yaml", env) {
        Ok((config, warnings)) => Ok((config, warnings.iter().map(ToString::to_string).collect())),
        Err(errors) => Err(errors.to_string().lines().map(str::to_owned).collect()),
    }
}

fn good(text: &str) -> Config {
    load(text).unwrap_or_else(|errors| panic!("{}", errors.join("\n"))).0
}

/// The YAML of the project's plan, as it stands there.
const PLAN: &str = "\
listen: 0.0.0.0:8080            # one or a list
admin: 127.0.0.1:9900
threads: 2                      # workers; default: one per core
origins:
  web: http://127.0.0.1:3000    # short form; the first one is the default
  api:
    servers: [http://10.0.0.5:4000, http://10.0.0.6:4000]
    health: { path: /healthz, interval: 5s }
    connect_timeout: 2s
    fill_timeout: 30s           # the whole render
    max_concurrent_fills: 64
    host: preserve              # or a name to send
cache:
  memory: 512MiB
  max_object: 32MiB
framework: generic
log: { access: on, format: auto }   # access: on | off | errors; format: auto | text | json
revalidate:
  path: /__revalidate
  secret: ${PERENNIAL_SECRET}
routes:
  - path: /blog/**
    isr: { revalidate: 60s, stale_for: 30d }
    tags: [blog]
    query: [page]
  - path: /docs/**
    dsg: {}
  - host: shop.example.com
    path: /products/*
    isr: { revalidate: origin }
    vary: [accept-language]      # declared variants become part of the page key, normalised
  - path: /api/**
    pass: {}
    origin: api
  - path: /**
    ssr: {}
";

#[test]
fn the_plan_resolves() {
    let env = |name: &str| (name == "PERENNIAL_SECRET").then(|| "correct horse battery".to_owned());
    let (config, warnings) = load_with(PLAN, &env).expect("a good file");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.threads, 2);
    assert_eq!(config.origins[1].servers[1].port, 4000);
    assert_eq!(config.origins[1].health.as_ref().map(|h| h.timeout), Some(Duration::from_secs(2)));
    let revalidate = config.revalidate.as_ref().expect("a secret is set");
    assert_eq!(revalidate.secret, "correct horse battery");
    assert_eq!(config.routes.len(), 5);
    let day = Duration::from_secs(86_400);
    let blog = &config.routes[0];
    assert_eq!(
        blog.mode,
        Mode::Isr { revalidate: Some(Duration::from_secs(60)), stale_for: 30 * day }
    );
    assert_eq!(blog.query, Query::Names(vec!["page".to_owned()]));
    let shop = &config.routes[2];
    assert_eq!(shop.mode, Mode::Isr { revalidate: None, stale_for: 365 * day });
    assert_eq!(shop.host.as_deref(), Some("shop.example.com"));
    assert_eq!(shop.vary, ["accept-language"]);
    assert_eq!(shop.query, Query::Names(Vec::new()));
    assert_eq!((config.routes[3].origin, &config.routes[3].query), (1, &Query::All));

    let shown = format!("{config:?}{}", table(&config));
    assert!(!shown.contains("battery"), "the secret is never shown");
}

#[test]
fn defaults() {
    let config = good(ORIGINS);
    let secs = Duration::from_secs;
    assert_eq!(config.listen, ["0.0.0.0:8080".parse().expect("an address")]);
    assert_eq!(config.admin, Some("127.0.0.1:9900".parse().expect("an address")));
    assert!(config.threads >= 1);
    assert_eq!(config.origins[0].connect_timeout, secs(2));
    assert_eq!(config.origins[0].fill_timeout, secs(30));
    assert_eq!(config.origins[0].idle_timeout, secs(300));
    assert_eq!(config.origins[0].max_concurrent_fills, 64);
    assert_eq!(config.origins[0].max_waiting_fills, 1024);
    assert_eq!(config.origins[0].max_concurrent_passes, 1024);
    assert_eq!(config.origins[0].max_waiting_passes, 1024);
    assert_eq!(config.origins[0].max_websockets, 1024);
    assert_eq!(config.origins[0].keepalive, secs(60));
    assert_eq!(config.origins[0].resolve_interval, secs(10));
    assert_eq!(config.origins[0].host, HostField::Preserve);
    assert_eq!(config.origins[0].encoding, Encoding::Identity);
    let expected = RequestFields {
        trust: vec![HeaderName::from_static("x-forwarded-for")],
        ..RequestFields::default()
    };
    assert_eq!(*config.request_fields, expected);
    let expected = Cache {
        memory: 512 << 20,
        max_object: 32 << 20,
        max_variants: 16,
        max_invalidations: 100_000,
        max_notes: 32 << 20,
        compress_min: 1024,
    };
    assert_eq!(config.cache, expected);
    assert_eq!(config.deployment.id, None);
    assert_eq!(config.revalidate, None);
    let expected = Limits {
        head_timeout: secs(10),
        max_head: 32 << 10,
        max_fields: 100,
        max_uri: 8 << 10,
        keepalive: secs(75),
        write_timeout: secs(60),
        body_timeout: secs(60),
        max_connections: 16_384,
        max_variant: 256,
    };
    assert_eq!(config.limits, expected);
    assert_eq!(config.shutdown_timeout, secs(30));
    // What no route matches is `ssr: {}` with the first origin.
    assert_eq!(config.routes.len(), 1);
    let last = &config.routes[0];
    assert_eq!((last.path.as_str(), last.host.as_deref(), last.origin), ("/**", None, 0));
    assert_eq!(last.mode, Mode::Ssr { heuristic: false });
    assert_eq!(last.query, Query::All);
    assert_eq!(last.not_found, secs(60));
    assert_eq!(config.backoff, Backoff { min: secs(3), max: secs(300) });

    let (from_url, warnings) =
        Config::for_origin("http://127.0.0.1:3000", &Overrides::default()).expect("a good URL");
    assert!(warnings.is_empty());
    assert_eq!(from_url.origins, config.origins);
    assert_eq!(from_url.routes, config.routes);
    let written = good(&format!("{ORIGINS}routes: [ {{ path: '/**', ssr: {{}} }} ]"));
    assert_eq!(written.routes, config.routes);
    let error = Config::for_origin("127.0.0.1:3000", &Overrides::default())
        .expect_err("no scheme")
        .to_string();
    assert!(error.starts_with("--origin: expected a URL"), "{error}");
}

#[test]
fn written_differently_and_the_same() {
    for (text, holds) in [
        ("listen: [ \"[::]:80\", 127.0.0.1:0 ]", (|c| c.listen.len() == 2) as fn(&Config) -> bool),
        ("admin: off", |c| c.admin.is_none()),
        ("cache: { memory: 0 }", |c| c.cache.memory == 0),
        ("cache: { memory: 1048576 }", |c| c.cache.memory == 1 << 20),
        ("cache: { memory: 1.5 GiB }", |c| c.cache.memory == 3 << 29),
        ("cache:", |c| c.cache.memory == 512 << 20),
        ("shutdown_timeout: 0", |c| c.shutdown_timeout.is_zero()),
        ("shutdown_timeout: 1m 30s", |c| c.shutdown_timeout.as_secs() == 90),
        ("log: { access: errors, format: json }", |c| c.log.access == AccessLog::Errors),
        ("log: { access: off }", |c| c.log.access == AccessLog::Off),
        ("revalidate:", |c| c.revalidate.is_none()),
        ("routes:", |c| c.routes.len() == 1),
        ("routes: [ { path: /a, ssr: } ]", |c| c.routes[0].mode == Mode::Ssr { heuristic: false }),
        ("routes: [ { path: /a, dsg: , query: all } ]", |c| c.routes[0].query == Query::All),
        ("routes: [ { path: /a, ssr: { heuristic: true } } ]", |c| {
            c.routes[0].mode == Mode::Ssr { heuristic: true }
        }),
        ("routes: [ { path: /a, isr: { revalidate: 500ms } } ]", |c| c.routes.len() == 2),
        ("routes: [ { host: A.com, path: '/**', dsg: {} } ]", |c| {
            c.routes.len() == 2 && c.routes[0].host.as_deref() == Some("a.com")
        }),
        ("routes: [ { path: /caf\u{e9}/%7e, dsg: {}, tags: [b, ' a ', b] } ]", |c| {
            c.routes[0].path == "/caf%C3%A9/~" && c.routes[0].tags == ["a", "b"]
        }),
        (
            "routes: [ { path: /a, dsg: {}, vary: [X-B, accept-language, x-b], query: [b, a, b] } ]",
            |c| {
                c.routes[0].vary == ["accept-language", "x-b"]
                    && c.routes[0].query == Query::Names(vec!["a".to_owned(), "b".to_owned()])
            },
        ),
        (
            "# YAML 1.2 anchors\nroutes: [ { path: /a, isr: &t { revalidate: 1s } }, { path: /b, isr: *t } ]",
            |c| c.routes[1].mode.is_page(),
        ),
    ] {
        let config = good(&format!("{ORIGINS}{text}\n"));
        assert!(holds(&config), "{text}: {config:?}");
    }
}

/// One row per mistake: the lines after [`ORIGINS`], and what is said.
#[test]
fn mistakes() {
    for (text, said) in [
        // Keys.
        ("thread: 2", &["p.yaml:2: thread: unknown key; did you mean \"threads\"?"][..]),
        ("max_object: 1MiB", &["p.yaml:2: max_object: unknown key here; it belongs to `cache`"]),
        ("colour: red", &["p.yaml:2: colour: unknown key; expected `listen`, `admin`"]),
        ("threads: 2\nthreads: 3", &["p.yaml:3: threads: this key is there twice"]),
        (
            "cache:\n  memory: 1MiB\n  max-object: 2MiB",
            &["p.yaml:4: cache.max-object: unknown key; did you mean \"max_object\"?"],
        ),
        (
            "routes:\n  - path: /a\n    isr:\n      revalidat: 60s",
            &[
                "p.yaml:4: routes[0].isr: `revalidate` is missing",
                "p.yaml:5: routes[0].isr.revalidat: unknown key; did you mean \"revalidate\"?",
            ],
        ),
        ("routes:\n- dsg: {}", &["p.yaml:3: routes[0]: `path` is missing"]),
        (
            "routes: [ { path: /a, revalidate: 1s } ]",
            &[
                "p.yaml:2: routes[0].revalidate: unknown key here; it belongs to `the top level`, `isr` or `dsg`",
            ],
        ),
        (
            "routes: [ { path: /a, pass: { x: 1 } } ]",
            &["p.yaml:2: routes[0].pass.x: unknown key; there are none here"],
        ),
        // Types.
        ("threads: many", &["p.yaml:2: threads: expected a whole number, found \"many\""]),
        ("threads: -1", &["p.yaml:2: threads: expected a whole number, found the number -1"]),
        ("cache: [1]", &["p.yaml:2: cache: expected the keys of `cache`, found a list"]),
        (
            "cache:\n  memory: lots",
            &["p.yaml:3: cache.memory: \"lots\" is not a size such as 16KiB"],
        ),
        ("cache:\n  memory:", &["p.yaml:3: cache.memory: expected a size such as 32MiB"]),
        (
            "shutdown_timeout: 60",
            &["p.yaml:2: shutdown_timeout: the duration 60 lacks its unit: did you mean 60s?"],
        ),
        ("shutdown_timeout: \"60\"", &["the duration \"60\" lacks its unit: did you mean 60s?"]),
        (
            "shutdown_timeout: 5 parsecs",
            &["\"5 parsecs\" is not a duration such as 10s, 5m or 30d"],
        ),
        ("shutdown_timeout: 101years", &["at most 100 years"]),
        (
            "deployment: { id: v1, field: x-a }",
            &[
                "p.yaml:2: deployment: either `id`, or `field` and `cookie`: what is named is not noticed",
            ],
        ),
        (
            "framework: nextjs\nnextjs: { build: no/such/folder }",
            &[
                "p.yaml:3: nextjs.build: cannot read no/such/folder/BUILD_ID: No such file or directory \
               (os error 2); run `next build` first",
            ],
        ),
        (
            "framework: gatsby\ngatsby: { server_rendered: ['x'], trailing_slash: sometimes }",
            &[
                "p.yaml:3: gatsby.trailing_slash: expected `always`, `never`, `ignore` or `legacy`, \
               found \"sometimes\"",
            ],
        ),
        (
            "framework: nextjs\nnextjs: { base_path: docs }",
            &["p.yaml:3: nextjs.base_path: expected a path such as `/docs`"],
        ),
        (
            "routes: [ { path: /a, dsg: { revalidate: 60s } } ]",
            &["p.yaml:2: routes[0].dsg.revalidate: expected `origin`, found \"60s\""],
        ),
        (
            "deployment: 7",
            &[
                "p.yaml:2: deployment: expected a name in quotes such as \"v42\", or how deployments are \
               noticed, found the number 7",
            ],
        ),
        (
            "revalidate:\n  secret: 1234567",
            &["p.yaml:3: revalidate.secret: expected a string, found a number; put it in quotes"],
        ),
        (
            "framework: nux",
            &["p.yaml:2: framework: expected `auto`, `generic`, `nextjs`, `gatsby`, `sveltekit`, \
               `react-router`, `nuxt` or `astro`, found \"nux\"; did you mean \"nuxt\"?"],
        ),
        (
            "log: { access: of }",
            &["log.access: expected `on`, `off` or `errors`, found \"of\"; did you mean \"off\"?"],
        ),
        (
            "log: { access: false }",
            &["log.access: expected `on`, `off` or `errors`, found \"false\""],
        ),
        ("log: { level: a=b=c }", &["p.yaml:2: log.level: expected `off`, `error`"]),
        (
            "log: { level: verbose }",
            &["p.yaml:2: log.level: expected `off`, `error`, `warn`, `info`, `debug` or `trace`, \
               found \"verbose\"; did you mean \"debug\"?"],
        ),
        (
            "listen: 8080",
            &["p.yaml:2: listen: expected an address and a port", "did you mean 0.0.0.0:8080?"],
        ),
        (
            "listen:\n  - 0.0.0.0:80\n  - localhost:80",
            &["p.yaml:4: listen[1]:", "did you mean 127.0.0.1:80?"],
        ),
        (
            "admin: on",
            &["p.yaml:2: admin: expected an address and a port", "or `off`, found \"on\""],
        ),
        (
            "routes:\n  - path: /a\n    isr: 60s",
            &[
                "p.yaml:4: routes[0].isr: expected the keys of `isr`, as in `{ revalidate: 60s }`, found \"60s\"",
            ],
        ),
        (
            "routes:\n  - path: /a\n    isr: { revalidate: orgin }",
            &[
                "p.yaml:4: routes[0].isr.revalidate: expected a duration such as 60s, or `origin`, found \"orgin\"",
            ],
        ),
        ("routes:\n  - path: /a\n    isr: { revalidate: 60 }", &["did you mean 60s?"]),
        (
            "routes:\n  - path: /a\n    dsg: yes",
            &["routes[0].dsg: expected the keys of `dsg`; without any, `{}`, found \"yes\""],
        ),
        (
            "routes:\n  - path: /a\n    dsg: {}\n    query: page",
            &[
                "p.yaml:5: routes[0].query: expected `all`, or a list of parameter names, found \"page\"; did you mean [page]?",
            ],
        ),
        (
            "routes:\n  - path: /a\n    ssr: {}\n    cookies: session",
            &[
                "p.yaml:5: routes[0].cookies: expected `all`, `none`, `shared`, or a list of names of cookies, found \"session\"; did you mean [session]?",
            ],
        ),
        (
            "routes: [ { path: /a, ssr: {}, cookies: [a, 'b c', ''] } ]",
            &[
                "routes[0].cookies[1]: \"b c\" is not the name of a cookie",
                "routes[0].cookies[2]: \"\" is not the name of a cookie",
            ],
        ),
        (
            "routes:\n  - path: /a\n    dsg: {}\n    forward_tags: 1",
            &["p.yaml:5: routes[0].forward_tags: expected `true` or `false`, found the number 1"],
        ),
        (
            "routes:\n  - path: /a\n    dsg: {}\n    tags: [a, 7]",
            &["routes[0].tags[1]: expected a string, found the number 7; put it in quotes"],
        ),
        ("routes: { path: /a }", &["p.yaml:2: routes: expected a list, found keys with values"]),
        ("routes: [ /a ]", &["p.yaml:2: routes[0]: expected the keys of a route, found \"/a\""]),
        // YAML.
        ("cache: { memory: ${A} }", &["p.yaml:2: not valid YAML: ", "`${…}` stands in quotes"]),
        ("a: [", &["p.yaml:3: not valid YAML: "]),
        ("a: !tag b", &["not valid YAML"]),
        ("\ta: b", &["p.yaml:2: not valid YAML: "]),
        ("---\na: 1", &["more than one document"]),
        // What does not fit together.
        ("listen: []", &["p.yaml:2: listen: at least one address is needed"]),
        (
            "listen: [127.0.0.1:1, 127.0.0.1:1]",
            &["p.yaml:2: listen[1]: 127.0.0.1:1 is there twice"],
        ),
        ("listen: 127.0.0.1:9900", &["admin: this is also a public address"]),
        ("listen: 0.0.0.0:9900", &["admin: this is also a public address"]),
        (
            "listen: [127.0.0.1:80, '[::]:80', 0.0.0.0:80]",
            &["listen[2]: 0.0.0.0:80 and 127.0.0.1:80 cannot both be listened on"],
        ),
        ("threads: 0", &["p.yaml:2: threads: from 1 to 1024, found 0"]),
        ("limits: { max_fields: 300 }", &["limits.max_fields: from 1 to 256, found 300"]),
        ("limits: { max_head: 2KiB }", &["limits.max_uri: larger than `max_head`"]),
        ("limits: { head_timeout: 0s }", &["limits.head_timeout: must be longer than 0s"]),
        ("limits: { max_variant: 1MiB }", &["limits.max_variant: from 16B to 64KiB, found 1MiB"]),
        ("limits: { max_head: 1GiB }", &["limits.max_head: from 1KiB to 1MiB, found 1GiB"]),
        (
            "request_fields: { allow: [Host, Upgrade, 'a b', X-Foo-*] }",
            &[
                "request_fields.allow[0]: `host`: it is set here",
                "request_fields.allow[1]: `upgrade`: it is of one connection only",
                "request_fields.allow[2]: \"a b\" is not the name of a field",
                "request_fields.allow[3]: `x-foo-*`: name each field",
            ],
        ),
        (
            "request_fields: { allow: [X-A], trust: [X-A], drop: [X-A] }",
            &["request_fields.drop: `x-a` is in another list", "request_fields.trust: `x-a` is in"],
        ),
        (
            "request_fields: { trust: [X-User] }\nroutes: [ { path: /a, dsg: {}, vary: [x-user] } ]",
            &["p.yaml:3: routes[0].vary[0]: `request_fields.trust` keeps"],
        ),
        ("revalidate: { path: revalidate }", &["revalidate.path: expected a path"]),
        ("revalidate: { path: / }", &["revalidate.path: this is the home page"]),
        ("revalidate: { path: /%7Ehook/../x }", &["made to \"/x\": write that"]),
        (
            "revalidate: { secret: \"a\\n\" }",
            &["revalidate.secret: a secret with control characters"],
        ),
        (
            "routes:\n  - path: /a\n    dsg: {}\n    origin: wbe",
            &["p.yaml:5: routes[0].origin: there is no origin \"wbe\"; did you mean \"web\"?"],
        ),
        ("routes:\n  - path: /a", &["p.yaml:3: routes[0]: a route needs a mode"]),
        (
            "routes:\n  - path: /a\n    dsg: {}\n    pass: {}",
            &["p.yaml:5: routes[0].pass: a route has one mode, and this one has `dsg` already"],
        ),
        (
            "routes:\n  - path: blog\n    dsg: {}",
            &["p.yaml:3: routes[0].path: a path pattern begins with a slash"],
        ),
        (
            "routes:\n  - path: /a\n    dsg: {}\n    host: a.com:80",
            &["p.yaml:5: routes[0].host: a host is matched without its port"],
        ),
        (
            "routes:\n  - path: /a\n    isr: { revalidate: 0s }",
            &["for pages rendered at every request say `ssr: {}`"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, vary: [Cookie] } ]",
            &["routes[0].vary[0]: `cookie` cannot be a variant"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, vary: [accept-language, user-agent] } ]",
            &[
                "p.yaml:2: routes[0].vary[1]: `user-agent` cannot be a variant: its values are countless",
            ],
        ),
        (
            "routes: [ { path: /a, ssr: {}, vary: [authorization, traceparent, true-client-ip] } ]",
            &["`authorization` cannot", "`traceparent` cannot", "`true-client-ip` cannot"],
        ),
        (
            "routes: [ { path: /blog/:slug, dsg: {} } ]",
            &["p.yaml:2: routes[0].path: \":slug\" is no glob", "did you mean \"/blog/*\"?"],
        ),
        (
            "framework: nextjs\nnextjs: { default_locale: e/n, locales: [en, ''] }",
            &["nextjs.default_locale: expected a locale", "nextjs.locales[1]: expected a locale"],
        ),
        ("threads: $N", &["found \"$N\"; `$N` is text as it stands: write `${N}`"]),
        (
            "framework: gatsby\ngatsby: { server_rendered: [/a, '/app/[...rest]'] }",
            &["p.yaml:3: gatsby.server_rendered[1]: ", "did you mean \"/app/**\"?"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, vary: ['a b'] } ]",
            &["\"a b\" is not the name of a field"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, tags: ['a,b', ''] } ]",
            &["routes[0].tags[0]: a tag has no commas", "routes[0].tags[1]: a tag cannot be empty"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, query: ['a=b'] } ]",
            &["routes[0].query[0]: \"a=b\" is not the name of a parameter"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, query: ['a%20b', '?page'] } ]",
            &[
                "query[0]: write the name as it reads decoded, \"a b\"",
                "query[1]: \"?page\" is not",
            ],
        ),
        (
            "routes:\n- { host: A.com, path: /a, dsg: {} }\n- { host: a.COM, path: /%61, dsg: {} }",
            &["p.yaml:4: routes[1].path: routes[0] is for the same pages"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, browser: \"a\\nb\" } ]",
            &["routes[0].browser: a field cannot hold control characters"],
        ),
        (
            "routes: [ { path: /a, dsg: {}, browser: max-age=forever } ]",
            &[
                "p.yaml:2: routes[0].browser: `max-age` takes a number of seconds, found \"forever\"",
            ],
        ),
        (
            "routes: [ { path: /a, dsg: {}, browser: 'max-age=forever, public=1' } ]",
            &["found \"forever\"", "`public` takes no value"],
        ),
        ("backoff: { min: 9m }", &["p.yaml:2: backoff: `min` is longer than `max`"]),
        (
            "routes: [ { path: /a, dsg: {}, backoff: { min: 9m } } ]",
            &["p.yaml:2: routes[0].backoff: unknown key here; it belongs to `the top level`"],
        ),
        (
            "routes:\n  - { path: /a/**, dsg: {} }\n  - { path: /a/**, ssr: {} }",
            &["p.yaml:4: routes[1].path: routes[0] is for the same pages"],
        ),
    ] {
        let errors = load(&format!("{ORIGINS}{text}\n")).expect_err(text).join("\n");
        for said in said {
            assert!(errors.contains(said), "{text}\n  should say: {said}\n  says: {errors}");
        }
    }
    let long = "x".repeat(257);
    let errors = load(&format!("{ORIGINS}routes: [ {{ path: /a, dsg: {{}}, tags: [{long}] }} ]"));
    assert!(errors.expect_err("too long")[0].contains("at most 256 characters, this one 257"));
}

#[test]
fn mistakes_in_origins() {
    for (text, said) in [
        ("", "p.yaml:1: origins: at least one origin is needed"),
        ("[]", "expected the keys of a configuration, found a list"),
        ("hello", "expected the keys of a configuration, found \"hello\""),
        ("origins: http://a", "p.yaml:1: origins: expected origins by name"),
        ("origins: {}", "p.yaml:1: origins: at least one origin is needed"),
        ("origins:\n  web: a:80", "p.yaml:2: origins.web: expected a URL such as"),
        (
            "origins:\n  web: 3000",
            "p.yaml:2: origins.web: expected a URL such as http://127.0.0.1:3000, or `servers`",
        ),
        (
            "origins:\n  web: { host: a }",
            "p.yaml:2: origins.web.servers: at least one server is needed",
        ),
        (
            "origins:\n  web:\n    servers: [http://a, http://a]",
            "p.yaml:3: origins.web.servers[1]: http://a:80 is there twice",
        ),
        (
            "origins:\n  web:\n    servers: http://a/b",
            "p.yaml:3: origins.web.servers: an origin is a scheme",
        ),
        (
            "origins:\n  web:\n    servers:\n      - http://a\n      - 1",
            "p.yaml:5: origins.web.servers[1]: expected a URL",
        ),
        (
            "origins:\n  web: http://a\n  web: http://b",
            "p.yaml:3: origins.web: this key is there twice",
        ),
        ("origins:\n  'we b': http://a", "p.yaml:2: origins.we b: the name of an origin"),
        (
            "origins:\n  web:\n    servers: http://a\n    helth: {}",
            "p.yaml:4: origins.web.helth: unknown key; did you mean \"health\"?",
        ),
        (
            "origins:\n  web:\n    servers: http://a\n    health: { path: x }",
            "p.yaml:4: origins.web.health.path: expected a path",
        ),
        (
            "origins:\n  web:\n    servers: http://a\n    health: { interval: 0s }",
            "p.yaml:4: origins.web.health.interval: must be longer",
        ),
        (
            "origins:\n  web:\n    servers: http://a\n    host: 'a b'",
            "p.yaml:4: origins.web.host: expected `preserve`",
        ),
        (
            "origins:\n  web:\n    servers: http://a\n    max_concurrent_fills: 0",
            "p.yaml:4: origins.web.max_concurrent_fills: from 1",
        ),
        ("origins:\n  web: http://user:hush@a", "p.yaml:2: origins.web: expected a URL such as"),
    ] {
        let errors = load(text).expect_err(text).join("\n");
        assert!(errors.contains(said), "{text}\n  should say: {said}\n  says: {errors}");
        assert!(!errors.contains("hush"), "{errors}");
    }
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = "\
thread: 2
origins:
  web: localhost:3000
cache: { memory: huge }
routes:
  - path: 7
    isr: { revalidate: soon }
  - path: /b
    dgs: {}
    tags: ${TAGS}
";
    let errors = load(text).expect_err("a lot is wrong");
    let lines: Vec<&str> = errors
        .iter()
        .map(|e| e.rsplit_once(": ").map_or("", |_| e.split(' ').next().unwrap_or("")))
        .collect();
    assert_eq!(
        lines,
        [
            "p.yaml:1:",
            "p.yaml:3:",
            "p.yaml:4:",
            "p.yaml:6:",
            "p.yaml:7:",
            "p.yaml:9:",
            "p.yaml:10:"
        ],
        "{errors:#?}"
    );

    let text = format!(
        "{ORIGINS}threads: 0\nroutes:\n- path: a\n  dsg: {{}}\n- path: /b\n  origin: nope\n"
    );
    let errors = load(&text).expect_err("four things are wrong");
    assert_eq!(errors.len(), 4, "{errors:#?}");
}

/// What is wrong with how a file is written does not hide what does not fit
/// together, and what is wrong is said once, where it is: nothing that a default
/// in its place would lead to.
#[test]
fn no_mistake_hides_another() {
    for (text, places) in [
        (
            "shutdown_timeout: -5s\nroutes:\n- path: /a\n  isr: { revalidate: 0s }",
            &["2: shutdown_timeout", "5: routes[0].isr.revalidate"][..],
        ),
        (
            "routes:\n- path: /a\n  isr:\n    revalidate: 0s\n    stale_for: -5s",
            &["5: routes[0].isr.revalidate", "6: routes[0].isr.stale_for"],
        ),
        // What must be there and is not hides nothing beside it.
        (
            "routes:\n- isr: {}\n  vary: [cookie]\n  browser: ''",
            &["3: routes[0].isr", "3: routes[0]", "4: routes[0].vary[0]", "5: routes[0].browser"],
        ),
        // Places in lists are those of the file.
        (
            "routes:\n- /a\n- path: b\n  dsg: {}\n  tags: [7, '', a, 8, 'c,d']",
            &[
                "3: routes[0]",
                "4: routes[1].path",
                "6: routes[1].tags[0]",
                "6: routes[1].tags[3]",
                "6: routes[1].tags[1]",
                "6: routes[1].tags[4]",
            ],
        ),
        ("listen: [8080, '[::]:1', '[::]:1']", &["2: listen[0]", "2: listen[2]"]),
        // No mistakes that only a default in place of another one makes.
        (
            "routes:\n- { host: 7, path: /a, dsg: {} }\n- { path: /a, dsg: {} }",
            &["3: routes[0].host"],
        ),
        ("limits: { max_head: huge, max_uri: 64KiB }", &["2: limits.max_head"]),
        ("listen: 80\nadmin: 0.0.0.0:8080", &["2: listen"]),
        ("listen: [80]", &["2: listen[0]"]),
        ("deployment: { id: v1, field: [7] }", &["2: deployment.field[0]"]),
        ("routes:\n- { path: /a, isr: 60s }", &["3: routes[0].isr"]),
        ("backoff: { min: 9m, max: x }", &["2: backoff.max"]),
    ] {
        let errors = load(&format!("{ORIGINS}{text}\n")).expect_err(text);
        let found: Vec<String> = errors
            .iter()
            .filter_map(|error| {
                Some(
                    error
                        .strip_prefix("p.yaml:")?
                        .splitn(3, ": ")
                        .take(2)
                        .collect::<Vec<_>>()
                        .join(": "),
                )
            })
            .collect();
        assert_eq!(found, places, "{text}: {errors:#?}");
    }
    let text = "origins:\n  web: { servers: 7 }\n  api: a:80\nroutes:\n- path: /a\n  dsg: {}\n  origin: api\n\
                - path: /b\n  dsg: {}\n  origin: wbe\n";
    let errors = load(text).expect_err("three things are wrong");
    let lines: Vec<_> = errors.iter().filter_map(|error| error.split(' ').next()).collect();
    assert_eq!(lines, ["p.yaml:2:", "p.yaml:3:", "p.yaml:10:"], "{errors:#?}");
}

#[test]
fn warnings() {
    for (text, said) in [
        ("revalidate: {}", "p.yaml:2: revalidate.secret: no secret: the webhook is off"),
        ("log: { level: perennial=debug }", "log.level: whatever it does not name is silent"),
        (
            "revalidate:\n  secret: ${S:-}",
            "p.yaml:3: revalidate.secret: no secret: the webhook is off",
        ),
        ("revalidate:\n  secret: hush", "p.yaml:3: revalidate.secret: short"),
        (
            "routes:\n  - { path: /a, dsg: {}, browser: maxage=60 }",
            "p.yaml:3: routes[0].browser: browsers ignore `maxage`, which no standard knows; \
             did you mean \"max-age\"?",
        ),
        ("cache: { memory: 0 }", "p.yaml:2: cache.memory: no memory for pages"),
        ("cache: { memory: 1MiB }", "cache.max_object: larger than `memory`"),
        ("cache: { max_object: 0 }", "cache.max_object: every page is larger: none is stored"),
        ("listen: 0.0.0.0:0", "p.yaml:2: listen[0]: port 0 is a free one"),
        ("admin: '[::]:0'", "p.yaml:2: admin: port 0 is a free one"),
        ("listen: 127.0.0.1:3000", "origins.web.servers[0]: http://127.0.0.1:3000 is where"),
        ("listen: '[::]:3000'", "p.yaml:1: origins.web.servers[0]: http://127.0.0.1:3000 is where"),
        ("trusted_proxies: [10.0.0.0/8, '::/0']", "trusted_proxies[1]: ::/0 is everybody"),
        ("deployment: { id: v1, settle: 5s }", "deployment.settle: has no effect beside `id`"),
        (
            "routes:\n  - { path: /a, isr: { revalidate: 1m, stale_for: 0s } }",
            "p.yaml:3: routes[0].isr.stale_for: every visitor who comes after `revalidate` waits",
        ),
        (
            "routes:\n  - { path: /a, isr: { revalidate: 60ms } }",
            "p.yaml:3: routes[0].isr.revalidate: 60ms is less than a second",
        ),
        (
            "routes:\n  - { path: '/blog/[slug]', dsg: {} }",
            "p.yaml:3: routes[0].path: as a glob \"[slug]\" is one character",
        ),
        (
            "revalidate: { secret: 0123456789abcdef, path: /hook }\nroutes: [ { path: /hook, pass: {} } ]",
            "p.yaml:3: routes[0].path: this route never matches: the webhook is there",
        ),
        (
            "routes:\n  - { path: /$HOME/x, dsg: {} }",
            "p.yaml:3: routes[0].path: `$HOME` is text as it stands: write `${HOME}`",
        ),
        ("revalidate:\n  secret: long-enough-and$hush", "`$NAME` is text as it stands"),
        (
            "routes:\n  - { host: '*.a.com', path: '/**', dsg: {} }\n  - { host: b.a.com, path: /x, ssr: {} }",
            "p.yaml:4: routes[1].path: this route never matches: routes[0] (`/**`) comes first",
        ),
        (
            "routes:\n  - { path: /a, pass: {}, tags: [x] }",
            "p.yaml:3: routes[0].tags: has no effect on a route with `pass`",
        ),
        (
            "routes:\n  - { path: /a, ssr: {}, browser: no-cache }",
            "routes[0].browser: has no effect on a route with `ssr`",
        ),
        (
            "routes:\n  - { path: /a/**, dsg: {} }\n  - { path: /a/b, ssr: {} }",
            "p.yaml:4: routes[1].path: this route never matches: routes[0] (`/a/**`) comes first",
        ),
    ] {
        let (_, warnings) = load(&format!("{ORIGINS}{text}\n")).expect(text);
        assert!(warnings.len() == 1 && warnings[0].contains(said), "{text}: {warnings:?}");
        assert!(!warnings[0].contains("hush"));
    }
}

#[test]
fn warnings_of_origins() {
    for (text, said) in [
        ("origins: { web: http://a:443 }", "origins.web.servers[0]: port 443 mostly speaks TLS"),
        ("origins: { web: https://a:80 }", "origins.web.servers[0]: port 80 mostly speaks no TLS"),
        (
            "origins: { web: http://localhost:8080 }",
            "http://localhost:8080 is where Perennial itself",
        ),
        (
            "origins:\n  web: { servers: http://a, connect_timeout: 1m }",
            "p.yaml:2: origins.web.connect_timeout: has no effect: `fill_timeout` ends it all after 30s",
        ),
        (
            "origins:\n  web: http://a\n  api: http://b",
            "p.yaml:3: origins.api: no route goes there",
        ),
    ] {
        let (_, warnings) = load(text).expect(text);
        assert!(warnings.len() == 1 && warnings[0].contains(said), "{text}: {warnings:?}");
    }
}

/// What the machine has is looked at where a file is read to be run.
#[test]
fn more_memory_than_there_is() {
    const GIB: u64 = 1 << 30;
    for (memory, has, said) in [
        ("1GiB", Some(4 * GIB), None),
        ("1GiB", None, None),
        ("3.5GiB", Some(4 * GIB), Some("3.5 GiB is nearly all that the group may have, 4.0 GiB")),
        (
            "5GiB",
            Some(4 * GIB),
            Some("5.0 GiB is more than the group may have, 4.0 GiB: the process"),
        ),
    ] {
        let text = format!("{ORIGINS}cache:\n  memory: {memory}\n");
        let found = load::found(&text, "p.yaml", &no_env).expect("YAML");
        let has = has.map(|bytes| machine::Memory { bytes, who: "the group may have" });
        let (_, warnings) =
            load::finish(found, "p.yaml", has, &Overrides::default()).expect("good");
        assert_eq!(warnings.len(), usize::from(said.is_some()), "{warnings:?}");
        for (warning, said) in warnings.iter().zip(said) {
            let wanted = format!("p.yaml:3: cache.memory: {said}");
            assert!(warning.to_string().starts_with(&wanted), "{warning}");
        }
    }
    // No machine has so much.
    let (_, warnings) = {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{ORIGINS}cache: {{ memory: 1000TiB }}"))
            .expect("text");
        Config::from_file(file.path(), &Overrides::default()).expect("good")
    };
    let told =
        warnings.iter().any(|warning| warning.to_string().contains("1000.0 TiB is more than"));
    assert_eq!(told, machine::memory().is_some(), "{warnings:?}");
}

/// What the arguments say is held against the file, not the file alone.
#[test]
fn overrides() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "origins: { web: http://127.0.0.1:8080 }").expect("text");
    let addr = |text: &str| text.parse().expect("an address");
    for (listen, admin, looped) in [
        (vec![], None, true),
        (vec![addr("0.0.0.0:80")], Some(None), false),
        (vec![addr("127.0.0.1:8080")], Some(Some(addr("127.0.0.1:1"))), true),
    ] {
        let overrides = Overrides { listen, admin, dev: true };
        let (config, warnings) = Config::from_file(file.path(), &overrides).expect("good");
        let said = warnings.iter().any(|warning| warning.to_string().contains("itself listens"));
        assert_eq!(said, looped, "{warnings:?}");
        assert!(config.dev);
        assert_eq!(config.admin, admin.unwrap_or(Some(addr("127.0.0.1:9900"))));
    }
    let overrides = Overrides { admin: Some(Some(addr("127.0.0.1:8080"))), ..Overrides::default() };
    let error = Config::from_file(file.path(), &overrides).expect_err("both").to_string();
    assert!(error.contains("admin: this is also a public address"), "{error}");
}

#[test]
fn the_environment_stands_for_values_only() {
    let env = |name: &str| {
        Some(match name {
            "N" => "3".to_owned(),
            "YES" => "true".to_owned(),
            "TAG" => "x\nadmin: off\n- y: [z".to_owned(),
            "SECRET" => "0123456789012345".to_owned(),
            "SIZE" => "1MiB".to_owned(),
            _ => return None,
        })
    };
    let text = "\
threads: ${N:-2}
origins: { web: 'http://${HOST:-localhost}:300${N}' }
deployment: ${N}
cache: { memory: \"${SIZE}\", max_object: \"${SIZE}\" }
revalidate: { secret: \"${SECRET}\" }
limits: { head_timeout: '${T:-5s}', max_fields: '${F:-10}' }
log: { access: '${LOG:-off}' }
routes:
  - { path: /a, isr: { revalidate: '${R:-origin}' }, strip_set_cookie: '${YES}', browser: a$$b$ }
";
    let (config, _) = load_with(text, &env).expect("a good file");
    assert_eq!(config.threads, 3);
    assert_eq!(config.origins[0].servers[0].port, 3003);
    assert_eq!(config.deployment.id.as_deref(), Some("3"), "a string stays one");
    assert_eq!(config.cache.memory, 1 << 20);
    assert_eq!(config.revalidate.map(|r| r.secret).as_deref(), Some("0123456789012345"));
    assert_eq!(config.limits.max_fields, 10);
    assert_eq!(config.log.access, AccessLog::Off);
    assert!(config.routes[0].strip_set_cookie);
    assert_eq!(config.routes[0].browser.as_deref(), Some("a$b$"));

    // What a variable holds cannot become structure.
    let text = format!("{ORIGINS}routes: [ {{ path: /a, dsg: {{}}, tags: [\"${{TAG}}\"] }} ]");
    let errors = load_with(&text, &env).expect_err("not a tag");
    assert!(
        errors[0].contains("routes[0].tags[0]: a tag has no commas and no control"),
        "{errors:?}"
    );

    let errors = load_with(&format!("{ORIGINS}threads: ${{NONE}}"), &env).expect_err("not set");
    let said = "p.yaml:2: threads: the environment variable NONE is not set";
    assert!(errors.len() == 1 && errors[0].starts_with(said), "{errors:?}");
    let errors = load_with(&format!("{ORIGINS}threads: ${{SIZE}}"), &env).expect_err("a size");
    assert!(errors[0].contains("p.yaml:2: threads: expected a whole number"), "{errors:?}");
}

#[test]
fn files() {
    let from_file = |path: &std::path::Path| Config::from_file(path, &Overrides::default());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("p.yaml");
    let error = from_file(&path).expect_err("not there").to_string();
    assert!(error.contains("p.yaml: cannot open: "), "{error}");
    std::fs::write(&path, b"listen: x\n\xff").expect("written");
    let error = from_file(&path).expect_err("not text").to_string();
    assert!(error.ends_with("p.yaml:2: not UTF-8"), "{error}");
    std::fs::write(&path, ORIGINS).expect("written");
    assert!(from_file(&path).is_ok());
    std::fs::write(&path, format!("\u{feff}{ORIGINS}")).expect("written");
    assert!(from_file(&path).is_ok(), "a byte order mark is no mistake");
    assert!(from_file(dir.path()).is_err());
}

#[test]
fn the_example_runs_as_it_is() {
    let text = include_str!("../../config/perennial.yaml");
    let (config, warnings) = load(text).unwrap_or_else(|e| panic!("{}", e.join("\n")));
    assert_eq!(warnings.len(), 1, "only that there is no secret: {warnings:?}");
    assert_eq!(config.routes.len(), 5);
}

/// The reference is made from the doc comments of `raw.rs`.
#[test]
fn the_reference_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.yaml");
    let made = reference();
    if std::env::var_os("PERENNIAL_BLESS").is_some() {
        std::fs::write(file, &made).expect("config/reference.yaml is written");
    }
    let there = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        there == made,
        "config/reference.yaml is stale; write it anew with\n\n    \
         PERENNIAL_BLESS=1 cargo test --lib the_reference_is_up_to_date\n"
    );
}

#[test]
fn the_reference_is_a_configuration() {
    let (config, warnings) = load(&reference()).unwrap_or_else(|e| panic!("{}", e.join("\n")));
    // That there is no secret, what needs a preset or a mode, and an origin for show.
    let said = ["secret", "nextjs", "gatsby", "site", "deployment.probe", "origins.api", "cookies"];
    assert_eq!(warnings.len(), said.len(), "{warnings:?}");
    assert!(said.iter().all(|said| warnings.iter().any(|w| w.contains(said))), "{warnings:?}");
    let modes: Vec<&str> = config.routes.iter().map(|route| route.mode.into()).collect();
    assert_eq!(modes, ["isr", "dsg", "ssr", "pass", "ssr"]);
    assert_eq!(config.origins.len(), 2);
}

/// Every key of the schema is in the reference, and says what it means.
#[test]
fn every_key_is_explained() {
    fn walk(schema: &serde_json::Value, path: &str, reference: &str, keys: &mut usize) {
        match schema {
            serde_json::Value::Object(map) => {
                for (word, inner) in map {
                    let Some(known) = inner.as_object().filter(|_| word == "properties") else {
                        walk(inner, path, reference, keys);
                        continue;
                    };
                    for (key, schema) in known {
                        let path = format!("{path}.{key}");
                        let text = schema["description"].as_str().unwrap_or_default();
                        assert!(text.len() > 15, "{path} has no description");
                        assert!(reference.contains(&format!("{key}:")), "{path} is not there");
                        *keys += 1;
                        walk(schema, &path, reference, keys);
                    }
                }
            }
            serde_json::Value::Array(items) => {
                for item in items {
                    walk(item, path, reference, keys);
                }
            }
            _ => {}
        }
    }
    let mut keys = 0;
    walk(&schema(), "", &reference(), &mut keys);
    assert!(keys > 60, "{keys}");
}

#[test]
fn the_schema_is_for_editors() {
    let schema = schema();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
    assert_eq!(at("/additionalProperties"), false);
    assert_eq!(at("/properties/cache/properties/memory/default"), "512MiB");
    assert_eq!(at("/properties/log/properties/access/oneOf/2/const"), "errors");
    assert_eq!(at("/properties/routes/items/oneOf/0/required/0"), "isr");
    assert_eq!(at("/required/0"), "origins");
    assert!(at("/properties/limits/properties/head_timeout/pattern").is_string());
}

#[test]
fn the_table() {
    let text = "\
origins:
  web: http://127.0.0.1:3000
  api: { servers: ['https://[::1]'], health: {}, host: api.internal }
routes:
  - { path: /blog/**, isr: { revalidate: 60s, stale_for: 30d }, query: [page], tags: [blog] }
  - { host: '*.example.com', path: /p/*, isr: { revalidate: origin }, vary: [accept-language] }
  - { path: /api/**, pass: {}, origin: api }
  - { path: /shop/**, ssr: {}, cookies: [session, cart] }
  - { path: /docs/**, ssr: {}, cookies: none }
";
    let table = table(&good(text));
    let expected = "\
listen   0.0.0.0:8080    admin 127.0.0.1:9900
memory   512MiB, objects up to 32MiB
webhook  off

origin  servers                host          render  at once  health
web     http://127.0.0.1:3000  preserve      30s     64       -
api     https://[::1]:443      api.internal  30s     64       / every 5s

#  host           path      mode                       origin  query  vary             tags  options
0  any            /blog/**  isr 1m, stale 30d          web     page   -                blog  not_found 1m
1  *.example.com  /p/*      isr by origin, stale 365d  web     -      accept-language  -     not_found 1m
2  any            /api/**   pass                       api     all    -                -     -
3  any            /shop/**  ssr                        web     all    -                -     cookies [cart, session]
4  any            /docs/**  ssr                        web     all    -                -     cookies none
5  any            /**       ssr                        web     all    -                -     -
";
    assert_eq!(table, expected, "\n{table}");
}

/// What is known and what is guessed is said at the start, and by `check`.
#[test]
fn what_the_build_tells_and_what_is_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("BUILD_ID", "b1");
    write("required-server-files.json", r#"{"config":{}}"#);
    write(
        "prerender-manifest.json",
        r#"{"preview":{"previewModeId":"id"},"routes":{"/a":{},"/b":{"experimentalPPR":true}},
        "dynamicRoutes":{"/c/[id]":{"fallback":null}}}"#,
    );
    write(
        "routes-manifest.json",
        r#"{"staticRoutes":[{"page":"/d","regex":"^/d$"}],
        "dynamicRoutes":[{"page":"/c/[id]","regex":"^/c/([^/]+?)$"}]}"#,
    );
    write(
        "server/middleware-manifest.json",
        r#"{"middleware":{"/":{"matchers":[
        {"regexp":"^/m$","originalSource":"/m/:path*"},{"regexp":"^/n$"}]}}}"#,
    );
    let build = folder.path().display().to_string();
    for (framework, warned, said) in [
        ("framework: nextjs".to_owned(), true, &["pages guessed"][..]),
        (
            format!("framework: nextjs\nnextjs: {{ build: {build} }}"),
            false,
            &[
                "pages known from the build",
                "2 pages and patterns of pages are made for all",
                "2 are rendered for each visitor",
                "asked each time: /m/:path*  ^/n$",
            ],
        ),
        ("framework: gatsby".to_owned(), true, &["pages guessed"]),
        ("framework: gatsby\ngatsby: { server_rendered: [/s] }".to_owned(), false, &[]),
        ("framework: generic".to_owned(), false, &[]),
    ] {
        let text = format!("origins: {{ web: http://a }}\n{framework}");
        let (config, warnings) = load(&text).unwrap();
        let guessed = warnings.iter().any(|warning| warning.contains("guessed"));
        assert_eq!(guessed, warned, "{framework}: {warnings:?}");
        let table = table(&config);
        for said in said {
            assert!(table.contains(said), "{said}:\n{table}");
        }
    }
}

/// A pattern of the build that cannot be read means that less is known; that is said.
#[test]
fn patterns_of_the_build_that_cannot_be_read() {
    let long = format!("^/({}", "x".repeat(200));
    let cut = format!("{:?}…", &long[..80]);
    let everywhere = "middleware is taken to run everywhere";
    let guessed = "it is guessed for whom";
    for (file, text, said) in [
        ("server/middleware-manifest.json", r#"{"middleware":{}}"#.to_owned(), None),
        (
            "server/middleware-manifest.json",
            r#"{"middleware":{"/":{"matchers":[{"regexp":"^/m$"},{"regexp":"^/("}]}}}"#.to_owned(),
            Some((r#""^/(" of"#, everywhere)),
        ),
        (
            "server/middleware-manifest.json",
            format!(r#"{{"middleware":{{"/":{{"matchers":[{{"regexp":"{long}"}}]}}}}}}"#),
            Some((&*cut, everywhere)),
        ),
        (
            "routes-manifest.json",
            r#"{"redirects":[{"regex":"^/["}]}"#.to_owned(),
            Some((r#""^/[" of"#, guessed)),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("server")).unwrap();
        for (name, text) in [
            ("BUILD_ID", "b1"),
            ("required-server-files.json", r#"{"config":{}}"#),
            ("prerender-manifest.json", r#"{"preview":{"previewModeId":"id"}}"#),
            ("routes-manifest.json", "{}"),
            (file, &*text),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let build = folder.path().display();
        let yaml = format!(
            "origins: {{ web: http://a }}\nframework: nextjs\nnextjs: {{ build: {build} }}"
        );
        let (_, warnings) = load(&yaml).unwrap();
        let warned: Vec<_> = warnings.iter().filter(|w| w.contains("cannot be read")).collect();
        assert_eq!(warned.len(), usize::from(said.is_some()), "{warnings:?}");
        for (warning, (pattern, so)) in warned.iter().zip(said) {
            assert!(warning.starts_with("p.yaml:3: nextjs.build: the pattern "), "{warning}");
            assert!(warning.contains(pattern) && warning.contains(so), "{warning}");
        }
    }
}

#[test]
fn presets_bring_their_routes() {
    let table = table(&good(
        "origins: { web: http://a }\nframework: nextjs\nnextjs: { base_path: /docs/ }\n\
         routes:\n- { path: /docs/api/**, ssr: {} }\n- { path: /docs/a, dsg: {} }",
    ));
    // Columns are as wide as the longest pattern.
    let narrow = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let routes: Vec<String> = table.lines().map(narrow).collect();
    let (isr, year) = ("isr by origin, stale 365d web", "isr 1m, stale 365d web");
    for expected in [
        "0 any /docs/api/** ssr web all - - -".to_owned(),
        "1 any /docs/a dsg web - - - not_found 1m".to_owned(),
        format!(
            "2* any /docs/_next/static/** {isr} - - - not_found 1m, \
             browser \"public, max-age=31536000, immutable\""
        ),
        "3* any /docs/_next/image ssr web all accept - -".to_owned(),
        "4* any /docs/_next/** ssr web all - - -".to_owned(),
        format!(
            "5* any /docs/**/{{sitemap.xml,robots.txt,favicon.ico,manifest.webmanifest}} \
             {year} - - - not_found 1m"
        ),
        format!(
            "6* any /docs/**/{{icon,apple-icon,opengraph-image,twitter-image}}*.\
             {{png,jpg,jpeg,gif,svg,ico}} {year} - - - not_found 1m"
        ),
        format!("7* any /** {isr} - - - pages guessed, not_found 1m"),
        "* brought by framework: nextjs".to_owned(),
    ] {
        assert!(routes.contains(&expected), "{expected}\n{table}");
    }
    let gatsby = good(
        "origins: { web: http://a }\nframework: gatsby\ngatsby: { server_rendered: [/server/, /app/**] }",
    );
    let paths: Vec<_> = gatsby.routes.iter().map(|r| (&*r.path, <&str>::from(r.mode))).collect();
    assert_eq!(
        paths[2..],
        [
            ("/static/**", "dsg"),
            ("/page-data/app-data.json", "ssr"),
            ("/api/**", "pass"),
            ("/server", "ssr"),
            ("/server/", "ssr"),
            ("/app/**", "ssr"),
            ("/**", "dsg"),
        ]
    );
    let bundles = PathPattern::new(&gatsby.routes[0].path).unwrap();
    assert!(bundles.matches("/app-3f12132802bab8d907a3.js"));
    assert!(!bundles.matches("/my-lib.js") && !bundles.matches("/sw.js"));
    for (text, routes) in [
        (
            "framework: sveltekit\nsite: { base: /docs/, assets: /_kit }",
            &[("/docs/_kit/immutable/**", "isr"), ("/docs/_kit/remote/**", "pass"), ("/**", "ssr")]
                [..],
        ),
        (
            "framework: react-router",
            &[
                ("/assets/**/*-HASH.{js,css}", "isr"),
                ("/assets/**", "ssr"),
                ("/__manifest", "ssr"),
                ("/**", "ssr"),
            ],
        ),
        (
            "framework: nuxt\nsite: { base: /docs }",
            &[("/docs/_nuxt/builds/**", "ssr"), ("/docs/_nuxt/**", "isr"), ("/**", "ssr")],
        ),
        ("framework: astro", &[("/_astro/**", "isr"), ("/_actions/**", "pass"), ("/**", "ssr")]),
    ] {
        let config = good(&format!("origins: {{ web: http://a }}\n{text}"));
        let hash = "[0-9A-Za-z_-]".repeat(8);
        let paths: Vec<_> = config.routes.iter().map(|r| r.path.replace(&hash, "HASH")).collect();
        let modes: Vec<_> = config.routes.iter().map(|r| <&str>::from(r.mode)).collect();
        let found: Vec<_> = paths.iter().map(|path| &**path).zip(modes).collect();
        assert_eq!(found, routes, "{text}");
        assert!(
            config.routes.iter().all(|route| route.mode.is_page() == (route.query != Query::All))
        );
    }
    let router = good("origins: { web: http://a }\nframework: react-router");
    let bundles = PathPattern::new(&router.routes[0].path).unwrap();
    for (path, hashed) in [
        ("/assets/root-BkZ3lq1A.js", true),
        ("/assets/x/a.b-_-aZ09_-.css", true),
        ("/assets/logo-original.png", false),
        ("/assets/root.js", false),
    ] {
        assert_eq!(bundles.matches(path), hashed, "{path}");
    }
    // What the file says of everything leaves nothing to the preset.
    let all = good(
        "origins: { web: http://a }\nframework: nextjs\nroutes: [ { path: '/**', pass: {} } ]",
    );
    assert_eq!(all.routes.len(), 1);
}

/// Until the origin tells its framework all is as with `generic`, but for the deployment;
/// then as if the file had named it.
#[test]
fn a_framework_that_the_origin_tells() {
    const FILE: &str = "origins: { web: http://a }\nroutes: [ { path: /own/**, pass: {} } ]\n";
    let site = Site { base: "/docs".to_owned(), ..Site::default() };
    for (told, named) in [
        (Framework::Generic, "framework: generic"),
        (Framework::Nuxt(site.clone()), "framework: nuxt\nsite: { base: /docs }"),
        (Framework::Astro(site), "framework: astro\nsite: { base: /docs }"),
        (Framework::Nextjs(Nextjs::default()), "framework: nextjs"),
    ] {
        for more in ["", "deployment: v1\n", "deployment: { field: x-d, settle: 1s, probe: 5s }\n"]
        {
            let auto = good(&format!("{FILE}{more}framework: auto"));
            assert!(auto.is_untold() && auto.framework == Framework::Generic);
            assert_eq!(auto.routes, good(FILE).routes);
            let auto = auto.told(told.clone());
            let named = good(&format!("{FILE}{more}{named}"));
            assert!(!auto.is_untold());
            assert_eq!(
                (auto.framework, auto.routes, auto.deployment),
                (named.framework, named.routes, named.deployment),
                "{more}"
            );
        }
    }
    let catch_all =
        "origins: { web: http://a }\nroutes: [ { path: '/**', ssr: {} } ]\nframework: auto";
    assert_eq!(good(catch_all).told(Framework::Nextjs(Nextjs::default())).routes.len(), 1);
    let named = good("origins: { web: http://a }\nframework: nextjs");
    assert_eq!(named.clone().told(Framework::Generic).framework, named.framework);
    let untold = good(&format!("{FILE}framework: auto"));
    let (one, other) = (untold.deployment.id.clone(), good(FILE).deployment.id);
    assert!(one.is_some() && one != other, "what is stored before is of no deployment");
    let shown = table(&untold);
    assert!(shown.contains("preset   auto: told by the origin's `/`"), "{shown}");
    let (alone, _) = Config::for_origin("http://a", &Overrides::default()).unwrap();
    assert!(alone.is_untold());
}

#[test]
fn deployments() {
    for (text, id, fields, cookie, settle, probe) in [
        ("framework: generic", None, 2, None, 60, None),
        ("framework: nextjs", None, 0, None, 60, Some(10)),
        ("deployment: v1", Some("v1"), 2, None, 60, None),
        ("deployment: ''", None, 2, None, 60, None),
        ("deployment: { field: x-release, settle: 0s }", None, 1, None, 0, None),
        ("deployment: { cookie: dpl }", None, 0, Some("dpl"), 60, None),
        ("framework: gatsby\ndeployment: { probe: off }", None, 0, None, 60, None),
        ("framework: gatsby\ndeployment: { probe: 5s }", None, 0, None, 60, Some(5)),
    ] {
        let found = good(&format!("origins: {{ web: http://a }}\n{text}")).deployment;
        assert_eq!(found.id.as_deref(), id, "{text}");
        assert_eq!(found.fields.len(), fields, "{text}");
        assert_eq!(found.cookie.as_deref(), cookie, "{text}");
        assert_eq!(found.settle.as_secs(), settle, "{text}");
        assert_eq!(found.probe.map(|probe| probe.as_secs()), probe, "{text}");
    }
}

/// Lines from which files can be made that are nearly right.
const LINES: &str = r"((  ){0,3}(- )?(routes|path|isr|dsg|ssr|pass|revalidate|origins|web|servers|cache|memory|listen|tags|query|vary|x): ?(60s|/a|/\*\*|http://a|\[|\]|\{\}|'|[0-9]{1,30}|\$\{A:-|\$\{A\}|&a|\*a|all|-|~|!t|\|)?\n){0,12}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC{0,80}|[\\s\\S]{0,40}") {
        let _ = load(&text);
    }

    #[test]
    fn nearly_a_configuration_does_not_panic(text in LINES) {
        let env = |name: &str| (name == "A").then(|| "]\n- {".to_owned());
        for text in [&text, &format!("{ORIGINS}{text}")] {
            if let Err(errors) = load_with(text, &env) {
                prop_assert!(!errors.is_empty());
                prop_assert!(errors.iter().all(|line| line.starts_with("p.yaml")), "{:?}", errors);
            }
        }
    }

    #[test]
    fn a_broken_plan_does_not_panic(at in 0..PLAN.len(), cut in 0..8usize, put in "\\PC{0,3}|[\n\t:{}\\[\\]$]{0,3}") {
        let mut text = PLAN.to_owned();
        let end = (at + cut).min(text.len());
        if text.is_char_boundary(at) && text.is_char_boundary(end) {
            text.replace_range(at..end, &put);
            let _ = load_with(&text, &|_| Some("a secret that is long".to_owned()));
        }
    }
}
