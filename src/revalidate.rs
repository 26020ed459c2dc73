//! `/__revalidate`: authenticate, parse, apply, reply (semantics §5).
//!
//! Whatever is answered with success is recorded in the invalidation sequence
//! first. What is said here beside that, which pages matched and how their
//! renders went, is for people.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::HeaderValue;
use moka::sync::Cache;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::answer::cache_fields;
use crate::config::{Mode, Revalidate};
use crate::engine::Engine;
use crate::fill::Renewed;
use crate::host;
use crate::live::Live;
use crate::metrics::Invalidation;
use crate::page::{Form, KeyBuf, PageKey, canonical_path};
use crate::plan::ask_for_page;
use crate::proxy::left;
use crate::request::Request;
use crate::rules::{Lines, Outcome};
use crate::store::{Hardness, Name};

/// Renders of one call that run at once; the origin's own limit comes on top.
const AT_ONCE: usize = 8;
/// Targets that one call may name.
const MAX_TARGETS: usize = 10_000;
/// Pages of one name that are rendered or removed at once; what is beyond is
/// invalidated like the rest, and renewed when it is asked for.
const MAX_MATCHED: usize = 100_000;
/// The longest delay of an answer to a bad secret.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Addresses that sent bad secrets, and how many in the last minutes.
#[derive(Debug)]
pub struct Strangers(Cache<IpAddr, u32>);

impl Default for Strangers {
    fn default() -> Strangers {
        let minutes = Duration::from_secs(600);
        Strangers(Cache::builder().max_capacity(10_000).time_to_live(minutes).build())
    }
}

impl Strangers {
    /// Counts a bad secret, and says how long its answer waits.
    fn bad(&self, peer: IpAddr) -> Duration {
        let count = self.0.get(&peer).unwrap_or(0).saturating_add(1);
        self.0.insert(peer, count);
        // The first two are free: people mistype.
        let doublings = count.saturating_sub(3).min(10);
        if count < 3 {
            Duration::ZERO
        } else {
            Duration::from_millis(50 << doublings).min(MAX_DELAY)
        }
    }
}

/// What is done to what is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Regenerate,
    Stale,
    Expire,
    Delete,
}

impl Action {
    fn parse(text: &str) -> Option<Action> {
        Some(match text {
            "regenerate" => Action::Regenerate,
            "stale" => Action::Stale,
            "expire" => Action::Expire,
            "delete" => Action::Delete,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Action::Regenerate => "regenerate",
            Action::Stale => "stale",
            Action::Expire => "expire",
            Action::Delete => "delete",
        }
    }

    fn hardness(self) -> Hardness {
        match self {
            Action::Regenerate | Action::Stale => Hardness::Soft,
            Action::Expire | Action::Delete => Hardness::Hard,
        }
    }
}

/// The arguments of a call.
#[derive(Debug, Default, PartialEq, Eq)]
struct Args {
    secret: Option<String>,
    paths: Vec<String>,
    prefixes: Vec<String>,
    tags: Vec<String>,
    host: Option<String>,
    all: bool,
    mode: Option<String>,
    if_cached: bool,
    deployment: Option<String>,
}

/// What is wrong with the arguments.
#[derive(Debug, PartialEq, Eq)]
struct BadArgument {
    name: String,
    why: String,
}

fn bad(name: &str, why: impl Into<String>) -> BadArgument {
    BadArgument { name: name.to_owned(), why: why.into() }
}

impl Args {
    /// The arguments, and the first that is bad: the secret counts all the same,
    /// so that who has it learns what is wrong.
    fn parse(query: &str, body: &[u8]) -> (Args, Option<BadArgument>) {
        let mut args = Args::default();
        let mut first = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let set = args.set(&name, &value);
            first = first.or(set.err());
        }
        let read = args.read(body);
        (args, first.or(read.err()))
    }

