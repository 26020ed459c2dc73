//! The arguments of a call: as query, as a JSON body, or as a form.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use strum::{Display, EnumString};

use crate::host;
use crate::page::canonical_path;
use crate::store::Hardness;

/// Targets that one call may name.
const MAX_TARGETS: usize = 10_000;

/// What is done to what is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString)]
#[strum(serialize_all = "kebab-case")]
pub(super) enum Action {
    Regenerate,
    Stale,
    Expire,
    Delete,
}

impl Action {
    pub(super) fn hardness(self) -> Hardness {
        match self {
            Action::Regenerate | Action::Stale => Hardness::Soft,
            Action::Expire | Action::Delete => Hardness::Hard,
        }
    }
}

/// The arguments of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) secret: Option<String>,
    /// Canonical.
    pub(super) paths: Vec<String>,
    /// Canonical.
    pub(super) prefixes: Vec<String>,
    pub(super) tags: Vec<String>,
    /// As [`host::named`] has it.
    pub(super) host: Option<String>,
    pub(super) all: Option<bool>,
    pub(super) mode: Option<Action>,
    pub(super) if_cached: Option<bool>,
    pub(super) deployment: Option<String>,
}

/// What is wrong with the arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadArgument {
    pub(super) name: String,
    pub(super) why: String,
}

fn bad(name: &str, why: impl Into<String>) -> BadArgument {
    BadArgument { name: name.to_owned(), why: why.into() }
}

/// Sets an argument that there is one of. A second one that says something else is bad: only one
/// of them could count, and what the other one meant would be lost without a word.
fn once<T: PartialEq>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), BadArgument> {
    let agrees = slot.as_ref().is_none_or(|said| *said == value);
    *slot = Some(value);
    if agrees { Ok(()) } else { Err(bad(name, "is given twice, with different values")) }
}

/// A body: what each of its keys says, or why that is no argument.
type Pairs = Vec<(String, Result<String, BadArgument>)>;

impl Args {
    /// The arguments, and the first that is bad: the secret counts all the same,
    /// so that who has it learns what is wrong. `kind` is the `Content-Type`.
    ///
    /// Where the query names the targets, a body is a CMS's own: what in it are
    /// arguments counts beside the query, and all else is ignored.
    pub(super) fn parse(query: &str, kind: &[u8], body: &[u8]) -> (Args, Option<BadArgument>) {
        let mut args = Args::default();
        let mut first = None;
        for (name, value) in form_pairs(query.as_bytes()) {
            let set = value.and_then(|value| args.set(&name, &value));
            first = first.or(set.err());
        }
        let pairs = pairs(kind, body);
        if args.names_something() {
            let added = args.beside(pairs.unwrap_or_default());
            first = first.or(added.err());
        } else {
            let read = pairs.and_then(|pairs| args.read(pairs));
            first = first.or(read.err());
        }
        (args, first)
    }

    /// Whether there is anything to be done.
    pub(super) fn names_something(&self) -> bool {
        self.targets() > 0 || self.all() || self.deployment.is_some()
    }

    /// Whether everything is meant.
    pub(super) fn all(&self) -> bool {
        self.all.unwrap_or(false)
    }

    /// Whether only the paths that are stored are rendered.
    pub(super) fn if_cached(&self) -> bool {
        self.if_cached.unwrap_or(false)
    }

    fn targets(&self) -> usize {
        self.paths.len() + self.prefixes.len() + self.tags.len()
    }

    /// The body is all that the call says.
    fn read(&mut self, mut pairs: Pairs) -> Result<(), BadArgument> {
        // The secret first, whatever is wrong with the others.
        pairs.sort_by_key(|(name, _)| name != "secret");
        pairs.into_iter().try_for_each(|(name, value)| self.set(&name, &value?))
    }

