//! What an edge does unasked: it fetches the assets that stored pages name, looks whether
//! the renderer has a new build, and asks which framework it is.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::assets::{Choice, MAX_MISSES, Named, Search, Taken};
use crate::config::Framework;
use crate::engine::Engine;
use crate::fill::Ask;
use crate::framework::{Found, recognise};
use crate::host;
use crate::live::Live;
use crate::origin::Origin;
use crate::page::{Form, KeyBuf, PageKey};
use crate::plan::{Plan, ask, plan};
use crate::request::{Facts, Request};
use crate::route::Route;
use crate::store::{Hardness, Name};

/// Pages whose assets are fetched at once, one asset of each.
const AT_ONCE: usize = 4;
/// Pages whose assets wait to be fetched; those of what comes on top are named again by
/// the next render.
const WANTED: usize = 64;
/// The most of a page that is read to tell its build, in bytes.
const MAX_PROBE: usize = 4 << 20;
/// How long it takes until an origin that did not answer is asked again: the first time, and,
/// doubling, at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether looking is configured meanwhile.
const IDLE: Duration = Duration::from_secs(10);

/// Searches what is stored for the names of assets, and fetches those, until
/// nothing can be stored any more.
pub(crate) async fn fetch_assets(engine: Weak<Engine>, mut searches: mpsc::Receiver<Search>) {
    let (wanted, named) = mpsc::channel(WANTED);
    let choice = Mutex::new(Choice::default());
    let search = async {
        while let Some(search) = searches.recv().await {
            let Some(live) = engine.upgrade().map(|engine| engine.live()) else { return };
            let most = live.config.deployment.assets_per_minute;
            drop(live);
            let names = tokio::task::spawn_blocking(|| search.names()).await;
            let Ok(mut names) = names else { continue };
            choice.lock().drop_seen(&mut names);
            if !names.paths.is_empty() {
                // Does not wait for the fetches, or what is stored meanwhile, their own
                // assets first, would take all places in the queue.
                let _ = wanted.try_send((names, most));
            }
        }
    };
    let named = futures::stream::unfold(named, |mut named| async move {
        let next = named.recv().await?;
        Some((next, named))
    });
    let fetch = named.for_each_concurrent(AT_ONCE, |(names, most)| {
        let (engine, choice) = (&engine, &choice);
        async move { fetch_named(engine, choice, &names, most).await }
    });
    // The search never ends as long as there is an edge; with it ends the rest.
    tokio::pin!(search, fetch);
    futures::future::select(search, fetch).await;
}

/// Fetches what a page names, in order, until too much of it is not there. At most `most`
/// in a minute, whichever pages name them.
async fn fetch_named(engine: &Weak<Engine>, choice: &Mutex<Choice>, named: &Named, most: usize) {
    let mut misses = 0;
    for path in &named.paths {
        let fetching = {
            let Some(engine) = engine.upgrade() else { return };
            let Some(ask) = ask_for_asset(&engine, named, path) else { continue };
            match choice.lock().takes(named, path, most, Instant::now()) {
                Taken::Fetch => {}
                Taken::Seen => continue,
                Taken::TooMany => return,
            }
            let key = ask.key.clone();
            engine.fills.bring(ask).map(|running| (running, key))
        };
        // None: a visitor has just asked for it.
        let Some((running, key)) = fetching else { continue };
        // How it ended is for the metrics of fills.
        let _ = running.await;
        let Some(engine) = engine.upgrade() else { return };
        if !is_there(&engine, &key) {
            misses += 1;
            if misses == MAX_MISSES {
                return;
            }
        }
    }
}

/// The request for an asset; none where nothing is to be asked: it is stored, say.
fn ask_for_asset(engine: &Engine, named: &Named, path: &str) -> Option<Ask> {
    let live = engine.live();
    let request = Request {
        method: "GET",
        target: path,
        host: &named.host,
        scheme: named.scheme,
        fields: &[],
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let facts = Facts::default();
    let mut key = KeyBuf::default();
    let notes = engine.fills.notes();
    let Plan::Page(wanted) = plan(&live, notes, &request, &facts, &mut key) else { return None };
    if !wanted.page || engine.store.get(key.as_str()).is_some() {
        return None;
    }
    Some(ask(&live, &request, &facts, &key, &wanted))
}

/// Whether an asset is stored.
fn is_there(engine: &Engine, key: &PageKey) -> bool {
    let page = engine.store.get(key.as_str());
    page.is_some_and(|page| page.members.iter().any(|member| member.status.is_success()))
}

/// Looks for a new build at the renderer, again and again: what is fresh for a
/// year would never tell.
pub(crate) async fn look_for_builds(engine: Arc<Engine>) {
    let mut draining = engine.draining.subscribe();
    let mut warned = None;
    let mut retry = FIRST_WAIT;
    loop {
        let live = engine.live();
        let every = live.config.deployment.probe.filter(|_| !live.config.dev);
        let look = async {
            // At once: what is stored before the build is known is of no deployment.
            let noticed = every.is_none() || notice(&live, &mut warned).await;
            let wait = every.unwrap_or(IDLE);
            let wait = if noticed { wait } else { wait.min(retry) };
            tokio::time::sleep(wait.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        };
        tokio::select! {
            () = look => {}
            // Told to stop, or dropped.
            _ = draining.wait_for(|draining| *draining) => return,
        }
        retry = (retry * 2).min(LAST_WAIT);
    }
}

/// Looks which deployment the renderer is of, and answers whether it answered. `warned`:
/// the build that was warned of.
async fn notice(live: &Live, warned: &mut Option<Box<str>>) -> bool {
    if live.preset.probe().is_none() {
        return true;
    }
    let Some((route, headers, build)) = look(live).await else { return false };
    if let Some(told) = other_build(live, build.as_deref())
        && warned.as_deref() != Some(told)
    {
        tracing::warn!(
            build = told,
            "the renderer runs another build than the one whose files were read: what \
             they say of pages and middleware may be wrong until the next reload"
        );
        *warned = Some(told.into());
    }
    let deployments = live.deployments(&route);
    if let Some(deployment) = deployments.learn_from(&headers, build.as_deref()) {
        deployments.seen(&deployment);
    }
    true
}

/// The build that the renderer tells, where it is not the one that was read.
fn other_build<'a>(live: &Live, told: Option<&'a str>) -> Option<&'a str> {
    let read = live.preset.build()?;
    told.filter(|told| *told != read)
}

