//! The front's own way against the way through `HttpProxy`: the same requests,
//! and every answer the same.

mod origin;
mod scripted;
mod stored;

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::support::client::{Connection, Response};
use crate::support::http1::{Broken, Fields};
use crate::support::{Edge, Origin, eventually};

/// An edge that answers in one of the two ways, and an origin of its own.
struct Way {
    edge: Edge,
    origin: Origin,
}

impl Way {
    /// The front's way and that through `HttpProxy`, with the same configuration.
    async fn both(yaml: &str, origin: impl AsyncFn() -> Origin) -> [Self; 2] {
        let way = async |plain| {
            let origin = origin().await;
            let edge = Edge::start(yaml.trim_start(), &origin).await;
            edge.answer_plain(plain);
            Self { edge, origin }
        };
        [way(true).await, way(false).await]
    }

    /// Waits until no render runs and none is about to.
    async fn settle(&self) {
        let gauges = ["fills_running", "regenerations_running", "regenerations_queued"];
        eventually("the renders to end", async || {
            let page = self.edge.admin().get("/metrics").await;
            let none = |gauge| page.text().contains(&format!("\nperennial_{gauge} 0\n"));
            gauges.into_iter().all(none).then_some(())
        })
        .await;
    }

    /// How requests were counted: every line of the metrics that says so.
    async fn counted(&self) -> Vec<String> {
        let page = self.edge.admin().get("/metrics").await;
        let lines = page.text().lines().filter(|line| line.starts_with("perennial_requests_total"));
        lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    }

    /// What the origin was asked for below a path: each different request once.
    fn asked(&self, path: &str) -> Vec<String> {
        let own = self.origin.addr().to_string();
        let requests = self.origin.requests();
        let mut asked: Vec<String> = requests
            .iter()
            .filter(|request| request.path().starts_with(path))
            .map(|request| {
                let mut fields: Vec<String> = request
                    .fields
                    .iter()
                    .filter(|(name, _)| !name.eq_ignore_ascii_case("connection"))
                    .map(|(name, value)| {
                        let value = String::from_utf8_lossy(value).replace(&own, "ORIGIN");
                        // Each edge is one of its own there.
                        let via = name.eq_ignore_ascii_case("via");
                        let value = value.rsplit_once('-').filter(|_| via).map_or(&*value, |v| v.0);
                        format!("{}: {value}", name.to_ascii_lowercase())
                    })
                    .collect();
                fields.sort();
                format!("{} {}\n{}", request.method, request.target, fields.join("\n"))
            })
            .collect();
        asked.sort();
        asked.dedup();
        asked
    }
}

/// Fields as they came, in their order, less what the clock and chance make of them.
fn fields(fields: &Fields) -> String {
    let mut text = String::new();
    for (name, value) in fields.iter() {
        let mut value = String::from_utf8_lossy(value).into_owned();
        if name.eq_ignore_ascii_case("date") {
            value = "DATE".to_owned();
        }
        // A second may pass between the two ways.
        if name.eq_ignore_ascii_case("age") {
            value = value.parse::<u64>().map_or("bad".to_owned(), |age| {
                if age > 3000 { "old".to_owned() } else { "young".to_owned() }
            });
        }
        if let Some((start, rest)) = value.split_once("ttl=") {
            let rest = rest.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
            value = format!("{start}ttl{rest}");
        }
        if let Some((start, _)) = value.split_once("boundary=") {
            value = format!("{start}boundary=BOUNDARY");
        }
        writeln!(text, "{name}: {value}").expect("a String takes it");
    }
    text
}

/// An answer as a client sees it.
fn shown(answer: &Result<Response, Broken>) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        // A reset and a close in the middle come to the same: whether there is
        // one or the other hangs on what the kernel still had to read.
        Err(Broken::Short | Broken::Failed(_)) => return "broken off".to_owned(),
        Err(broken) => return format!("{broken:?}"),
    };
    let mut text = String::new();
    for (status, interim) in &answer.interim {
        write!(text, "{status}\n{}\n", fields(interim)).expect("a String takes it");
    }
    let mut body = answer.body.escape_ascii().to_string();
    let boundary = answer.header("content-type").and_then(|value| value.split_once("boundary="));
    if let Some((_, boundary)) = boundary {
        body = body.replace(boundary, "BOUNDARY");
    }
    if body.len() > 1000 {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        body = format!("{}… {} bytes, hash {:x}", &body[..100], body.len(), hasher.finish());
    }
    write!(text, "{}\n{}\n{body}", answer.status, fields(&answer.fields))
        .expect("a String takes it");
    text
}

/// Whether the server means to keep the connection after this answer.
fn stays(answer: &Result<Response, Broken>) -> bool {
    let close = |answer: &Response| answer.fields.list("connection").iter().any(|o| o == "close");
    answer.as_ref().is_ok_and(|answer| !close(answer))
}

/// What was seen in the two ways, from where it differs on.
fn difference(one: &[String], other: &[String]) -> String {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let rest = |log: &[String]| log.get(same).cloned().unwrap_or_default();
    format!("step {}\nthe front:\n{}\n\nHttpProxy:\n{}", same + 1, rest(one), rest(other))
}

/// Takes the next answer from a connection, with what becomes of the connection
/// after it. None is given back where it ended.
async fn next(mut connection: Connection, method: &str) -> (String, Option<Connection>) {
    let answer = connection.answer(method).await;
    let text = shown(&answer);
    if stays(&answer) {
        return (format!("{text}\n(the connection stays)"), Some(connection));
    }
    if answer.is_ok() {
        let surplus = connection.until_closed().await;
        return (format!("{text}\n(closed after {surplus:?})"), None);
    }
    (text, None)
}
