//! Regular expressions as builds write them: JavaScript's.

use fancy_regex::{Regex, RegexBuilder};

/// Steps back that a pattern may take with one path. Real ones take some dozens.
const BACKTRACKS: usize = 10_000;

/// A regular expression of JavaScript; none if it cannot be read.
pub(super) fn expression(text: &str) -> Option<Regex> {
    RegexBuilder::new(&of_javascript(text)).backtrack_limit(BACKTRACKS).build().ok()
}

/// A regular expression of JavaScript for an engine that knows sets in character
/// classes: there `[`, `&`, `~` and `-` mean more than themselves.
fn of_javascript(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut class, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' if !class => class = true,
            ']' if class => class = false,
            '[' | '&' | '~' if class => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn character_classes_of_javascript() {
        for (pattern, path, matches) in [
            (r"^\/[^[]+$", "/a", true),
            (r"^\/[^[]+$", "/[", false),
            (r"^\/[a&&b]+$", "/&a", true),
            (r"^\/[\]x]+$", "/]x", true),
            (r"^\/\[x\]$", "/[x]", true),
            (r"^\/a[\/#\?]?$", "/a/", true),
        ] {
            assert_eq!(
                expression(pattern).unwrap().is_match(path).unwrap(),
                matches,
                "{pattern} {path}"
            );
        }
    }
}
