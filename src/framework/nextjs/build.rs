//! What the build of a site says of a path: for whom its page is rendered, and whether
//! middleware runs before it.
//!
//! Next's patterns are regular expressions; looking at them for every request would cost
//! more than the rest of a hit. So what they say of a path is remembered, in a table of
//! fixed size.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use fancy_regex::Regex;
use percent_encoding::percent_decode_str;

use super::super::preset::Rendering;
use super::super::urls::below;
use super::expression::expression;
use crate::config::{self, Made, NextPages};
use crate::page::{Form, canonical_path};

/// Paths whose answer is remembered; a power of two. 8 bytes each.
const REMEMBERED: usize = 8192;

/// The pages of a build.
#[derive(Debug)]
pub(super) struct Build {
    base_path: String,
    default_locale: Option<String>,
    locales: Vec<String>,
    named: HashMap<Box<str>, Made, RandomState>,
    with_parameters: Vec<(Pattern, Option<Made>)>,
    before: Vec<Pattern>,
    between: Vec<Pattern>,
    middleware: Vec<Pattern>,
    memory: Memory,
}

/// What the build says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    /// None: nothing.
    made: Option<Made>,
    /// Middleware runs before it.
    guarded: bool,
}

impl Build {
    pub(super) fn new(site: &config::Nextjs, pages: &NextPages) -> Build {
        let patterns = |list: &[String]| list.iter().map(|text| Pattern::new(text)).collect();
        Build {
            base_path: site.base_path.clone(),
            default_locale: site.default_locale.clone(),
            locales: site.locales.clone(),
            named: pages
                .named
                .iter()
                .map(|(path, made)| (canonical_path(path).into(), *made))
                .collect(),
            with_parameters: pages
                .with_parameters
                .iter()
                .map(|(text, made)| (Pattern::new(text), *made))
                .collect(),
            before: patterns(&pages.before),
            between: patterns(&pages.between),
            middleware: pages.middleware.iter().map(|m| Pattern::new(&m.pattern)).collect(),
            memory: Memory::new(),
        }
    }

    /// What is said of the page at a canonical path.
    pub(super) fn rendering(&self, path: &str, form: Form) -> Rendering {
        let said = self.memory.recall(path, || self.said(path));
        match (said.guarded, said.made) {
            // Where the build has no page, middleware or a rewrite chooses one; the answer
            // says what it is.
            (true, made) => {
                Rendering::Guarded { for_all: matches!(made, None | Some(Made::ForAll)) }
            }
            (false, Some(Made::ForAll)) => Rendering::ForAll,
            (false, Some(Made::ForEach)) => Rendering::ForEach,
            // The payloads of its shell are for all.
            (false, Some(Made::Partly)) if form == Form::Document => Rendering::ForEach,
            (false, Some(Made::Partly) | None) => Rendering::Unknown,
        }
    }

    fn said(&self, path: &str) -> Said {
        let ways = self.ways(path);
        let guarded = self
            .middleware
            .iter()
            .any(|pattern| ways.iter().any(|way| pattern.matches(way) != Some(false)));
        Said { made: self.made(path, &ways), guarded }
    }

