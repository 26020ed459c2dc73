//! A route's `browser`: a `Cache-Control` of ours that clients' browsers read.

use crate::config::de::nearest;
use crate::config::source::Path;
use crate::rules::cache_control::{Argument, members};

use super::Report;

/// What follows the name of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// delta-seconds (RFC 9111 §1.2.2)
    Seconds,
    /// names of fields, or nothing
    Names,
}

/// The directives of responses: RFC 9111 §5.2.2, RFC 5861, RFC 8246.
const KNOWN: [(&str, Takes); 13] = [
    ("max-age", Takes::Seconds),
    ("must-revalidate", Takes::Nothing),
    ("must-understand", Takes::Nothing),
    ("no-cache", Takes::Names),
    ("no-store", Takes::Nothing),
    ("no-transform", Takes::Nothing),
    ("private", Takes::Names),
    ("proxy-revalidate", Takes::Nothing),
    ("public", Takes::Nothing),
    ("s-maxage", Takes::Seconds),
    ("stale-while-revalidate", Takes::Seconds),
    ("stale-if-error", Takes::Seconds),
    ("immutable", Takes::Nothing),
];
/// Those of requests (RFC 9111 §5.2.1).
const OF_REQUESTS: [&str; 3] = ["max-stale", "min-fresh", "only-if-cached"];

/// Checks a `Cache-Control`: what browsers would not understand is an error, what
/// they would ignore a warning.
pub(super) fn check(text: &str, path: &Path, report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    let mut any = false;
    for (name, argument) in members(text.as_bytes()) {
        any = true;
        let name = String::from_utf8_lossy(name);
        let known = KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
        let Some(&(name, takes)) = known else {
            if name.is_empty() || matches!(argument, Argument::Malformed(_)) {
                let message =
                    format!("{text:?} is not a list of directives, as in `public, max-age=60`");
                return report.error(path.clone(), message);
            }
            report.warn(path.clone(), unknown(&name));
            continue;
        };
        if seen.contains(&name) {
            report.error(path.clone(), format!("`{name}` is there twice"));
        }
        seen.push(name);
        if let Err(message) = fits(name, takes, argument) {
            report.error(path.clone(), message);
        }
    }
    if !any {
        report.error(path.clone(), "expected a Cache-Control such as `public, max-age=60`");
    }
    for (name, stronger) in
        [("max-age", "no-store"), ("immutable", "no-store"), ("public", "private")]
    {
        if seen.contains(&name) && seen.contains(&stronger) {
            report.warn(path.clone(), format!("`{name}` has no effect beside `{stronger}`"));
        }
    }
}

fn unknown(name: &str) -> String {
    if OF_REQUESTS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return format!("browsers ignore `{name}`: it is a directive of requests");
    }
    let meant = nearest(name, KNOWN.iter().map(|(known, _)| *known))
        .map(|known| format!("; did you mean {known:?}?"))
        .unwrap_or_default();
    format!("browsers ignore `{name}`, which no standard knows{meant}")
}

fn fits(name: &str, takes: Takes, argument: Argument<'_>) -> Result<(), String> {
    match (takes, argument) {
        (Takes::Nothing | Takes::Names, Argument::None) | (Takes::Names, Argument::Text(_)) => {
            Ok(())
        }
        (Takes::Seconds, Argument::Text(text))
            if !text.is_empty() && text.iter().all(u8::is_ascii_digit) =>
        {
            Ok(())
        }
        (Takes::Nothing, Argument::Text(_)) => Err(format!("`{name}` takes no value")),
        (Takes::Seconds, Argument::None) => {
            Err(format!("`{name}` takes a number of seconds, as in `{name}=60`"))
        }
        (Takes::Seconds, Argument::Text(text)) => {
            let text = String::from_utf8_lossy(text);
            // `1h` is how durations are written everywhere else in the file.
            let meant = humantime::parse_duration(&text)
                .map(|span| format!("; did you mean {name}={}?", span.as_secs()))
                .unwrap_or_default();
            Err(format!("`{name}` takes a number of seconds, found {text:?}{meant}"))
        }
        (_, Argument::Malformed(rest)) => {
            let rest = String::from_utf8_lossy(rest);
            let cure = match rest.trim_start().chars().next() {
                _ if rest.contains(';') => "directives are separated by commas",
                Some('=') => "no space stands beside `=`",
                _ => "expected a comma, or `=` and a value",
            };
            Err(format!("after `{name}` found {rest:?}: {cure}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        for (text, error, warning) in [
            ("public, max-age=60", "", ""),
            ("Public,MAX-AGE=\"60\" ,, immutable", "", ""),
            ("no-cache=\"set-cookie, x\", private", "", ""),
            ("max-age=0, s-maxage=1, stale-while-revalidate=1, stale-if-error=1", "", ""),
            ("no-store, no-transform, must-revalidate, proxy-revalidate, must-understand", "", ""),
            ("max-age=forever", "takes a number of seconds, found \"forever\"", ""),
            ("max-age=1h", "found \"1h\"; did you mean max-age=3600?", ""),
            ("max-age=-1", "found \"-1\"", ""),
            ("max-age=", "after `max-age` found", ""),
            ("max-age", "as in `max-age=60`", ""),
            ("max-age=1.5", "found \"1.5\"", ""),
            ("public=1", "`public` takes no value", ""),
            ("public; max-age=60", "separated by commas", ""),
            ("max-age=60s; public", "separated by commas", ""),
            ("public max-age=60", "expected a comma", ""),
            ("max-age =60", "no space stands", ""),
            ("max-age= 60", "after `max-age` found", ""),
            ("max-age=1, max-age=2", "`max-age` is there twice", ""),
            ("=60", "is not a list of directives", ""),
            ("public, maxage:60", "is not a list of directives", ""),
            ("", "expected a Cache-Control", ""),
            (",", "expected a Cache-Control", ""),
            ("maxage=60", "", "did you mean \"max-age\"?"),
            ("surrogate-control", "", "browsers ignore `surrogate-control`"),
            ("only-if-cached, public", "", "a directive of requests"),
            ("no-store, max-age=60", "", "`max-age` has no effect beside `no-store`"),
        ] {
            let mut report = Report::default();
            check(text, &Path::default(), &mut report);
            for (found, wanted) in [(&report.errors, error), (&report.warnings, warning)] {
                assert_eq!(found.len(), usize::from(!wanted.is_empty()), "{text}: {found:?}");
                assert!(found.iter().all(|(_, said)| said.contains(wanted)), "{text}: {found:?}");
            }
        }
    }
}
