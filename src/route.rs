//! Host + path → [`Route`] and its policy: the first one that matches decides.
//!
//! Finding a route allocates nothing: the common shapes of a pattern are string
//! comparisons (see [`crate::config::PathPattern`]), hosts are looked at only by
//! routes that name one.

use std::ops::Deref;
use std::sync::Arc;

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{self, Backoff, Config, HostPattern, PathPattern, Query};
use crate::host;
use crate::page::{Tags, push_normalised};

/// `Cache-Control` for browsers on page routes that say nothing else
/// (semantics §2).
pub const BROWSER_DEFAULT: HeaderValue =
    HeaderValue::from_static("public, max-age=0, must-revalidate");

/// One route, as a request meets it.
#[derive(Debug)]
pub struct Route {
    /// Its place in the configuration, from 0.
    pub index: usize,
    /// Its host and pattern as written, for metrics and logs: `/blog/**`,
    /// `shop.example.com/products/*`. There are as many as routes.
    pub label: Arc<str>,
    /// Tags of every page of the route, sorted.
    pub tags: Arc<Tags>,
    /// `Cache-Control` for browsers on `isr` and `dsg`, where the route sets it; otherwise it
    /// is [`BROWSER_DEFAULT`].
    pub browser: Option<HeaderValue>,
    /// Waiting after failed regenerations.
    pub backoff: Backoff,
    /// A hash of the options by which a stored response is judged (see
    /// [`crate::terms`]). Even, so that its lowest bit can tell two sets of terms
    /// apart.
    pub stamp: u64,
    /// As it was configured: all other options.
    config: config::Route,
}

impl Deref for Route {
    type Target = config::Route;

    fn deref(&self) -> &config::Route {
        &self.config
    }
}

impl Route {
    fn new(index: usize, route: &config::Route, backoff: Backoff) -> Route {
        let label = match &route.host {
            Some(host) => format!("{host}{}", route.path),
            None => route.path.clone(),
        };
        let names: Vec<Box<str>> = route.tags.iter().map(|tag| tag.as_str().into()).collect();
        Route {
            index,
            label: label.into(),
            tags: Arc::new(Tags { names: names.into(), overflow: false }),
            // Checked when the configuration was resolved.
            browser: route.browser.as_deref().and_then(|b| HeaderValue::from_str(b).ok()),
            backoff,
            stamp: stamp(route),
            config: route.clone(),
        }
    }

    /// The part of a query (without its question mark) that is keyed and sent.
    ///
    /// `all` leaves it as it came. Otherwise the named parameters remain, sorted
    /// by name, those of one name in their order, percent-encoding normalised as
    /// in a path (RFC 3986 §6.2.2): unreserved characters are decoded,
    /// hexadecimal digits are upper case. `buf` is overwritten where that needs
    /// one. An empty query allocates nothing.
    pub fn keyed_query<'a>(&self, raw: &'a str, buf: &'a mut String) -> &'a str {
        let names = match &self.query {
            Query::All => return raw,
            Query::Names(names) => names,
        };
        buf.clear();
        if raw.is_empty() {
            return buf;
        }
        // As many passes as names: both are few, and nothing has to be sorted.
        for name in names {
            for parameter in raw.split('&') {
                let written = parameter.split('=').next().unwrap_or(parameter);
                if is_named(written, name) {
                    if !buf.is_empty() {
                        buf.push('&');
                    }
                    push_normalised(parameter, buf);
                }
            }
        }
        buf
    }
}

/// Whether a parameter's name, as it is written in a query, stands for `name`.
pub(crate) fn is_named(written: &str, name: &str) -> bool {
    if written.contains(['%', '+']) { decoded(written).eq(name.bytes()) } else { written == name }
}

/// Forms write a space as a plus sign.
fn decoded(written: &str) -> impl Iterator<Item = u8> + '_ {
    // A plus sign that was encoded is one: so spaces are made before decoding.
    written.split('+').enumerate().flat_map(|(index, part)| {
        let space = (index > 0).then_some(b' ');
        space.into_iter().chain(percent_decode_str(part))
    })
}

/// See [`Route::stamp`].
fn stamp(route: &config::Route) -> u64 {
    let config::Route { mode, not_found, browser, vary, cookies, .. } = route;
    let flags = (route.forward_tags, route.strip_set_cookie);
    // Their texts are made at a reload only, and tell all of them apart.
    let text = format!("{mode:?} {not_found:?} {browser:?} {vary:?} {cookies:?} {flags:?}");
    xxh3_64(text.as_bytes()) & !1
}