/// The deployment that the renderer tells now: its route, and what it says. None if it
/// does not answer.
async fn look(live: &Live) -> Option<(Arc<Route>, HeaderMap, Option<Box<str>>)> {
    let path = live.preset.probe()?;
    let route = live.routes.find("", &path);
    let answer = fetch(live, live.origin(route), &path).await?;
    Some((Arc::clone(route), answer.headers, live.preset.probed(&answer.body)))
}

/// What an origin answered.
struct Answer {
    host: String,
    status: StatusCode,
    headers: HeaderMap,
    /// The beginning of it, at least.
    body: Vec<u8>,
}

/// Asks an origin for a document as nobody; none if no head arrives.
async fn fetch(live: &Live, origin: &Origin, path: &str) -> Option<Answer> {
    let server = origin.config().servers.first()?;
    let mut head = RequestHeader::build("GET", path.as_bytes(), Some(4)).ok()?;
    let host = format!("{}:{}", server.host, server.port);
    let host = origin.host_field(&host).to_owned();
    head.insert_header("Host", &host).ok()?;
    head.insert_header("User-Agent", live.preset.agent()).ok()?;
    head.insert_header("Accept", live.preset.accept(Form::Document)).ok()?;
    head.insert_header("Via", live.via.member()).ok()?;
    let deadline = Instant::now() + origin.config().fill_timeout;
    let mut exchange = origin.fetch_with(Box::new(head), deadline, &mut |_| {}).await.ok()?;
    let (status, headers) = (exchange.head.status, exchange.head.headers.clone());
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = exchange.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_PROBE {
            return Some(Answer { host, status, headers, body });
        }
    }
    exchange.finish().await;
    Some(Answer { host, status, headers, body })
}

/// Asks the first origin for its home page until it answers, and goes by the framework
/// that made it. What clients ask for has no part in it.
pub(crate) async fn find_framework(engine: Arc<Engine>) {
    let mut draining = engine.draining.subscribe();
    let mut wait = FIRST_WAIT;
    loop {
        let live = engine.live();
        if !live.config.is_untold() {
            return;
        }
        let found;
        tokio::select! {
            home = home(&live) => found = home,
            () = drained(&mut draining) => return,
        }
        if let Some((path, answer)) = found {
            return tell(&engine, &path, &answer).await;
        }
        tracing::debug!(retry_in = ?wait, "the origin did not tell its framework yet");
        tokio::select! {
            () = tokio::time::sleep(wait.mul_f64(0.9 + 0.2 * fastrand::f64())) => {}
            () = drained(&mut draining) => return,
        }
        wait = (wait * 2).min(LAST_WAIT);
    }
}

/// The edge was told to stop, or dropped.
async fn drained(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|draining| *draining).await;
}

/// The home page of the first origin, and its path: after one redirect at most, on the
/// same host. None if the origin cannot answer now.
async fn home(live: &Live) -> Option<(String, Answer)> {
    let origin = live.origins.get(0)?;
    let mut path = "/".to_owned();
    let mut answer = fetch(live, origin, &path).await?;
    if let Some(location) = answer.headers.get(LOCATION).filter(|_| answer.status.is_redirection())
    {
        let host = host::canonical(&answer.host, "http");
        let to = location.to_str().ok().and_then(|to| host::same_origin("http", &host, &path, to));
        if let Some(to) = to.filter(|to| is_target(to)) {
            answer = fetch(live, origin, &to).await?;
            path = to;
        }
    }
    let later = answer.status.is_server_error()
        || matches!(answer.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    (!later).then_some((path, answer))
}

/// Whether it can stand in a request line.
fn is_target(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic())
}

/// Goes by the framework that made the page at `path`.
async fn tell(engine: &Engine, path: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    let framework = match recognise(path, &answer.headers, &answer.body) {
        Some(Found { framework, because }) => {
            tracing::info!(%framework, because, path, "the origin told its framework");
            framework
        }
        None => {
            tracing::info!(
                path,
                status,
                "no framework is recognised in what the origin answers, and the preset stays \
                 generic: `framework:` in a configuration names another one"
            );
            Framework::Generic
        }
    };
    let all = vec![Name::All];
    if let Err(error) = engine.store.invalidate(all.clone(), Hardness::Hard).await {
        tracing::error!(%error, "what was stored under the generic preset is not dropped");
    }
    engine.store.free(all, Engine::route_tags(&engine.live())).await;
    engine.told_framework(framework);
    let live = engine.live();
    if live.config.deployment.probe.is_some() {
        notice(&live, &mut None).await;
    }
}
