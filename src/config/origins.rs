//! `origins`.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value as Json, json};
use smart_default::SmartDefault;

use super::forms::{As, OneOrMany, Scalar, Short, ShortForm, Written};
use super::values::{Count, Span, Time};

/// A group of origin servers that are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`servers` and options of an origin")]
#[schemars(inline, extend("required" = ["servers"]))]
pub struct Origin {
    /// Its name in routes, metrics and logs: its key in the file.
    #[serde(skip)]
    pub name: String,
    /// The servers, `http://` or `https://` with host and port, one or a list. They are asked
    /// in turn. A name that resolves to several addresses counts as that many servers.
    #[serde(with = "As::<OneOrMany<Server>>")]
    #[schemars(example = ["http://10.0.0.5:4000", "http://10.0.0.6:4000"])]
    pub servers: Vec<Server>,
    /// Active health checks of the servers. Default: none; a server counts as
    /// healthy until connecting to it fails.
    pub health: Option<Health>,
    /// How long connecting may take, TLS included.
    #[default(Duration::from_secs(2))]
    #[serde(with = "As::<Time>")]
    pub connect_timeout: Duration,
    /// How long the whole render of a page may take, from connecting to its last
    /// byte.
    #[default(Duration::from_secs(30))]
    #[serde(with = "As::<Time>")]
    pub fill_timeout: Duration,
    /// How long a response that is not stored (an event stream, a download) may
    /// stay silent.
    #[default(Duration::from_secs(300))]
    #[serde(with = "As::<Time>")]
    pub idle_timeout: Duration,
    /// How many renders for the cache may run at once.
    #[default(64)]
    #[serde(with = "As::<Count<1, 0x10_0000>>")]
    pub max_concurrent_fills: usize,
    /// How many more may wait for one of those places. Requests beyond that are answered 503,
    /// or from a stored page. 0: none waits.
    #[default(1024)]
    #[serde(with = "As::<Count<0, 0x10_0000>>")]
    pub max_waiting_fills: usize,
    /// How many requests that are passed through may wait for the origin's answer at once. A
    /// request whose answer has begun (a download, an event stream) does not count any more.
    #[default(1024)]
    #[serde(with = "As::<Count<1, 0x10_0000>>")]
    pub max_concurrent_passes: usize,
    /// How many more may wait for one of those places, for ten seconds at most. Requests beyond
    /// that are answered 503. 0: none waits.
    #[default(1024)]
    #[serde(with = "As::<Count<0, 0x10_0000>>")]
    pub max_waiting_passes: usize,
    /// How many WebSockets may be open at once. Requests beyond that are answered 503.
    #[default(1024)]
    #[serde(with = "As::<Count<1, 0x10_0000>>")]
    pub max_websockets: usize,
    /// The `Host` that is sent: `preserve` for the client's, or a name.
    #[serde(with = "As::<HostField>")]
    #[schemars(example = &"preserve")]
    pub host: HostField,
    /// How renders for the cache are coded on their way here: `gzip` is worth it if the network
    /// between is slow. Clients get the coding that they prefer either way.
    pub encoding: Encoding,
    /// How long an idle connection is kept for the next request. It is less if the origin says
    /// that it closes connections earlier (`Keep-Alive: timeout=5`), and a second for requests
    /// that must not be repeated (POST). If the origin does not say when it closes them, choose
    /// less than its own limit, or requests meet a connection that is being closed.
    #[default(Duration::from_secs(60))]
    #[serde(with = "As::<Span>")]
    pub keepalive: Duration,
    /// How often the servers' names are resolved again.
    #[default(Duration::from_secs(10))]
    #[serde(with = "As::<Time>")]
    pub resolve_interval: Duration,
}

impl ShortForm for Origin {
    const EXPECTED: &'static str = "a URL such as http://127.0.0.1:3000, or `servers` and options";

    fn short(text: &str) -> Result<Origin, String> {
        Ok(Origin { servers: vec![Server::from_url(text)?], ..Origin::default() })
    }
    fn schema() -> Json {
        let mut url = <Server as Scalar>::schema();
        url["examples"] = json!(["http://127.0.0.1:3000"]);
        url
    }
}

/// The origins by their names, in the order of the file.
pub(super) struct Origins;

impl Written for Origins {
    type Value = Vec<Origin>;

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Origin>, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Vec<Origin>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("origins by name, such as `web: http://127.0.0.1:3000`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Origin>, A::Error> {
                let mut origins = Vec::new();
                while let Some((name, origin)) = map.next_entry::<_, As<Short<Origin>>>()? {
                    origins.push(Origin { name, ..origin.into_inner() });
                }
                Ok(origins)
            }
        }
        from.deserialize_any(Named)
    }
    fn show(_: &Vec<Origin>) -> Json {
        Json::Null
    }
    fn schema(generator: &mut SchemaGenerator) -> Json {
        json!({
            "type": "object",
            "additionalProperties": Short::<Origin>::schema(generator),
            "propertyNames": { "pattern": "^[A-Za-z0-9._-]{1,64}$", "examples": ["web", "api"] },
            "minProperties": 1
        })
    }
}