    /// The paths that Next may hold against its patterns: as it came and decoded, and
    /// both with the default locale before, where there are locales.
    fn ways<'a>(&self, path: &'a str) -> Vec<Cow<'a, str>> {
        let mut ways = vec![Cow::Borrowed(path)];
        if let (Some(locale), Some(rest)) = (&self.default_locale, below(path, &self.base_path))
            && self.unlocalised(rest).is_none()
        {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            ways.push(Cow::Owned(format!("{}/{locale}{rest}", self.base_path)));
        }
        if path.contains('%') {
            let decoded = |way: &Cow<'_, str>| {
                percent_decode_str(way).decode_utf8().ok().map(|way| Cow::Owned(way.into_owned()))
            };
            let more: Vec<Cow<'a, str>> = ways.iter().filter_map(decoded).collect();
            ways.extend(more);
        }
        ways
    }

    /// A path below `basePath` without its locale; none if it names none.
    fn unlocalised<'a>(&self, rest: &'a str) -> Option<&'a str> {
        let first = rest[1..].split('/').next().unwrap_or_default();
        let named = self.locales.iter().any(|locale| locale.eq_ignore_ascii_case(first));
        named.then(|| match &rest[1 + first.len()..] {
            "" => "/",
            page => page,
        })
    }

    fn made(&self, path: &str, ways: &[Cow<'_, str>]) -> Option<Made> {
        // In doubt it is sent elsewhere.
        let any = |patterns: &[Pattern]| {
            patterns.iter().any(|p| ways.iter().any(|way| p.matches(way) != Some(false)))
        };
        let rest = below(path, &self.base_path)?;
        if any(&self.before) {
            return None;
        }
        let rest = match rest.trim_end_matches('/') {
            "" => "/",
            rest => rest,
        };
        let unlocalised = self.unlocalised(rest);
        let found = match (&self.default_locale, unlocalised) {
            (Some(locale), None) => {
                let page = if rest == "/" { "" } else { rest };
                self.named.get(format!("/{locale}{page}").as_str())
            }
            _ => None,
        };
        let found = found.or_else(|| self.named.get(rest));
        if let Some(made) = found.or_else(|| self.named.get(unlocalised?)) {
            return Some(*made);
        }
        if any(&self.between) {
            return None;
        }
        let rest = unlocalised.unwrap_or(rest);
        for (pattern, made) in &self.with_parameters {
            match pattern.matches(rest) {
                Some(true) => return *made,
                Some(false) => {}
                None => return None,
            }
        }
        None
    }
}

/// A pattern of paths, as Next wrote it.
#[derive(Debug)]
enum Pattern {
    Known(Box<Regex>),
    /// It cannot be read: what it matches is not known.
    Unreadable,
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        // That one cannot be read is said when the configuration is.
        expression(text).map_or(Pattern::Unreadable, |regex| Pattern::Known(Box::new(regex)))
    }

    /// Whether it matches a path; none if that is not known.
    fn matches(&self, path: &str) -> Option<bool> {
        match self {
            Pattern::Known(regex) => regex.is_match(path).ok(),
            Pattern::Unreadable => None,
        }
    }
}

