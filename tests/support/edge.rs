//! Perennial itself, started in the process on free ports.

use std::fmt::Write as _;

use perennial::config::Config;
use perennial::reload::Reloaded;

use super::{Client, Origin, patient};

/// The secret of the webhook, where a test's YAML has a `revalidate:`.
pub(crate) const SECRET: &str = "open-sesame";

/// A running Perennial. Its threads end with it.
pub(crate) struct Edge {
    edge: perennial::edge::Edge,
}

impl Edge {
    /// Starts it with this YAML, in front of `origin`: see [`config`].
    pub(crate) async fn start(yaml: &str, origin: &Origin) -> Self {
        Self::with(yaml, &[("origin", origin)]).await
    }

    /// Starts it with YAML that names its origins itself.
    pub(crate) fn of(yaml: &str) -> Self {
        let edge = perennial::edge::Edge::start(config(yaml, &[]));
        Self { edge: edge.unwrap_or_else(|error| panic!("starting: {error}")) }
    }

    /// Starts it in front of several origins.
    pub(crate) async fn with(yaml: &str, origins: &[(&str, &Origin)]) -> Self {
        let config = config(yaml, origins);
        let edge = perennial::edge::Edge::start(config);
        Self { edge: edge.unwrap_or_else(|error| panic!("starting: {error}")) }
    }

    /// A client of the first listener.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.edge.addrs()[0])
    }

    /// A client of the admin listener.
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.edge.admin_addr().expect("an admin listener")).plain()
    }

    /// Calls the webhook with these arguments, the secret added.
    pub(crate) async fn revalidate(&self, arguments: &str) -> super::client::Response {
        let target = format!("/__revalidate?secret={SECRET}&{arguments}");
        self.client().ssr().get(&target).await
    }

    /// Whether the front answers plain requests itself.
    pub(crate) fn answer_plain(&self, plain: bool) {
        self.edge.answer_plain(plain);
    }

    /// Runs on with this configuration.
    pub(crate) fn reload(&self, yaml: &str, origin: &Origin) -> Reloaded {
        self.edge.reload(config(yaml, &[("origin", origin)]))
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        self.edge.addrs()[0]
    }

    /// The value of a metric, its labels as they are shown.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.admin().get("/metrics").await;
        let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Tells it to stop.
    pub(crate) fn shutdown(&self) {
        self.edge.shutdown();
    }

    /// Waits until it has stopped.
    pub(crate) async fn ended(mut self) -> perennial::edge::Ended {
        patient("the edge to stop", self.edge.wait()).await
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.edge.shutdown();
        patient("the edge to stop", self.edge.wait()).await;
    }
}

/// The configuration that this YAML means.
///
/// `{origin}`, or the name given, stands for an origin's URL. What is not there
/// is added: listeners on free ports of loopback, two threads, no access log,
/// the origins, the webhook's secret; and YAML that begins with a `-` is the
/// list of routes.
pub(crate) fn config(yaml: &str, origins: &[(&str, &Origin)]) -> Config {
    let mut text = String::new();
    let has = |key: &str| yaml.lines().any(|line| line.starts_with(&format!("{key}:")));
    for (key, value) in [
        ("listen", "127.0.0.1:0"),
        ("admin", "127.0.0.1:0"),
        ("threads", "2"),
        ("log", "{ access: off }"),
    ] {
        if !has(key) {
            writeln!(text, "{key}: {value}").expect("a String takes it");
        }
    }
    if !has("origins") {
        text.push_str("origins:\n");
        for (name, _) in origins {
            writeln!(text, "  {name}: {{{name}}}").expect("a String takes it");
        }
    }
    if !has("revalidate") {
        writeln!(text, "revalidate: {{ secret: {SECRET} }}").expect("a String takes it");
    }
    if yaml.trim_start().starts_with('-') {
        text.push_str("routes:\n");
    }
    text.push_str(yaml);
    for (name, origin) in origins {
        text = text.replace(&format!("{{{name}}}"), &origin.url());
    }
    match Config::from_yaml(&text, "test.yaml", &|_| None) {
        Ok((config, _warnings)) => config,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}
