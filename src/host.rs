//! Hosts as requests name them: which are valid, and the one form in which keys,
//! purges, routes and `Location` have them. A leaf: no I/O, nothing of ours.

use std::borrow::Cow;
use std::io::Write;
use std::net::Ipv6Addr;

/// Bytes of a host's name, at most.
const MAX_NAME: usize = 255;

/// Whether this is a host as URLs of pages have one (RFC 9110 §7.2): a name of
/// letters, digits, `-`, `.` and `_`, or an address; then perhaps a port. The other
/// characters of RFC 3986's grammar are in no name that resolves, and hosts go into
/// keys, redirects and logs.
#[must_use]
pub fn is_valid(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => (address, rest),
            _ => return false,
        },
        None => {
            let end = memchr::memchr(b':', host.as_bytes()).unwrap_or(host.len());
            let (name, rest) = host.split_at(end);
            let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if !name.bytes().all(letter) {
                return false;
            }
            (name, rest)
        }
    };
    let port_is_fine = match port.strip_prefix(':') {
        None => port.is_empty(),
        // RFC 3986 §3.2.3: `port = *DIGIT`.
        Some("") => true,
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
    };
    !name.is_empty() && name.len() <= MAX_NAME && port_is_fine
}

/// The port of a scheme (RFC 9110 §4.2).
#[must_use]
pub fn default_port(scheme: &str) -> u16 {
    if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 }
}

/// Name and port of a host; an IPv6 address keeps its brackets. What follows a
/// colon and is no port belongs to the name.
#[must_use]
pub fn split(host: &str) -> (&str, Option<u16>) {
    let (name, port) = parts(host);
    (name, port.and_then(|port| port.parse().ok()))
}

/// Name and port, which may be empty.
fn parts(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (port.is_empty() || port.parse::<u16>().is_ok())
                // The colons of an IPv6 address are inside its brackets.
                && name.starts_with('[') == name.ends_with(']') =>
        {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// The host of a request as keys have it (RFC 3986 §6.2.2, §6.2.3): lower case,
/// without the dot that ends an absolute name, with its port only where that is
/// not the one of `scheme`. IPv6 addresses are written as RFC 5952 has them.
/// Allocates nothing where nothing is to be changed but the end.
#[must_use]
pub fn canonical<'a>(host: &'a str, scheme: &str) -> Cow<'a, str> {
    without(host, Some(default_port(scheme)))
}

/// The host that an invalidation names: as [`canonical`], but with whichever port
/// is written, because it is for both schemes.
#[must_use]
pub fn named(host: &str) -> Cow<'_, str> {
    without(host, None)
}

fn without(host: &str, default: Option<u16>) -> Cow<'_, str> {
    // Most are as they should be: worth a look, as every hit comes here.
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    if host.bytes().all(plain) && !host.ends_with('.') {
        return Cow::Borrowed(host);
    }
    let (written, port) = parts(host);
    let name = match written.strip_suffix('.') {
        Some(name) if !name.is_empty() => name,
        _ => written,
    };
    let number = port.and_then(|port| port.parse::<u16>().ok()).filter(|p| Some(*p) != default);
    let mut text = [0; 64];
    let name = match address(name, &mut text) {
        Some(address) if address != name => Cow::Owned(address.to_owned()),
        _ if name.bytes().any(|b| b.is_ascii_uppercase()) => Cow::Owned(name.to_ascii_lowercase()),
        _ => Cow::Borrowed(name),
    };
    match (name, number) {
        (name, None) => name,
        // As it is written, without leading zeros.
        (Cow::Borrowed(name), Some(_))
            if name.len() == written.len() && port.is_some_and(|p| !p.starts_with('0')) =>
        {
            Cow::Borrowed(host)
        }
        (name, Some(port)) => Cow::Owned(format!("{name}:{port}")),
    }
}

/// An IPv6 address in its brackets, in its one form.
fn address<'t>(name: &str, text: &'t mut [u8; 64]) -> Option<&'t str> {
    let address: Ipv6Addr = name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    let mut rest = &mut text[..];
    write!(rest, "[{address}]").ok()?;
    let left = rest.len();
    std::str::from_utf8(&text[..text.len() - left]).ok()
}

