//! Which pages a call renders, and what becomes of them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::fill::{Renewal, Renewed};
use crate::live::Live;
use crate::page::{Form, PageKey};
use crate::plan::ask_for_page;
use crate::store::Found;

/// Renders of one call that run at once; the origin's own limit comes on top.
const AT_ONCE: usize = 8;
/// Pages that one call renders of those that it names by tag, prefix or `all`, the
/// ones used most; the others stay stale until they are asked for.
const MAX_PAGES: usize = 100_000;

/// A path that a call names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// As the answer says it.
    pub(super) path: String,
    /// What pages of it have in their keys.
    pub(super) spellings: Vec<String>,
    /// What to render where nothing of it is stored, or why nothing is.
    pub(super) fresh: Result<PageKey, &'static str>,
}

/// The pages of a path that are to be rendered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) path: String,
    pub(super) keys: Vec<PageKey>,
    /// How many more there are, which stay stale.
    pub(super) left: usize,
    /// Why there is nothing to render.
    pub(super) why_not: Option<&'static str>,
}

/// What is to be rendered of the pages that were found: of each path at most
/// `per_path`, and none whose query nobody has asked for since it was stored, unless
/// there is no other. The paths that the call names come first, in its order; then those of
/// other pages, the ones used most first. `current` says where a page is rendered to.
pub(super) fn jobs(
    found: Vec<Found>,
    targets: Vec<Target>,
    per_path: usize,
    current: impl Fn(PageKey) -> PageKey,
) -> Vec<Job> {
    // A page of a deployment before and the current one are one page.
    let mut pages: HashMap<PageKey, (u32, bool)> = HashMap::with_capacity(found.len());
    for Found { key, uses, asked } in found {
        let known = pages.entry(current(key)).or_default();
        *known = (uses.max(known.0), asked || known.1);
    }
    let mut named: HashMap<String, usize> = HashMap::new();
    for (index, target) in targets.iter().enumerate() {
        named.extend(target.spellings.iter().map(|spelling| (spelling.clone(), index)));
    }
    let mut of_named: Vec<Vec<Found>> = targets.iter().map(|_| Vec::new()).collect();
    let mut others: HashMap<String, Vec<Found>> = HashMap::new();
    for (key, (uses, asked)) in pages {
        let found = match named.get(key.path()) {
            Some(&index) => &mut of_named[index],
            None => others.entry(key.path().to_owned()).or_default(),
        };
        found.push(Found { key, uses, asked });
    }
    let job = |path: String, found: Vec<Found>| {
        let all = found.len();
        let keys = used_most(found, per_path);
        Job { path, left: all - keys.len(), keys, why_not: None }
    };
    let mut jobs: Vec<Job> = Vec::with_capacity(targets.len());
    for (target, found) in targets.into_iter().zip(of_named) {
        jobs.push(match (found.is_empty(), target.fresh) {
            (false, _) => job(target.path, found),
            (true, Ok(key)) => Job { path: target.path, keys: vec![key], left: 0, why_not: None },
            (true, Err(why)) => {
                Job { path: target.path, keys: Vec::new(), left: 0, why_not: Some(why) }
            }
        });
    }
    let total = |found: &[Found]| found.iter().map(|found| u64::from(found.uses)).sum::<u64>();
    let mut others: Vec<_> = others.into_iter().collect();
    others.sort_by_cached_key(|(path, found)| (Reverse(total(found)), path.clone()));
    let mut room = MAX_PAGES;
    for (path, found) in others {
        let mut job = job(path, found);
        let beyond = job.keys.split_off(job.keys.len().min(room));
        room -= job.keys.len();
        job.left += beyond.len();
        jobs.push(job);
    }
    jobs
}

/// The pages that are used most: first of all the one without query, which nobody
/// made up. One with a query that was stored and never asked for again is nobody's
/// either: it is rendered when somebody comes for it.
fn used_most(mut found: Vec<Found>, most: usize) -> Vec<PageKey> {
    found.sort_by(|a, b| {
        let rank = |f: &Found| (Reverse(f.uses), f.key.target().len());
        rank(a).cmp(&rank(b)).then_with(|| a.key.as_str().cmp(b.key.as_str()))
    });
    let is_plain = |found: &Found| !found.key.target().contains('?');
    if let Some(plain) = found.iter().position(is_plain) {
        found[..=plain].rotate_right(1);
    }
    let wanted = |(place, found): &(usize, Found)| *place == 0 || found.asked || is_plain(found);
    let wanted = found.into_iter().enumerate().filter(wanted);
    wanted.take(most).map(|(_, found)| found.key).collect()
}

/// A page was rendered: of which job, and what became of it.
pub(super) type Done = (usize, PageKey, Renewal);

/// Renders all of them, each for its job, and tells of each.
pub(super) async fn all<T: Future<Output = ()>>(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    pages: Vec<(usize, PageKey)>,
    tell: impl Fn(Done) -> T,
) {
    let tell = &tell;
    let render = |(job, key): (usize, PageKey)| async move {
        let page = engine.store.load(key.as_str()).await;
        let ask = ask_for_page(live, &key, Form::Document);
        let renewal = engine.fills.renew(&ask, page.as_ref()).await;
        tell((job, key, renewal)).await;
    };
    futures::stream::iter(pages).for_each_concurrent(AT_ONCE, render).await;
}

