//! The program itself: arguments, exit codes, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{Client, Origin, Response, eventually};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
    command.args(arguments).env_remove("PERENNIAL_LOG").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    program(arguments).output().expect("the program starts")
}

/// A program that runs until it is told to stop, or the test ends.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        Running::spawn(program(arguments))
    }

    fn spawn(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("it is piped");
        Running { child, lines: BufReader::new(stderr).lines() }
    }

    /// The next line of the log that holds this.
    fn line(&mut self, part: &str) -> String {
        self.lines
            .by_ref()
            .map(|line| line.expect("the log is text"))
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("it ended without saying {part:?}"))
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().expect("kill").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("it takes text");
    file
}

#[test]
fn each_kind_of_failure_has_its_own_code() {
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = busy.local_addr().expect("it has an address").to_string();
    let bad = file("origins: { web: http://127.0.0.1:1 }\nrouts: []\n");
    let bad = bad.path().to_str().expect("it is text").to_owned();
    for (arguments, code, part) in [
        (vec!["--orgin", "http://127.0.0.1:1"], 2, "--origin"),
        (vec!["--config", "/nowhere/perennial.yaml"], 3, "/nowhere/perennial.yaml"),
        (vec!["--config", &bad], 3, "routes"),
        (vec!["check", &bad], 3, ":2: routs"),
        (vec!["--origin", "http://127.0.0.1:1", "--admin", "off", "--listen", &busy], 4, &busy),
    ] {
        let output = output(&arguments);
        let said =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?} does not name {part}: {said}");
    }
}

/// Nothing but the answers of commands is on standard output.
#[test]
fn the_log_is_on_standard_error() {
    let log = ["--origin", "http://127.0.0.1:1", "--admin", "off", "--listen", "127.0.0.1:0"];
    let mut running = Running::start(&log);
    running.line("is ready");
    running.signal("-TERM");
    running.line("ended");
    let mut answer = String::new();
    let stdout = running.child.stdout.as_mut().expect("it is piped");
    stdout.read_to_string(&mut answer).expect("text");
    assert_eq!(answer, "");

    // What a person at a terminal is told of the demo is its answer.
    let mut running = Running::start(&["demo", "--port", "0"]);
    let stdout = running.child.stdout.take().expect("it is piped");
    let mut welcome = BufReader::new(stdout).lines().map(|line| line.expect("text"));
    assert!(welcome.any(|line| line.contains("/__revalidate?secret=")));
    running.signal("-TERM");
    running.line("ended");
    assert!(!welcome.any(|line| line.contains("ended")));
}

#[test]
fn a_level_that_would_silence_it_is_refused() {
    let text = "origins: { web: http://127.0.0.1:1 }\nlog: { level: verbose }\n";
    let wrong = file(text);
    let path = wrong.path().to_str().expect("it is text");
    for (arguments, level) in [
        (&["check", path][..], None),
        (&["--config", path], None),
        (&["--origin", "http://127.0.0.1:1", "--admin", "off"], Some("verbose")),
    ] {
        let mut command = program(arguments);
        command.envs(level.map(|level| ("PERENNIAL_LOG", level)));
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("did you mean \"debug\"?"), "{arguments:?}: {said}");
    }
}

