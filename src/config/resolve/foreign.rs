//! Path patterns as other programs write them: routers, file names of frameworks,
//! regular expressions. As globs they would match nothing, or something else.

/// A pattern that is probably not meant as the glob it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// It makes no sense as a glob: what to write instead.
    Refused(String),
    /// It may be meant so.
    Doubtful(String),
}

/// What a segment of another program's pattern stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// As it stands.
    Literal,
    /// This glob, certainly.
    Is(String),
    /// This glob, unless what it says is meant.
    MayBe(String),
}

/// What only regular expressions are made of.
const REGEX: [&str; 6] = ["(.*", "(.+", "(?", "[^/]", "\\d", "\\w"];

/// Looks for what a router, and no glob, would call a pattern.
pub(super) fn foreign(pattern: &str) -> Option<Foreign> {
    if pattern.contains("://") {
        let message = "a path alone; its host is said with `host`".to_owned();
        return Some(Foreign::Refused(message));
    }
    let router = pattern.contains("/:") || pattern.contains('<');
    if !router && let Some(part) = REGEX.iter().find(|part| pattern.contains(**part)) {
        return Some(Foreign::Refused(format!(
            "{part:?} is of a regular expression, and this is a glob: \
             `*` is anything within a segment, `**` any depth"
        )));
    }
    let segments: Vec<&str> = pattern.split('/').collect();
    let read: Vec<Segment> = segments.iter().map(|text| segment(text)).collect();
    let first = read.iter().position(|segment| *segment != Segment::Literal)?;
    let glob = |(text, read): (&&str, &Segment)| match read {
        Segment::Literal => (*text).to_owned(),
        Segment::Is(glob) | Segment::MayBe(glob) => glob.clone(),
    };
    let globs: Vec<String> = segments.iter().zip(&read).map(glob).collect();
    let cure = globs.join("/");
    let odd = segments[first];
    if read.iter().any(|segment| matches!(segment, Segment::Is(_))) {
        return Some(Foreign::Refused(format!(
            "{odd:?} is no glob: `*` is anything within a segment, `**` any depth; \
             did you mean {cure:?}?"
        )));
    }
    Some(Foreign::Doubtful(format!(
        "as a glob {odd:?} is one character or a name of that kind; if any is meant, write {cure:?}"
    )))
}

const ONE: &str = "*";
const ALL: &str = "**";

fn segment(text: &str) -> Segment {
    let is = |glob: &str| Segment::Is(glob.to_owned());
    // `:slug`, `:slug*`, `:id(…)`, `:page.json`: Express, Rails, Vue, Next's rewrites.
    if let Some((name, rest)) = text.strip_prefix(':').and_then(named) {
        return match rest.as_bytes().first() {
            _ if name.is_empty() => Segment::Literal,
            Some(b'*' | b'+') => is(ALL),
            Some(b'.' | b'-') => Segment::Is(format!("{ONE}{rest}")),
            _ => is(ONE),
        };
    }
    // `<slug>`, `<int:id>`, `<path:rest>`: Flask, Django.
    if text.starts_with('<') && text.ends_with('>') {
        return is(if text.starts_with("<path:") { ALL } else { ONE });
    }
    // `[...slug]` and `[[...slug]]`: Next, Nuxt, SvelteKit, Astro.
    if text.starts_with("[...") || text.starts_with("[[") && text.ends_with("]]") {
        return is(ALL);
    }
    // `{slug}`, `{slug:int}`, `{*rest}`: OpenAPI, Spring, ASP.NET, axum.
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'))
        && !name.contains([',', '{', '}'])
    {
        return is(if name.contains('*') { ALL } else { ONE });
    }
    // `[slug]`: a file of Next; as a glob one of these letters.
    if let Some(name) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'))
        && named(name).is_some_and(|(name, rest)| name.len() > 1 && rest.is_empty())
    {
        return Segment::MayBe(ONE.to_owned());
    }
    // `.*`: a regular expression; as a glob a name with a dot before it.
    if matches!(text, ".*" | ".+") {
        return Segment::MayBe(ALL.to_owned());
    }
    Segment::Literal
}

/// A name, and what follows it.
fn named(text: &str) -> Option<(&str, &str)> {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    Some(text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_others() {
        for (pattern, cure) in [
            ("/blog/:slug", "/blog/*"),
            ("/:lang/blog/:slug", "/*/blog/*"),
            ("/docs/:path*", "/docs/**"),
            ("/docs/:path+", "/docs/**"),
            ("/users/:id(\\d+)", "/users/*"),
            ("/p/:id?", "/p/*"),
            ("/p/:id.json", "/p/*.json"),
            ("/users/<id>", "/users/*"),
            ("/users/<int:id>/posts", "/users/*/posts"),
            ("/files/<path:rest>", "/files/**"),
            ("/docs/[...slug]", "/docs/**"),
            ("/docs/[[...slug]]", "/docs/**"),
            ("/users/{id}", "/users/*"),
            ("/files/{*rest}", "/files/**"),
        ] {
            let Some(Foreign::Refused(said)) = foreign(pattern) else { panic!("{pattern}") };
            assert!(said.ends_with(&format!("did you mean {cure:?}?")), "{pattern}: {said}");
            assert_eq!(foreign(cure), None);
        }
        for pattern in ["/blog/(.*)", "/blog/([^/]+)", r"/blog/\d+", "/(?!api)"] {
            let Some(Foreign::Refused(said)) = foreign(pattern) else { panic!("{pattern}") };
            assert!(said.contains("of a regular expression"), "{pattern}: {said}");
        }
        let Some(Foreign::Refused(said)) = foreign("https://a.com/b") else { panic!("a URL") };
        assert!(said.contains("`host`"), "{said}");
        for (pattern, cure) in [("/blog/[slug]", "/blog/*"), ("/blog/.*", "/blog/**")] {
            let Some(Foreign::Doubtful(said)) = foreign(pattern) else { panic!("{pattern}") };
            assert!(said.ends_with(&format!("write {cure:?}")), "{pattern}: {said}");
        }
        for pattern in [
            "/**",
            "/blog/*",
            "/wiki/Talk:Main",
            "/a/:/b",
            "/a/:1",
            "/{de,fr}/**",
            "/[a]",
            "/[0-9]*",
            "/[a-z]*",
            "/.well-known/*",
            "/a[[]b",
            "/x(y)",
            r"/a\*",
        ] {
            assert_eq!(foreign(pattern), None, "{pattern}");
        }
    }
}