    /// The body comes beside a query that says what is meant: it can add to that,
    /// and neither narrow nor change it. What a CMS calls `host` or `deployment` is
    /// hardly what we do.
    fn beside(&mut self, pairs: Pairs) -> Result<(), BadArgument> {
        let mut body = Args::default();
        for (name, value) in pairs {
            let own = matches!(&*name, "host" | "deployment");
            if let (Ok(value), false) = (value, own) {
                // One that is none is the CMS's own.
                let _ = body.set(&name, &value);
            }
        }
        if body.all() {
            self.all = Some(true);
        }
        if body.if_cached() {
            self.if_cached = Some(true);
        }
        self.mode = self.mode.or(body.mode);
        self.secret = self.secret.take().or(body.secret.take());
        if self.targets() + body.targets() > MAX_TARGETS {
            let why = format!("names, with the query, more than {MAX_TARGETS} targets");
            return Err(bad("body", why));
        }
        self.paths.append(&mut body.paths);
        self.prefixes.append(&mut body.prefixes);
        self.tags.append(&mut body.tags);
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), BadArgument> {
        // As tags are where they are read.
        let value = if name == "tag" { value.trim_ascii() } else { value };
        let flag = |value: &str| match value {
            "1" | "true" | "" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(bad(name, "is 1 or 0")),
        };
        match name {
            "secret" => once(&mut self.secret, name, value.to_owned())?,
            "path" => self.paths.push(absolute(name, value)?),
            "prefix" => self.prefixes.push(absolute(name, value)?),
            "tag" if value.is_empty() || value.chars().count() > 256 => {
                return Err(bad(name, "is empty or longer than 256 characters"));
            }
            "tag" => self.tags.push(value.to_owned()),
            "host" if !host::is_valid(value) => {
                return Err(bad(name, "is a host name or address, perhaps with a port"));
            }
            "host" => once(&mut self.host, name, host::named(value).into_owned())?,
            "all" => once(&mut self.all, name, flag(value)?)?,
            "if_cached" => once(&mut self.if_cached, name, flag(value)?)?,
            "mode" => match Action::from_str(value) {
                Ok(mode) => once(&mut self.mode, name, mode)?,
                Err(_) => return Err(bad(name, "is one of regenerate, stale, expire, delete")),
            },
            "deployment" if value.is_empty() || value.len() > 128 => {
                return Err(bad(name, "is empty or longer than 128 bytes"));
            }
            "deployment" if value.chars().any(char::is_control) => {
                return Err(bad(name, "has control characters"));
            }
            "deployment" => once(&mut self.deployment, name, value.to_owned())?,
            _ => {
                return Err(bad(
                    name,
                    "is not an argument; known are secret, path, prefix, tag, all, host, mode, \
                     if_cached, deployment",
                ));
            }
        }
        if self.targets() > MAX_TARGETS {
            return Err(bad(name, format!("is named more than {MAX_TARGETS} times")));
        }
        Ok(())
    }

    pub(super) fn action_for_paths(&self) -> Action {
        self.mode.unwrap_or(Action::Regenerate)
    }

    pub(super) fn action_for_others(&self) -> Action {
        self.mode.unwrap_or(Action::Stale)
    }
}

/// What a body says, name by name.
fn pairs(kind: &[u8], body: &[u8]) -> Result<Pairs, BadArgument> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let essence = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    // What begins with a brace is JSON, also where a tool calls it a form.
    let form = essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
    if form && !matches!(body[0], b'{' | b'[') {
        return Ok(form_pairs(body).collect());
    }
    let Members(members) = serde_json::from_slice(body)
        .map_err(|e| bad("body", format!("is neither a JSON object nor a form: {e}")))?;
    let mut pairs = Vec::new();
    for (name, value) in members {
        match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(values) => {
                for value in values {
                    pairs.push((name.clone(), scalar(&name, value)));
                }
            }
            Err(_no_list) => {
                let value = scalar(&name, value);
                pairs.push((name, value));
            }
        }
    }
    Ok(pairs)
}

/// The pairs of a query or a form, in the order they came.
///
/// A value that is not UTF-8 is bad. It must not be repaired with replacement characters: the
/// call would be answered with success, and what it meant would not be invalidated.
fn form_pairs(encoded: &[u8]) -> impl Iterator<Item = (String, Result<String, BadArgument>)> {
    let pairs = encoded.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let mut halves = pair.splitn(2, |b| *b == b'=');
        let name = percent_decoded(halves.next().unwrap_or_default());
        // A name that is not UTF-8 is none of ours, and is refused as that.
        let name = String::from_utf8_lossy(&name).into_owned();
        let value = String::from_utf8(percent_decoded(halves.next().unwrap_or_default()));
        let value = value.map_err(|_| bad(&name, not_utf8(&name)));
        (name, value)
    })
}

fn percent_decoded(part: &[u8]) -> Vec<u8> {
    let spaces: Vec<u8> = part.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
    percent_decode(&spaces).collect()
}