#[test]
fn the_schema_is_json_and_the_example_is_right() {
    let schema = output(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(schema["properties"]["routes"].is_object());
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/perennial.yaml");
    let checked = output(&["check", example]);
    assert!(checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stdout).contains("/blog/**"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hup_reads_the_file_again_and_term_ends_it() {
    let yaml = |routes: &str| {
        format!(
            "listen: 127.0.0.1:0\nadmin: off\nlog: {{ format: json }}\n\
             origins: {{ web: http://127.0.0.1:1 }}\nroutes:\n{routes}"
        )
    };
    let file = file(&yaml("- path: /**\n  ssr: {}\n"));
    let path = file.path().to_str().expect("it is text");
    let mut running = Running::start(&["--config", path]);
    let ready = running.line("is ready");
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
    let addr = ready["listen"].as_str().expect("where it listens").parse().expect("an address");
    let client = Client::new(addr).plain();
    let detail = || async {
        client.get("/x").await.cache_status().rsplit("; ").next().unwrap_or_default().to_owned()
    };
    assert_eq!(detail().await, "detail=connect");

    std::fs::write(path, yaml("- path: /**\n  dgs: {}\n")).expect("it is ours");
    running.signal("-HUP");
    running.line("dgs");
    assert_eq!(detail().await, "detail=connect", "a bad file changes nothing");

    let webhook = format!("revalidate: {{ secret: sesame }}\n{}", yaml("- path: /**\n  dsg: {}\n"));
    std::fs::write(path, webhook).expect("it is ours");
    running.signal("-HUP");
    eventually("the new configuration", || async {
        (client.get("/__revalidate?tag=x").await.status == 401).then_some(())
    })
    .await;

    running.signal("-TERM");
    let code = running.child.wait().expect("it is ours").code();
    assert_eq!(code, Some(0));
}

/// What a reload cannot apply stays as it was, and the log, `/readyz` and the
/// metrics say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hup_tells_what_it_could_not_apply() {
    let yaml = |more: &str| {
        format!(
            "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nlog: {{ format: json }}\n\
             origins: {{ web: http://127.0.0.1:1 }}\n{more}"
        )
    };
    let file = file(&yaml("cache: { memory: 1MiB, max_object: 1KiB }\n"));
    let path = file.path().to_str().expect("it is text");
    let mut running = Running::start(&["--config", path]);
    let ready: serde_json::Value =
        serde_json::from_str(&running.line("is ready")).expect("a line of JSON");
    let admin = ready["admin"].as_str().expect("where it listens").parse().expect("an address");
    let admin = Client::new(admin).plain();
    let metric = |name: &'static str| {
        let page = admin.get("/metrics");
        async move {
            let page = page.await;
            let value =
                page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.map(str::to_owned)
        }
    };
    const WORKED: &str = "perennial_config_last_reload_successful";
    assert_eq!(metric(WORKED).await.as_deref(), Some("1"));
    for (text, logged, said, counted) in [
        (
            yaml("framework: nextjs\nlog: { format: text }\n").replacen(
                "log: { format: json }\n",
                "",
                1,
            ),
            "framework: `nextjs` instead of `generic`",
            "framework: `nextjs` instead of `generic`",
            "refused",
        ),
        (
            yaml("cache: { memory: 2MiB, max_object: 1KiB }\n").replace("json", "text"),
            "changes of cache.memory, log.format take effect at the next start",
            ": cache.memory, log.format take effect at the next start",
            "partly",
        ),
        (
            yaml("routs: []\nthreads: 0\n"),
            "routs",
            ":5: routs: unknown key; did you mean \"routes\"? (and 1 more)",
            "refused",
        ),
    ] {
        std::fs::write(path, text).expect("it is ours");
        running.signal("-HUP");
        running.line(logged);
        eventually(said, || async {
            let ready = admin.get("/readyz").await;
            (ready.status == 200 && ready.text().contains(said)).then_some(())
        })
        .await;
        assert_eq!(metric(WORKED).await.as_deref(), Some("0"), "{said}");
        assert!(metric("perennial_memory_limit_bytes").await.as_deref() == Some("1048576"));
        let page = admin.get("/metrics").await;
        let never = format!("perennial_reloads_total{{result=\"{counted}\"}} 0\n");
        assert!(!page.text().contains(&never), "{said}");
    }
    std::fs::write(path, yaml("cache: { memory: 1MiB, max_object: 1KiB }\n")).expect("it is ours");
    running.signal("-HUP");
    running.line("the configuration was read again");
    assert_eq!(admin.get("/readyz").await.text(), "ready\n");
    assert_eq!(metric(WORKED).await.as_deref(), Some("1"));
}

/// A shell that lets the program have so many descriptors, soft and hard.
fn limited(soft: u32, hard: u32, arguments: &[&str]) -> Running {
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_perennial")]).args(arguments);
    command.env_remove("PERENNIAL_LOG").stdin(Stdio::null());
    Running::spawn(command)
}

/// Out of descriptors it serves who comes, in place of who idles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_are_raised_to_the_hard_limit_and_their_end_is_survived() {
    let origin = Origin::start().await;
    origin.on("/a").reply(Response::html("page"));
    let file = file(&format!(
        "listen: 127.0.0.1:0\nadmin: off\nthreads: 1\nlog: {{ format: json }}\n\
         origins: {{ web: '{}' }}\nroutes: [ {{ path: /**, isr: {{ revalidate: 1h }} }} ]\n",
        origin.url()
    ));
    let path = file.path().to_str().expect("it is text");
    let mut running = limited(32, 96, &["--config", path]);
    running.line("fewer descriptors than");
    let ready: serde_json::Value =
        serde_json::from_str(&running.line("is ready")).expect("a JSON line");
    let addr = ready["listen"].as_str().expect("where it listens").parse().expect("an address");
    let limits = format!("/proc/{}/limits", running.child.id());
    if let Ok(limits) = std::fs::read_to_string(limits) {
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("limits");
        assert_eq!(line.split_whitespace().filter(|word| *word == "96").count(), 2, "{line}");
    }
    let client = Client::new(addr);
    client.get("/a").await.is(200, "MISS", "page");
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut connection = client.connect().await;
        connection.send(client.get("/a").to_bytes()).await;
        connection.answer("GET").await.expect("each is served").is(200, "HIT", "page");
        idle.push(connection);
    }
    running.line("cannot accept connections");
    running.signal("-TERM");
    assert_eq!(running.child.wait().expect("it is ours").code(), Some(0));
}

