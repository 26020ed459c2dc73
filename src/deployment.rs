//! Which deployment of the site is the current one.
//!
//! A page's key carries its deployment, so that a new build never mixes with the
//! one before. The deployment is named in the configuration or noticed: the origin
//! says it in a field or cookie, or what it renders tells the build. While a
//! rolling deploy answers with both, the edge must not flap: a new deployment
//! becomes the current one when it alone has been seen for a while.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use http::HeaderMap;
use http::header::SET_COOKIE;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config;

/// Deployments other than the current one that are remembered.
const REMEMBERED: usize = 4;

/// The deployments of a site.
#[derive(Debug)]
pub struct Deployments {
    known: ArcSwap<Known>,
    /// As configured. Who changes what is known holds it, one at a time.
    config: Mutex<config::Deployment>,
}

/// What is known now.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// How deployments are told apart.
    names: Names,
    /// The current deployment; empty as long as none is known.
    current: Arc<str>,
    /// Seen since then, and nothing else.
    candidate: Option<(Arc<str>, Instant)>,
    /// Those before, the latest one first.
    before: Vec<Arc<str>>,
    /// Others that answered lately, the latest one first: the next one, or another
    /// site behind the same origin.
    lately: Vec<Arc<str>>,
    /// The builds of deployments that have names of their own, the latest one last.
    builds: Vec<(Arc<str>, Arc<str>)>,
}

/// How deployments are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Names {
    /// The configuration or a call names the current one: nothing is noticed.
    Given,
    /// By a field or cookie of the origin.
    Sent,
    /// By the build that rendered a page.
    #[default]
    Builds,
}

impl Names {
    fn of(config: &config::Deployment) -> Names {
        if config.id.is_some() {
            Names::Given
        } else if !config.fields.is_empty() || config.cookie.is_some() {
            Names::Sent
        } else {
            Names::Builds
        }
    }
}

impl Known {
    /// The current deployment; empty as long as none is known.
    #[must_use]
    pub fn current(&self) -> &str {
        &self.current
    }

    /// The one that answered last, as far as answers tell: the current one, or another
    /// that may be the next. Empty as long as none is known, and where they are named.
    #[must_use]
    pub fn newest(&self) -> &str {
        match (self.names, &self.candidate) {
            (Names::Given, _) => "",
            (_, Some((candidate, _))) => candidate,
            (_, None) => &self.current,
        }
    }

    /// Whether a deployment was the current one before this one was.
    #[must_use]
    pub fn is_before(&self, deployment: &str) -> bool {
        self.before.iter().any(|before| **before == *deployment)
    }

    /// The deployment of a URL that names a build. A build that is not known
    /// stands for itself.
    #[must_use]
    pub fn of_build<'a>(&'a self, build: &'a str) -> &'a str {
        if self.names == Names::Builds {
            return build;
        }
        let known = self.builds.iter().rev().find(|(_, known)| **known == *build);
        match known {
            Some((deployment, _)) => deployment,
            None if self.builds.is_empty() => &self.current,
            None => build,
        }
    }

    /// Whether a build is one of those that are remembered. Anybody can name others.
    #[must_use]
    pub fn knows_build(&self, build: &str) -> bool {
        let mut named = self.builds.iter().map(|(_, build)| build);
        let deployments = [&self.current].into_iter().chain(self.others());
        named.any(|known| **known == *build)
            || (self.names == Names::Builds
                && deployments.into_iter().any(|known| **known == *build))
    }

    /// The build for the URLs of a deployment's data.
    #[must_use]
    pub fn build_of(&self, deployment: &str) -> Option<Arc<str>> {
        if self.names == Names::Builds {
            return (!deployment.is_empty()).then(|| deployment.into());
        }
        let known = self.builds.iter().rev().find(|(known, _)| **known == *deployment);
        known.map(|(_, build)| Arc::clone(build))
    }

