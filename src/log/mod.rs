//! Logging: where lines go, how they look, and the access line.
//!
//! Everything the program says while it runs goes through `tracing` and comes
//! out on standard error: coloured text for a person at a terminal, one JSON
//! object a line for a machine. Standard output is for the answers of commands.
//! Access lines take a shorter way to the same place, because there is one for
//! every request. No line waits for its reader (`sink`), and no line leaves with
//! a secret in it ([`redact`]).

mod access;
pub mod redact;
mod sink;

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

pub use access::{AccessLine, AccessLog};
pub use sink::dropped;

use self::redact::Redactor;
use self::sink::Sink;
use crate::config;

/// The environment variable that overrides the configured level, in the same syntax.
pub const LEVEL_VARIABLE: &str = "PERENNIAL_LOG";

/// What other crates say is of interest from warnings on; anything more has
/// to be asked for by name.
const QUIET: &str = "pingora=warn,pingora_core=warn,pingora_proxy=warn,pingora_pool=warn,\
    pingora_error=warn,pingora_http=warn,pingora_rustls=warn,pingora_runtime=warn,\
    pingora_load_balancing=warn,rustls=warn,hyper=warn,hyper_util=warn,h2=warn,mio=warn,log=warn";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// For a person; with the colours of a terminal or without.
    Text { colours: bool },
    /// One JSON object a line.
    Json,
}

/// Where access lines go, once logging is set up.
static OUTPUT: OnceLock<(Arc<Sink>, Style)> = OnceLock::new();

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The level is no filter directive.
    #[error("log level {level:?}: {why}")]
    Level {
        /// As it was given.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// The thread that writes can't be started.
    #[error("the log writer can't be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The secrets make no matcher.
    #[error("the secrets can't be matched: {0}")]
    Secrets(#[from] aho_corasick::BuildError),
    /// Logging is set up already.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
    /// The subscriber is gone.
    #[error("the log level can't be changed: {0}")]
    Gone(#[from] reload::Error),
}

/// The logging of the process. Writes out the last lines when it is dropped.
#[derive(Debug)]
#[must_use = "logging ends when this is dropped"]
pub struct Logging {
    sink: Arc<Sink>,
    level: reload::Handle<EnvFilter, Registry>,
    /// The secrets of all configurations so far: a request with the secret of
    /// yesterday is logged, too.
    secrets: Vec<String>,
}

/// The secrets of so many configurations are remembered.
const MAX_SECRETS: usize = 16;

/// Sets up logging for the process, once: to standard error, with the
/// records of the `log` facade. `secrets` never appear in a line.
///
/// # Errors
/// A level that is not understood, a second call, or no thread to write.
pub fn init(log: &config::Log, secrets: &[&str]) -> Result<Logging, LogError> {
    let (filter, level) = reload::Layer::new(filter(log)?);
    let style = style(log.format, std::io::stderr().is_terminal());
    let dropped = match style {
        Style::Json => dropped_json,
        Style::Text { .. } => dropped_text,
    };
    let sink = Sink::start(std::io::stderr(), Redactor::new(secrets)?, dropped)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(Lines(Arc::clone(&sink)));
    let registry = tracing_subscriber::registry().with(filter);
    match style {
        Style::Json => {
            let lines = lines.json().flatten_event(true).with_timer(Clock { short: false });
            registry.with(lines).try_init()?;
        }
        Style::Text { colours } => {
            let lines = lines.compact().with_ansi(colours).with_target(!colours);
            registry.with(lines.with_timer(Clock { short: colours })).try_init()?;
        }
    }
    let secrets = secrets.iter().map(|&s| s.to_owned()).collect();
    // Set only here, behind `try_init`, which succeeds once.
    let _ = OUTPUT.set((Arc::clone(&sink), style));
    Ok(Logging { sink, level, secrets })
}

impl Logging {
    /// Takes these secrets out of lines, too, from now on.
    ///
    /// # Errors
    /// They make no matcher; then nothing changes.
    pub fn redact(&mut self, secrets: &[&str]) -> Result<(), LogError> {
        for &secret in secrets {
            if !self.secrets.iter().any(|known| known == secret) {
                self.secrets.push(secret.to_owned());
            }
        }
        let surplus = self.secrets.len().saturating_sub(MAX_SECRETS);
        self.secrets.drain(..surplus);
        self.sink.redact(Redactor::new(&self.secrets)?);
        Ok(())
    }

    /// Applies the level of a new configuration. Access lines follow its
    /// [`AccessLog`]; the format stays.
    ///
    /// # Errors
    /// A level that is not understood; then nothing changes.
    pub fn reload(&mut self, log: &config::Log) -> Result<(), LogError> {
        Ok(self.level.reload(filter(log)?)?)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.sink.close();
    }
}

/// What is logged: the configured level or the environment's, with other
/// crates quiet unless it names them.
fn filter(log: &config::Log) -> Result<EnvFilter, LogError> {
    let level = std::env::var(LEVEL_VARIABLE).ok().filter(|l| !l.trim().is_empty());
    parse_filter(level.as_deref().unwrap_or(&log.level))
}

fn parse_filter(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = |why| LogError::Level { level: level.to_owned(), why };
    config::check_level(level).map_err(wrong)?;
    let directives: String = level.split_whitespace().collect();
    // A later directive for the same target replaces an earlier one.
    EnvFilter::builder()
        .parse(format!("{QUIET},{directives}"))
        .map_err(|source| wrong(source.to_string()))
}

fn style(format: config::LogFormat, terminal: bool) -> Style {
    // https://no-color.org
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    match format {
        config::LogFormat::Auto if !terminal => Style::Json,
        config::LogFormat::Json => Style::Json,
        config::LogFormat::Auto | config::LogFormat::Text => {
            Style::Text { colours: terminal && !plain }
        }
    }
}

/// A point in time as all lines have it, for example `2026-03-01T14:03:41.120Z`.
fn timestamp() -> humantime::Rfc3339Timestamp {
    let since = std::time::Duration::from_millis(crate::clock::now().0);
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since)
}

/// The time of a line, in UTC as in every field that it is compared with.
struct Clock {
    /// Without the day and the fraction: for a person who looks on.
    short: bool,
}

impl FormatTime for Clock {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        let at = timestamp().to_string();
        out.write_str(if self.short { short(&at) } else { &at })
    }
}

