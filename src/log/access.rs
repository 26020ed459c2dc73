//! The access line: one for every request, in the words of `Cache-Status`.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::sink::Sink;
use super::{OUTPUT, Style, short, timestamp};
use crate::config;
use crate::rules::Outcome;

/// What is said about a request.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// The method, as it was sent.
    pub method: &'a str,
    /// The host, as it was sent; may be empty.
    pub host: &'a str,
    /// Path and query, as they were sent.
    pub target: &'a str,
    /// The label of the route; empty: none was found.
    pub route: &'a str,
    /// The status of the answer; 0: there was none.
    pub status: u16,
    /// What became of the request.
    pub outcome: Outcome,
    /// The age of what was served, in seconds; none: it came from the origin.
    pub age: Option<u64>,
    /// Bytes of the body that were handed to the connection.
    pub bytes: u64,
    /// From the end of the request head to the last byte of the answer.
    pub total: Duration,
    /// From the end of the request head to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// How long the origin took to its response head, where it was asked.
    pub origin: Option<Duration>,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// The answer was cut off: by the client, a timeout, or a broken fill.
    pub cut_off: bool,
}

/// Writes access lines, or does not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    which: config::AccessLog,
    output: Option<(Arc<Sink>, Style)>,
}

thread_local! {
    /// The line in the making.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl AccessLog {
    /// The access log that the configuration asks for, on the output that
    /// [`init`](super::init) set up; without one nothing is written.
    #[must_use]
    pub fn new(log: &config::Log) -> AccessLog {
        AccessLog { which: log.access, output: OUTPUT.get().cloned() }
    }

    /// No access log.
    #[must_use]
    pub fn off() -> AccessLog {
        AccessLog { which: config::AccessLog::Off, output: None }
    }

    /// Whether a request gets a line. Ask first: making one costs more than this.
    #[inline]
    #[must_use]
    pub fn wants(&self, outcome: Outcome, status: u16, cut_off: bool) -> bool {
        match self.which {
            config::AccessLog::Off => false,
            config::AccessLog::On => true,
            config::AccessLog::Errors => cut_off || outcome.counted(status) >= 500 || status == 0,
        }
    }

    /// Writes the line of a request, if it gets one. Never waits.
    #[inline]
    pub fn access(&self, line: &AccessLine<'_>) {
        if self.wants(line.outcome, line.status, line.cut_off) {
            self.write(line);
        }
    }

    fn write(&self, line: &AccessLine<'_>) {
        let Some((sink, style)) = &self.output else { return };
        LINE.with_borrow_mut(|out| {
            out.clear();
            let written = match *style {
                Style::Json => line.json(out),
                Style::Text { colours } => line.text(colours, out),
            };
            // Writing to memory does not fail.
            if written.is_ok() {
                sink.push(out);
            }
        });
    }
}

