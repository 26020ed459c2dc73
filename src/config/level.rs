//! What is logged: the text of `log.level`.
//!
//! The filter that reads it in the end takes any word for a module's name, and
//! `verbose` for "everything of the module `verbose`, and nothing else": a
//! process that says nothing at all. So it is read here first.

use super::de::{nearest, one_of};

/// From nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Checks directives such as `info,perennial::fill=debug`: levels, for all or for
/// a module. Gives what is allowed and probably not meant.
///
/// # Errors
/// What is wrong with one of them, and what to write instead.
pub fn check_level(text: &str) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let mut for_all = false;
    let directives = text.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    for directive in directives.clone() {
        let Some((module, level)) = directive.split_once('=') else {
            level_of(directive)?;
            for_all = true;
            continue;
        };
        let (module, level) = (module.trim(), level.trim());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
        if module.is_empty() || !module.bytes().all(plain) {
            return Err(format!(
                "{module:?} is not the name of a module, as in `perennial::fill=debug`"
            ));
        }
        level_of(level)?;
        let of = module.split("::").next().unwrap_or(module);
        if of != "perennial" && nearest(of, ["perennial"]).is_some() {
            warnings.push(format!("nothing logs as `{of}`; did you mean \"perennial\"?"));
        }
    }
    if directives.clone().next().is_none() {
        return Err(format!("expected {}", one_of(&LEVELS)));
    }
    if !for_all {
        warnings.push(format!(
            "whatever it does not name is silent, errors too; did you mean \"info,{text}\"?"
        ));
    }
    Ok(warnings)
}

fn level_of(word: &str) -> Result<(), String> {
    if LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    // Those of other programs.
    let meant = match word.to_ascii_lowercase().as_str() {
        "verbose" => Some("debug"),
        "all" | "finest" => Some("trace"),
        "notice" | "default" => Some("info"),
        "critical" | "fatal" | "crit" | "emerg" | "alert" => Some("error"),
        "none" | "silent" | "quiet" => Some("off"),
        _ => nearest(word, LEVELS),
    };
    let meant = meant.map(|level| format!("; did you mean {level:?}?")).unwrap_or_default();
    Err(format!("expected {}, found {word:?}{meant}", one_of(&LEVELS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        const SILENT: &str = "whatever it does not name is silent";
        for (text, warning) in [
            ("info", None),
            ("WARN", None),
            ("off", None),
            ("info,perennial::fill=debug", None),
            (" info , pingora_core = debug ,", None),
            ("perennial::fill=debug", Some(SILENT)),
            ("info,perenial=debug", Some("did you mean \"perennial\"?")),
        ] {
            let warnings = check_level(text).expect(text);
            assert_eq!(warnings.len(), usize::from(warning.is_some()), "{text}: {warnings:?}");
            assert!(warnings.iter().all(|w| w.contains(warning.unwrap_or_default())), "{text}");
        }
        for (text, said) in [
            ("verbose", "found \"verbose\"; did you mean \"debug\"?"),
            ("inof", "did you mean \"info\"?"),
            ("", "expected `off`, `error`, `warn`, `info`, `debug` or `trace`"),
            (",", "expected `off`"),
            ("perennial::fill", "found \"perennial::fill\""),
            ("info,perennial=verbose", "did you mean \"debug\"?"),
            ("info,pingora-core=debug", "\"pingora-core\" is not the name of a module"),
            ("=debug", "\"\" is not the name of a module"),
            ("a=b=c", "found \"b=c\""),
            ("3", "found \"3\""),
            ("perennial[span]=debug", "is not the name of a module"),
        ] {
            let error = check_level(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
