//! Active health checks: one task per server address, as long as it is listed.
//!
//! One failed check takes a server out of its turn and one that passes brings
//! it back, as nginx's `fails=1 passes=1`: checks are asked seldom, and where
//! every server fails them they are tried all the same (see `servers`).

use std::sync::Arc;
use std::time::Duration;

use pingora::http::RequestHeader;
use tokio::time::{sleep, timeout};

use super::backend::Backend;
use super::exchange::ask;
use super::pool::Connector;
use super::task::{Task, jittered};
use crate::config;

/// The first check of a server comes within this time.
const FIRST_WITHIN: Duration = Duration::from_millis(500);

/// Starts the checks of `backend`. They end when the task is dropped.
pub(super) fn watch(
    backend: &Arc<Backend>,
    health: config::Health,
    config: &config::Origin,
    connector: &Arc<Connector>,
) -> Task {
    let peer = backend.peer().clone();
    let host = match &config.host {
        config::HostField::Name(name) => name.clone(),
        config::HostField::Preserve => authority(backend, config),
    };
    let connector = connector.clone();
    let backend = Arc::downgrade(backend);
    Task::spawn(async move {
        let first = FIRST_WITHIN.min(health.interval);
        sleep(first.mul_f64(fastrand::f64())).await;
        loop {
            let result = match request(&health.path, &host) {
                Ok(request) => {
                    let asked = ask(&connector, &peer, request);
                    match timeout(health.timeout, asked).await {
                        Ok(Some(Ok(status))) if status < 400 => Some(Ok(())),
                        Ok(Some(Ok(status))) => Some(Err(format!("it answered {status}"))),
                        Ok(Some(Err(error))) => Some(Err(error)),
                        Ok(None) => None,
                        Err(_elapsed) => Some(Err("no answer in time".to_owned())),
                    }
                }
                Err(error) => Some(Err(error.to_string())),
            };
            let Some(backend) = backend.upgrade() else { return };
            match result {
                Some(result) => backend.checked(result),
                None => tracing::warn!(
                    server = %backend.address(), "no means left for a health check: nothing is known"
                ),
            }
            drop(backend);
            sleep(jittered(health.interval)).await;
        }
    })
}

/// What the server is called where `host: preserve` has no client's host to keep.
fn authority(backend: &Backend, config: &config::Origin) -> String {
    let server = &config.servers[backend.index()];
    if server.host.contains(':') {
        format!("[{}]:{}", server.host, server.port)
    } else {
        format!("{}:{}", server.host, server.port)
    }
}

fn request(path: &str, host: &str) -> pingora::Result<Box<RequestHeader>> {
    let mut request = RequestHeader::build("GET", path.as_bytes(), Some(3))?;
    request.insert_header("Host", host)?;
    request.insert_header("User-Agent", "perennial (health check)")?;
    // A check that rode on an old connection would not notice that no new ones are taken.
    request.insert_header("Connection", "close")?;
    Ok(Box::new(request))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::tests::{Server, config, config_of, connector, eventually};
    use super::super::{Origins, servers::Servers};
    use super::*;

    #[tokio::test]
    async fn servers_leave_and_come_back_as_their_checks_say() {
        let healthy = Arc::new(AtomicBool::new(true));
        let says = healthy.clone();
        let sick = Server::answering(move |head| {
            assert!(head.starts_with("GET /healthz HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("Host: app.example\r\n"), "{head}");
            let status = if says.load(Ordering::SeqCst) { "302 Found" } else { "503 Sorry" };
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        })
        .await;
        let well = Server::answering(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await;
        let mut config = config_of(&[&sick, &well]);
        config.host = config::HostField::Name("app.example".to_owned());
        config.health = Some(config::Health {
            path: "/healthz".to_owned(),
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(10),
        });
        let origins = Origins::new(&[config]);
        let origin = origins.get(0).unwrap();
        let are = |expected: [bool; 2]| {
            let origin = origin.clone();
            eventually(move || origin.servers().iter().map(|server| server.healthy).eq(expected))
        };

        healthy.store(false, Ordering::SeqCst);
        are([false, true]).await;
        for _ in 0..4 {
            assert_eq!(origin.pick(&[]).unwrap().address(), well.address);
        }
        healthy.store(true, Ordering::SeqCst);
        are([true, true]).await;
    }

    #[tokio::test]
    async fn a_server_that_takes_no_connections_fails_its_checks() {
        let mut config = config_of(&[&Server::refusing().await]);
        config.health = Some(config::Health {
            path: "/".to_owned(),
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(10),
        });
        let origins = Origins::new(&[config]);
        let origin = origins.get(0).unwrap().clone();
        eventually(move || !origin.servers()[0].healthy).await;
        // It is the only one, so it is tried all the same.
        assert!(origins.get(0).unwrap().pick(&[]).is_ok());
    }

    #[tokio::test]
    async fn checks_end_with_their_server() {
        let mut config = config(&["http://192.0.2.1:80"]);
        config.health = Some(config::Health {
            path: "/".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        });
        let connector = connector();
        let servers = Servers::new(Arc::new(config), connector.clone());
        assert_eq!(Arc::strong_count(&connector), 3, "test, servers and task");
        drop(servers);
        eventually(move || Arc::strong_count(&connector) == 1).await;
    }
}
