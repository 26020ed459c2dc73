//! `origins`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::secs;
use crate::config::resolved::HostField;
use crate::config::values::{Count, HostRule, OneOrMany, ServerUrl, Span};

/// The origins, in the order of the file.
#[derive(Debug, PartialEq)]
pub(in crate::config) struct Origins(pub(in crate::config) Vec<(String, Origin)>);

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Origins, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Origins;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("origins by name, such as `web: http://127.0.0.1:3000`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Origins, A::Error> {
                let mut origins = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    origins.push(entry);
                }
                Ok(Origins(origins))
            }
        }
        deserializer.deserialize_any(Named)
    }
}

impl Serialize for Origins {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, origin) in &self.0 {
            map.serialize_entry(name, origin)?;
        }
        map.end()
    }
}

impl JsonSchema for Origins {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Origins".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<Origin>(),
            "propertyNames": { "pattern": "^[A-Za-z0-9._-]{1,64}$", "examples": ["web", "api"] },
            "minProperties": 1
        })
    }
}

/// An origin: a URL, or servers and options.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::config) struct Origin(pub(in crate::config) OriginOptions);

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Origin, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Origin;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL such as http://127.0.0.1:3000, or `servers` and options")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Origin, E> {
                let server = ServerUrl::deserialize(de::value::StrDeserializer::new(v))?;
                Ok(Origin::of(server))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Origin, A::Error> {
                OriginOptions::deserialize(MapAccessDeserializer::new(map)).map(Origin)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Origin {
    /// One server, everything else by default.
    pub(in crate::config) fn of(server: ServerUrl) -> Origin {
        Origin(OriginOptions { servers: OneOrMany::One(server), ..OriginOptions::default() })
    }
}

impl JsonSchema for Origin {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Origin".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut url = ServerUrl::json_schema(generator);
        url.insert("examples".to_owned(), serde_json::json!(["http://127.0.0.1:3000"]));
        json_schema!({ "anyOf": [url, generator.subschema_for::<OriginOptions>()] })
    }
}

/// An origin with options.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`servers` and options of an origin")]
#[schemars(inline, extend("required" = ["servers"]))]
pub(in crate::config) struct OriginOptions {
    /// The servers, `http://` or `https://` with host and port, one or a list.
    /// They are asked in turn. A name that resolves to several addresses is as
    /// many servers.
    #[schemars(example = ["http://10.0.0.5:4000", "http://10.0.0.6:4000"])]
    pub(in crate::config) servers: OneOrMany<ServerUrl>,
    /// Active health checks of the servers. Default: none; a server counts as
    /// healthy until connecting to it fails.
    pub(in crate::config) health: Option<Health>,
    /// How long connecting may take, TLS included.
    pub(in crate::config) connect_timeout: Span,
    /// How long the whole render of a page may take, from connecting to its last
    /// byte.
    pub(in crate::config) fill_timeout: Span,
    /// How long a response that is not stored (an event stream, a download) may
    /// stay silent.
    pub(in crate::config) idle_timeout: Span,
    /// How many renders for the cache may run at once.
    pub(in crate::config) max_concurrent_fills: Count,
    /// How many more may wait for one of those places; what comes on top is
    /// answered 503, or from a stored page. 0: none waits.
    pub(in crate::config) max_waiting_fills: Count,
    /// How many requests that are passed through may wait for the origin's answer
    /// at once. Once it has begun to answer (a download, an event stream), a
    /// request takes no place any more.
    pub(in crate::config) max_concurrent_passes: Count,
    /// How many more may wait, for ten seconds at most, for one of those places;
    /// what comes on top is answered 503. 0: none waits.
    pub(in crate::config) max_waiting_passes: Count,
    /// How many WebSockets may be open at once; what comes on top is answered 503.
    pub(in crate::config) max_websockets: Count,
    /// The `Host` that is sent: `preserve` for the visitor's, or a name.
    #[schemars(example = &"preserve")]
    pub(in crate::config) host: HostRule,
    /// How renders for the cache are coded on their way here: `gzip` where the
    /// network between is worth it. Visitors get them in a coding of their own
    /// choice either way.
    pub(in crate::config) encoding: Encoding,
    /// How long an idle connection is kept for the next request; less where the
    /// origin says that it closes it earlier (`Keep-Alive: timeout=5`), and a second
    /// for what must not be repeated (POST). Less than the origin keeps it where it
    /// does not say so, or requests meet a connection that is being closed.
    pub(in crate::config) keepalive: Span,
    /// How often the servers' names are resolved again.
    pub(in crate::config) resolve_interval: Span,
}

impl Default for OriginOptions {
    fn default() -> OriginOptions {
        OriginOptions {
            servers: OneOrMany::Many(Vec::new()),
            health: None,
            connect_timeout: secs(2),
            fill_timeout: secs(30),
            idle_timeout: secs(300),
            max_concurrent_fills: Count(64),
            max_waiting_fills: Count(1024),
            max_concurrent_passes: Count(1024),
            max_waiting_passes: Count(1024),
            max_websockets: Count(1024),
            host: HostRule(HostField::Preserve),
            encoding: Encoding::Identity,
            keepalive: secs(60),
            resolve_interval: secs(10),
        }
    }
}

/// How renders are coded on their way from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::config) enum Encoding {
    /// not at all
    Identity,
    /// the origin may send gzip
    Gzip,
}

/// Active health checks of the servers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "`path` and options of health checks")]
#[schemars(inline)]
pub(in crate::config) struct Health {
    /// The path that is asked for with GET. A status below 400 is healthy.
    #[schemars(example = &"/healthz")]
    pub(in crate::config) path: String,
    /// Time between two checks of a server.
    pub(in crate::config) interval: Span,
    /// How long a check may take.
    pub(in crate::config) timeout: Span,
}

impl Default for Health {
    fn default() -> Health {
        Health { path: "/".to_owned(), interval: secs(5), timeout: secs(2) }
    }
}