    fn read(&mut self, body: &[u8]) -> Result<(), BadArgument> {
        if body.trim_ascii().is_empty() {
            return Ok(());
        }
        let body: Value = serde_json::from_slice(body)
            .map_err(|e| bad("body", format!("is not the JSON object that is expected: {e}")))?;
        let Value::Object(mut members) = body else {
            return Err(bad("body", "is not a JSON object"));
        };
        if let Some(secret) = members.remove("secret") {
            self.set("secret", &scalar("secret", &secret)?)?;
        }
        for (name, value) in members {
            match value {
                Value::Array(values) => {
                    for value in &values {
                        self.set(&name, &scalar(&name, value)?)?;
                    }
                }
                value => self.set(&name, &scalar(&name, &value)?)?,
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), BadArgument> {
        let flag = |value: &str| match value {
            "1" | "true" | "" => Ok(true),
            "0" | "false" => Ok(false),
            _ => Err(bad(name, "is 1 or 0")),
        };
        match name {
            "secret" => self.secret = Some(value.to_owned()),
            "path" => self.paths.push(absolute(name, value)?),
            "prefix" => self.prefixes.push(absolute(name, value)?),
            "tag" if value.is_empty() || value.chars().count() > 256 => {
                return Err(bad(name, "is empty or longer than 256 characters"));
            }
            "tag" => self.tags.push(value.to_owned()),
            "host" if !host::is_valid(value) => {
                return Err(bad(name, "is a host name or address, perhaps with a port"));
            }
            "host" => self.host = Some(host::named(value).into_owned()),
            "all" => self.all = flag(value)?,
            "if_cached" => self.if_cached = flag(value)?,
            "mode" if Action::parse(value).is_none() => {
                return Err(bad(name, "is one of regenerate, stale, expire, delete"));
            }
            "mode" => self.mode = Some(value.to_owned()),
            "deployment" if value.is_empty() || value.len() > 128 => {
                return Err(bad(name, "is empty or longer than 128 bytes"));
            }
            "deployment" if value.chars().any(char::is_control) => {
                return Err(bad(name, "has control characters"));
            }
            "deployment" => self.deployment = Some(value.to_owned()),
            _ => {
                return Err(bad(
                    name,
                    "is not an argument; known are secret, path, prefix, tag, all, host, mode, \
                     if_cached, deployment",
                ));
            }
        }
        if self.paths.len() + self.prefixes.len() + self.tags.len() > MAX_TARGETS {
            return Err(bad(name, format!("is named more than {MAX_TARGETS} times")));
        }
        Ok(())
    }

    fn action_for_paths(&self) -> Action {
        self.mode.as_deref().and_then(Action::parse).unwrap_or(Action::Regenerate)
    }

    fn action_for_others(&self) -> Action {
        self.mode.as_deref().and_then(Action::parse).unwrap_or(Action::Stale)
    }
}

fn scalar(name: &str, value: &Value) -> Result<String, BadArgument> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
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
    Ok(canonical_path(path).into_owned())
}

/// Whether the call carries the secret, in one of its three places.
fn authentic(hook: &Revalidate, request: &Request<'_>, args: &Args) -> bool {
    let same = |given: &[u8]| bool::from(given.ct_eq(hook.secret.as_bytes()));
    let bearer = request.lines("authorization").any(|value| {
        value
            .split_at_checked(7)
            .is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case(b"bearer ") && same(token))
    });
    bearer
        || request.lines("x-revalidate-secret").any(same)
        || args.secret.as_deref().is_some_and(|s| same(s.as_bytes()))
}

/// Serves a call.
///
/// # Errors
/// The caller's connection broke.
pub(crate) async fn serve(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    session: &mut Session,
    request: &Request<'_>,
) -> pingora::Result<()> {
    let Some(hook) = &live.config.revalidate else {
        let why = "revalidation is off: set revalidate.secret in the configuration";
        return reply(session, 404, &json!({ "message": why })).await;
    };
    if !matches!(request.method, "GET" | "POST") {
        return reply(session, 405, &json!({ "message": "use GET or POST" })).await;
    }
    let Some(body) = read_body(session, hook.max_body).await? else {
        let why = format!("the body is larger than {} bytes", hook.max_body);
        return reply(session, 413, &json!({ "message": why })).await;
    };
    let (args, wrong) = Args::parse(request.query(), &body);
    if !authentic(hook, request, &args) {
        let delay = engine.strangers.bad(request.peer);
        tracing::warn!(peer = %request.peer, "revalidation refused: invalid token");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            gone = left(session) => return Err(gone),
        }
        return reply(session, 401, &json!({ "message": "Invalid token" })).await;
    }
    if let Some(e) = wrong {
        let message = format!("{} {}", e.name, e.why);
        let body = json!({ "message": message, "argument": e.name });
        return reply(session, 400, &body).await;
    }
    let nothing =
        args.paths.is_empty() && args.prefixes.is_empty() && args.tags.is_empty() && !args.all;
    if nothing && args.deployment.is_none() {
        let why = "name what to revalidate: path, prefix, tag or all=1 (or deployment)";
        return reply(session, 400, &json!({ "message": why, "argument": "path" })).await;
    }
    let (status, body) = apply(engine, live, hook, request, &args).await;
    reply(session, status, &body).await
}

async fn read_body(session: &mut Session, max: usize) -> pingora::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = session.read_request_body().await? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