/// What became of a render, in words.
pub(super) fn words(renewed: Renewed) -> Value {
    match renewed {
        Renewed::Stored => json!("stored"),
        Renewed::Overtaken => json!("stored, and stale again: another revalidation came meanwhile"),
        Renewed::Elsewhere => json!("stored for another deployment"),
        Renewed::Dropped(why) | Renewed::NotStored(why) => {
            json!(format!("not stored: {why}"))
        }
        Renewed::Failed(why) => json!(format!("failed: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::KeyBuf;

    fn page(deployment: &str, host: &str, target: &str, uses: u32) -> Found {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut buf = KeyBuf::default();
        buf.begin(deployment, "http", host, path);
        buf.query(query);
        Found { key: buf.key(), uses, asked: uses > 0 }
    }

    fn target(path: &str, fresh: Result<PageKey, &'static str>) -> Target {
        Target { path: path.to_owned(), spellings: vec![path.to_owned()], fresh }
    }

    fn urls(job: &Job) -> Vec<String> {
        job.keys.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_pages_used_most_and_the_one_without_query() {
        for (pages, most, expected) in [
            (&[("/", 0)][..], 2, &["/"][..]),
            (&[("/?a", 9), ("/?b", 5), ("/", 0)], 2, &["/", "/?a"]),
            (&[("/?a", 9), ("/?b", 5), ("/", 7)], 9, &["/", "/?a", "/?b"]),
            (&[("/?a", 1), ("/?b", 5)], 1, &["/?b"]),
            // What nobody asked for is left, unless there is nothing else.
            (&[("/?a", 0), ("/?b", 5), ("/", 0), ("/?c", 0)], 9, &["/", "/?b"]),
            (&[("/?b", 0), ("/?a", 0)], 9, &["/?a"]),
            (&[("/?b", 0), ("/?a", 1)], 9, &["/?a"]),
            // Of equals the shorter one, and then by name.
            (&[("/?aa", 1), ("/?c", 1), ("/?b", 1)], 2, &["/?b", "/?c"]),
        ] {
            let found = pages.iter().map(|(target, uses)| page("", "h", target, *uses)).collect();
            let chosen = used_most(found, most);
            let chosen: Vec<_> = chosen.iter().map(PageKey::target).collect();
            assert_eq!(chosen, expected);
        }
    }

    #[test]
    fn hosts_that_were_made_up_are_bounded_like_queries() {
        let mut found: Vec<_> = (0..600).map(|n| page("", &format!("h{n}"), "/", 1)).collect();
        found.push(page("", "true", "/", 9));
        found.push(page("", "true", "/?page=2", 8));
        let made = jobs(found, vec![target("/", Err(""))], 3, |key| key);
        assert_eq!((made.len(), made[0].left), (1, 599));
        assert_eq!(urls(&made[0])[..2], ["http://true/", "http://true/?page=2"]);
    }

    #[test]
    fn a_page_without_a_query_is_rendered_for_each_host() {
        let hosts = [("a", 0), ("b", 7), ("c", 0)];
        let found = hosts.iter().map(|(host, uses)| page("", host, "/", *uses));
        let found = found.chain([page("", "a", "/?x", 0)]).collect();
        let made = jobs(found, vec![target("/", Err(""))], 8, |key| key);
        assert_eq!(urls(&made[0]), ["http://b/", "http://a/", "http://c/"]);
        assert_eq!(made[0].left, 1);
    }

    #[test]
    fn named_paths_come_first_and_each_has_its_say() {
        let fresh = page("", "h", "/new", 0).key;
        let targets = vec![
            target("/b", Err("unused")),
            target("/new", Ok(fresh.clone())),
            target("/pass", Err("passes")),
            target("/a", Err("unused")),
        ];
        let found = vec![
            page("", "h", "/z", 1),
            page("", "h", "/y", 5),
            page("", "h", "/a", 1),
            page("", "h", "/y?x", 5),
            page("", "h", "/b", 0),
        ];
        let made = jobs(found, targets, 8, |key| key);
        let paths: Vec<_> = made.iter().map(|job| &*job.path).collect();
        assert_eq!(paths, ["/b", "/new", "/pass", "/a", "/y", "/z"]);
        assert_eq!(made[1].keys, [fresh]);
        assert_eq!((made[2].keys.len(), made[2].why_not), (0, Some("passes")));
        assert_eq!(urls(&made[4]), ["http://h/y", "http://h/y?x"]);
    }

    #[test]
    fn a_page_of_two_deployments_is_rendered_once() {
        let found = vec![page("old", "h", "/a", 9), page("new", "h", "/a", 1)];
        let made = jobs(found, vec![target("/a", Err(""))], 8, |key| key.in_deployment("new"));
        assert_eq!(made[0].keys, [page("new", "h", "/a", 0).key]);
        assert_eq!(made[0].left, 0);
    }

    #[test]
    fn both_spellings_of_an_asterisk_are_one_target() {
        let spellings = vec!["/a*b".to_owned(), "/a%2Ab".to_owned()];
        let star = Target { path: "/a%2Ab".to_owned(), spellings, fresh: Err("") };
        let found = vec![page("", "h", "/a*b", 2), page("", "h", "/a%2Ab", 1)];
        let made = jobs(found, vec![star], 8, |key| key);
        assert_eq!((made.len(), made[0].keys.len()), (1, 2));
    }
}