/// All routes, in order.
#[derive(Debug)]
pub struct Routes {
    entries: Box<[Entry]>,
    /// What none of them matches.
    rest: Arc<Route>,
}

#[derive(Debug)]
struct Entry {
    host: HostPattern,
    path: PathPattern,
    route: Arc<Route>,
}

impl Routes {
    /// The routes of a configuration. If the last one does not match everything,
    /// what none matches is `ssr: {}` with the first origin.
    #[must_use]
    pub fn new(config: &Config) -> Routes {
        // The patterns were checked when the configuration was resolved. One that
        // was made by hand and is not a pattern is for that very host or path.
        let mut entries: Vec<Entry> = config
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| Entry {
                host: HostPattern::new(route.host.as_deref()).unwrap_or_else(|_| {
                    HostPattern::Exact(route.host.as_deref().unwrap_or_default().into())
                }),
                path: PathPattern::new(&route.path)
                    .unwrap_or_else(|_| PathPattern::exactly(&route.path)),
                route: Arc::new(Route::new(index, route, config.backoff)),
            })
            .collect();
        let rest = match entries.pop_if(|last| last.host == HostPattern::Any && last.path.is_all())
        {
            Some(last) => last.route,
            None => {
                let rest = config::Route::catch_all();
                Arc::new(Route::new(config.routes.len(), &rest, config.backoff))
            }
        };
        Routes { entries: entries.into(), rest }
    }

    /// The route of a request: the first one that matches. `host` is canonical
    /// (see [`host::canonical`]), with or without a port; `path`, too (see
    /// [`crate::page::canonical_path`]). Allocates nothing.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> &Arc<Route> {
        for entry in &self.entries {
            let here = match &entry.host {
                HostPattern::Any => true,
                pattern => pattern.matches(host::split(host).0),
            };
            if here && entry.path.matches(path) {
                return &entry.route;
            }
        }
        &self.rest
    }

    /// Every route, in order: for metrics and for tools.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.entries.iter().map(|entry| &entry.route).chain(std::iter::once(&self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;
    use proptest::prelude::*;

    fn config(routes: &str) -> Config {
        let text = format!("origins: {{ web: http://a, api: http://b }}\nroutes:\n{routes}");
        match Config::from_yaml(&text, "routes", &|_| None) {
            Ok((config, _)) => config,
            Err(errors) => panic!("{errors}"),
        }
    }

    const ROUTES: &str = "
