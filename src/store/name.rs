//! What an invalidation names (semantics §5).

use std::collections::{HashMap, HashSet};

use crate::host;
use crate::page::{PageKey, Tags};

/// What an invalidation names. A `host` limits it to the pages of one host: without
/// a port on every port, with one on that port, by whichever scheme (`a.test:443`
/// is `https://a.test` as well). Hosts are canonical (see [`host::named`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// Every page.
    All,
    /// Every page of a host.
    Host(Box<str>),
    /// The pages of a path: every query, variant and representation of it.
    Path {
        /// The only host that is meant, if any.
        host: Option<Box<str>>,
        /// The canonical path.
        path: Box<str>,
    },
    /// The pages at and below a path, by whole segments: `/blog` is `/blog`,
    /// `/blog/` and `/blog/x`, but not `/blogger`; `/` is every page.
    Prefix {
        /// The only host that is meant, if any.
        host: Option<Box<str>>,
        /// The canonical path.
        path: Box<str>,
    },
    /// The pages that carry a tag.
    Tag {
        /// The only host that is meant, if any.
        host: Option<Box<str>>,
        /// The tag.
        tag: Box<str>,
    },
}

impl Name {
    /// Whether a page of that key and those tags is meant. A page that had more
    /// tags than are kept is meant by every tag.
    #[must_use]
    pub fn covers(&self, key: &PageKey, tags: &Tags) -> bool {
        let on = |host: &Option<Box<str>>| host.as_ref().is_none_or(|host| is_on(host, key));
        match self {
            Self::All => true,
            Self::Host(host) => is_on(host, key),
            Self::Path { host, path } => on(host) && **path == *key.path(),
            Self::Prefix { host, path } => on(host) && is_below(key.path(), path),
            Self::Tag { host, tag } => {
                // Tags that were dropped could be of any host: see `Table::judge`.
                tags.overflow || (on(host) && tags.names.contains(tag))
            }
        }
    }
}

/// Several names, made ready to be held against many pages: what it costs to ask
/// does not grow with how many there are, only with how many hosts they name.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Option<Box<str>>, Group>);

/// The names that are limited to one host, or to none.
#[derive(Debug, Default)]
struct Group {
    all: bool,
    paths: HashSet<Box<str>>,
    /// [`trimmed`], and how many segments the longest one has.
    prefixes: HashSet<Box<str>>,
    depth: usize,
    tags: HashSet<Box<str>>,
}

impl Names {
    pub(super) fn new(names: &[Name]) -> Names {
        let mut groups: HashMap<Option<Box<str>>, Group> = HashMap::new();
        for name in names {
            let host = match name {
                Name::All => None,
                Name::Host(host) => Some(host.clone()),
                Name::Path { host, .. } | Name::Prefix { host, .. } | Name::Tag { host, .. } => {
                    host.clone()
                }
            };
            let group = groups.entry(host).or_default();
            match name {
                Name::All | Name::Host(_) => group.all = true,
                Name::Path { path, .. } => {
                    group.paths.insert(path.clone());
                }
                Name::Prefix { path, .. } => {
                    let prefix = trimmed(path);
                    group.depth = group.depth.max(depth(prefix));
                    group.prefixes.insert(prefix.into());
                }
                Name::Tag { tag, .. } => {
                    group.tags.insert(tag.clone());
                }
            }
        }
        Names(groups)
    }

    /// Whether one of them covers a page (see [`Name::covers`]) with all those tags.
    pub(super) fn cover(&self, key: &PageKey, tags: &[&Tags]) -> bool {
        let overflow = tags.iter().any(|tags| tags.overflow);
        self.0.iter().any(|(host, group)| {
            (overflow && !group.tags.is_empty())
                || (host.as_ref().is_none_or(|host| is_on(host, key)) && group.names(key, tags))
        })
    }

    /// Whether a tag is among them.
    pub(super) fn by_tag(&self) -> bool {
        self.0.values().any(|group| !group.tags.is_empty())
    }
}

impl Group {
    fn names(&self, key: &PageKey, tags: &[&Tags]) -> bool {
        let any = |names: &HashSet<Box<str>>| !names.is_empty();
        self.all
            || self.paths.contains(key.path())
            || (any(&self.prefixes)
                && prefixes(key.path(), self.depth).any(|p| self.prefixes.contains(p)))
            || (any(&self.tags)
                && tags.iter().flat_map(|tags| &tags.names).any(|tag| self.tags.contains(tag)))
    }
}

/// Whether a page is of a host that is named.
fn is_on(named: &str, key: &PageKey) -> bool {
    let ((named, only), (name, port)) = (host::split(named), key.name_and_port());
    named.eq_ignore_ascii_case(name) && only.is_none_or(|only| only == port)
}