impl AccessLine<'_> {
    /// One JSON object. Fields that are not known are absent; the names stay.
    fn json(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        write!(
            out,
            "{{\"timestamp\":\"{}\",\"level\":\"INFO\",\"target\":\"access\"",
            timestamp()
        )?;
        let string = |out: &mut Vec<u8>, name: &str, value: &str| -> std::io::Result<()> {
            write!(out, ",\"{name}\":")?;
            Ok(serde_json::to_writer(out, value)?)
        };
        let millis = |out: &mut Vec<u8>, name: &str, value: Option<Duration>| match value {
            Some(d) => write!(out, ",\"{name}\":{}.{:03}", d.as_millis(), d.subsec_micros() % 1000),
            None => Ok(()),
        };
        string(out, "method", self.method)?;
        string(out, "host", self.host)?;
        string(out, "path", &Target(self.target).to_string())?;
        string(out, "route", self.route)?;
        write!(out, ",\"status\":{}", self.status)?;
        string(out, "outcome", self.outcome.kind().into())?;
        if let Some(reason) = self.outcome.reason() {
            string(out, "reason", reason)?;
        }
        if let Some(age) = self.age {
            write!(out, ",\"age\":{age}")?;
        }
        write!(out, ",\"bytes\":{}", self.bytes)?;
        millis(out, "total_ms", Some(self.total))?;
        millis(out, "first_byte_ms", self.first_byte)?;
        millis(out, "origin_ms", self.origin)?;
        if let Some(peer) = self.peer {
            write!(out, ",\"peer\":\"{peer}\"")?;
        }
        if self.cut_off {
            out.extend_from_slice(b",\"cut_off\":true");
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    /// Columns first, then the path, then what there is to say about it:
    ///
    /// ```text
    /// 14:03:41  hit          200  GET      0.1ms    16.0K  localhost:8080/blog/one  age 41s · /blog/**
    /// ```
    fn text(&self, colours: bool, out: &mut Vec<u8>) -> std::io::Result<()> {
        let paint = |code: &'static str| if colours { code } else { "" };
        let (reset, dim) = (paint("\x1b[0m"), paint("\x1b[2m"));
        let outcome = paint(match self.outcome {
            Outcome::Hit { .. } => "\x1b[32m",
            Outcome::Stale { .. } => "\x1b[33m",
            Outcome::Miss { .. } => "\x1b[36m",
            Outcome::Revalidated { .. } => "\x1b[34m",
            Outcome::Bypass { .. } => "\x1b[90m",
            Outcome::Failed { .. } => "\x1b[31m",
            Outcome::Own | Outcome::Hop => "\x1b[35m",
            Outcome::Left => "\x1b[90m",
        });
        let status = paint(match self.status {
            0 | 500.. => "\x1b[31m",
            400.. => "\x1b[33m",
            _ => "",
        });
        // A day is enough for who looks on; a file needs the whole of it.
        let at = timestamp().to_string();
        let at = if colours { short(&at) } else { &at };
        write!(out, "{dim}{at}{reset}  {outcome}{:<11}{reset}  ", self.outcome.kind())?;
        write!(out, "{status}{:>3}{reset}  {:<6} ", self.status, Target(self.method))?;
        write!(
            out,
            "{:>8}  {:>7}  ",
            Elapsed(self.total).to_string(),
            Size(self.bytes).to_string()
        )?;
        write!(out, "{dim}{}{reset}{}", Target(self.host), Target(self.target))?;

        let mut gap = "  ";
        let mut say = |out: &mut Vec<u8>, what: std::fmt::Arguments<'_>| {
            write!(out, "{dim}{gap}{what}{reset}")?;
            gap = " · ";
            std::io::Result::Ok(())
        };
        if let Some(reason) = self.outcome.reason() {
            say(out, format_args!("{reason}"))?;
        }
        if let Some(age) = self.age {
            say(out, format_args!("age {}", humantime::format_duration(Duration::from_secs(age))))?;
        }
        if let Some(origin) = self.origin {
            say(out, format_args!("origin {}", Elapsed(origin)))?;
        }
        // Worth a word only when the rest of the body took its time.
        if let Some(first) = self.first_byte
            && self.total.saturating_sub(first) > Duration::from_millis(100)
        {
            say(out, format_args!("first byte {}", Elapsed(first)))?;
        }
        if self.cut_off {
            say(out, format_args!("cut off"))?;
        }
        if !self.route.is_empty() {
            say(out, format_args!("{}", self.route))?;
        }
        if let Some(peer) = self.peer.filter(|peer| !peer.is_loopback()) {
            say(out, format_args!("{peer}"))?;
        }
        out.push(b'\n');
        Ok(())
    }
}

/// What a client sent, without what could end or colour a line: everything
/// but printable ASCII is percent-encoded, and so are quotes and backslashes,
/// which could hide the end of a secret.
struct Target<'a>(&'a str);

impl std::fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |b: u8| (0x21..0x7f).contains(&b) && b != b'"' && b != b'\\';
        if self.0.bytes().all(plain) {
            return f.pad(self.0);
        }
        for byte in self.0.bytes() {
            if plain(byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// A duration in three digits or so.
struct Elapsed(Duration);

impl std::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            0.0..0.000_999_5 => write!(f, "{:.0}µs", seconds * 1e6),
            0.0..0.009_995 => write!(f, "{:.2}ms", seconds * 1e3),
            0.0..0.999_5 => write!(f, "{:.0}ms", seconds * 1e3),
            0.0..9.995 => write!(f, "{seconds:.2}s"),
            _ => write!(f, "{seconds:.0}s"),
        }
    }
}

/// A number of bytes in three digits or so.
struct Size(u64);

impl std::fmt::Display for Size {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("-"),
            n @ 1..1024 => write!(f, "{n}B"),
            n @ 1024..1_048_576 => write!(f, "{:.1}K", n as f64 / 1024.0),
            n @ 1_048_576..1_073_741_824 => write!(f, "{:.1}M", n as f64 / 1_048_576.0),
            n => write!(f, "{:.1}G", n as f64 / 1_073_741_824.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Reason;
    use crate::rules::cache_status::{CLIENT_LEFT, Failure, Fwd, StaleWhy};

    fn line() -> AccessLine<'static> {
        AccessLine {
            method: "GET",
            host: "localhost:8080",
            target: "/blog/one?page=2",
            route: "/blog/**",
            status: 200,
            outcome: Outcome::Hit { ttl: Some(19) },
            age: Some(41),
            bytes: 16_384,
            total: Duration::from_micros(87),
            first_byte: Some(Duration::from_micros(60)),
            origin: None,
            peer: Some(IpAddr::from([192, 0, 2, 7])),
            cut_off: false,
        }
    }