fn not_utf8(name: &str) -> &'static str {
    match name {
        "path" | "prefix" => {
            "is not UTF-8 once it is percent-decoded (a page whose URL has such bytes is named \
             with its percent signs encoded: /%25FF is the page at /%FF)"
        }
        _ => "is not UTF-8 once it is percent-decoded",
    }
}

/// The members of a JSON object, every one of them: a map would keep the last of a name
/// (RFC 8259 §4 leaves it open), and what the others name would not be invalidated. Inside the
/// values it does not matter: no argument is an object. The values are text, because a number
/// is taken as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// What a JSON value says as an argument. A number is what its digits are: read as a number,
/// the tag `1.10` would become `1.1`, and the call would be answered with success while the
/// page stays.
fn scalar(name: &str, value: &RawValue) -> Result<String, BadArgument> {
    let text = value.get();
    match text.bytes().next() {
        // In a query a name alone is a yes. In JSON the empty string is what a CMS sends for a
        // field that is not filled in, and must not purge everything.
        Some(b'"') if text == "\"\"" && matches!(name, "all" | "if_cached") => {
            Err(bad(name, "is true or false"))
        }
        Some(b'"') => serde_json::from_str(text)
            .map_err(|e| bad(name, format!("is no string of Unicode characters: {e}"))),
        Some(b't' | b'f' | b'-' | b'0'..=b'9') => Ok(text.to_owned()),
        _ => Err(bad(name, "is a string, or a list of strings")),
    }
}

