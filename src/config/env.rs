//! `${VAR}` and `${VAR:-default}`.
//!
//! They are replaced in strings of the parsed tree, never in the text of the
//! file: whatever a variable holds, it cannot add a key or a route.

/// How deep a default may hold another variable.
const MAX_DEPTH: usize = 8;

/// Replaces what is in braces; `$$` is one dollar sign, and a dollar sign
/// before anything else is itself.
///
/// # Errors
///
/// What is wrong with the reference, and what to do about it.
pub(super) fn substitute(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let rest = expand(text, env, 0, &mut out)?;
    debug_assert!(rest.is_empty());
    Ok(out)
}

/// The first name that stands behind a dollar sign without its braces: `HOME` of
/// `$HOME`. It is text, and was probably meant as a variable.
pub(super) fn bare(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = &rest[rest.find('$')? + 1..];
        if let Some(after) = rest.strip_prefix(['$', '{']) {
            rest = after;
        } else if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            return Some(&rest[..end.unwrap_or(rest.len())]);
        }
    }
}

/// Expands into `out`: all of `text`, or, within a default, up to the brace that
/// closes it. Returns what follows.
fn expand<'t>(
    text: &'t str,
    env: &dyn Fn(&str) -> Option<String>,
    depth: usize,
    out: &mut String,
) -> Result<&'t str, String> {
    let mut rest = text;
    let stops: &[char] = if depth > 0 { &['$', '}'] } else { &['$'] };
    while let Some(at) = rest.find(stops) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('}') {
            return Ok(rest);
        }
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            rest = reference(after, env, depth, out)?;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok("")
}

/// Expands one reference, of which `${` has been read.
fn reference<'t>(
    text: &'t str,
    env: &dyn Fn(&str) -> Option<String>,
    depth: usize,
    out: &mut String,
) -> Result<&'t str, String> {
    if depth == MAX_DEPTH {
        return Err(format!("variables are nested more than {MAX_DEPTH} deep"));
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("expected the name of an environment variable after `${`; \
                    a dollar sign itself is written `$$`"
            .to_owned());
    }
    if let Some(rest) = rest.strip_prefix('}') {
        let value = env(name).ok_or_else(|| {
            format!(
                "the environment variable {name} is not set; \
                 set it, or give a default: ${{{name}:-default}}"
            )
        })?;
        out.push_str(&value);
        return Ok(rest);
    }
    let Some(rest) = rest.strip_prefix(":-") else {
        return Err(if rest.is_empty() {
            format!("`${{{name}` lacks its closing brace")
        } else {
            format!("after `${{{name}` expected `}}` or `:-` with a default")
        });
    };
    let mut default = String::new();
    let rest = expand(rest, env, depth + 1, &mut default)?;
    let rest =
        rest.strip_prefix('}').ok_or_else(|| format!("`${{{name}:-` lacks its closing brace"))?;
    // As in a shell: a variable that is empty counts as one that is not set.
    out.push_str(&env(name).filter(|value| !value.is_empty()).unwrap_or(default));
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${A}: $$ }".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn replaced() {
        for (text, out) in [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("${A}", Ok("one")),
            ("<${A}${A}>", Ok("<oneone>")),
            ("${NONE:-two}", Ok("two")),
            ("${A:-two}", Ok("one")),
            ("${EMPTY:-two}", Ok("two")),
            ("${EMPTY}", Ok("")),
            ("${NONE:-}", Ok("")),
            ("${NONE:-${A}}!", Ok("one!")),
            ("${NONE:-${NONE:-${A}x}y}", Ok("onexy")),
            ("${NONE:-{\"a\"}", Ok("{\"a\"")), // the first brace closes
            ("$$", Ok("$")),
            ("$${A}", Ok("${A}")),
            ("pa$word$", Ok("pa$word$")),
            ("}", Ok("}")),
            ("${TRICKY}", Ok("${A}: $$ }")), // a value is not read again
            ("${NONE}", Err("NONE is not set")),
            ("${A", Err("closing brace")),
            ("${NONE:-x", Err("closing brace")),
            ("${A-x}", Err("expected `}`")),
            ("${A:?x}", Err("expected `}`")),
            ("${}", Err("expected the name")),
            ("${1}", Err("expected the name")),
            ("${ A}", Err("expected the name")),
        ] {
            match (substitute(text, &env), out) {
                (Ok(is), Ok(want)) => assert_eq!(is, want, "{text}"),
                (Err(is), Err(want)) => assert!(is.contains(want), "{text}: {is}"),
                (is, want) => panic!("{text}: {is:?} instead of {want:?}"),
            }
        }
        let deep = "${N:-".repeat(20) + &"}".repeat(20);
        assert!(substitute(&deep, &env).is_err());
    }

    #[test]
    fn names_without_braces() {
        for (text, name) in [
            ("$HOME", Some("HOME")),
            ("/srv/$_x1-y", Some("_x1")),
            ("${A}$B", Some("B")),
            ("${A:-$B}", Some("B")),
            ("$$HOME", None),
            ("$$$HOME", Some("HOME")),
            ("a$", None),
            ("$1, $(x)", None),
            ("${HOME}", None),
            ("", None),
        ] {
            assert_eq!(bare(text), name, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in r"([${}:A\-]|\PC){0,30}") {
            let _ = (substitute(&text, &env), bare(&text));
        }
    }
}