    fn text(line: &AccessLine<'_>) -> String {
        let mut out = Vec::new();
        line.text(false, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn json(line: &AccessLine<'_>) -> serde_json::Value {
        let mut out = Vec::new();
        line.json(&mut out).unwrap();
        assert_eq!(out.pop(), Some(b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn text_is_aligned_and_ends_with_what_varies() {
        let hit = text(&line());
        assert_eq!(
            &hit[24..],
            "  hit          200  GET        87µs    16.0K  localhost:8080/blog/one?page=2  age 41s · /blog/** · 192.0.2.7\n"
        );
        let miss = text(&AccessLine {
            outcome: Outcome::Miss {
                fwd: Fwd::UriMiss,
                status: 200,
                stored: Err(Reason::SetCookie),
                collapsed: false,
            },
            age: None,
            bytes: 0,
            total: Duration::from_millis(1234),
            origin: Some(Duration::from_millis(1020)),
            peer: Some(IpAddr::from([127, 0, 0, 1])),
            cut_off: true,
            ..line()
        });
        assert_eq!(
            &miss[24..],
            "  miss         200  GET       1.23s        -  localhost:8080/blog/one?page=2  set-cookie · origin 1.02s · first byte 60µs · cut off · /blog/**\n"
        );
        let column = |line: &str| line.chars().take_while(|&c| c != '/').count();
        assert_eq!(column(&hit), column(&miss));
    }

    #[test]
    fn json_has_stable_names() {
        let read = json(&line());
        for (name, value) in [
            ("level", serde_json::json!("INFO")),
            ("target", "access".into()),
            ("method", "GET".into()),
            ("host", "localhost:8080".into()),
            ("path", "/blog/one?page=2".into()),
            ("route", "/blog/**".into()),
            ("status", 200.into()),
            ("outcome", "hit".into()),
            ("age", 41.into()),
            ("bytes", 16384.into()),
            ("total_ms", 0.087.into()),
            ("first_byte_ms", 0.06.into()),
            ("peer", "192.0.2.7".into()),
        ] {
            assert_eq!(read[name], value, "{name}");
        }
        assert!(read.get("reason").is_none() && read.get("origin_ms").is_none());
        let outcome = Outcome::Stale { ttl: Some(-3), why: StaleWhy::Backoff };
        assert_eq!(json(&AccessLine { outcome, ..line() })["reason"], "backoff");
    }

    #[test]
    fn a_client_can_not_write_a_line_of_their_own() {
        let forged = AccessLine {
            host: "a\u{1b}[31m",
            target: "/x\n14:03:41 hit \"q\" \\ é",
            method: "G ET",
            ..line()
        };
        let out = text(&forged);
        assert_eq!(out.lines().count(), 1);
        assert!(out.contains("a%1B[31m/x%0A14:03:41%20hit%20%22q%22%20%5C%20%C3%A9"), "{out}");
        assert!(out.contains(" G%20ET "));
        assert_eq!(json(&forged)["path"], "/x%0A14:03:41%20hit%20%22q%22%20%5C%20%C3%A9");
    }

    #[test]
    fn errors_alone_are_wanted_where_the_configuration_says_so() {
        let log = |which| AccessLog { which, output: None };
        let hit = Outcome::Hit { ttl: None };
        let failed = |why| Outcome::Failed { why };
        for (outcome, status, cut_off, wanted) in [
            (hit, 200, false, false),
            (hit, 404, false, false),
            (failed(Failure::Connect), 502, false, true),
            (hit, 200, true, true),
            // Of the client's own making.
            (failed(Failure::OnlyIfCached), 504, false, false),
            (Outcome::Left, CLIENT_LEFT, false, false),
        ] {
            assert_eq!(log(config::AccessLog::Errors).wants(outcome, status, cut_off), wanted);
            assert!(log(config::AccessLog::On).wants(outcome, status, cut_off));
            assert!(!AccessLog::off().wants(outcome, status, cut_off));
        }
    }

    #[test]
    fn a_line_that_nobody_set_up_an_output_for_is_no_line() {
        let outcome = Outcome::Failed { why: Failure::Connect };
        AccessLog { which: config::AccessLog::On, output: None }.access(&AccessLine {
            outcome,
            status: 502,
            ..line()
        });
    }

    #[test]
    fn sizes_and_durations_have_three_digits() {
        for (micros, shown) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_000, "1.00ms"),
            (9_994, "9.99ms"),
            (10_000, "10ms"),
            (999_000, "999ms"),
            (1_000_000, "1.00s"),
            (61_000_000, "61s"),
        ] {
            assert_eq!(Elapsed(Duration::from_micros(micros)).to_string(), shown);
        }
        for (bytes, shown) in [(0, "-"), (1023, "1023B"), (1024, "1.0K"), (5 << 20, "5.0M")] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }
}