    /// Where a page may be that is not stored for the current deployment: under
    /// those that answered lately, and under those before.
    pub fn others(&self) -> impl Iterator<Item = &Arc<str>> {
        self.lately.iter().chain(&self.before)
    }
}

impl Deployments {
    /// Those of a site, as far as its configuration (and its files) tell them.
    #[must_use]
    pub fn new(config: &config::Deployment, build: Option<&str>) -> Deployments {
        let deployments = Deployments {
            known: ArcSwap::from_pointee(Known::default()),
            config: Mutex::new(config.clone()),
        };
        deployments.configure(config, build);
        deployments
    }

    /// The configuration was read again: what it and the site's files name counts
    /// at once.
    pub fn configure(&self, config: &config::Deployment, build: Option<&str>) {
        *self.config.lock() = config.clone();
        let names = Names::of(config);
        self.update(|state| {
            state.names = names;
            let current = match names {
                Names::Given => config.id.as_deref(),
                Names::Sent => None,
                Names::Builds => build,
            };
            if let Some(current) = current {
                state.promote(current.into());
            }
            if let (Names::Given, Some(build)) = (names, build) {
                state.has_build(Arc::clone(&state.current), build);
            }
        });
    }

    /// What is known now.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Known>> {
        self.known.load()
    }

    /// The same, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// The deployment that a response is of, by its fields or by the build that
    /// rendered it; none where responses do not tell. Notes which build a deployment has.
    pub fn learn_from(&self, headers: &HeaderMap, build: Option<&str>) -> Option<Box<str>> {
        let state = self.known.load();
        let id: Option<Box<str>> = match state.names {
            Names::Given => Some((&*state.current).into()),
            Names::Sent => sent(&self.config.lock(), headers),
            Names::Builds => build.map(Into::into),
        };
        if let (Names::Given | Names::Sent, Some(id), Some(build)) = (state.names, &id, build)
            && state.build_of(id).as_deref() != Some(build)
        {
            self.update(|state| state.has_build((&**id).into(), build));
        }
        id.filter(|_| state.names != Names::Given)
    }

    /// Whether a `Set-Cookie` names the deployment and nothing of a client.
    #[must_use]
    pub fn is_cookie(&self, line: &[u8]) -> bool {
        let config = self.config.lock();
        let name = config.cookie.as_deref().filter(|_| config.id.is_none());
        let end = line.iter().position(|b| matches!(b, b'=' | b';')).unwrap_or(line.len());
        name.is_some_and(|name| line[..end].trim_ascii() == name.as_bytes())
    }

    /// A response of this deployment came from the origin.
    pub fn seen(&self, id: &str) {
        let state = self.known.load();
        if *state.current == *id && state.candidate.is_none() {
            return;
        }
        let settle = self.config.lock().settle;
        self.update(|state| state.saw(id, Instant::now(), settle));
    }

    /// This is the current deployment from now on.
    pub fn set(&self, id: &str) {
        self.update(|state| state.promote(id.into()));
    }

    fn update(&self, change: impl FnOnce(&mut Known)) {
        let _one_at_a_time = self.config.lock();
        let before = self.known.load_full();
        let mut state = (*before).clone();
        change(&mut state);
        if state.current != before.current && !before.current.is_empty() {
            tracing::info!(
                deployment = &*state.current,
                before = &*before.current,
                "a new deployment"
            );
        }
        self.known.store(Arc::new(state));
    }
}

impl Known {
    fn saw(&mut self, id: &str, now: Instant, settle: Duration) {
        if self.names == Names::Given {
            return;
        }
        if self.current.is_empty() {
            self.current = id.into();
        } else if *self.current == *id {
            self.candidate = None;
        } else {
            if self.lately.first().is_none_or(|first| **first != *id) {
                self.lately.retain(|lately| **lately != *id);
                self.before.retain(|before| **before != *id);
                self.lately.insert(0, id.into());
                self.lately.truncate(REMEMBERED);
            }
            match &self.candidate {
                Some((candidate, since)) if **candidate == *id => {
                    if now.duration_since(*since) >= settle {
                        self.promote(id.into());
                    }
                }
                _ if settle.is_zero() => self.promote(id.into()),
                _ => self.candidate = Some((id.into(), now)),
            }
        }
    }

