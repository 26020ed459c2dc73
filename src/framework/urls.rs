//! What presets read of URLs, and the names of files that they find.

use std::collections::HashSet;

use crate::page::canonical_path;

/// Assets of one page that are looked at. A page of a large site names some dozens.
pub const MAX_NAMES: usize = 256;

/// The longest name of an asset, in bytes.
pub(super) const MAX_NAME: usize = 256;

/// Names of assets that were found, each once, in order.
#[derive(Default)]
pub(super) struct Names {
    pub(super) list: Vec<String>,
    seen: HashSet<String>,
}

impl Names {
    pub(super) fn add(&mut self, name: String) {
        if !self.is_full() && !self.seen.contains(&name) {
            self.seen.insert(name.clone());
            self.list.push(name);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MAX_NAMES
    }
}

/// A path below a prefix (empty, or `/docs`), beginning with a slash.
pub(super) fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    match rest.as_bytes().first() {
        Some(b'/') => Some(rest),
        None => Some("/"),
        Some(_) => None,
    }
}

/// A path below which a site lies, as presets write it: empty, or as in `/docs`. Empty,
/// too, for what is none.
pub(super) fn base_path(path: String) -> String {
    let path = match path.trim_end_matches('/') {
        path if path.starts_with('/') => canonical_path(path).into_owned(),
        _ => return String::new(),
    };
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'<>?#*{[".contains(&b);
    let good = path.len() <= MAX_NAME && path.bytes().all(plain);
    if good && !path.starts_with("//") { path } else { String::new() }
}

/// What comes before `mark` in the first of these URLs that is a path with it.
pub(super) fn base_before<'a>(mut urls: impl Iterator<Item = &'a str>, mark: &str) -> String {
    let before = urls.find_map(|url| {
        let path = url.starts_with('/') && !url.starts_with("//");
        path.then(|| url.split_once(mark))?
    });
    before.map_or_else(String::new, |(before, _)| base_path(before.to_owned()))
}

/// A path by its way from the page at `page`: `./a`, `../a`, or all of it.
pub(super) fn resolve(page: &str, way: &str) -> Option<String> {
    if way.starts_with('/') {
        return Some(way.to_owned());
    }
    let mut folder = &page[..page.rfind('/')?];
    let mut way = way.strip_prefix("./").unwrap_or(way);
    while let Some(rest) = way.strip_prefix("../") {
        (folder, way) = (&folder[..folder.rfind('/')?], rest);
    }
    Some(format!("{folder}/{way}"))
}

/// A query without some of its parameters.
pub(super) fn without(query: &str, is_one: impl Fn(&str) -> bool) -> String {
    let named = |parameter: &&str| !is_one(parameter.split('=').next().unwrap_or(parameter));
    query.split('&').filter(named).collect::<Vec<_>>().join("&")
}

/// Path and query of a target.
pub(super) fn split(target: &str) -> (&str, &str) {
    target.find('?').map_or((target, ""), |at| target.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_site_lies() {
        for (path, good) in
            [("/docs/", "/docs"), ("/", ""), ("", ""), ("//evil", ""), ("/a*", ""), ("x", "")]
        {
            assert_eq!(base_path(path.to_owned()), good, "{path}");
        }
        for (way, path) in [
            ("./_app", Some("/a/_app")),
            ("../_app", Some("/_app")),
            ("/_app", Some("/_app")),
            ("../../x", None),
        ] {
            assert_eq!(resolve("/a/b", way).as_deref(), path, "{way}");
        }
    }
}