/// `access: errors` has the hits, too, that did not reach their client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_that_were_cut_off_are_errors_to_the_access_log() {
    let origin = Origin::start().await;
    origin.on("/large").reply(Response::html(vec![b'x'; 16 << 20]));
    let file = file(&format!(
        "listen: 127.0.0.1:0\nadmin: off\nthreads: 1\nlog: {{ format: json, access: errors }}\n\
         origins: {{ web: '{}' }}\nroutes: [ {{ path: /**, isr: {{ revalidate: 1h }} }} ]\n",
        origin.url()
    ));
    let path = file.path().to_str().expect("it is text");
    let mut running = Running::start(&["--config", path]);
    let ready: serde_json::Value =
        serde_json::from_str(&running.line("is ready")).expect("a JSON line");
    let addr = ready["listen"].as_str().expect("where it listens").parse().expect("an address");
    let client = Client::new(addr);
    assert_eq!(client.get("/large").await.x_cache(), "MISS");
    let unmet = client.get("/none").header("Cache-Control", "only-if-cached").await;
    assert_eq!(unmet.status, 504);
    let mut leaves = client.get("/large?x=1").narrow().stream().await;
    assert_eq!(leaves.byte().await, Some(b'x'));
    leaves.reset();
    let line = running.line("\"target\":\"access\"");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    for (name, value) in [
        ("outcome", serde_json::json!("hit")),
        ("status", 200.into()),
        ("cut_off", true.into()),
        ("method", "GET".into()),
        ("host", "example.com".into()),
        ("path", "/large?x=1".into()),
        ("route", "/**".into()),
    ] {
        assert_eq!(line[name], value, "{name} of {line}");
    }
    running.signal("-TERM");
}

/// Each of these used to pass without a word.
#[test]
fn check_says_what_cannot_be_meant() {
    const BEGIN: &str = "origins: { web: http://127.0.0.1:3000 }\n";
    let route = |options: &str| format!("routes:\n- path: /a\n  {options}\n");
    for (text, code, said) in [
        (route("dsg: {}\n  browser: max-age=forever"), 3, ":5: routes[0].browser: `max-age` takes"),
        (route("dsg: {}\n  vary: [user-agent]"), 3, ":5: routes[0].vary[0]: `user-agent` cannot"),
        ("routes:\n- path: /blog/:slug\n  dsg: {}".to_owned(), 3, "did you mean \"/blog/*\"?"),
        (route("pass: {}\n  tags: [a]"), 0, "warning: "),
        (
            route("dsg: {}\n  tags: [$HOME]"),
            0,
            ":5: routes[0].tags[0]: `$HOME` is text as it stands",
        ),
        ("cache: { memory: 1000TiB }".to_owned(), 0, ":2: cache.memory: 1000.0 TiB is more than"),
        (route("isr: { revalidate: 0s, stale_for: -5s }"), 3, "2 errors in the configuration"),
        ("log: { level: verbose }".to_owned(), 3, "did you mean \"debug\"?"),
    ] {
        // Other systems do not say how much memory there is.
        if text.starts_with("cache") && !cfg!(target_os = "linux") {
            continue;
        }
        let file = file(&format!("{BEGIN}{text}\n"));
        let output = output(&["check", file.path().to_str().expect("it is text")]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}: {stderr}");
        assert!(stderr.contains(said), "{text}: {stderr}");
        assert_eq!(output.stdout.is_empty(), code != 0, "{text}");
    }
}

/// What was read of one build may be wrong for another: the log says so.
#[tokio::test]
async fn a_build_that_was_not_read_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("BUILD_ID", "b1"),
        ("required-server-files.json", r#"{"config":{}}"#),
        ("prerender-manifest.json", r#"{"preview":{"previewModeId":"id"}}"#),
        ("routes-manifest.json", "{}"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let page =
        "<script id=\"__NEXT_DATA__\" type=\"application/json\">{\"buildId\":\"b2\"}</script>";
    let origin = Origin::serve(move |_| Response::html(page).with_status(404)).await;
    let yaml = file(&format!(
        "listen: 127.0.0.1:0\nadmin: off\norigins: {{ web: '{}' }}\nframework: nextjs\n\
         nextjs: {{ build: {} }}\ndeployment: {{ probe: 100ms }}\n",
        origin.url(),
        folder.path().display(),
    ));
    let path = yaml.path().to_str().expect("it is text").to_owned();
    let told = tokio::task::spawn_blocking(move || {
        Running::start(&["--config", &path])
            .line("another build than the one whose files were read")
    });
    let told = crate::support::patient("the warning", told).await.expect("it is told");
    assert!(told.contains("b2"), "{told}");
}