async fn reply(session: &mut Session, status: u16, body: &Value) -> pingora::Result<()> {
    let text = Bytes::from(format!("{body}\n"));
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header("Content-Type", "application/json")?;
    head.insert_header("Cache-Control", "no-store")?;
    head.insert_header("Content-Length", text.len())?;
    if status == 405 {
        head.insert_header("Allow", "GET, POST")?;
    }
    cache_fields(Outcome::Own, None, &mut |name, value| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            // Names and values of ours are valid.
            let _ = head.append_header(name.to_owned(), value);
        }
    });
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    if bodiless {
        return Ok(());
    }
    session.write_response_body(Some(text), true).await
}

/// Records the invalidations, and then renders what is to be rendered now.
async fn apply(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    hook: &Revalidate,
    request: &Request<'_>,
    args: &Args,
) -> (u16, Value) {
    if let Some(deployment) = &args.deployment {
        // First: what is rendered below is of it.
        live.deployments.iter().for_each(|deployments| deployments.set(deployment));
    }
    let host: Option<Box<str>> = args.host.as_deref().map(Into::into);
    let mut names: Vec<(Name, Action)> = Vec::new();
    for path in &args.paths {
        let name = Name::Path { host: host.clone(), path: path.as_str().into() };
        names.push((name, args.action_for_paths()));
    }
    for prefix in &args.prefixes {
        let name = Name::Prefix { host: host.clone(), path: prefix.as_str().into() };
        names.push((name, args.action_for_others()));
    }
    for tag in &args.tags {
        let name = Name::Tag { host: host.clone(), tag: tag.as_str().into() };
        names.push((name, args.action_for_others()));
    }
    if args.all {
        let name = host.clone().map_or(Name::All, Name::Host);
        names.push((name, args.action_for_others()));
    }
    for hardness in [Hardness::Soft, Hardness::Hard] {
        let of: Vec<Name> = names
            .iter()
            .filter(|(_, action)| action.hardness() == hardness)
            .map(|(name, _)| name.clone())
            .collect();
        if of.is_empty() {
            continue;
        }
        of.iter().for_each(|name| live.metrics.invalidation(kind(name)));
        if let Err(error) = engine.store.invalidate(of, hardness).await {
            tracing::error!(%error, "an invalidation could not be recorded");
            let why = format!("the invalidation could not be recorded: {error}");
            return (500, json!({ "revalidated": false, "message": why }));
        }
    }
    let regenerate: Vec<Name> = names
        .iter()
        .filter(|(_, action)| *action == Action::Regenerate)
        .map(|(name, _)| name.clone())
        .collect();
    let delete: Vec<Name> = names
        .iter()
        .filter(|(_, action)| *action == Action::Delete)
        .map(|(name, _)| name.clone())
        .collect();
    if !delete.is_empty() {
        // It is dead already; this gives its memory back.
        engine.store.free(delete).await;
    }
    let mut body = json!({
        "revalidated": true,
        "now": crate::clock::now().0,
        "path": args.paths,
        "prefix": args.prefixes,
        "tag": args.tags,
        "all": args.all,
        "mode": args.mode.as_deref().unwrap_or_else(|| {
            if args.paths.is_empty() { args.action_for_others() } else { args.action_for_paths() }
                .as_str()
        }),
    });
    if let Some(host) = &args.host {
        body["host"] = json!(host);
    }
    if let Some(deployment) = &args.deployment {
        body["deployment"] = json!(deployment);
    }
    if regenerate.is_empty() {
        return (200, body);
    }
    let keys = to_render(engine, live, request, args, host.as_deref(), regenerate).await;
    let (status, pages) = render(engine, live, hook, keys).await;
    body["pages"] = pages;
    body["revalidated"] = json!(status != 500);
    (status, body)
}

fn kind(name: &Name) -> Invalidation {
    match name {
        Name::All => Invalidation::All,
        Name::Host(_) => Invalidation::Host,
        Name::Path { .. } => Invalidation::Path,
        Name::Prefix { .. } => Invalidation::Prefix,
        Name::Tag { .. } => Invalidation::Tag,
    }
}