/// The time of day of a timestamp.
fn short(timestamp: &str) -> &str {
    timestamp.get(11..19).unwrap_or(timestamp)
}

fn dropped_text(lines: u64, out: &mut Vec<u8>) {
    let line = format!("{} WARN log: {lines} lines dropped, nobody reads them\n", timestamp());
    out.extend_from_slice(line.as_bytes());
}

fn dropped_json(lines: u64, out: &mut Vec<u8>) {
    let line = format!(
        "{{\"timestamp\":\"{}\",\"level\":\"WARN\",\"target\":\"perennial::log\",\
         \"message\":\"lines dropped, nobody reads them\",\"lines\":{lines}}}\n",
        timestamp()
    );
    out.extend_from_slice(line.as_bytes());
}

/// Hands the subscriber's lines to the sink; it writes each with one call.
struct Lines(Arc<Sink>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(&self.0)
    }
}

struct LineWriter<'a>(&'a Sink);

impl std::io::Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use config::LogFormat;

    use super::*;

    #[test]
    fn auto_is_text_on_a_terminal_and_json_otherwise() {
        for (format, terminal, json) in [
            (LogFormat::Auto, true, false),
            (LogFormat::Auto, false, true),
            (LogFormat::Text, false, false),
            (LogFormat::Json, true, true),
        ] {
            assert_eq!(style(format, terminal) == Style::Json, json, "{format:?} {terminal}");
        }
        assert_eq!(style(LogFormat::Text, false), Style::Text { colours: false });
    }

    #[test]
    fn other_crates_are_quiet_unless_they_are_named() {
        let shown = |level: &str| parse_filter(level).unwrap().to_string();
        assert!(shown("debug").contains("pingora_core=warn"));
        assert!(shown("info,pingora_core=debug").contains("pingora_core=debug"));
        assert!(!shown("info,pingora_core=debug").contains("pingora_core=warn"));
        assert!(shown(" INFO , perennial::fill = Debug ,").contains("perennial::fill=debug"));
        for level in ["in=fo=x", "verbose", ""] {
            assert!(matches!(parse_filter(level), Err(LogError::Level { .. })), "{level}");
        }
    }
}
