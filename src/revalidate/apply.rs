//! What a call does: it records the invalidations; then, as far as there is time
//! before the answer and behind it otherwise, it frees what was deleted and renders
//! what is to be rendered now.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::args::{Action, Args};
use super::render::{self, Done, Job, Target};
use crate::config::{Mode, Revalidate};
use crate::engine::Engine;
use crate::fill::{Renewal, Renewed};
use crate::host;
use crate::live::Live;
use crate::metrics::Invalidation;
use crate::page::{KeyBuf, PageKey};
use crate::request::Request;
use crate::store::{Hardness, Name};

/// Events that wait until the answer takes them; beyond that the work waits.
const MAX_EVENTS: usize = 64;

/// A call, and what it needs.
pub(super) struct Call<'a> {
    pub(super) engine: &'a Arc<Engine>,
    pub(super) live: &'a Arc<Live>,
    pub(super) hook: &'a Revalidate,
    pub(super) request: &'a Request<'a>,
    pub(super) args: &'a Args,
}

/// What the work behind a call tells of itself.
#[derive(Debug)]
pub(super) enum Event {
    /// So many pages were freed; what was to be deleted is gone.
    Freed(u64),
    /// The store was searched.
    Planned(Vec<Plan>),
    /// A page was rendered.
    Rendered(Done),
}

/// A [`Job`], without the pages themselves.
#[derive(Debug)]
pub(super) struct Plan {
    path: String,
    pages: usize,
    left: usize,
    why_not: Option<&'static str>,
}

impl Call<'_> {
    /// Does it, and answers status and body.
    pub(super) async fn apply(&self) -> (u16, Value) {
        let deadline = Instant::now() + self.hook.timeout;
        let (live, args) = (self.live, self.args);
        if let Some(deployment) = &args.deployment {
            // First: what is rendered below is of it.
            live.deployments.iter().for_each(|deployments| deployments.set(deployment));
        }
        let targets = self.targets();
        let names = self.names(&targets);
        if let Err(failed) = self.record(&names).await {
            return (500, failed);
        }
        let paths = targets.iter().map(|target| target.path.clone()).collect();
        let mut report = Report::new(args, paths, self.hook.max_paths);
        let of = |action: Action| -> Vec<Name> {
            let these = names.iter().filter(|(_, a)| *a == action);
            these.map(|(name, _)| name.clone()).collect()
        };
        let (delete, regenerate) = (of(Action::Delete), of(Action::Regenerate));
        report.freeing = !delete.is_empty();
        report.rendering = !regenerate.is_empty();
        if report.freeing || report.rendering {
            let mut events = self.begin(delete, regenerate, targets);
            // What has not happened by then goes on in the background.
            while !report.is_done() {
                let Ok(Some(event)) = tokio::time::timeout_at(deadline, events.recv()).await else {
                    break;
                };
                report.take(event);
            }
        }
        report.answer(args)
    }

    /// The pages that the call names by path: a data URL names its page.
    fn targets(&self) -> Vec<Target> {
        let mut seen = HashSet::new();
        let mut targets = Vec::new();
        for named in &self.args.paths {
            let path = self.live.preset.locate(named, self.request).path.into_owned();
            if !seen.insert(path.clone()) {
                continue;
            }
            // An asterisk that is named is sent as it is by browsers, and encoded by
            // others; no other argument could name it.
            let spellings = match path.contains("%2A") {
                true => vec![path.replace("%2A", "*"), path.clone()],
                false => vec![path.clone()],
            };
            let fresh = self.fresh(&spellings[0]);
            targets.push(Target { path, spellings, fresh });
        }
        targets
    }

    /// The page of a path of which nothing is stored, or why it is not rendered.
    fn fresh(&self, path: &str) -> Result<PageKey, &'static str> {
        let (live, request) = (self.live, self.request);
        if self.args.if_cached() {
            return Err("not stored");
        }
        let named = self.args.host.as_deref();
        let scheme = match named.map(host::split) {
            Some((_, Some(443))) => "https",
            Some((_, Some(80))) => "http",
            _ => request.scheme,
        };
        let host = host::canonical(named.unwrap_or(request.host), scheme);
        let route = live.routes.find(&host, path);
        if host.is_empty() {
            return Err("not stored, and no host is named");
        }
        if live.config.dev || matches!(route.mode, Mode::Pass) {
            return Err("its route stores nothing");
        }
        if !route.vary.is_empty() {
            return Err("not stored, and its route has a page for each of several requests");
        }
        let mut key = KeyBuf::default();
        key.begin(live.deployments(route).load().current(), scheme, &host, path);
        Ok(key.key())
    }

    /// What the call names, and what is done to it.
    fn names(&self, targets: &[Target]) -> Vec<(Name, Action)> {
        let args = self.args;
        let host: Option<Box<str>> = args.host.as_deref().map(Into::into);
        let (on_paths, on_others) = (args.action_for_paths(), args.action_for_others());
        let mut names: Vec<(Name, Action)> = Vec::new();
        for path in targets.iter().flat_map(|target| &target.spellings) {
            let name = Name::Path { host: host.clone(), path: path.as_str().into() };
            names.push((name, on_paths));
        }
        for prefix in &args.prefixes {
            let name = Name::Prefix { host: host.clone(), path: prefix.as_str().into() };
            names.push((name, on_others));
        }
        for tag in &args.tags {
            let name = Name::Tag { host: host.clone(), tag: tag.as_str().into() };
            names.push((name, on_others));
        }
        if args.all() {
            names.push((host.map_or(Name::All, Name::Host), on_others));
        }
        names
    }

    /// Records the invalidations; or says that they did not happen.
    async fn record(&self, names: &[(Name, Action)]) -> Result<(), Value> {
        for hardness in [Hardness::Soft, Hardness::Hard] {
            let these = names.iter().filter(|(_, action)| action.hardness() == hardness);
            let these: Vec<Name> = these.map(|(name, _)| name.clone()).collect();
            if these.is_empty() {
                continue;
            }
            these.iter().for_each(|name| self.live.metrics.invalidation(kind(name)));
            if let Err(error) = self.engine.store.invalidate(these, hardness).await {
                tracing::error!(%error, "an invalidation could not be recorded");
                let why = format!("the invalidation could not be recorded: {error}");
                return Err(json!({ "revalidated": false, "message": why }));
            }
        }
        Ok(())
    }

    /// Begins the work, in a task of its own: whether the caller waits changes
    /// nothing.
    fn begin(
        &self,
        delete: Vec<Name>,
        regenerate: Vec<Name>,
        targets: Vec<Target>,
    ) -> mpsc::Receiver<Event> {
        let (tell, events) = mpsc::channel(MAX_EVENTS);
        let (engine, live) = (Arc::clone(self.engine), Arc::clone(self.live));
        let per_path = self.hook.pages_per_path;
        tokio::spawn(async move {
            // Nobody may be waiting any more.
            if !delete.is_empty() {
                let freed = engine.store.free(delete, Engine::route_tags(&live)).await;
                let _ = tell.send(Event::Freed(freed)).await;
            }
            if !regenerate.is_empty() {
                regenerate_all(&engine, &live, per_path, regenerate, targets, &tell).await;
            }
        });
        events
    }
}