/// Active health checks of the servers: GET `path`; any status below 400 is healthy.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`path` and options of health checks")]
#[schemars(inline)]
pub struct Health {
    /// The path that is asked for with GET. A status below 400 is healthy.
    #[default("/".to_owned())]
    #[schemars(example = &"/healthz")]
    pub path: String,
    /// Time between two checks of a server.
    #[default(Duration::from_secs(5))]
    #[serde(with = "As::<Time>")]
    pub interval: Duration,
    /// How long a check may take.
    #[default(Duration::from_secs(2))]
    #[serde(with = "As::<Time>")]
    pub timeout: Duration,
}

/// How renders are coded on their way from the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Encoding {
    /// not at all
    #[default]
    Identity,
    /// the origin may send gzip
    Gzip,
}

/// Which `Host` an origin is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostField {
    /// The client's.
    #[default]
    Preserve,
    /// This one.
    Name(String),
}

impl Scalar for HostField {
    type Value = HostField;
    const EXPECTED: &'static str = "`preserve`, or a host name";

    fn text(v: &str) -> Result<HostField, String> {
        let is_name = |a: http::uri::Authority| !a.host().is_empty();
        match v {
            "preserve" => Ok(HostField::Preserve),
            _ if v.parse().is_ok_and(is_name) && !v.contains('@') => {
                Ok(HostField::Name(v.to_ascii_lowercase()))
            }
            _ => Err(format!("expected {} to send, found {v:?}", Self::EXPECTED)),
        }
    }
    fn show(value: &HostField) -> Json {
        match value {
            HostField::Preserve => "preserve".into(),
            HostField::Name(name) => name.as_str().into(),
        }
    }
    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// One origin server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// `https`.
    pub tls: bool,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The URL of a server.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

impl Server {
    pub(super) fn from_url(v: &str) -> Result<Server, String> {
        const EXPECTED: &str = "expected a URL such as http://127.0.0.1:3000";
        let (scheme, rest) = match v.split_once("://") {
            Some(parts) => parts,
            None if v.contains('@') => return Err(EXPECTED.to_owned()),
            None => return Err(format!("{EXPECTED}, found {v:?}; did you mean \"http://{v}\"?")),
        };
        // Said first: what stands there may be a password, and is not repeated.
        if rest.contains('@') {
            return Err(format!("{EXPECTED}; a user and a password cannot be part of it"));
        }
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => {
                return Err(format!(
                    "{EXPECTED}, found the scheme {scheme:?}: http and https it can be"
                ));
            }
        };
        let uri: http::Uri = v.parse().map_err(|why| format!("{EXPECTED}, found {v:?}: {why}"))?;
        if uri.path_and_query().is_some_and(|p| p.as_str() != "/") || rest.contains('#') {
            return Err(format!(
                "an origin is a scheme, a host and a port: \
                 the path and query of {v:?} cannot be part of it"
            ));
        }
        let host = uri.host().unwrap_or_default();
        let written_port = uri.authority().map_or("", |a| &a.as_str()[host.len()..]);
        let port = match written_port.strip_prefix(':') {
            None if tls => 443,
            None => 80,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => {
                    return Err(format!(
                        "{EXPECTED}, found {v:?}: its port is not from 1 to 65535"
                    ));
                }
            },
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(format!("{EXPECTED}, found {v:?}"));
        }
        Ok(Server { tls, host: host.to_ascii_lowercase(), port })
    }
}

impl Scalar for Server {
    type Value = Server;
    const EXPECTED: &'static str = "a URL such as http://127.0.0.1:3000";

    fn text(v: &str) -> Result<Server, String> {
        Server::from_url(v)
    }
    fn show(value: &Server) -> Json {
        value.to_string().into()
    }
    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^[hH][tT][tT][pP][sS]?://[^/@]+/?$|\$\{" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, want) in [
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("HTTPS://Example.com/", "https://example.com:443"),
            ("http://web", "http://web:80"),
            ("http://my_app:80", "http://my_app:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            let shown = Server::from_url(text).map(|server| server.to_string());
            assert_eq!(shown.as_deref(), Ok(want), "{text}");
        }
        for (text, want) in [
            ("127.0.0.1:3000", "did you mean \"http://127.0.0.1:3000\"?"),
            ("http://a/b", "path and query"),
            ("http://a/?b", "path and query"),
            ("http://a#b", "path and query"),
            ("ftp://a", "scheme"),
            ("http://:80", "expected a URL"),
            ("http://", "expected a URL"),
            ("http://a:99999", "expected a URL"),
            ("http://a:0", "its port"),
            ("http://a:", "its port"),
            ("http://user:hush@a", "a user and a password"),
            ("", "expected a URL"),
        ] {
            let error = Server::from_url(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains("hush"));
        }
    }
}
