//! Request fields that no client should send: by them an origin renders as if
//! it had been asked otherwise, at another host, under another path, by another
//! method, over another scheme, from another address or by another user. Proxies
//! set them. What a client says in them is in no key, so one request could
//! change the page that everybody gets.
//!
//! This is the one list, for fills and for what is passed through alike.

use http::HeaderName;

/// Beginnings of names, lower case.
const PREFIXES: &[&str] = &[
    // Proxies in general: -For, -Host, -Port, -Prefix, -Path, -Uri, -Proto …
    "x-forwarded-",
    "x-original-",
    "x-rewrite-",
    // Envoy; IIS and ARR; ASP.NET Core; WebLogic; nginx and Rack::Sendfile.
    "x-envoy-",
    "x-arr-",
    "ms-aspnetcore-",
    "wl-proxy-",
    "x-accel-",
    // From the middleware of Next.js to its renderer.
    "x-middleware-",
    "x-invoke-",
    // Networks in front of sites: address, country, scheme and device of the client.
    "akamai-",
    "x-akamai-",
    "cloudfront-",
    "fastly-",
    "x-appengine-",
    "x-azure-",
    "x-nf-",
    "x-vercel-",
    "geoip-",
    "x-geo-",
    "x-geoip-",
    // Who the client is, as the proxy found out.
    "ssl-client-",
    "x-ssl-",
    "x-client-cert",
    "x-client-verify",
    "x-amzn-oidc-",
    "x-ms-client-principal",
];

/// Names, lower case.
const NAMES: &[&str] = &[
    // RFC 7239.
    "forwarded",
    // The host and the path: Symfony, Laravel, Zend, Django, Rails, Spring.
    "base-url",
    "path-info",
    "proxy-host",
    "proxy-url",
    "request-uri",
    "script-name",
    "x-base-path",
    "x-base-url",
    "x-context-path",
    "x-host",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-matched-path",
    "x-override-url",
    "x-path-info",
    "x-proxy-host",
    "x-proxy-url",
    "x-request-uri",
    "x-script-name",
    // The method.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    // The scheme.
    "front-end-https",
    "https",
    "x-https",
    "x-proto",
    "x-protocol",
    "x-scheme",
    "x-ssl",
    "x-url-scheme",
    // What the next hop can do with the page: ESI is answered raw here.
    "surrogate-capability",
    "x-php-ob-level",
    "x-sendfile-type",
    // CGI makes of it the variable `HTTP_PROXY`.
    "proxy",
    // The client's address and country.
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcity",
    "cf-ipcontinent",
    "cf-ipcountry",
    "cf-iplatitude",
    "cf-iplongitude",
    "cf-pseudo-ipv4",
    "cf-region",
    "cf-region-code",
    "cf-timezone",
    "cf-visitor",
    "client-ip",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-country-code",
    "x-custom-ip-authorization",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-true-client-ip",
    "x-true-ip",
    // The user.
    "remote-user",
    "x-authenticated-user",
    "x-remote-user",
    "x-webauth-user",
];

/// Whether a field, in any case, is one that no client should send.
///
/// Also any whose name has another character than letters, digits and hyphens:
/// CGI, WSGI, Rack and PHP make `X-Forwarded-Host` of `X_Forwarded_Host`, and
/// some of them of `X.Forwarded.Host`.
#[must_use]
pub fn is_listed(name: &str) -> bool {
    let starts = |prefix: &&str| {
        let start = name.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        || NAMES.iter().any(|listed| listed.eq_ignore_ascii_case(name))
        || PREFIXES.iter().any(starts)
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Anybody.
    Client,
    /// A proxy whose word is taken.
    TrustedProxy,
}

/// Which of a request's fields go on to the origin, the list and what the
/// configuration says of it taken together.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// Go on whoever sends them.
    pub allow: &'a [HeaderName],
    /// Go on where a trusted proxy sends them, and only then.
    pub trust: &'a [HeaderName],
    /// Never go on.
    pub drop: &'a [HeaderName],
    /// Declared variants: they are in the key.
    pub declared: &'a [HeaderName],
    /// Who sent them.
    pub sender: Sender,
}

impl Passing<'_> {
    /// Whether a field of this name, in any case, goes on.
    #[must_use]
    pub fn passes(&self, name: &str) -> bool {
        let named = |names: &[HeaderName]| names.iter().any(|n| is(n, name));
        if named(self.declared) {
            return true;
        }
        if named(self.drop) {
            return false;
        }
        if named(self.allow) {
            return true;
        }
        if named(self.trust) {
            return self.sender == Sender::TrustedProxy;
        }
        !is_listed(name)
    }
}

fn is(name: &HeaderName, other: &str) -> bool {
    name.as_str().eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_client_should_send() {
        for name in [
            "X-Forwarded-Host",
            "x-forwarded-path",
            "X-Forwarded-Anything",
            "Forwarded",
            "X-Original-URI",
            "X-Rewrite-URL",
            "X-Envoy-Original-Path",
            "X-Script-Name",
            "Surrogate-Capability",
            "FRONT-END-HTTPS",
            "X-Scheme",
            "X-URL-Scheme",
            "X-HTTP-Method",
            "X-HTTP-Method-Override",
            "X-Middleware-Subrequest",
            "True-Client-IP",
            "CF-Connecting-IP",
            "Proxy",
            "X_Forwarded_Host",
            "x.forwarded.host",
            "a_b",
            "a'b",
            "_",
        ] {
            assert!(is_listed(name), "{name}");
        }
        for name in [
            "Accept",
            "Accept-Language",
            "Authorization",
            "CF-Ray",
            "Content-Type",
            "Cookie",
            "Next-Url",
            "Origin",
            "RSC",
            "Sec-WebSocket-Key",
            "traceparent",
            "Upgrade-Insecure-Requests",
            "User-Agent",
            "X-Api-Key",
            "X-Custom",
            "X-Forwarded",
            "X-Request-Id",
            "X-Requested-With",
        ] {
            assert!(!is_listed(name), "{name}");
        }
        let lower = |name: &&str| {
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        assert!(NAMES.iter().chain(PREFIXES).all(lower));
    }

    #[test]
    fn the_configuration_has_the_last_word() {
        let names = |names: &[&str]| -> Vec<HeaderName> {
            names.iter().map(|n| n.parse().expect("a name")).collect()
        };
        let allow = names(&["x-http-method-override", "my_field"]);
        let trust = names(&["x-forwarded-for", "x-user"]);
        let drop = names(&["x-debug"]);
        let declared = names(&["cf-ipcountry"]);
        for (name, client, proxy) in [
            ("X-HTTP-Method-Override", true, true),
            ("My_Field", true, true),
            ("Other_Field", false, false),
            ("X-Forwarded-For", false, true),
            ("X-Forwarded-Host", false, false),
            ("X-User", false, true),
            ("X-Debug", false, false),
            ("CF-IPCountry", true, true),
            ("CF-Connecting-IP", false, false),
            ("Cookie", true, true),
        ] {
            for (sender, passes) in [(Sender::Client, client), (Sender::TrustedProxy, proxy)] {
                let (allow, trust, drop) = (&*allow, &*trust, &*drop);
                let passing = Passing { allow, trust, drop, declared: &declared, sender };
                assert_eq!(passing.passes(name), passes, "{name} from {sender:?}");
            }
        }
    }
}