- { path: /blog/**, isr: { revalidate: 60s }, query: [page, sort], tags: [blog, a] }
- { path: /blog/hidden, pass: {} }
- { host: shop.example.com, path: '/products/*', dsg: {} }
- { host: '*.example.com', path: '/**', isr: { revalidate: origin }, browser: no-cache }
- { path: '/{de,fr}/x*/**', dsg: {} }
- { path: /api/**, pass: {}, origin: api }
";

    #[test]
    fn the_first_match_wins() {
        let routes = Routes::new(&config(ROUTES));
        for (host, path, label) in [
            ("a", "/blog", "/blog/**"),
            ("a", "/blog/hidden", "/blog/**"),
            ("shop.example.com", "/blog/x", "/blog/**"),
            ("shop.example.com", "/products/1", "shop.example.com/products/*"),
            ("shop.example.com:8080", "/products/1", "shop.example.com/products/*"),
            ("shop.example.com", "/products/1/2", "*.example.com/**"),
            ("a.b.example.com:1", "/", "*.example.com/**"),
            ("example.com", "/", "/**"),
            ("a", "/products/1", "/**"),
            ("[::1]:80", "/api", "/api/**"),
            ("", "/de/xy/z", "/{de,fr}/x*/**"),
            ("a", "*", "/**"),
            ("a", "", "/**"),
        ] {
            assert_eq!(&*routes.find(host, path).label, label, "{host} {path}");
        }
        assert_eq!(
            routes.iter().map(|route| route.index).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5, 6]
        );
        assert_eq!(routes.find("a", "/api/x").origin, 1);
        let tags = &routes.find("a", "/blog").tags;
        assert_eq!(tags.names.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "blog"]);
    }

    #[test]
    fn a_configuration_made_by_hand() {
        let mut config = config("- { path: /a, dsg: {} }");
        config.routes.pop();
        config.routes[0].path = "a{".to_owned();
        config.routes[0].host = Some("h:1:".to_owned());
        let routes = Routes::new(&config);
        assert_eq!(routes.find("a", "/a").index, 1, "what is not a pattern is no other one");
        assert_eq!(routes.find("a", "/a").mode, Mode::Ssr { heuristic: false });
        config.routes.clear();
        assert_eq!(Routes::new(&config).find("a", "/").index, 0);
    }

    #[test]
    fn the_stamp_is_of_what_judges_a_response() {
        let of = |options: &str| {
            let config = config(&format!("- {{ path: /a, {options} }}"));
            Routes::new(&config).find("a", "/a").stamp
        };
        let plain = of("dsg: {}");
        for (options, same) in [
            ("dsg: {}, tags: [a], query: all, origin: api", true),
            ("isr: { revalidate: 1s }", false),
            ("dsg: { revalidate: origin }", false),
            ("dsg: {}, vary: [x-a]", false),
            ("dsg: {}, not_found: 1s", false),
            ("dsg: {}, unsafe_invalidates: true", true),
            ("ssr: {}", false),
            ("pass: {}", false),
            ("dsg: {}, browser: no-cache", false),
            ("dsg: {}, forward_tags: true", false),
            ("dsg: {}, strip_set_cookie: true", false),
        ] {
            assert_eq!(of(options) == plain, same, "{options}");
        }
    }

    #[test]
    fn the_keyed_query() {
        let route = |query: &str| {
            let config = config(&format!("- {{ path: /a, dsg: {{}}, query: {query} }}"));
            Arc::clone(Routes::new(&config).find("a", "/a"))
        };
        for (names, raw, keyed) in [
            ("all", "b=2&&a=%7e", "b=2&&a=%7e"),
            ("all", "", ""),
            ("[]", "a=1&b=2", ""),
            ("[a]", "", ""),
            ("[a]", "b=2", ""),
            ("[b, a]", "c=3&b=2&a=1", "a=1&b=2"),
            ("[a]", "a=2&x&a=1", "a=2&a=1"), // those of one name stay in order
            ("[a]", "a&a=&aa=1", "a&a="),    // as written: servers tell them apart
            ("[a]", "A=1", ""),
            ("[a]", "%61=%7e%2f%c3%a9", "a=~%2F%C3%A9"), // RFC 3986 §6.2.2
            ("[a]", "a=100%&a=%zz%41", "a=100%&a=%zz%41"), // malformed: as it is
            ("[a]", "a=%%411", "a=%%411"),               // decoding would make an escape of it
            ("['a b']", "a+b=1&a%20b=2&a b=3", "a+b=1&a%20b=2&a b=3"),
            ("['a+b']", "a+b=1&a%2Bb=2", "a%2Bb=2"),
            ("['s[]']", "s[]=1&s%5b%5d=2", "s[]=1&s%5B%5D=2"),
            ("[\u{e9}]", "%c3%a9=1", "%C3%A9=1"),
            ("[a]", "a=b=c", "a=b=c"),
        ] {
            let mut buf = "what was there before".to_owned();
            assert_eq!(route(names).keyed_query(raw, &mut buf), keyed, "{names} of {raw}");
        }
        let mut buf = String::new();
        route("[a]").keyed_query("", &mut buf);
        assert_eq!(buf.capacity(), 0, "nothing is allocated for nothing");
    }

    proptest! {
        #[test]
        fn keying_twice_is_keying_once(raw in "([ab=&%+]|%[0-9a-fA-F]{2}|\\PC){0,30}") {
            let config = config("- { path: /a, dsg: {}, query: [a, b, 'a b'] }");
            let routes = Routes::new(&config);
            let (mut once, mut twice) = (String::new(), String::new());
            let route = routes.find("a", "/a");
            let keyed = route.keyed_query(&raw, &mut once).to_owned();
            prop_assert_eq!(route.keyed_query(&keyed, &mut twice), &keyed);
        }

        #[test]
        fn anything_has_a_route(host in "\\PC{0,10}", path in "\\PC{0,10}") {
            let routes = Routes::new(&config(ROUTES));
            prop_assert!(routes.find(&host, &path).index <= 6);
        }
    }
}