/// Searches the store for the pages, and renders them.
async fn regenerate_all(
    engine: &Arc<Engine>,
    live: &Arc<Live>,
    per_path: usize,
    names: Vec<Name>,
    targets: Vec<Target>,
    tell: &mpsc::Sender<Event>,
) {
    let found = engine.store.matching(names, Engine::route_tags(live)).await;
    let current = {
        let live = Arc::clone(live);
        // What is stored for a deployment before is rendered for the current one.
        move |key: PageKey| {
            let deployments = live.deployments(live.routes.find(key.host(), key.path())).load();
            match deployments.is_before(key.deployment()) {
                true => key.in_deployment(deployments.current()),
                false => key,
            }
        }
    };
    let plan = move || render::jobs(found, targets, per_path, current);
    // It fails only when the runtime shuts down, and then nobody waits.
    let jobs = tokio::task::spawn_blocking(plan).await.unwrap_or_default();
    let (mut plans, mut pages) = (Vec::with_capacity(jobs.len()), Vec::new());
    for (index, Job { path, keys, left, why_not }) in jobs.into_iter().enumerate() {
        plans.push(Plan { path, pages: keys.len(), left, why_not });
        pages.extend(keys.into_iter().map(|key| (index, key)));
    }
    let _ = tell.send(Event::Planned(plans)).await;
    let tell = |done| async { drop(tell.send(Event::Rendered(done)).await) };
    render::all(engine, live, pages, tell).await;
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

/// What is known so far of the work behind a call.
#[derive(Debug)]
struct Report {
    /// The paths that the call names.
    paths: Vec<String>,
    on_paths: Action,
    /// How many of those to be rendered the answer waits for.
    max_paths: usize,
    freeing: bool,
    freed: Option<u64>,
    rendering: bool,
    /// Once the store was searched: those of `paths`, in their order, then others.
    plans: Option<Vec<Plan>>,
    done: Vec<Done>,
    /// What is known of each plan.
    so_far: Vec<SoFar>,
}

/// What became so far of the pages of a plan.
#[derive(Clone, Copy, Debug)]
struct SoFar {
    /// How many were rendered.
    done: usize,
    /// The worst that became of one.
    worst: Renewed,
    /// Variants of them that were not rendered.
    left: usize,
}

impl Report {
    fn new(args: &Args, paths: Vec<String>, max_paths: usize) -> Report {
        Report {
            paths,
            on_paths: args.action_for_paths(),
            max_paths,
            freeing: false,
            freed: None,
            rendering: false,
            plans: None,
            done: Vec::new(),
            so_far: Vec::new(),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Freed(pages) => self.freed = Some(pages),
            Event::Planned(plans) => {
                let none = SoFar { done: 0, worst: Renewed::Stored, left: 0 };
                self.so_far = vec![none; plans.len()];
                self.plans = Some(plans);
            }
            Event::Rendered((job, key, renewal)) => {
                if let Some(so_far) = self.so_far.get_mut(job) {
                    so_far.done += 1;
                    so_far.worst = so_far.worst.worse(renewal.result);
                    so_far.left += renewal.left;
                }
                self.done.push((job, key, renewal));
            }
        }
    }

    /// The plans of which a page is not rendered yet, and their places among those
    /// that have any.
    fn unfinished(&self) -> impl Iterator<Item = (usize, &Plan)> {
        let plans = self.plans.iter().flatten().zip(&self.so_far);
        plans
            .filter(|(plan, _)| plan.pages > 0)
            .enumerate()
            .filter(|(_, (plan, so_far))| so_far.done < plan.pages)
            .map(|(place, (plan, _))| (place, plan))
    }

    /// Whether there is nothing left that the answer waits for: of the paths to be
    /// rendered it is the first `max_paths`.
    fn is_done(&self) -> bool {
        self.is_known() && self.unfinished().all(|(place, _)| place >= self.max_paths)
    }

    /// Whether what was to be freed is free, and what is to be rendered was found.
    fn is_known(&self) -> bool {
        (!self.freeing || self.freed.is_some()) && (!self.rendering || self.plans.is_some())
    }

    /// Whether something goes on behind the answer. Paths beyond `max_paths` do, even
    /// if they were done at the same moment: who calls must not depend on that.
    fn goes_on(&self) -> bool {
        let to_render = self.plans.iter().flatten().filter(|plan| plan.pages > 0).count();
        !self.is_known() || to_render > self.max_paths || self.unfinished().next().is_some()
    }

    fn answer(self, args: &Args) -> (u16, Value) {
        let has_failed = |(_, _, renewal): &Done| matches!(renewal.result, Renewed::Failed(_));
        let failed = self.done.iter().any(has_failed);
        let status = match (failed, self.goes_on()) {
            (true, _) => 500,
            (false, true) => 202,
            (false, false) => 200,
        };
        let mode = match args.mode {
            Some(mode) => mode,
            None if self.paths.is_empty() => args.action_for_others(),
            None => self.on_paths,
        };
        let mut body = json!({
            "revalidated": !failed,
            "now": crate::clock::now().0,
            "path": self.paths,
            "prefix": args.prefixes,
            "tag": args.tags,
            "all": args.all(),
            "mode": mode.to_string(),
        });
        if let Some(host) = &args.host {
            body["host"] = json!(host);
        }
        if let Some(deployment) = &args.deployment {
            body["deployment"] = json!(deployment);
        }
        if !self.paths.is_empty() {
            body["paths"] = (0..self.paths.len()).map(|index| self.path(index)).collect();
        }
        if let Some(freed) = self.freed {
            body["freed"] = json!(freed);
        }
        if self.rendering {
            let page = |(_, key, renewal): &Done| {
                let Renewal { result, left } = *renewal;
                let mut said = json!({ "page": key.to_string(), "result": render::words(result) });
                say_left(&mut said, left);
                said
            };
            body["pages"] = self.done.iter().map(page).collect();
            body["following"] = json!(self.unfinished().count());
        }
        (status, body)
    }

    /// What becomes of one of the paths that the call names.
    fn path(&self, index: usize) -> Value {
        let path = &self.paths[index];
        let result = match self.on_paths {
            Action::Regenerate => None,
            Action::Stale => Some("marked stale"),
            Action::Expire => Some("expired"),
            Action::Delete => Some("deleted"),
        };
        if let Some(result) = result {
            return json!({ "path": path, "result": result });
        }
        let plan = self.plans.as_ref().and_then(|plans| plans.get(index));
        let (Some(plan), Some(&SoFar { done, worst, left })) = (plan, self.so_far.get(index))
        else {
            let result = "marked stale; its pages are looked for and rendered in the background";
            return json!({ "path": path, "result": result });
        };
        debug_assert_eq!(plan.path, *path);
        let result = match plan.why_not {
            Some(why) => json!(format!("invalidated only: {why}")),
            None if done < plan.pages => json!("marked stale; rendered in the background"),
            None => render::words(worst),
        };
        let mut said = json!({ "path": path, "result": result, "rendered": done });
        if plan.left > 0 {
            // Queries are for anybody to make up.
            said["left_stale"] = json!(plan.left);
        }
        say_left(&mut said, left);
        said
    }
}

/// Says how many variants were not rendered: they, too, are for anybody to make up.
fn say_left(said: &mut Value, variants: usize) {
    if variants > 0 {
        said["variants_left_stale"] = json!(variants);
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::utf8_percent_encode;
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::config::Config;
    use crate::page::{NOT_IN_PATH, Tags};
    use crate::plan::{Plan, plan};
    use crate::request::Facts;
    use crate::rules::Reason;

    fn planned(path: &str, pages: usize) -> super::Plan {
        let why_not = (pages == 0).then_some("not stored");
        super::Plan { path: path.to_owned(), pages, left: 0, why_not }
    }

    fn rendered(job: usize, result: Renewed) -> Event {
        let renewal = Renewal { result, left: 0 };
        Event::Rendered((job, PageKey::new("", "http", "h", "/x"), renewal))
    }

    fn report(paths: &[&str], mode: Action) -> (Report, Args) {
        let args = Args { mode: Some(mode), ..Args::default() };
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        let mut report = Report::new(&args, paths, 2);
        report.rendering = mode == Action::Regenerate;
        report.freeing = mode == Action::Delete;
        (report, args)
    }

    fn results(body: &Value) -> Vec<&str> {
        let paths = body["paths"].as_array().expect("a list");
        paths.iter().map(|path| path["result"].as_str().expect("text")).collect()
    }

    #[test]
    fn each_path_is_named_with_what_becomes_of_it() {
        let paths = ["/a", "/b", "/c", "/d", "/e"];
        let (mut report, args) = report(&paths, Action::Regenerate);
        assert!(!report.is_done());
        let plans = [("/a", 2), ("/b", 0), ("/c", 1), ("/d", 1), ("/e", 1)];
        let plans = plans.map(|(path, pages)| planned(path, pages));
        report.take(Event::Planned(plans.into()));
        report.take(rendered(0, Renewed::Stored));
        report.take(rendered(3, Renewed::Overtaken));
        report.take(rendered(2, Renewed::Dropped(Reason::Invalidated)));
        // Of those with pages, /a is the first one, /c the second one.
        assert!(!report.is_done());
        report.take(rendered(0, Renewed::Stored));
        assert!(report.is_done());
        let (status, body) = report.answer(&args);
        assert_eq!(
            (status, &body["revalidated"], &body["following"]),
            (202, &json!(true), &json!(1))
        );
        assert_eq!(
            results(&body),
            [
                "stored",
                "invalidated only: not stored",
                "not stored: invalidated",
                "stored, and stale again: another revalidation came meanwhile",
                "marked stale; rendered in the background",
            ]
        );
    }

    #[test]
    fn status_and_shape_of_an_answer() {
        let (mut done, args) = report(&["/a"], Action::Regenerate);
        done.take(Event::Planned(vec![super::Plan { left: 592, ..planned("/a", 1) }]));
        done.take(rendered(0, Renewed::Stored));
        let (status, body) = done.answer(&args);
        assert_eq!(status, 200);
        let path = json!({ "path": "/a", "result": "stored", "rendered": 1, "left_stale": 592 });
        assert_eq!(body["paths"], json!([path]));

        let (mut failed, args) = report(&["/a", "/b"], Action::Regenerate);
        failed.take(Event::Planned(vec![planned("/a", 1), planned("/b", 1)]));
        failed.take(rendered(0, Renewed::Failed("reset")));
        let (status, body) = failed.answer(&args);
        assert_eq!((status, &body["revalidated"]), (500, &json!(false)));
        assert_eq!(results(&body), ["failed: reset", "marked stale; rendered in the background"]);

        // More than the answer waits for, though they were quick.
        let (mut many, args) = report(&["/a", "/b", "/c"], Action::Regenerate);
        many.take(Event::Planned(["/a", "/b", "/c"].map(|path| planned(path, 1)).into()));
        (0..3).for_each(|job| many.take(rendered(job, Renewed::Stored)));
        assert_eq!(many.answer(&args).0, 202);

        // The time was up before the store was searched.
        let (late, args) = report(&["/a"], Action::Regenerate);
        let (status, body) = late.answer(&args);
        assert_eq!((status, &body["revalidated"]), (202, &json!(true)));
        assert!(results(&body)[0].contains("in the background"));

        let (late, args) = report(&["/a"], Action::Delete);
        assert!(!late.is_done());
        assert_eq!(late.answer(&args).0, 202);
        for (mode, result) in [
            (Action::Stale, "marked stale"),
            (Action::Expire, "expired"),
            (Action::Delete, "deleted"),
        ] {
            let (mut report, args) = report(&["/a"], mode);
            report.take(Event::Freed(3));
            assert!(report.is_done());
            let (status, body) = report.answer(&args);
            assert_eq!((status, results(&body)[0]), (200, result));
        }
    }

    fn engine(preset: &str) -> Arc<Engine> {
        let yaml = format!(
            "origins: {{ web: 'http://127.0.0.1:1' }}\nframework: {preset}\n\
             deployment: {{ id: B }}\nrevalidate: {{ secret: s }}\n\
             routes: [ {{ path: '/**', dsg: {{}} }} ]\n"
        );
        let config = Config::from_yaml(&yaml, "test.yaml", &|_| None);
        Engine::new(config.unwrap_or_else(|errors| panic!("{errors}")).0).0
    }

    fn request<'a>(target: &'a str, host: &'a str, scheme: &'static str) -> Request<'a> {
        let peer = [127, 0, 0, 1].into();
        Request { method: "GET", target, host, scheme, fields: &[], peer }
    }

    /// A page's path as an editor types it, and the URL of its data.
    fn urls(preset: &str, page: &str) -> Vec<String> {
        match preset {
            "nextjs" => vec![page.to_owned(), format!("/_next/data/B{page}.json")],
            "gatsby" => vec![format!("{page}/"), format!("/page-data{page}/page-data.json")],
            _ => vec![page.to_owned()],
        }
    }

    /// However path and host are written: what browsers then ask for is what is named.
    #[tokio::test]
    async fn a_request_for_what_a_purge_names_is_hit_by_it() {
        let hosts = prop::sample::select(vec![
            ("http", "a.test", "A.Test."),
            ("http", "a.test.", "a.test:80"),
            ("http", "a.test:8080", "a.test"),
            ("https", "A.test", "a.test:443"),
            ("https", "a.test:443", "a.test"),
            ("https", "[0::1]:443", "[::1]"),
        ]);
        let page = "/[a-c/{}|^`<>~\"\\[\\] \u{e9}]{0,8}[a-z]";
        for preset in ["generic", "nextjs", "gatsby"] {
            let engine = engine(preset);
            let live = engine.live();
            // Data of a build that nobody has heard of is no page.
            let _ = live.deployments[0].learn_from(&http::HeaderMap::new(), Some("B"));
            let hook = live.config.revalidate.clone().expect("there is a secret");
            let mut runner = TestRunner::default();
            let hit = |(page, (scheme, host, named)): (String, (&'static str, &str, &str))| {
                for url in urls(preset, &page) {
                    let sent = utf8_percent_encode(&url, NOT_IN_PATH).to_string();
                    let asked = request(&sent, host, scheme);
                    let mut key = KeyBuf::default();
                    let plan =
                        plan(&live, engine.fills.notes(), &asked, &Facts::of(&asked), &mut key);
                    prop_assert!(matches!(plan, Plan::Page(_)));
                    for url in urls(preset, &page) {
                        let query = form_urlencoded::Serializer::new(String::new())
                            .extend_pairs([("path", &*url), ("host", named)])
                            .finish();
                        let (args, wrong) = Args::parse(&query, b"", b"");
                        prop_assert_eq!(wrong, None);
                        let by = request("/__revalidate", "hook.test", "http");
                        let call = Call {
                            engine: &engine,
                            live: &live,
                            hook: &hook,
                            request: &by,
                            args: &args,
                        };
                        let names = call.names(&call.targets());
                        let hit = names.iter().any(|(n, _)| n.covers(&key.key(), &Tags::default()));
                        prop_assert!(hit, "{} is not {:?}", key.key(), names);
                    }
                }
                Ok(())
            };
            runner.run(&(page, hosts.clone()), hit).unwrap_or_else(|e| panic!("{preset}: {e}"));
        }
    }
}