/// A prefix without the slash at its end; `/` becomes nothing.
pub(super) fn trimmed(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(trimmed(prefix)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The prefixes that cover `path`, [`trimmed`] and shortest first; none has more
/// than `depth` segments.
pub(super) fn prefixes(path: &str, depth: usize) -> impl Iterator<Item = &str> {
    memchr::memchr_iter(b'/', path.as_bytes())
        .map(|slash| &path[..slash])
        .chain((!path.ends_with('/')).then_some(path))
        .take(depth + 1)
}

/// How many segments a [`trimmed`] prefix has.
pub(super) fn depth(prefix: &str) -> usize {
    memchr::memchr_iter(b'/', prefix.as_bytes()).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::testing::tags;

    #[test]
    fn a_name_covers_what_semantics_5_says() {
        let path = |host: Option<&str>, path: &str| Name::Path {
            host: host.map(Into::into),
            path: path.into(),
        };
        let prefix = |host: Option<&str>, path: &str| Name::Prefix {
            host: host.map(Into::into),
            path: path.into(),
        };
        let tag = |host: Option<&str>, tag: &str| Name::Tag {
            host: host.map(Into::into),
            tag: tag.into(),
        };
        let table: &[(Name, &str, &str, bool)] = &[
            (Name::All, "a.com", "/", true),
            (Name::Host("a.com".into()), "a.com", "/x", true),
            (Name::Host("A.com".into()), "a.com", "/x", true),
            (Name::Host("a.com".into()), "a.com:8080", "/x", true),
            (Name::Host("a.com:8080".into()), "a.com:8080", "/x", true),
            (Name::Host("a.com:8080".into()), "a.com", "/x", false),
            (Name::Host("a.com:8080".into()), "a.com:80", "/x", false),
            // By https, see below: its port is named or not.
            (Name::Host("a.com:443".into()), "a.com", "/x", true),
            (Name::Host("a.com:80".into()), "a.com", "/x", false),
            (Name::Host("a.com:80".into()), "a.com:80", "/x", true),
            (Name::Host("[::1]:443".into()), "[::1]", "/x", true),
            (Name::Host("[::1]".into()), "[::1]:8080", "/x", true),
            (Name::Host("[::1]".into()), "[::1]", "/x", true),
            (Name::Host("b.com".into()), "a.com", "/x", false),
            (path(None, "/x"), "a.com", "/x", true),
            (path(None, "/x"), "a.com", "/x/", false),
            (path(Some("a.com"), "/x"), "a.com:8080", "/x", true),
            (path(Some("b.com"), "/x"), "a.com", "/x", false),
            (prefix(None, "/blog"), "a.com", "/blog", true),
            (prefix(None, "/blog"), "a.com", "/blog/", true),
            (prefix(None, "/blog"), "a.com", "/blog/x/y", true),
            (prefix(None, "/blog"), "a.com", "/blogger", false),
            (prefix(None, "/blog/"), "a.com", "/blog", true),
            (prefix(None, "/blog/"), "a.com", "/blog/x", true),
            (prefix(None, "/"), "a.com", "/", true),
            (prefix(None, "/"), "a.com", "/x", true),
            (prefix(None, ""), "a.com", "/x", true),
            (prefix(Some("b.com"), "/"), "a.com", "/x", false),
            (tag(None, "t"), "a.com", "/x", true),
            (tag(None, "T"), "a.com", "/x", false),
            (tag(Some("a.com"), "t"), "a.com:1", "/x", true),
            (tag(Some("b.com"), "t"), "a.com", "/x", false),
        ];
        for (name, host, path, covered) in table {
            let key = PageKey::new("d", "https", host, path);
            assert_eq!(name.covers(&key, &tags(&["s", "t"])), *covered, "{name:?} of {key}");
        }
    }

    /// One name of each kind, for one host or for any.
    fn names() -> impl Strategy<Value = Name> {
        let host = || {
            let hosts = prop::sample::select(vec!["a.com", "a.com:443", "b.com"]);
            prop::option::of(hosts.prop_map(Into::into))
        };
        let path = || {
            let paths = prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/b"]);
            paths.prop_map(Into::into)
        };
        prop_oneof![
            1 => Just(Name::All),
            1 => host().prop_map(|host| host.map_or(Name::All, Name::Host)),
            3 => (host(), path()).prop_map(|(host, path)| Name::Path { host, path }),
            3 => (host(), path()).prop_map(|(host, path)| Name::Prefix { host, path }),
            3 => (host(), "[st]").prop_map(|(host, tag)| Name::Tag { host, tag: tag.into() }),
        ]
    }

    proptest! {
        #[test]
        fn several_names_cover_what_one_of_them_does(these in prop::collection::vec(names(), 0..5)) {
            let together = Names::new(&these);
            for (scheme, host) in [("http", "a.com"), ("https", "a.com"), ("https", "b.com:1")] {
                for path in ["/", "/a", "/a/", "/a/b", "/ab"] {
                    let key = PageKey::new("", scheme, host, path);
                    let overflow = Tags { overflow: true, ..tags(&["x"]) };
                    for tags in [tags(&[]), tags(&["s"]), tags(&["x", "t"]), overflow] {
                        let expected = these.iter().any(|name| name.covers(&key, &tags));
                        prop_assert_eq!(together.cover(&key, &[&tags]), expected, "{:?}", key);
                    }
                }
            }
        }
    }

    #[test]
    fn prefixes_of_a_path_are_by_segment() {
        let all = |path, depth| prefixes(path, depth).collect::<Vec<_>>();
        assert_eq!(all("/", 9), [""]);
        assert_eq!(all("/a", 9), ["", "/a"]);
        assert_eq!(all("/a/", 9), ["", "/a"]);
        assert_eq!(all("/a/b", 9), ["", "/a", "/a/b"]);
        assert_eq!(all("/a/b", 1), ["", "/a"]);
        assert_eq!(all("/a/b", 0), [""]);
        assert_eq!([depth(""), depth("/a"), depth("/a/b")], [0, 1, 2]);
    }
}