/// A path as the key of a page has it. A query is cut off: the path stands for
/// the page with every query.
fn absolute(name: &str, value: &str) -> Result<String, BadArgument> {
    if !value.starts_with('/') || value.bytes().any(|b| b.is_ascii_control()) {
        return Err(bad(name, "is a path that begins with a slash"));
    }
    let path = value.split(['?', '#']).next().unwrap_or(value);
    if let Some(asterisk) = path.find('*') {
        let above = path[..asterisk].rfind('/').unwrap_or(0);
        let above = if above == 0 { "/" } else { &path[..above] };
        return Err(bad(
            name,
            format!(
                "takes no wildcard; prefix={above} is all below it \
                 (an asterisk that is meant is written %2A, in a query %252A)"
            ),
        ));
    }
    Ok(canonical_path(path).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JSON: &[u8] = b"application/json";
    const FORM: &[u8] = b"Application/x-www-form-urlencoded; charset=utf-8";

    #[test]
    fn reads_query_body_and_form_alike() {
        let form = "secret=s&path=/a&path=/b%3Fx&tag=t&prefix=/p&host=Shop.Example&mode=expire&if_cached=1";
        let from_query = Args::parse(form, b"", b"");
        let json = br#"{"path":["/a","/b"],"tag":"t","prefix":"/p","host":"shop.example.",
            "mode":"expire","if_cached":true,"secret":"s"}"#;
        assert_eq!(from_query, Args::parse("", JSON, json));
        assert_eq!(from_query, Args::parse("", b"", json));
        assert_eq!(from_query, Args::parse("", FORM, json), "whatever a tool calls it");
        assert_eq!(from_query, Args::parse("", FORM, form.as_bytes()));
        let (from_query, None) = from_query else { panic!("{from_query:?}") };
        assert_eq!(from_query.paths, ["/a", "/b"]);
        assert_eq!(from_query.action_for_paths(), Action::Expire);
        let defaults = Args::parse("path=/a", b"", b"").0;
        assert_eq!(defaults.action_for_paths(), Action::Regenerate);
        assert_eq!(defaults.action_for_others(), Action::Stale);
    }

    #[test]
    fn paths_are_normalised_as_a_requests_is() {
        for (given, path) in [
            ("/a/../b", "/b"),
            ("/%7euser", "/~user"),
            ("/a b", "/a%20b"),
            ("/a{b}", "/a%7Bb%7D"),
            ("/a^b", "/a%5Eb"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/x?y=1#z", "/x"),
            ("/a%2ab", "/a%2Ab"),
        ] {
            assert_eq!(absolute("path", given).unwrap(), path, "{given}");
        }
    }

    #[test]
    fn names_the_bad_argument() {
        for (query, body, argument) in [
            ("path=a", "", "path"),
            ("mode=purge", "", "mode"),
            ("pat=/a", "", "pat"),
            ("all=yes", "", "all"),
            ("tag=", "", "tag"),
            ("host=evil/x", "", "host"),
            ("", "[1]", "body"),
            ("", "{\"path\":{}}", "path"),
            ("", "{\"secret\":\"s\",\"event\":\"publish\",\"tag\":\"t\"}", "event"),
            ("", "{", "body"),
            // Beside a target it is the query that must be right.
            ("path=/a&event=publish", "{}", "event"),
        ] {
            let e = Args::parse(query, b"", body.as_bytes()).1.expect("it is bad");
            assert_eq!(e.name, argument, "{query} {body}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_refused_and_not_repaired() {
        for argument in
            ["secret", "path", "prefix", "tag", "host", "all", "mode", "if_cached", "deployment"]
        {
            for value in ["/%ff", "/a%C3", "/%ED%A0%80", "%E9", "/+%80"] {
                let form = format!("{argument}={value}");
                for (query, body) in [(&*form, ""), ("", &*form)] {
                    let e = Args::parse(query, FORM, body.as_bytes()).1.expect("it is bad");
                    assert_eq!(e.name, argument, "{form}");
                    assert!(e.why.contains("not UTF-8"), "{form}: {}", e.why);
                    let cure = matches!(argument, "path" | "prefix");
                    assert_eq!(e.why.contains("/%25FF is the page at /%FF"), cure, "{form}");
                }
            }
        }
        assert_eq!(Args::parse("", FORM, b"tag=\xff").1.expect("it is bad").name, "tag");
        assert_eq!(Args::parse("%ff=1", b"", b"").1.expect("it is bad").name, "\u{fffd}");
        for (query, path) in [
            ("path=/caf%C3%A9", "/caf%C3%A9"),
            ("path=/caf%25C3%25A9", "/caf%C3%A9"),
            ("path=/%25FF", "/%FF"),
            ("path=/%25ff%C3%A9", "/%FF%C3%A9"),
            ("path=/a+b&&path=/a%20b&", "/a%20b"),
            ("path=/%EF%BF%BD", "/%EF%BF%BD"),
            ("p%61th=/a=b", "/a=b"),
        ] {
            let (args, wrong) = Args::parse(query, b"", b"");
            assert_eq!(wrong, None, "{query}");
            assert!(args.paths.iter().all(|named| named == path), "{query}: {args:?}");
            assert!(!args.paths.is_empty());
        }
    }

    #[test]
    fn numbers_in_json_are_taken_as_they_are_written() {
        for number in [
            "1.10",
            "1e5",
            "1E+5",
            "12345678901234567890123",
            "0.1000000000000000055511151231257827",
            "-0",
            "-0.0",
            "1e999",
            "7",
            "18446744073709551616",
        ] {
            for body in
                [format!("{{\"tag\":{number}}}"), format!("{{\"tag\": [ {number} , \"x\"]}}")]
            {
                for query in ["", "path=/a"] {
                    let (args, wrong) = Args::parse(query, JSON, body.as_bytes());
                    assert_eq!(wrong, None, "{body}");
                    assert_eq!(args.tags[0], number, "{body}");
                }
            }
        }
        let (args, wrong) = Args::parse("", JSON, br#"{"all": 1, "if_cached": 0}"#);
        assert_eq!((args.all, args.if_cached, wrong), (Some(true), Some(false), None));
        for value in ["null", "{}", "[[1]]", "[null]", r#""\ud800""#, r#"["\ud800"]"#] {
            let body = format!("{{\"secret\":\"s\",\"tag\":{value}}}");
            let (args, wrong) = Args::parse("", JSON, body.as_bytes());
            assert_eq!(wrong.map(|wrong| wrong.name).as_deref(), Some("tag"), "{body}");
            assert_eq!(args.secret.as_deref(), Some("s"));
        }
    }

    #[test]
    fn the_empty_string_is_a_yes_in_a_query_or_a_form_alone() {
        for form in ["all&if_cached", "all=&if_cached="] {
            for (query, body) in [(form, ""), ("", form)] {
                let (args, wrong) = Args::parse(query, FORM, body.as_bytes());
                assert_eq!((args.all, args.if_cached, wrong), (Some(true), Some(true), None));
            }
        }
        for name in ["all", "if_cached"] {
            for value in ["\"\"", "[\"\"]", "[true,\"\"]"] {
                let body = format!("{{\"{name}\": {value}, \"tag\": \"t\"}}");
                let (_, wrong) = Args::parse("", JSON, body.as_bytes());
                assert_eq!(wrong.map(|wrong| wrong.name).as_deref(), Some(name), "{body}");
            }
            let body = format!("{{\"{name}\": \"\"}}");
            let (args, wrong) = Args::parse("path=/a", JSON, body.as_bytes());
            assert_eq!((args.all, args.if_cached, wrong), (None, None, None), "{body}");
        }
    }

    #[test]
    fn tags_are_trimmed_as_those_of_origins_are() {
        for query in ["tag=%20news%20", "tag=+news", "tag=news%09", "tag=%0D%0Anews%0A"] {
            assert_eq!(Args::parse(query, b"", b"").0.tags, ["news"], "{query}");
        }
        let long = format!(" {} ", "\u{fc}".repeat(256));
        let (args, wrong) = Args::parse(&format!("tag={long}"), b"", b"");
        assert_eq!((&*args.tags[0], wrong), (long.trim(), None));
        assert_eq!(Args::parse("tag=two+words", b"", b"").0.tags, ["two words"]);
        for (query, body) in [("tag=%20", ""), ("tag=+%09", ""), ("", r#"{"tag":" \n"}"#)] {
            let wrong = Args::parse(query, JSON, body.as_bytes()).1.expect("it is bad");
            assert_eq!(wrong.name, "tag", "{query} {body}");
        }
    }

    #[test]
    fn what_is_named_twice_counts_twice_or_is_refused() {
        let twice = br#"{"path":"/a","tag":["t"],"path":["/b","/c"],"prefix":"/p",
            "p\u0061th":"/d","tag":"u","prefix":"/q"}"#;
        let (args, wrong) = Args::parse("", JSON, twice);
        assert_eq!(wrong, None);
        assert_eq!(args.paths, ["/a", "/b", "/c", "/d"]);
        assert_eq!(args.tags, ["t", "u"]);
        assert_eq!(args.prefixes, ["/p", "/q"]);
        for (name, one, other) in [
            ("secret", "a", "b"),
            ("host", "a.example", "b.example"),
            ("all", "1", "0"),
            ("if_cached", "0", "1"),
            ("mode", "stale", "delete"),
            ("deployment", "a", "b"),
        ] {
            for (second, good) in [(one, true), (other, false)] {
                let form = format!("{name}={one}&tag=t&{name}={second}");
                let json =
                    format!("{{\"{name}\":\"{one}\",\"tag\":\"t\",\"{name}\":\"{second}\"}}");
                let list = format!("{{\"{name}\":[\"{one}\",\"{second}\"],\"tag\":\"t\"}}");
                let body = format!("{{\"{name}\":\"{second}\",\"tag\":\"t\"}}");
                for (query, kind, body) in [
                    (&*form, JSON, ""),
                    ("", FORM, &*form),
                    ("", JSON, &*json),
                    ("", JSON, &*list),
                    (&*format!("{name}={one}"), JSON, &*body),
                ] {
                    // A query that names what is meant is not changed by the body.
                    let named = Args::parse(query, b"", b"").0.names_something();
                    let ignored = named && !body.is_empty();
                    let wrong = Args::parse(query, kind, body.as_bytes()).1;
                    let expected = (!good && !ignored).then_some(name);
                    let wrong = wrong.as_ref().map(|e| &*e.name);
                    assert_eq!(wrong, expected, "{query} {body}");
                }
            }
        }
        // As one host is written in two ways.
        let host = "tag=t&host=Shop.Example&host=shop.example.";
        assert_eq!(Args::parse(host, b"", b"").1, None);
        // What is inside of a value is the CMS's own, and so is what comes beside a query.
        let own =
            br#"{"mode":"stale","mode":"publish","entry":{"id":1,"id":2},"path":{"a":1,"a":2},
            "host":"a","host":"b","path":"/b"}"#;
        let (args, wrong) = Args::parse("path=/a", JSON, own);
        assert_eq!(
            (&args.paths[..], args.host, wrong),
            (&["/a", "/b"].map(String::from)[..], None, None)
        );
    }

    #[test]
    fn wildcards_are_refused_with_a_hint() {
        for (argument, value, hint) in [
            ("path", "/blog/*", "prefix=/blog "),
            ("path", "/blog/**", "prefix=/blog "),
            ("path", "/blog/a*", "prefix=/blog "),
            ("path", "/*", "prefix=/ "),
            ("path", "/a/*/b", "prefix=/a "),
            ("prefix", "/blog/*", "prefix=/blog "),
        ] {
            let query = format!("{argument}={value}");
            let e = Args::parse(&query, b"", b"").1.expect("it is bad");
            assert_eq!(e.name, argument, "{query}");
            assert!(e.why.contains(hint) && e.why.contains("%2A"), "{query}: {}", e.why);
        }
        // A query is none, whatever is in it; and an asterisk can be meant.
        assert_eq!(Args::parse("path=/a%3Fb*", b"", b"").0.paths, ["/a"]);
        assert_eq!(Args::parse("path=/a%252Ab", b"", b"").0.paths, ["/a%2Ab"]);
    }

    #[test]
    fn a_body_of_a_cms_is_read_beside_the_query() {
        let body = br#"{"secret":"s","event":"publish","path":["/b",{"de":"/c"}],"tag":null,
            "prefix":"blog","mode":"publish","host":"cms.internal","deployment":"live",
            "entry":{"id":7},"all":"no","if_cached":1}"#;
        let (args, wrong) = Args::parse("tag=t&path=/a", JSON, body);
        assert_eq!(wrong, None);
        let expected = Args {
            secret: Some("s".to_owned()),
            paths: vec!["/a".to_owned(), "/b".to_owned()],
            tags: vec!["t".to_owned()],
            if_cached: Some(true),
            ..Args::default()
        };
        assert_eq!(args, expected);
        // What the query says counts more; and a body may be anything.
        let (args, wrong) = Args::parse("tag=t&mode=stale", FORM, b"mode=expire&x=y&tag=u");
        assert_eq!((args.mode, wrong), (Some(Action::Stale), None));
        assert_eq!(args.tags, ["t", "u"]);
        for body in [&b"<xml/>"[..], b"[1,2]", b"\xff", b"{", b"\"text\""] {
            assert_eq!(Args::parse("all=1", b"text/xml", body).1, None);
        }
        // Too much of it is not dropped without a word.
        let many = format!(r#"{{"tag":[{}"u"],"secret":"s"}}"#, r#""t","#.repeat(MAX_TARGETS - 1));
        let (args, wrong) = Args::parse("path=/a", JSON, many.as_bytes());
        assert_eq!(wrong.map(|wrong| wrong.name).as_deref(), Some("body"));
        assert_eq!(args.secret.as_deref(), Some("s"));
    }

    proptest! {
        #[test]
        fn never_panics(query in ".{0,200}", kind in "(.{0,9}|application/x-www-form-urlencoded)", body in ".{0,200}") {
            let _ = Args::parse(&query, kind.as_bytes(), body.as_bytes());
        }

        /// The syntax is that of forms, but for what is not UTF-8.
        #[test]
        fn forms_are_read_as_forms_are(text in "[a-c=&+%0-9A-F\u{e9}\u{ff}]{0,60}") {
            let known = form_urlencoded::parse(text.as_bytes());
            for (ours, theirs) in form_pairs(text.as_bytes()).zip(known) {
                prop_assert_eq!(&*ours.0, &*theirs.0);
                match ours.1 {
                    Ok(value) => prop_assert_eq!(value, &*theirs.1),
                    Err(_) => prop_assert!(theirs.1.contains(char::REPLACEMENT_CHARACTER)),
                }
            }
            prop_assert_eq!(
                form_pairs(text.as_bytes()).count(),
                form_urlencoded::parse(text.as_bytes()).count()
            );
        }

        /// However an editor writes a path: it names what browsers ask for then.
        #[test]
        fn what_a_purge_names_is_what_a_request_asks_for(path in r"/[a-z/.%0-9A-F {}|^`<>~\[\]\u{e9}]{0,30}") {
            let sent = percent_encoding::utf8_percent_encode(&path, crate::page::NOT_IN_PATH);
            let named = absolute("path", &path).unwrap();
            prop_assert_eq!(canonical_path(&sent.to_string()).into_owned(), named.clone());
            let encoded: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
            let called = Args::parse(&format!("path={encoded}"), b"", b"").0;
            prop_assert_eq!(called.paths, [named]);
        }
    }
}
