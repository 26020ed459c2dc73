//! The values of the YAML: how each is written, read, and described in the
//! schema. Each takes a string, so that `${VAR}` can stand for any of them.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::resolved::{Cookies, HostField, Query, Server};

/// The longest duration: what is longer is a mistake, and sums of durations
/// must not overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A duration as one writes it, in units of fixed length: `90s` is `1m 30s`.
/// (humantime's own form has years of 365.25 days: 365 days would be
/// `11months 30days 3h …`.)
pub(super) fn human_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut parts = Vec::new();
    for (unit, nanos) in [
        ("d", 86_400_000_000_000_u128),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if rest >= nanos {
            parts.push(format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A size in the largest unit that divides it: `512MiB`.
pub(super) fn human_size(bytes: u64) -> String {
    for (unit, size) in [
        ("TiB", bytesize::TIB),
        ("GiB", bytesize::GIB),
        ("MiB", bytesize::MIB),
        ("KiB", bytesize::KIB),
    ] {
        if bytes > 0 && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    if bytes == 0 { "0".to_owned() } else { format!("{bytes}B") }
}

/// Reads a scalar that is written as a string, or as a number.
struct Scalar<T, S, N> {
    expecting: &'static str,
    text: S,
    number: N,
    value: PhantomData<T>,
}

impl<T, S, N> Visitor<'_> for Scalar<T, S, N>
where
    S: FnOnce(&str) -> Result<T, String>,
    N: FnOnce(u64) -> Result<T, String>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<T, E> {
        (self.text)(v).map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<T, E> {
        (self.number)(v).map_err(E::custom)
    }
}

fn scalar<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expecting: &'static str,
    text: impl FnOnce(&str) -> Result<T, String>,
    number: impl FnOnce(u64) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Scalar { expecting, text, number, value: PhantomData })
}

/// `deserialize` by [`scalar`], and a schema in line.
macro_rules! value {
    ($name:ident, $expecting:literal, $text:expr, $number:expr, $schema:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                scalar(deserializer, $expecting, $text, $number)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

fn not_a_number<T>(expecting: &str) -> impl FnOnce(u64) -> Result<T, String> {
    move |v| Err(format!("expected {expecting}, found the number {v}"))
}

/// A duration: `10s`, `5m`, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

value!(
    Span,
    "a duration such as 10s, 5m or 30d",
    |v| match humantime::parse_duration(v) {
        Ok(d) if d > MAX_DURATION => Err(format!("{v:?} is too long: at most 100 years")),
        Ok(d) => Ok(Span(d)),
        Err(_) if v.bytes().all(|b| b.is_ascii_digit()) && !v.is_empty() =>
            Err(format!("the duration {v:?} lacks its unit: did you mean {v}s?")),
        Err(why) => Err(format!("{v:?} is not a duration such as 10s, 5m or 30d: {why}")),
    },
    |v| match v {
        0 => Ok(Span(Duration::ZERO)),
        _ => Err(format!("the duration {v} lacks its unit: did you mean {v}s?")),
    },
    {
        "type": ["string", "integer"],
        "pattern": r"^0$|^([0-9]+(\.[0-9]+)?\s*[a-zA-Zµ]+\s*)+$|\$\{",
        "maximum": 0
    }
);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&human_duration(self.0))
    }
}

/// A size: `512MiB`, or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

value!(
    Size,
    "a size such as 32MiB, or a number of bytes",
    |v| match v.trim().parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(Size(size.as_u64())),
        Err(_) => Err(format!(
            "{v:?} is not a size such as 16KiB, 32MiB or 1GiB, or a number of bytes"
        )),
    },
    |v| Ok(Size(v)),
    {
        "type": ["string", "integer"],
        "pattern": r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpP]?i?[bB]?)$|\$\{",
        "minimum": 0
    }
);

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 {
            serializer.serialize_u64(0)
        } else {
            serializer.serialize_str(&human_size(self.0))
        }
    }
}

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Count(pub(super) u64);

value!(
    Count,
    "a whole number",
    |v| v.trim().parse().map(Count).map_err(|_| format!("expected a whole number, found {v:?}")),
    |v| Ok(Count(v)),
    { "type": ["integer", "string"], "minimum": 0, "pattern": r"^[0-9]+$|\$\{" }
);

