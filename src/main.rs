//! The `perennial` program: arguments → configuration → logging → run → exit
//! code. It only puts these in order; what each does is the library's.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use perennial::config::{self, Config, Errors, Note, Overrides};
use perennial::demo::{self, Demo};
use perennial::edge::{Edge, StartError};
use perennial::framework::Preset;
use perennial::log::{self, Logging};
use perennial::reload::Reloaded;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The file that runs when no argument says otherwise.
const DEFAULT_FILE: &str = "perennial.yaml";

/// Anything that has no code of its own. Wrong arguments are 2, which is clap's.
const EXIT_OTHER: u8 = 1;
/// The configuration is wrong; nothing was bound.
const EXIT_CONFIG: u8 = 3;
/// An address can't be had: in use, not ours, or not without a privilege.
const EXIT_BIND: u8 = 4;

const EXAMPLES: &str = "\
Examples:
  perennial --origin http://127.0.0.1:3000     in front of a renderer, with no file at all
  perennial --config perennial.yaml            with routes, origins and a webhook of your own
  perennial check perennial.yaml               what is wrong with a file, or what it means
  perennial demo                               see it at work

Signals:
  SIGHUP          reads the configuration again; a bad one changes nothing, and
                  what needs a new start is named in the log and in /readyz
  SIGTERM, SIGINT end it once requests in flight are done; a second one at once

Exit codes:
  0  ended as it was told to
  1  anything without a code of its own
  2  wrong arguments
  3  wrong configuration
  4  an address can't be listened on: in use, or not permitted

Environment:
  PERENNIAL_LOG   what is logged (on standard error), in place of `log.level`: for
                  example debug, or info,pingora_core=debug
  NO_COLOR        no colours";

/// A caching reverse proxy that gives any page renderer ISR, DSG and SSR, and
/// renews pages when a CMS calls.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Default, Args)]
struct RunArgs {
    /// Run in front of this renderer, without a file: its own Cache-Control decides
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    origin: Option<String>,
    /// Run with this file [default: perennial.yaml, where there is one]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where visitors connect, in place of what the file says; may be given more than once
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Where health and metrics are served, or `off`
    #[arg(long, value_name = "ADDR:PORT", value_parser = admin)]
    admin: Option<AdminArg>,
    /// Pass everything through uncached, for work on the site itself
    #[arg(long)]
    dev: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with a file, or print its routes as they were understood
    Check {
        /// The file
        #[arg(default_value = DEFAULT_FILE)]
        file: PathBuf,
    },
    /// Print the JSON Schema of the file, for editors that complete it
    Schema,
    /// Start a small slow renderer with Perennial in front of it, and say what to try
    Demo {
        /// The port to listen on [default: 8080, or a free one]
        #[arg(long, short)]
        port: Option<u16>,
    },
}

/// `--admin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminArg {
    Off,
    At(SocketAddr),
}

fn admin(text: &str) -> Result<AdminArg, String> {
    match text {
        "off" => Ok(AdminArg::Off),
        _ => text.parse().map(AdminArg::At).map_err(|_| {
            "neither `off` nor an address and a port, such as 127.0.0.1:9900".to_owned()
        }),
    }
}