/// What was said of the paths that were asked for last: the hash of a path and what was
/// said, in one number. The hash is keyed, so that nobody can make up a path with the
/// hash of another.
#[derive(Debug)]
struct Memory {
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

/// The bits of a slot that hold what was said.
const SAID: u64 = 0xF;

impl Memory {
    fn new() -> Memory {
        Memory {
            hasher: RandomState::new(),
            slots: (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn recall(&self, path: &str, find_out: impl FnOnce() -> Said) -> Said {
        let hash = self.hasher.hash_one(path);
        let Some(slot) = self.slots.get((hash >> 32) as usize & (REMEMBERED - 1)) else {
            return find_out();
        };
        let remembered = slot.load(Ordering::Relaxed);
        if remembered & !SAID == hash & !SAID
            && let Some(said) = Said::of_bits(remembered & SAID)
        {
            return said;
        }
        let said = find_out();
        slot.store((hash & !SAID) | said.bits(), Ordering::Relaxed);
        said
    }
}

impl Said {
    /// Never zero: that is an empty slot.
    fn bits(self) -> u64 {
        let made = match self.made {
            None => 1,
            Some(Made::ForAll) => 2,
            Some(Made::ForEach) => 3,
            Some(Made::Partly) => 4,
        };
        made | u64::from(self.guarded) << 3
    }

    fn of_bits(bits: u64) -> Option<Said> {
        let made = match bits & 7 {
            1 => None,
            2 => Some(Made::ForAll),
            3 => Some(Made::ForEach),
            4 => Some(Made::Partly),
            _ => return None,
        };
        Some(Said { made, guarded: bits & 8 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Matcher;

    /// As Next 16 writes the matcher `SOURCE/:path*`.
    fn below_it(prefix: &str, source: &str) -> String {
        let more = r"(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?";
        let kinds = r"(\.json|\.rsc|\.segments\/.+\.segment\.rsc)?[\/#\?]?$";
        format!(r"^{prefix}(?:\/(_next\/data\/[^/]{{1,}}))?{source}{more}{kinds}")
    }

    fn matchers<const N: usize>(patterns: [&str; N]) -> Vec<Matcher> {
        let matcher =
            |pattern: &str| Matcher { source: String::new(), pattern: pattern.to_owned() };
        patterns.map(matcher).into()
    }

    fn pages() -> NextPages {
        let named = [
            ("/", Made::ForAll),
            ("/about", Made::ForAll),
            ("/account", Made::ForEach),
            ("/member/own", Made::ForEach),
            ("/shell", Made::Partly),
            ("/caf\u{e9}", Made::ForAll),
            ("/member/page", Made::ForAll),
            ("/moved", Made::ForAll),
        ];
        NextPages {
            named: named.map(|(path, made)| (path.to_owned(), made)).into(),
            with_parameters: vec![
                ("^/blog/([^/]+?)(?:/)?$".to_owned(), Some(Made::ForAll)),
                ("^/later/([^/]+?)(?:/)?$".to_owned(), None),
                ("^/user/([^/]+?)(?:/)?$".to_owned(), Some(Made::ForEach)),
            ],
            before: vec!["^(?!/_next)/moved(?:/)?$".to_owned()],
            between: vec!["^/blog/legacy(?:/)?$".to_owned()],
            middleware: matchers([
                &below_it("", r"\/member"),
                r"^(?:\/(_next\/data\/[^/]{1,}))?(?:\/((?!api|about|blog|user|_next).*))\/inside(\.json)?[\/#\?]?$",
                "^\\/gr\u{fc}\u{df}$",
            ]),
        }
    }

    const FOR_MEMBERS: Rendering = Rendering::Guarded { for_all: true };
    const BEHIND: Rendering = Rendering::Guarded { for_all: false };

    #[test]
    fn what_a_path_is() {
        use Rendering::{ForAll, ForEach, Unknown};
        let build = Build::new(&config::Nextjs::default(), &pages());
        for (path, form, expected) in [
            ("/", Form::Document, ForAll),
            ("/about", Form::Document, ForAll),
            ("/about/", Form::Document, ForAll),
            ("/about", Form::Data, ForAll),
            ("/account", Form::Document, ForEach),
            ("/account", Form::Payload, ForEach),
            ("/shell", Form::Document, ForEach),
            ("/shell", Form::Payload, Unknown),
            ("/caf%C3%A9", Form::Document, ForAll),
            ("/nowhere", Form::Document, Unknown),
            ("/moved", Form::Document, Unknown),
            ("/blog/a", Form::Document, ForAll),
            ("/blog/legacy", Form::Document, Unknown),
            ("/blog/a/b", Form::Document, Unknown),
            ("/later/a", Form::Document, Unknown),
            ("/user/a", Form::Document, ForEach),
            ("/member/page", Form::Document, FOR_MEMBERS),
            ("/member/page/", Form::Payload, FOR_MEMBERS),
            ("/member", Form::Document, FOR_MEMBERS),
            ("/member/own", Form::Document, BEHIND),
            ("/members", Form::Document, Unknown),
            // A pattern with a look ahead.
            ("/x/inside", Form::Document, FOR_MEMBERS),
            ("/about/inside", Form::Document, Unknown),
            ("/gr%C3%BC%C3%9F", Form::Document, FOR_MEMBERS),
        ] {
            assert_eq!(build.rendering(path, form), expected, "{path} {form:?}");
            assert_eq!(build.rendering(path, form), expected, "{path} {form:?}, remembered");
        }
    }

    /// Next adds the default locale before it looks at its patterns.
    #[test]
    fn base_path_and_locales() {
        use Rendering::{ForAll, ForEach, Unknown};
        let site = config::Nextjs {
            base_path: "/docs".to_owned(),
            default_locale: Some("en".to_owned()),
            locales: vec!["en".to_owned(), "fr".to_owned()],
            ..config::Nextjs::default()
        };
        let locale = r"(?:\/((?!_next\/)[^/.]{1,}))";
        let named = [
            ("/en", Made::ForAll),
            ("/en/a", Made::ForAll),
            ("/fr/a", Made::ForAll),
            ("/en/member/a", Made::ForAll),
            ("/s", Made::ForEach),
        ];
        let pages = NextPages {
            named: named.map(|(path, made)| (path.to_owned(), made)).into(),
            with_parameters: vec![("^/p/([^/]+?)(?:/)?$".to_owned(), Some(Made::ForAll))],
            before: vec![r"^/docs(?:/(en|fr))/moved(?:/)?$".to_owned()],
            between: Vec::new(),
            middleware: matchers([&below_it(r"\/docs", &format!(r"{locale}\/member"))]),
        };
        let build = Build::new(&site, &pages);
        for (path, expected) in [
            ("/docs", ForAll),
            ("/docs/", ForAll),
            ("/docs/a", ForAll),
            ("/docs/fr/a", ForAll),
            ("/docs/fr", Unknown),
            ("/docs/s", ForEach),
            ("/docs/fr/s", ForEach),
            ("/docs/p/1", ForAll),
            ("/docs/fr/p/1", ForAll),
            ("/docs/moved", Unknown),
            ("/docs/member/a", FOR_MEMBERS),
            ("/docs/fr/member/a", FOR_MEMBERS),
            ("/docs/frx/a", Unknown),
            ("/docsx", Unknown),
            ("/a", Unknown),
        ] {
            assert_eq!(build.rendering(path, Form::Document), expected, "{path}");
        }
    }

    /// Where nobody can tell whether middleware runs, it runs.
    #[test]
    fn patterns_that_tell_nothing() {
        for pattern in ["^/(", r"^(?:(?=a)a+)+(?!b)$"] {
            let pages = NextPages { middleware: matchers([pattern]), ..pages() };
            let build = Build::new(&config::Nextjs::default(), &pages);
            let path = format!("/{}b", "a".repeat(40));
            let path = path.strip_prefix('/').filter(|_| pattern.contains("?=")).unwrap_or("/x");
            assert_eq!(build.rendering(path, Form::Document), FOR_MEMBERS, "{pattern}");
        }
        let pages = NextPages { before: vec!["^/(".to_owned()], ..pages() };
        let build = Build::new(&config::Nextjs::default(), &pages);
        assert_eq!(build.rendering("/about", Form::Document), Rendering::Unknown);
    }

    #[test]
    fn what_is_remembered() {
        for made in [None, Some(Made::ForAll), Some(Made::ForEach), Some(Made::Partly)] {
            for guarded in [false, true] {
                let said = Said { made, guarded };
                assert_eq!(Said::of_bits(said.bits()), Some(said));
            }
        }
        assert_eq!(Said::of_bits(0), None, "an empty slot");
        let memory = Memory::new();
        let said = Said { made: None, guarded: true };
        assert_eq!(memory.recall("/a", || said), said);
        assert_eq!(memory.recall("/a", || unreachable!()), said);
        // Many more paths than places: each has its own answer all the same.
        for n in 0..3 * REMEMBERED {
            let said = Said { made: None, guarded: n % 2 == 0 };
            assert_eq!(memory.recall(&format!("/{n}"), || said), said);
        }
    }
}