/// Yes or no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Flag, D::Error> {
        struct YesNo;
        impl Visitor<'_> for YesNo {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true` or `false`")
            }
            fn visit_bool<E>(self, v: bool) -> Result<Flag, E> {
                Ok(Flag(v))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Flag, E> {
                v.parse().map(Flag).map_err(|_| E::invalid_type(de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_any(YesNo)
    }
}

impl JsonSchema for Flag {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string"], "pattern": r"^(true|false)$|\$\{" })
    }
}

/// What must not be seen: not in `Debug`, not in an error.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

value!(
    Secret,
    "a string",
    |v| Ok(Secret(v.to_owned())),
    |_| Err("expected a string, found a number; put it in quotes".to_owned()),
    { "type": "string" }
);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

fn address(v: &str) -> Result<SocketAddr, String> {
    v.parse().map_err(|_| {
        let cure = match v.strip_prefix(':').unwrap_or(v).parse::<u16>() {
            Ok(port) => format!("; did you mean 0.0.0.0:{port}?"),
            Err(_) if v.starts_with("localhost:") => {
                format!("; did you mean {}?", v.replace("localhost", "127.0.0.1"))
            }
            Err(_) => String::new(),
        };
        format!(
            "expected an address and a port such as 0.0.0.0:8080 or [::]:8080, found {v:?}{cure}"
        )
    })
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Address(pub(super) SocketAddr);

value!(
    Address,
    "an address and a port such as 0.0.0.0:8080",
    |v| address(v).map(Address),
    |v| address(&v.to_string()).map(Address),
    { "type": "string", "pattern": r"^.+:[0-9]{1,5}$|\$\{" }
);

/// A network, as an address with a prefix length or an address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Network(pub(super) IpNet);

value!(
    Network,
    "an address such as 10.0.0.7, or a network such as 10.0.0.0/8",
    |v| network(v).map(Network),
    |v| network(&v.to_string()).map(Network),
    { "type": "string", "pattern": r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$|\$\{" }
);

fn network(v: &str) -> Result<IpNet, String> {
    v.parse::<IpNet>().or_else(|_| v.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(|_| {
        format!("expected an address such as 10.0.0.7 or a network such as 10.0.0.0/8, found {v:?}")
    })
}

/// An address to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdminAddress(pub(super) Option<SocketAddr>);

value!(
    AdminAddress,
    "an address and a port such as 127.0.0.1:9900, or `off`",
    |v| match v {
        "off" => Ok(AdminAddress(None)),
        _ => address(v)
            .map(|a| AdminAddress(Some(a)))
            .map_err(|e| e.replace(", found", ", or `off`, found")),
    },
    |v| address(&v.to_string()).map(|a| AdminAddress(Some(a))),
    { "type": "string", "pattern": r"^off$|^.+:[0-9]{1,5}$|\$\{" }
);

impl Serialize for AdminAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(address) => address.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}

/// The URL of an origin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUrl(pub(super) Server);

pub(super) fn server(v: &str) -> Result<Server, String> {
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
            _ => return Err(format!("{EXPECTED}, found {v:?}: its port is not from 1 to 65535")),
        },
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(format!("{EXPECTED}, found {v:?}"));
    }
    Ok(Server { tls, host: host.to_ascii_lowercase(), port })
}

/// The URL of a server.
pub(super) fn server_url(server: &Server) -> String {
    let scheme = if server.tls { "https" } else { "http" };
    if server.host.contains(':') {
        format!("{scheme}://[{}]:{}", server.host, server.port)
    } else {
        format!("{scheme}://{}:{}", server.host, server.port)
    }
}

value!(
    ServerUrl,
    "a URL such as http://127.0.0.1:3000",
    |v| server(v).map(ServerUrl),
    not_a_number("a URL such as http://127.0.0.1:3000"),
    { "type": "string", "pattern": r"^[hH][tT][tT][pP][sS]?://[^/@]+/?$|\$\{" }
);

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&server_url(&self.0))
    }
}

/// `preserve`, or a name to send as `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostRule(pub(super) HostField);

value!(
    HostRule,
    "`preserve`, or a host name",
    |v| match v {
        "preserve" => Ok(HostRule(HostField::Preserve)),
        _ if v.parse::<http::uri::Authority>().is_ok_and(|a| !a.host().is_empty())
            && !v.contains('@') =>
            Ok(HostRule(HostField::Name(v.to_ascii_lowercase()))),
        _ => Err(format!("expected `preserve`, or a host name to send, found {v:?}")),
    },
    not_a_number("`preserve`, or a host name"),
    { "type": "string", "minLength": 1 }
);

impl Serialize for HostRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            HostField::Preserve => serializer.serialize_str("preserve"),
            HostField::Name(name) => serializer.serialize_str(name),
        }
    }
}

/// A freshness lifetime; none is `origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime(pub(super) Option<Duration>);

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lifetime, D::Error> {
        const EXPECTED: &str = "a duration such as 60s, or `origin`";
        let span = |v: Span| Lifetime(Some(v.0));
        let read = |v: &str| -> Result<Lifetime, String> {
            if v == "origin" {
                return Ok(Lifetime(None));
            }
            let text = de::value::StrDeserializer::<de::value::Error>::new(v);
            Span::deserialize(text).map(span).map_err(|e| match e.to_string() {
                said if said.contains("not a duration") => {
                    format!("expected {EXPECTED}, found {v:?}")
                }
                said => said,
            })
        };
        scalar(deserializer, EXPECTED, read, |v| read(&v.to_string()))
    }
}

impl JsonSchema for Lifetime {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Lifetime".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "origin" }, Span::json_schema(generator)] })
    }
}

impl Serialize for Lifetime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(span) => Span(span).serialize(serializer),
            None => serializer.serialize_str("origin"),
        }
    }
}