    fn promote(&mut self, id: Arc<str>) {
        self.candidate = None;
        if self.current == id {
            return;
        }
        let old = std::mem::replace(&mut self.current, id);
        self.before.retain(|before| *before != self.current && *before != old);
        self.lately.retain(|lately| *lately != self.current && *lately != old);
        if !old.is_empty() {
            self.before.insert(0, old);
        }
        self.before.truncate(REMEMBERED);
    }

    fn has_build(&mut self, deployment: Arc<str>, build: &str) {
        self.builds.retain(|(known, _)| *known != deployment);
        self.builds.push((deployment, build.into()));
        if self.builds.len() > REMEMBERED + 2 {
            self.builds.remove(0);
        }
    }
}

/// The deployment that the origin names in a field or cookie.
fn sent(config: &config::Deployment, headers: &HeaderMap) -> Option<Box<str>> {
    let in_field = config.fields.iter().find_map(|name| headers.get(name)?.to_str().ok());
    let in_cookie = || {
        let name = config.cookie.as_deref()?;
        let lines = headers.get_all(SET_COOKIE).iter().filter_map(|v| v.to_str().ok());
        let mut cookies = lines.filter_map(|line| line.split(';').next()?.split_once('='));
        cookies.find_map(|(n, v)| (n.trim() == name).then(|| v.trim()))
    };
    let id = in_field.or_else(in_cookie)?.trim();
    // The parts of a key hold no control characters.
    let good = !id.is_empty() && id.len() <= 128 && !id.chars().any(char::is_control);
    good.then(|| id.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn config() -> config::Deployment {
        config::Deployment {
            id: None,
            fields: vec![HeaderName::from_static("x-deployment-id")],
            cookie: Some("dpl".to_owned()),
            settle: Duration::from_secs(60),
            probe: None,
            assets_per_minute: 600,
        }
    }

    fn others(deployments: &Deployments) -> Vec<String> {
        deployments.load().others().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_deployment_settles() {
        let deployments = Deployments::new(&config(), None);
        let current = || deployments.load().current().to_owned();
        assert_eq!(current(), "");
        deployments.seen("a");
        assert_eq!(current(), "a", "the first one is the current one at once");
        deployments.seen("b");
        assert_eq!((current(), others(&deployments)), ("a".to_owned(), vec!["b".to_owned()]));
        tokio::time::advance(Duration::from_secs(59)).await;
        deployments.seen("b");
        assert_eq!(current(), "a");
        // A server of the old deployment still answers: it starts over.
        deployments.seen("a");
        deployments.seen("b");
        tokio::time::advance(Duration::from_secs(59)).await;
        deployments.seen("b");
        assert_eq!(current(), "a");
        tokio::time::advance(Duration::from_secs(1)).await;
        deployments.seen("b");
        assert_eq!((current(), others(&deployments)), ("b".to_owned(), vec!["a".to_owned()]));
        assert!(deployments.load().is_before("a"));
        // And back.
        deployments.set("a");
        assert_eq!((current(), others(&deployments)), ("a".to_owned(), vec!["b".to_owned()]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_third_one_takes_the_candidates_place() {
        let deployments = Deployments::new(&config(), None);
        deployments.seen("a");
        deployments.seen("b");
        tokio::time::advance(Duration::from_secs(40)).await;
        deployments.seen("c");
        tokio::time::advance(Duration::from_secs(40)).await;
        deployments.seen("c");
        assert_eq!(deployments.load().current(), "a");
        tokio::time::advance(Duration::from_secs(20)).await;
        deployments.seen("c");
        assert_eq!(deployments.load().current(), "c");
        assert_eq!(others(&deployments), ["b", "a"]);
        assert!(!deployments.load().is_before("b") && deployments.load().is_before("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_named_is_not_noticed() {
        let given = |id: &str| config::Deployment { id: Some(id.to_owned()), ..config() };
        let deployments = Deployments::new(&given("v1"), None);
        let headers = HeaderMap::new();
        assert_eq!(deployments.learn_from(&headers, None), None);
        assert_eq!(deployments.load().of_build("b0"), "v1", "as long as no build is known");
        assert_eq!(deployments.learn_from(&headers, Some("b1")), None);
        deployments.seen("b1");
        let state = deployments.load();
        assert_eq!(
            (state.current(), state.of_build("b1"), state.of_build("b2")),
            ("v1", "v1", "b2")
        );
        assert_eq!(state.build_of("v1").as_deref(), Some("b1"));
        deployments.configure(&given("v2"), None);
        assert_eq!(deployments.load().current(), "v2");
        assert_eq!(others(&deployments), ["v1"]);
        assert_eq!(deployments.load().build_of("v2"), None);
        assert_eq!(deployments.load().of_build("b1"), "v1", "the old one's data stay its own");
    }

    #[test]
    fn a_build_has_its_own_data() {
        let builds = config::Deployment { fields: Vec::new(), cookie: None, ..config() };
        let deployments = Deployments::new(&builds, Some("b1"));
        let state = deployments.load();
        assert_eq!(
            (state.current(), state.of_build("b1"), state.of_build("b0")),
            ("b1", "b1", "b0")
        );
        assert_eq!(state.build_of("b1").as_deref(), Some("b1"));
        assert_eq!(state.build_of(""), None);
        let headers = HeaderMap::new();
        assert_eq!(deployments.learn_from(&headers, Some("b2")).as_deref(), Some("b2"));
        assert_eq!(deployments.learn_from(&headers, None), None);
    }

    #[test]
    fn sent_names_have_builds() {
        let deployments = Deployments::new(&config(), None);
        let mut headers = HeaderMap::new();
        headers.insert("x-deployment-id", HeaderValue::from_static("v1"));
        assert_eq!(deployments.learn_from(&headers, Some("b1")).as_deref(), Some("v1"));
        deployments.seen("v1");
        let state = deployments.load();
        assert_eq!(
            (state.current(), state.of_build("b1"), state.of_build("b2")),
            ("v1", "v1", "b2")
        );
        assert_eq!(state.build_of("v1").as_deref(), Some("b1"));
    }

    #[test]
    fn those_before_are_bounded() {
        let deployments = Deployments::new(&config(), None);
        for id in 0..20 {
            deployments.set(&id.to_string());
        }
        assert_eq!(others(&deployments), ["18", "17", "16", "15"]);
    }

    #[test]
    fn its_cookie_is_of_no_client() {
        let deployments = Deployments::new(&config(), None);
        for (line, own) in [
            ("dpl=v2; Path=/", true),
            (" dpl =v2", true),
            ("dpl", true),
            ("session=dpl", false),
            ("xdpl=1", false),
            ("", false),
        ] {
            assert_eq!(deployments.is_cookie(line.as_bytes()), own, "{line}");
        }
        let given = config::Deployment { id: Some("v1".to_owned()), ..config() };
        assert!(!Deployments::new(&given, None).is_cookie(b"dpl=v2"));
    }

    #[test]
    fn fields_and_cookies_name_it() {
        let named = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            sent(&config(), &headers)
        };
        for (fields, id) in [
            (&[("x-deployment-id", " v1 ")][..], Some("v1")),
            (&[("x-deployment-id", "")][..], None),
            (&[("set-cookie", "a=b; Path=/"), ("set-cookie", "dpl=v2; Path=/")][..], Some("v2")),
            (&[("x-deployment-id", "v1"), ("set-cookie", "dpl=v2")][..], Some("v1")),
            (&[("set-cookie", "xdpl=v2")][..], None),
            (&[][..], None),
        ] {
            assert_eq!(named(fields).as_deref(), id, "{fields:?}");
        }
    }
}