/// The pages that are to be rendered now: all that are stored under the names,
/// and of a path that is not stored the page itself.
async fn to_render(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    request: &Request<'_>,
    args: &Args,
    host: Option<&str>,
    names: Vec<Name>,
) -> Vec<PageKey> {
    let mut keys: Vec<PageKey> = Vec::new();
    for name in names {
        let matching = engine.store.matching(vec![name.clone()]).await;
        let matching: Vec<PageKey> = matching.into_iter().map(|found| found.key).collect();
        if let (true, false, Name::Path { path, .. }) = (matching.is_empty(), args.if_cached, &name)
        {
            let asked = host::canonical(request.host, request.scheme);
            let host = host.unwrap_or(&asked);
            let route = live.routes.find(host, path);
            if !matches!(route.mode, Mode::Pass) && route.vary.is_empty() {
                let mut key = KeyBuf::default();
                let deployments = live.deployments(route).load();
                key.begin(deployments.current(), request.scheme, host, path);
                keys.push(key.key());
            }
        }
        for key in matching {
            // What is stored for a deployment before is rendered for the current one.
            let deployments = live.deployments(live.routes.find(key.host(), key.path())).load();
            let before = deployments.is_before(key.deployment());
            let key = if before { key.in_deployment(deployments.current()) } else { key };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

/// Renders pages, and waits for as many and as long as the configuration says;
/// the rest goes on in the background.
async fn render(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    hook: &Revalidate,
    keys: Vec<PageKey>,
) -> (u16, Value) {
    let deadline = Instant::now() + hook.timeout;
    let total = keys.len();
    let (results, mut done) = tokio::sync::mpsc::unbounded_channel();
    let waited = total.min(hook.max_paths);
    let (engine, live) = (Arc::clone(engine), Arc::clone(live));
    // A task of its own: whether the caller waits changes nothing.
    tokio::spawn(async move {
        futures::stream::iter(keys)
            .for_each_concurrent(AT_ONCE, |key| {
                let (engine, live, results) = (&engine, &live, results.clone());
                async move {
                    let page = engine.store.lookup(key.as_str()).await;
                    let ask = ask_for_page(live, &key, Form::Document);
                    let renewed = engine.fills.renew(&ask, page.as_ref()).await;
                    // Nobody may be waiting any more.
                    let _ = results.send((key, renewed));
                }
            })
            .await;
    });
    let mut pages = Vec::new();
    let mut failed = false;
    while pages.len() < waited {
        let Ok(Some((key, renewed))) = tokio::time::timeout_at(deadline, done.recv()).await else {
            break;
        };
        let result = match renewed {
            Renewed::Stored => json!("stored"),
            Renewed::Elsewhere => json!("stored for another deployment"),
            Renewed::Overtaken => json!("stored, and stale again"),
            Renewed::Dropped(reason) | Renewed::NotStored(reason) => {
                json!(format!("not stored: {}", reason.as_str()))
            }
            Renewed::Failed(why) => {
                failed = true;
                json!(format!("failed: {why}"))
            }
        };
        pages.push(json!({ "page": key.to_string(), "result": result }));
    }
    let status = match (failed, pages.len() < total) {
        (true, _) => 500,
        (false, true) => 202,
        (false, false) => 200,
    };
    (status, Value::Array(pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_query_and_body_alike() {
        let from_query = Args::parse(
            "secret=s&path=/a&path=/b%3Fx&tag=t&prefix=/p&host=Shop.Example&mode=expire&if_cached=1",
            b"",
        );
        let from_body = Args::parse(
            "",
            br#"{"secret":"s","path":["/a","/b"],"tag":"t","prefix":"/p","host":"shop.example",
                "mode":"expire","if_cached":true}"#,
        );
        assert_eq!(from_query, from_body);
        let (from_query, None) = from_query else { panic!("{from_query:?}") };
        assert_eq!(from_query.paths, ["/a", "/b"]);
        assert_eq!(from_query.action_for_paths(), Action::Expire);
        let defaults = Args::parse("path=/a", b"").0;
        assert_eq!(defaults.action_for_paths(), Action::Regenerate);
        assert_eq!(defaults.action_for_others(), Action::Stale);
    }

    #[test]
    fn paths_are_normalised_as_a_requests_is() {
        for (given, path) in [
            ("/a/../b", "/b"),
            ("/%7euser", "/~user"),
            ("/a b", "/a%20b"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/x?y=1#z", "/x"),
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
            ("", "[1]", "body"),
            ("", "{\"path\":{}}", "path"),
            ("", "{", "body"),
        ] {
            let e = Args::parse(query, body.as_bytes()).1.expect("it is bad");
            assert_eq!(e.name, argument, "{query} {body}");
        }
    }

    #[test]
    fn bad_secrets_are_slowed_down_by_address() {
        let strangers = Strangers::default();
        let (one, other) = ([1, 1, 1, 1].into(), [2, 2, 2, 2].into());
        let delays: Vec<_> = (0..14).map(|_| strangers.bad(one)).collect();
        assert_eq!(delays[..2], [Duration::ZERO; 2]);
        assert!(delays.is_sorted() && delays[2] > Duration::ZERO && delays[13] == MAX_DELAY);
        assert_eq!(strangers.bad(other), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn never_panics(query in ".{0,200}", body in ".{0,200}") {
            let _ = Args::parse(&query, body.as_bytes());
        }
    }
}
