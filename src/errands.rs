//! What an edge does unasked: it fetches the assets that stored pages name, and
//! looks whether the renderer has a new build.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use http::HeaderMap;
use pingora::http::RequestHeader;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::assets::{Choice, Named, Search};
use crate::engine::Engine;
use crate::live::Live;
use crate::page::{Form, KeyBuf};
use crate::plan::{Plan, ask, plan};
use crate::request::{Facts, Request};
use crate::route::Route;

/// Assets that are fetched at once.
const AT_ONCE: usize = 4;
/// Assets that wait to be fetched; what comes on top is named again by the next
/// render.
const WANTED: usize = 1024;
/// The most of a page that is read to tell its build, in bytes.
const MAX_PROBE: usize = 4 << 20;
/// How often it is looked whether looking is configured meanwhile.
const IDLE: Duration = Duration::from_secs(10);

/// Searches what is stored for the names of assets, and fetches those, until
/// nothing can be stored any more.
pub(crate) async fn fetch_assets(engine: Weak<Engine>, mut searches: mpsc::Receiver<Search>) {
    let (wanted, named) = mpsc::channel(WANTED);
    let search = async {
        let mut choice = Choice::default();
        while let Some(search) = searches.recv().await {
            let Some(live) = engine.upgrade().map(|engine| engine.live()) else { return };
            let most = live.config.deployment.assets_per_minute;
            drop(live);
            let Ok(names) = tokio::task::spawn_blocking(|| search.names()).await else { continue };
            for asset in names {
                // Does not wait for the fetches, or what is stored meanwhile, their own
                // assets first, would take all places in the queue.
                let Ok(place) = wanted.try_reserve() else { break };
                if choice.takes(&asset, most, Instant::now()) {
                    place.send(asset);
                }
            }
        }
    };
    let named = futures::stream::unfold(named, |mut named| async move {
        let next = named.recv().await?;
        Some((next, named))
    });
    let fetch = named.for_each_concurrent(AT_ONCE, |asset| {
        let running = engine.upgrade().and_then(|engine| fetch_asset(&engine, &asset));
        async move {
            if let Some(running) = running {
                // How it ended is for the metrics of fills.
                let _ = running.await;
            }
        }
    });
    // The search never ends as long as there is an edge; with it ends the rest.
    tokio::pin!(search, fetch);
    futures::future::select(search, fetch).await;
}

fn fetch_asset(engine: &Engine, asset: &Named) -> Option<tokio::task::JoinHandle<()>> {
    let live = engine.live();
    let request = Request {
        method: "GET",
        target: &asset.path,
        host: &asset.host,
        scheme: asset.scheme,
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
    engine.fills.bring(ask(&live, &request, &facts, &key, &wanted))
}

/// Looks for a new build at the renderer, again and again: what is fresh for a
/// year would never tell.
pub(crate) async fn look_for_builds(engine: Arc<Engine>) {
    let mut draining = engine.draining.subscribe();
    loop {
        let live = engine.live();
        let every = live.config.deployment.probe.filter(|_| !live.config.dev);
        let wait = every.unwrap_or(IDLE).mul_f64(0.9 + 0.2 * fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // Told to stop, or dropped.
            _ = draining.wait_for(|draining| *draining) => return,
        }
        if every.is_some()
            && let Some((route, headers, build)) = look(&live).await
        {
            let deployments = live.deployments(&route);
            if let Some(deployment) = deployments.of(&headers, build.as_deref()) {
                deployments.seen(&deployment);
            }
        }
    }
}

/// What the renderer answers now; none if it does not.
async fn look(live: &Live) -> Option<(Arc<Route>, HeaderMap, Option<Box<str>>)> {
    let path = live.preset.probe()?;
    let route = live.routes.find("", &path);
    let origin = live.origin(route);
    let server = origin.config().servers.first()?;
    let mut head = RequestHeader::build("GET", path.as_bytes(), Some(4)).ok()?;
    let host = format!("{}:{}", server.host, server.port);
    head.insert_header("Host", origin.host_field(&host)).ok()?;
    head.insert_header("User-Agent", live.preset.agent()).ok()?;
    head.insert_header("Accept", live.preset.accept(Form::Document)).ok()?;
    head.insert_header("Via", live.via.member()).ok()?;
    let deadline = Instant::now() + origin.config().fill_timeout;
    let mut exchange = origin.fetch_with(Box::new(head), deadline, &mut |_| {}).await.ok()?;
    let headers = exchange.head.headers.clone();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = exchange.chunk().await {
        if body.len() + chunk.len() > MAX_PROBE {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    exchange.finish().await;
    Some((Arc::clone(route), headers, live.preset.probed(&body)))
}