/// A time between two looks, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe(pub(super) Option<Duration>);

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Probe, D::Error> {
        const EXPECTED: &str = "a duration such as 10s, or `off`";
        let read = |v: &str| -> Result<Probe, String> {
            if v == "off" {
                return Ok(Probe(None));
            }
            let text = de::value::StrDeserializer::<de::value::Error>::new(v);
            let span =
                Span::deserialize(text).map_err(|_| format!("expected {EXPECTED}, found {v:?}"))?;
            Ok(Probe(Some(span.0)))
        };
        // `off` without quotes is false to some.
        scalar(deserializer, EXPECTED, read, |v| read(&v.to_string()))
    }
}

impl JsonSchema for Probe {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Probe".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "off" }, Span::json_schema(generator)] })
    }
}

impl Serialize for Probe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(span) => Span(span).serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}

/// `all`, or the names of parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueryRule(pub(super) Query);

impl<'de> Deserialize<'de> for QueryRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<QueryRule, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = QueryRule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, or a list of parameter names")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<QueryRule, E> {
                match v {
                    "all" => Ok(QueryRule(Query::All)),
                    _ => Err(E::custom(format!(
                        "expected `all`, or a list of parameter names, found {v:?}; \
                         did you mean [{v}]?"
                    ))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<QueryRule, A::Error> {
                let names = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(QueryRule(Query::Names(names)))
            }
        }
        deserializer.deserialize_any(Names)
    }
}

impl JsonSchema for QueryRule {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Query".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "const": "all" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

impl Serialize for QueryRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Query::All => serializer.serialize_str("all"),
            Query::Names(names) => names.serialize(serializer),
        }
    }
}

/// `all`, `none`, `shared`, or the names of cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CookieRule(pub(super) Cookies);

impl<'de> Deserialize<'de> for CookieRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CookieRule, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = CookieRule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, `none`, `shared`, or a list of names of cookies")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<CookieRule, E> {
                match v {
                    "all" => Ok(CookieRule(Cookies::All)),
                    "none" => Ok(CookieRule(Cookies::Names(Vec::new()))),
                    "shared" => Ok(CookieRule(Cookies::Shared)),
                    _ => Err(E::custom(format!(
                        "expected `all`, `none`, `shared`, or a list of names of cookies, \
                         found {v:?}; did you mean [{v}]?"
                    ))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<CookieRule, A::Error> {
                let names = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(CookieRule(Cookies::Names(names)))
            }
        }
        deserializer.deserialize_any(Names)
    }
}

impl JsonSchema for CookieRule {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Cookies".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["all", "none", "shared"] },
                { "type": "array", "items": { "type": "string" } }
            ]
        })
    }
}

impl Serialize for CookieRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Cookies::All => serializer.serialize_str("all"),
            Cookies::Names(names) if names.is_empty() => serializer.serialize_str("none"),
            Cookies::Names(names) => names.serialize(serializer),
            Cookies::Shared => serializer.serialize_str("shared"),
        }
    }
}

/// One, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    /// Written without brackets.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value, or a list of them")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(v)).map(OneOrMany::One)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Self::Value, E> {
                T::deserialize(de::value::U64Deserializer::new(v)).map(OneOrMany::One)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::super::de::De;
    use super::super::source::{Node, Value};
    use super::*;
    use proptest::prelude::*;

    fn read<'n, T: Deserialize<'n>>(node: &'n Node) -> Result<T, String> {
        T::deserialize(De(node)).map_err(|fault| fault.to_string())
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for (secs, text) in [(0, "0s"), (60, "1m"), (90, "1m 30s"), (86_400 * 365, "365d")] {
            assert_eq!(human_duration(Duration::from_secs(secs)), text);
        }
        assert_eq!(human_duration(Duration::from_millis(1500)), "1s 500ms");
        for (bytes, text) in
            [(0, "0"), (1, "1B"), (1000, "1000B"), (1024, "1KiB"), (3 << 29, "1536MiB")]
        {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn urls() {
        for (text, want) in [
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("HTTPS://Example.com/", "https://example.com:443"),
            ("http://web", "http://web:80"),
            ("http://my_app:80", "http://my_app:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(server(text).map(|s| server_url(&s)).as_deref(), Ok(want), "{text}");
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
            let error = server(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains("hush"));
        }
    }

    proptest! {
        #[test]
        fn durations_come_back(nanos in 0..MAX_DURATION.as_nanos() as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(humantime::parse_duration(&human_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_come_back(bytes: u64) {
            let node = Node { line: 1, value: Value::Text(human_size(bytes)) };
            prop_assert_eq!(read::<Size>(&node), Ok(Size(bytes)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9.]{1,4}[a-zA-Z]{1,3}|https?://\\PC{0,12}") {
            let node = Node { line: 1, value: Value::Text(text) };
            let _ = (read::<Span>(&node), read::<Size>(&node), read::<Count>(&node));
            let _ = (read::<Flag>(&node), read::<Address>(&node), read::<AdminAddress>(&node));
            let _ = (read::<ServerUrl>(&node), read::<HostRule>(&node), read::<Lifetime>(&node));
            let _ = read::<OneOrMany<Address>>(&node);
        }
    }
}