/// The path of a reference, if that is of this origin: the canonical `host` by
/// whichever scheme, because who ends TLS in front of us may not say so. A relative
/// one is resolved against `base` (RFC 3986 §5.2).
#[must_use]
pub fn same_origin(scheme: &str, host: &str, base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or(reference);
    let absolute = match reference.split_once("://") {
        Some((named @ ("http" | "https"), rest)) => Some((named, rest)),
        Some((named, rest)) if named.eq_ignore_ascii_case("http") => Some(("http", rest)),
        Some((named, rest)) if named.eq_ignore_ascii_case("https") => Some(("https", rest)),
        _ => reference.strip_prefix("//").map(|rest| (scheme, rest)),
    };
    if let Some((scheme, rest)) = absolute {
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = rest.split('?').next().unwrap_or(rest);
        let same = canonical(authority, scheme) == host;
        return same.then(|| if path.is_empty() { "/".to_owned() } else { path.to_owned() });
    }
    let path = reference.split('?').next().unwrap_or(reference);
    if path.is_empty() {
        return Some(base.to_owned());
    }
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    // `mailto:a@b`
    if path.split('/').next().is_some_and(|first| first.contains(':')) {
        return None;
    }
    let folder = base.rfind('/').map_or("/", |slash| &base[..=slash]);
    Some(format!("{folder}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn which_are_valid() {
        for (host, valid) in [
            ("a", true),
            ("A.example", true),
            ("a_b.example.", true),
            ("a:8080", true),
            ("a:", true),
            ("127.0.0.1:80", true),
            ("[::1]", true),
            ("[2001:db8::1]:8080", true),
            ("", false),
            (":80", false),
            ("a:b", false),
            ("a:80:80", false),
            ("a:65536", false),
            ("a b", false),
            ("a/b", false),
            ("a,b", false),
            ("a%20b", false),
            ("u@a", false),
            ("a?b", false),
            ("*.a", false),
            ("\u{e9}", false),
            ("[::1", false),
            ("[a]", false),
            ("[::1]x", false),
            ("::1", false),
        ] {
            assert_eq!(is_valid(host), valid, "{host:?}");
        }
        assert!(!is_valid(&"a".repeat(256)));
    }

    #[test]
    fn one_form_for_keys_and_one_for_names() {
        for (host, http, https, name) in [
            ("a.test", "a.test", "a.test", "a.test"),
            ("A.Test", "a.test", "a.test", "a.test"),
            ("a.test.", "a.test", "a.test", "a.test"),
            ("a.test:80", "a.test", "a.test:80", "a.test:80"),
            ("a.test:443", "a.test:443", "a.test", "a.test:443"),
            ("A.test.:443", "a.test:443", "a.test", "a.test:443"),
            ("a.test:", "a.test", "a.test", "a.test"),
            ("a.test.:", "a.test", "a.test", "a.test"),
            ("a.test:0080", "a.test", "a.test:80", "a.test:80"),
            ("a.test:08080", "a.test:8080", "a.test:8080", "a.test:8080"),
            ("a.test:0", "a.test:0", "a.test:0", "a.test:0"),
            ("127.0.0.1:80", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]", "[::1]", "[::1]", "[::1]"),
            ("[0:0::1]:443", "[::1]:443", "[::1]", "[::1]:443"),
            ("[2001:DB8::1]", "[2001:db8::1]", "[2001:db8::1]", "[2001:db8::1]"),
            // No hosts, but no reason to fail either.
            ("", "", "", ""),
            (".", ".", ".", "."),
            ("a:b", "a:b", "a:b", "a:b"),
            ("a:65536", "a:65536", "a:65536", "a:65536"),
        ] {
            assert_eq!(canonical(host, "http"), http, "{host}");
            assert_eq!(canonical(host, "https"), https, "{host}");
            assert_eq!(named(host), name, "{host}");
        }
    }

    #[test]
    fn name_and_port() {
        for (host, parts) in [
            ("a", ("a", None)),
            ("a:1", ("a", Some(1))),
            ("a:", ("a", None)),
            ("[::1]", ("[::1]", None)),
            ("[::1]:80", ("[::1]", Some(80))),
            ("a:b", ("a:b", None)),
            ("", ("", None)),
        ] {
            assert_eq!(split(host), parts, "{host}");
        }
    }

    #[test]
    fn nothing_is_allocated_for_what_browsers_send() {
        for (host, scheme) in [
            ("a.test", "http"),
            ("a.test:8080", "http"),
            ("a.test:443", "https"),
            ("[::1]", "http"),
        ] {
            assert!(matches!(canonical(host, scheme), Cow::Borrowed(_)), "{host}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_final_and_valid(host in "([aA.]{1,4}|\\[::[01]\\])(:[0-9]{0,5})?") {
            for scheme in ["http", "https"] {
                let once = canonical(&host, scheme).into_owned();
                // A name that ends with two dots is none.
                if is_valid(&host) && !host.contains("..") {
                    prop_assert!(is_valid(&once), "{}", once);
                    prop_assert_eq!(&canonical(&once, scheme), &once);
                }
            }
        }

        #[test]
        fn anything_goes_through(host in "\\PC{0,20}") {
            let _ = (canonical(&host, "http"), named(&host), split(&host), is_valid(&host));
        }
    }

    #[test]
    fn which_references_are_of_the_same_origin() {
        for (scheme, host, reference, path) in [
            ("http", "a.test", "/x", Some("/x")),
            ("http", "a.test", "/x?y#z", Some("/x")),
            ("http", "a.test", "http://a.test/x", Some("/x")),
            ("http", "a.test", "HTTP://A.Test.:80/x", Some("/x")),
            ("https", "a.test", "https://a.test:443/x", Some("/x")),
            ("https", "a.test", "//a.test/x", Some("/x")),
            ("https", "a.test", "//a.test:443", Some("/")),
            ("https", "a.test", "https://a.test?y", Some("/")),
            // TLS may end in front of us.
            ("http", "a.test", "https://a.test/x", Some("/x")),
            ("http", "a.test:8080", "http://a.test:8080/x", Some("/x")),
            ("http", "a.test:8080", "http://a.test/x", None),
            ("http", "a.test", "http://b.test/x", None),
            ("http", "a.test", "http://a.test@b.test/x", None),
            ("http", "a.test", "//b.test/x", None),
            ("http", "a.test", "ftp://a.test/x", None),
            ("http", "a.test", "mailto:a@a.test", None),
            // Relative to /p/q.
            ("http", "a.test", "x", Some("/p/x")),
            ("http", "a.test", "../x", Some("/p/../x")),
            ("http", "a.test", "?y", Some("/p/q")),
            ("http", "a.test", "", Some("/p/q")),
        ] {
            let found = same_origin(scheme, host, "/p/q", reference);
            assert_eq!(found.as_deref(), path, "{reference} of {scheme}://{host}");
        }
    }
}