/// Why the program ends early. Displayed as what to say.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{}\n{} in the configuration", .0, count(.0))]
    Config(#[from] Errors),
    #[error("error: {0}")]
    Log(#[from] log::LogError),
    #[error("error: {0}")]
    Start(#[from] StartError),
    #[error("error: {0}")]
    Other(#[from] std::io::Error),
}

impl Failed {
    /// The exit code.
    fn code(&self) -> u8 {
        match self {
            Failed::Config(_) | Failed::Log(log::LogError::Level { .. }) => EXIT_CONFIG,
            Failed::Start(StartError::Bind(_) | StartError::BindAdmin { .. }) => EXIT_BIND,
            _ => EXIT_OTHER,
        }
    }
}

fn count(errors: &Errors) -> String {
    match errors.notes().len() {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        None => match Source::of(cli.run, Path::new(DEFAULT_FILE).exists()) {
            Some(source) => run(&source),
            None => Cli::command()
                .error(
                    ErrorKind::MissingRequiredArgument,
                    format!("there is no {DEFAULT_FILE} here; give --origin URL or --config FILE"),
                )
                .exit(),
        },
        Some(Command::Check { file }) => check(&file),
        Some(Command::Schema) => print(&format!("{:#}\n", config::schema())),
        Some(Command::Demo { port }) => show(port),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // If standard error is closed, nobody can be told.
            let _ = writeln!(std::io::stderr(), "{failed}");
            ExitCode::from(failed.code())
        }
    }
}

/// Prints. A reader that has closed its end (`| head`) has seen enough.
fn print(text: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn check(file: &Path) -> Result<(), Failed> {
    let (config, warnings) = Config::from_file(file, &Overrides::default())?;
    for warning in &warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    print(&config::table(&config))
}

/// Where the configuration comes from, at the start and at every reload.
#[derive(Clone, Debug)]
struct Source {
    given: Given,
    args: RunArgs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Given {
    Origin(String),
    File(PathBuf),
}

impl Source {
    /// None: neither the arguments nor the working directory name one.
    fn of(args: RunArgs, default_exists: bool) -> Option<Source> {
        let given = match (&args.origin, &args.config) {
            (Some(url), _) => Given::Origin(url.clone()),
            (None, Some(file)) => Given::File(file.clone()),
            (None, None) if default_exists => Given::File(DEFAULT_FILE.into()),
            (None, None) => return None,
        };
        Some(Source { given, args })
    }

    fn load(&self) -> Result<(Config, Vec<Note>), Errors> {
        let overrides = Overrides {
            listen: self.args.listen.clone(),
            admin: self.args.admin.map(|admin| match admin {
                AdminArg::Off => None,
                AdminArg::At(addr) => Some(addr),
            }),
            dev: self.args.dev,
        };
        match &self.given {
            Given::Origin(url) => Config::for_origin(url, &overrides),
            Given::File(file) => Config::from_file(file, &overrides),
        }
    }
}

/// The secrets that must not appear in a log line.
fn secrets<'a>(config: &'a Config, preset: &'a Preset) -> Vec<&'a str> {
    let webhook = config.revalidate.iter().map(|webhook| webhook.secret.as_str());
    webhook.chain(preset.secret()).collect()
}

/// How long the process waits at its end for blocked threads, which at most resolve a name.
const LAST_THREADS: Duration = Duration::from_millis(200);

fn block_on(threads: usize, run: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("worker")
        .enable_all()
        .build()?;
    let ended = runtime.block_on(run);
    runtime.shutdown_timeout(LAST_THREADS);
    ended
}

fn run(source: &Source) -> Result<(), Failed> {
    let (config, warnings) = source.load()?;
    let preset = Preset::new(&config.framework);
    let logging = log::init(&config.log, &secrets(&config, &preset))?;
    warn(&warnings);
    descriptors(&config);
    block_on(config.threads, async {
        let signals = Signals::new()?;
        let (dev, routes) = (config.dev, config.routes.len());
        let edge = Edge::start(config)?;
        let admin = edge.admin_addr().map(tracing::field::display);
        tracing::info!(
            listen = %list(edge.addrs()),
            admin,
            routes,
            dev,
            "Perennial {} is ready",
            env!("CARGO_PKG_VERSION")
        );
        attend(edge, signals, Some(source), logging).await;
        Ok(())
    })
}

/// Raises the limit of descriptors, and says where that is not enough.
fn descriptors(config: &Config) {
    let connections = config.limits.max_connections as u64;
    match perennial::server::raise_descriptor_limit() {
        Some(limit) if limit <= connections => tracing::warn!(
            limit,
            max_connections = connections,
            "this process may open fewer descriptors than it may have connections: those that \
             idle longest are closed earlier; raise the hard limit (`ulimit -Hn`, LimitNOFILE)"
        ),
        limit => tracing::debug!(limit, "descriptors"),
    }
}

fn show(port: Option<u16>) -> Result<(), Failed> {
    block_on(2, async {
        let demo = Demo::start(demo::DELAY).await?;
        let config = |port| demo.config(port).map(|(config, _)| config);
        let first = config(port.unwrap_or(demo::PORT))?;
        let logging = log::init(&first.log, &[demo.secret()])?;
        let signals = Signals::new()?;
        let edge = match Edge::start(first) {
            // The port was not asked for: any other will do.
            Err(StartError::Bind(_)) if port.is_none() => Edge::start(config(0)?)?,
            started => started?,
        };
        if let Some(&public) = edge.addrs().first() {
            let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&demo.welcome(public, edge.admin_addr(), colours))?;
        }
        attend(edge, signals, None, logging).await;
        Ok(())
    })
}

/// What the operator asks of a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// Stays until the edge has ended, and does what signals ask for.
async fn attend(
    mut edge: Edge,
    mut signals: Signals,
    source: Option<&Source>,
    mut logging: Logging,
) {
    let mut stopping = false;
    loop {
        let asked = tokio::select! {
            ended = edge.wait() => {
                tracing::info!(?ended, "ended");
                return;
            }
            asked = signals.next() => asked,
        };
        match asked {
            Asked::Stop if stopping => {
                tracing::warn!("told twice to stop: what is in flight is cut off");
                // Writes the last lines; then nothing is waited for.
                drop(logging);
                std::process::exit(i32::from(EXIT_OTHER));
            }
            Asked::Stop => {
                tracing::info!("stopping: what is in flight may end");
                stopping = true;
                edge.shutdown();
            }
            Asked::Reload => match source {
                Some(source) => reload(&edge, source, &mut logging),
                None => tracing::info!("the demo has no configuration to read again"),
            },
        }
    }
}

/// Applies the configuration as it is now, or says why not and changes nothing.
fn reload(edge: &Edge, source: &Source, logging: &mut Logging) {
    let (config, warnings) = match source.load() {
        Ok(loaded) => loaded,
        Err(errors) => {
            for note in errors.notes() {
                tracing::error!("{note}");
            }
            tracing::error!("the configuration is wrong, and the one before runs on");
            return edge.reload_refused(in_short(&errors));
        }
    };
    warn(&warnings);
    // Before the edge has the new secret: from then on it can be in a request.
    let preset = Preset::new(&config.framework);
    if let Err(error) = logging.redact(&secrets(&config, &preset)) {
        tracing::error!(%error, "the configuration before runs on");
        return edge.reload_refused(error.to_string());
    }
    let (routes, log) = (config.routes.len(), config.log.clone());
    match edge.reload(config) {
        Reloaded::Refused(why) => {
            tracing::error!("{why}; the configuration before runs on");
            return;
        }
        Reloaded::Partly(kept) => {
            tracing::warn!("changes of {} take effect at the next start", kept.join(", "));
        }
        Reloaded::Applied => {}
    }
    if let Err(error) = logging.reload(&log) {
        tracing::error!(%error, "the level of the log stays as it was");
    }
    tracing::info!(routes, "the configuration was read again");
}

/// The first of them, and how many there are.
fn in_short(errors: &Errors) -> String {
    match errors.notes() {
        [] => String::new(),
        [only] => only.to_string(),
        [first, more @ ..] => format!("{first} (and {} more)", more.len()),
    }
}

fn warn(warnings: &[Note]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn list(addrs: &[SocketAddr]) -> String {
    addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["perennial"].iter().chain(args))
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_arguments_have_code_2() {
        for args in [
            &["--orign", "http://x"][..],
            &["--origin", "http://x", "--config", "a.yaml"],
            &["--listen", "8080x"],
            &["--admin", "of"],
            &["--origin", "http://x", "demo"],
            &["demo", "--port", "70000"],
            &["chekc"],
        ] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
        assert_eq!(parse(&["--help"]).unwrap_err().exit_code(), 0);
        assert_eq!(parse(&["--version"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn the_help_names_every_exit_code() {
        let help = Cli::command().render_help().to_string();
        for code in [0, EXIT_OTHER, 2, EXIT_CONFIG, EXIT_BIND] {
            assert!(help.contains(&format!("\n  {code}  ")), "{code}: {help}");
        }
        assert!(help.contains(log::LEVEL_VARIABLE));
    }

    #[test]
    fn the_default_file_counts_only_where_nothing_is_named() {
        let of = |args: &[&str], exists| {
            Source::of(parse(args).unwrap().run, exists).map(|source| source.given)
        };
        let file = |name: &str| Some(Given::File(name.into()));
        assert_eq!(of(&[], false), None);
        assert_eq!(of(&[], true), file("perennial.yaml"));
        assert_eq!(of(&["-c", "a.yaml"], true), file("a.yaml"));
        let origin = Some(Given::Origin("http://x".to_owned()));
        assert_eq!(of(&["--origin", "http://x"], true), origin);
    }

    #[test]
    fn arguments_win_over_the_file() {
        let args = [
            "--origin",
            "http://127.0.0.1:3000",
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "[::1]:2",
            "--admin",
            "off",
            "--dev",
        ];
        let source = Source::of(parse(&args).unwrap().run, false).unwrap();
        let (config, _) = source.load().unwrap();
        assert_eq!(list(&config.listen), "127.0.0.1:1, [::1]:2");
        assert_eq!(config.admin, None);
        assert!(config.dev);
        let plain = parse(&["--origin", "http://127.0.0.1:3000"]).unwrap().run;
        let (config, _) = Source::of(plain, false).unwrap().load().unwrap();
        assert!(config.admin.is_some() && !config.dev);
    }

    #[test]
    fn each_failure_has_its_code() {
        let missing =
            Config::from_file(Path::new("/nowhere/perennial.yaml"), &Overrides::default());
        let missing = missing.unwrap_err();
        let failed = Failed::from(missing);
        assert_eq!(failed.code(), EXIT_CONFIG);
        let said = failed.to_string();
        assert!(said.contains("/nowhere/perennial.yaml"), "{said}");
        assert!(said.ends_with("\n1 error in the configuration"), "{said}");

        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let source = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let addr = taken.local_addr().unwrap();
        assert_eq!(Failed::from(StartError::BindAdmin { addr, source }).code(), EXIT_BIND);
        let bind = perennial::server::Listeners::bind(&[addr]).unwrap_err();
        assert_eq!(Failed::from(StartError::Bind(bind)).code(), EXIT_BIND);
    }
}
