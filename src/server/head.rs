//! Reads request heads: where one ends, what it says about the connection and
//! about its own length, and whether the request is *plain*.
//!
//! Strict on purpose (RFC 9112 §11.2). Behind us stands a server that reads the
//! same bytes again; where the two could disagree on what a request is, there
//! is no request, only a 400. What the RFC lets a recipient forgive (bare LF,
//! folded lines, a repeated equal Content-Length) is not forgiven: no browser,
//! crawler or library sends it, and those who do mean harm.
//!
//! Everything accepted here is also accepted by pingora's reader, to the same
//! method, target, fields and length of body (a property test holds the two
//! side by side), so that a request which takes the long way never meets a
//! second opinion.

use std::mem::MaybeUninit;

use httparse::Header;

use super::refusal::Refusal;
use crate::config::Limits;
use crate::host;

/// Fields of a head, at most, whatever the limits say: pingora's own bound.
pub(super) const MAX_FIELDS: usize = 256;

/// Bytes of a target or of a field's name, at most, whatever the limits say: what `http` takes.
const MAX_TARGET: usize = 65_000;
const MAX_NAME: usize = 65_000;

/// Bytes of a head, at most, whatever the limits say: pingora's own bound is 1 MiB.
const MAX_HEAD: usize = 1_000_000;

/// Room for the fields of one head. On the stack, and never across an await:
/// it is eight times as large as the rest of an idle connection.
pub(super) type Room<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// An empty [`Room`].
pub(super) const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: persistent only when asked for, and no chunked responses.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How long the body of a request is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// This many bytes; zero without a body.
    Known(u64),
    /// Chunked: only who decodes it knows.
    Chunked,
}

/// A request head that was understood.
#[derive(Debug)]
pub(super) struct Head<'h, 'b> {
    pub(super) method: &'b str,
    /// As it came: origin-form, absolute-form, or `*`.
    pub(super) target: &'b str,
    pub(super) version: Version,
    /// The one `Host`; empty where HTTP/1.0 sent none.
    pub(super) host: &'b str,
    pub(super) fields: &'h [Header<'b>],
    pub(super) length: Length,
    /// Whether the visitor wants to keep the connection (RFC 9112 §9.3).
    pub(super) persistent: bool,
    /// Whether the answer function may be asked: GET or HEAD in origin-form with one Host, no
    /// body, and nothing in the head that is about the connection rather than the page.
    pub(super) plain: bool,
    /// For a target in absolute-form: its authority, which overrides Host, and the rest.
    absolute: Option<(&'b str, &'b str)>,
}

/// Looks for the end of a head: the empty line. `from` is how many bytes of `bytes` earlier
/// calls have seen.
///
/// # Errors
/// A line that ends without CR (RFC 9112 §2.2 lets a recipient take it; nobody honest needs it).
pub(super) fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Refusal> {
    for lf in memchr::memchr_iter(b'\n', &bytes[from..]) {
        let lf = from + lf;
        match bytes[..lf] {
            [.., b'\r', b'\n', b'\r'] => return Ok(Some(lf + 1)),
            [.., b'\r'] => {}
            _ => return Err(Refusal::Malformed("a line does not end in CR LF")),
        }
    }
    Ok(None)
}

/// Whether what came so far can still become a head within the limits.
///
/// # Errors
/// It can't.
pub(super) fn check_partial(bytes: &[u8], limits: &Limits) -> Result<(), Refusal> {
    let is_token = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
    };
    // Someone speaks another protocol (TLS, most of the time): no use in waiting for a line end.
    if bytes.first().is_some_and(|b| !is_token(*b)) {
        return Err(Refusal::Malformed("this is not HTTP"));
    }
    // The rest of a request line: a method, two spaces, a version, CR LF.
    const AROUND_TARGET: usize = 64;
    if bytes.len() > max_target(limits) + AROUND_TARGET && memchr::memchr(b'\n', bytes).is_none() {
        return Err(Refusal::LongTarget);
    }
    if bytes.len() > max_head(limits) { Err(Refusal::LargeHead) } else { Ok(()) }
}

fn max_head(limits: &Limits) -> usize {
    limits.max_head.min(MAX_HEAD)
}

fn max_target(limits: &Limits) -> usize {
    limits.max_uri.min(MAX_TARGET)
}

/// Understands a whole head: `bytes` end with its empty line, as [`find_end`] found it.
///
/// # Errors
/// Anything that is not exactly right.
pub(super) fn parse<'h, 'b>(
    bytes: &'b [u8],
    room: &'h mut Room<'b>,
    limits: &Limits,
) -> Result<Head<'h, 'b>, Refusal> {
    if bytes.len() > max_head(limits) {
        return Err(Refusal::LargeHead);
    }
    let mut request = httparse::Request::new(&mut []);
    let room = &mut room[..limits.max_fields.min(MAX_FIELDS)];
    match request.parse_with_uninit_headers(bytes, room) {
        Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
        Ok(_) => return Err(Refusal::Malformed("the head ends where it should not")),
        Err(error) => return Err(refusal(error, bytes)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(Refusal::Malformed("the request line is incomplete"));
    };
    let fields: &'h [Header<'b>] = request.headers;
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    // In any case: methods have one (RFC 9110 §9.1), and origins that don't know that.
    if ["CONNECT", "TRACE"].iter().any(|refused| method.eq_ignore_ascii_case(refused)) {
        return Err(Refusal::Method);
    }
    if target.len() > max_target(limits) {
        return Err(Refusal::LongTarget);
    }
    let said = Said::by(fields, version)?;
    let absolute = match target.as_bytes() {
        [b'/', ..] => {
            check_target(target)?;
            None
        }
        // RFC 9112 §3.2.4
        b"*" if method == "OPTIONS" => None,
        b"*" => return Err(Refusal::Malformed("* is a target for OPTIONS only")),
        _ => Some(absolute(target, method)?),
    };
    if let Some((authority, _)) = absolute {
        check_host(authority)?;
    }
    let host = match said.host {
        Some(host) => {
            check_host(host)?;
            host
        }
        // RFC 9112 §3.2
        None if version == Version::Http11 => return Err(Refusal::Malformed("Host is missing")),
        None => "",
    };
    let plain = matches!(method, "GET" | "HEAD")
        && absolute.is_none()
        && said.host.is_some()
        && !said.beyond_plain;
    let persistent = match version {
        _ if said.close => false,
        Version::Http11 => true,
        Version::Http10 => said.keep_alive,
    };
    let length = said.length();
    Ok(Head { method, target, version, host, fields, length, persistent, plain, absolute })
}

/// What the fields say about connection and framing.
#[derive(Default)]
struct Said<'b> {
    host: Option<&'b str>,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    connections: u32,
    /// Something that only the long way understands.
    beyond_plain: bool,
}

impl<'b> Said<'b> {
    fn by(fields: &[Header<'b>], version: Version) -> Result<Said<'b>, Refusal> {
        let mut said = Said::default();
        for field in fields {
            // By length first: of a dozen fields, two or three get as far as a comparison.
            let name = field.name;
            match name.len() {
                2 if name.eq_ignore_ascii_case("te") => said.beyond_plain = true,
                4 if name.eq_ignore_ascii_case("host") => said.host(field.value)?,
                6 if name.eq_ignore_ascii_case("expect") => said.expect(field.value, version)?,
                7 if name.eq_ignore_ascii_case("upgrade")
                    || name.eq_ignore_ascii_case("trailer") =>
                {
                    said.beyond_plain = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => said.connection(field.value),
                14 if name.eq_ignore_ascii_case("content-length") => {
                    said.content_length(field.value)?;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    said.transfer_encoding(field.value, version)?;
                }
                MAX_NAME.. => return Err(Refusal::LargeHead),
                _ => {}
            }
        }
        // RFC 9112 §6.3: "ought to be handled as an error".
        if said.chunked && said.content_length.is_some() {
            return Err(Refusal::Malformed("both Content-Length and Transfer-Encoding"));
        }
        Ok(said)
    }

    /// RFC 9112 §3.2.
    fn host(&mut self, value: &'b [u8]) -> Result<(), Refusal> {
        let value = std::str::from_utf8(value).map_err(|_| Refusal::Malformed(INVALID_HOST))?;
        match self.host.replace(value) {
            None => Ok(()),
            Some(_) => Err(Refusal::Malformed("more than one Host")),
        }
    }

    /// RFC 9110 §8.6. A list of equal lengths could be taken for one; it is not.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.beyond_plain = true;
        if self.content_length.is_some() {
            return Err(Refusal::Malformed("more than one Content-Length"));
        }
        let invalid = Refusal::Malformed("Content-Length is not a number");
        // `parse` alone would take a plus sign.
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(invalid);
        }
        let digits = std::str::from_utf8(value).map_err(|_| invalid)?;
        let length = digits.parse::<i64>().map_err(|_| invalid)?;
        self.content_length = Some(length.unsigned_abs());
        Ok(())
    }

    /// RFC 9112 §6.1: `chunked`, once, and nothing else.
    fn transfer_encoding(&mut self, value: &[u8], version: Version) -> Result<(), Refusal> {
        self.beyond_plain = true;
        if version == Version::Http10 {
            return Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        if self.chunked {
            return Err(Refusal::Malformed("more than one Transfer-Encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        // Other codings below a chunked one could be served by someone; without chunked at the
        // end nobody could tell where the body ends.
        let mut codings = value.rsplit(|b| *b == b',').map(<[u8]>::trim_ascii);
        let last = codings.next().unwrap_or_default();
        let only_once = codings.all(|c| !c.is_empty() && !c.eq_ignore_ascii_case(b"chunked"));
        if last.eq_ignore_ascii_case(b"chunked") && only_once {
            Err(Refusal::Coding)
        } else {
            Err(Refusal::Malformed("Transfer-Encoding does not end in one chunked"))
        }
    }

    /// RFC 9110 §10.1.1; in HTTP/1.0 there is no such field.
    fn expect(&mut self, value: &[u8], version: Version) -> Result<(), Refusal> {
        self.beyond_plain = true;
        if version == Version::Http11 && !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::Expectation);
        }
        Ok(())
    }

    /// RFC 9110 §7.6.1. Plain is one of two words, once; lists name fields to be dropped.
    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        self.connections += 1;
        let one_word =
            value.eq_ignore_ascii_case(b"close") || value.eq_ignore_ascii_case(b"keep-alive");
        self.beyond_plain |= self.connections > 1 || !one_word;
    }

    fn length(&self) -> Length {
        if self.chunked { Length::Chunked } else { Length::Known(self.content_length.unwrap_or(0)) }
    }
}

const INVALID_HOST: &str = "Host is invalid";

/// Hosts go into keys, redirects and logs: see [`host::is_valid`].
fn check_host(host: &str) -> Result<(), Refusal> {
    if host::is_valid(host) { Ok(()) } else { Err(Refusal::Malformed(INVALID_HOST)) }
}

/// Splits a target in absolute-form (RFC 9112 §3.2.2) into authority and the rest.
fn absolute<'b>(target: &'b str, method: &str) -> Result<(&'b str, &'b str), Refusal> {
    let invalid = Refusal::Malformed("the request target is invalid");
    let (scheme, rest) = target.split_once("://").ok_or(invalid)?;
    // Both, because a TLS terminator in front of us may speak of https.
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(invalid);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    check_target(rest)?;
    // RFC 9112 §3.2.4: OPTIONS for a host without path means the server.
    let rest = if rest.is_empty() && method == "OPTIONS" { "*" } else { rest };
    Ok((authority, rest))
}

const PATH: u8 = 1;
const QUERY: u8 = 2;

/// Which bytes of a target are taken, before and after its `?`. This is `http::Uri`'s set without
/// the bytes above ASCII: RFC 3986's, and those that browsers send raw all the same.
static TARGET: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0x21;
    while b < 0x7F {
        let path = !matches!(b, b'#' | b'<' | b'>' | b'?' | b'`');
        let query = !matches!(b, b'"' | b'#' | b'<' | b'>');
        table[b as usize] = if path { PATH } else { 0 } | if query { QUERY } else { 0 };
        b += 1;
    }
    table
};

fn check_target(target: &str) -> Result<(), Refusal> {
    let bytes = target.as_bytes();
    let query = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
    let (path, query) = bytes.split_at(query);
    if path.iter().all(|b| TARGET[usize::from(*b)] & PATH != 0)
        && query.iter().all(|b| TARGET[usize::from(*b)] & QUERY != 0)
    {
        Ok(())
    } else {
        Err(Refusal::Malformed("the request target is invalid"))
    }
}

fn refusal(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::ManyFields,
        httparse::Error::Version if names_a_version(bytes) => Refusal::Version,
        httparse::Error::HeaderName => Refusal::Malformed("a field name is invalid"),
        httparse::Error::HeaderValue => Refusal::Malformed("a field value is invalid"),
        _ => Refusal::Malformed("the request line is invalid"),
    }
}

/// Whether the request line ends as HTTP of some version does (RFC 9112 §2.3).
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let version = words.nth(2).unwrap_or_default();
    words.next().is_none()
        && matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

impl Head<'_, '_> {
    /// The head in origin-form, with the Host that counts: for a request in absolute-form, which
    /// nobody further on need understand then. None: it is so already.
    pub(super) fn normalised(&self) -> Option<Vec<u8>> {
        let (authority, rest) = self.absolute?;
        let mut head = Vec::with_capacity(64 + self.target.len() * 2);
        let slash = if rest.is_empty() || rest.starts_with('?') { "/" } else { "" };
        let version = if self.version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let line = [self.method, " ", slash, rest, " ", version, "\r\nHost: ", authority, "\r\n"];
        line.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
        for field in self.fields.iter().filter(|f| !f.name.eq_ignore_ascii_case("host")) {
            head.extend_from_slice(field.name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(field.value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use pingora::protocols::http::ServerSession;
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits { max_head: 16 * 1024, ..Limits::default() }
    }

    /// What the front would do with these bytes.
    fn read(bytes: &[u8]) -> Result<Option<(usize, bool, Length)>, Refusal> {
        let Some(end) = find_end(bytes, 0)? else {
            check_partial(bytes, &limits())?;
            return Ok(None);
        };
        let mut room = room();
        let head = parse(&bytes[..end], &mut room, &limits())?;
        Ok(Some((end, head.plain, head.length)))
    }

    const PLAIN: Result<bool, u16> = Ok(true);
    const LONG: Result<bool, u16> = Ok(false);

    #[test]
    fn which_requests_are_plain_and_which_are_none() {
        let host = "Host: a\r\n";
        let rows: &[(&str, String, Result<bool, u16>)] = &[
            ("the plain case", format!("GET / HTTP/1.1\r\n{host}\r\n"), PLAIN),
            ("HEAD", format!("HEAD /a?b=c HTTP/1.1\r\n{host}\r\n"), PLAIN),
            ("HTTP/1.0 with Host", format!("GET / HTTP/1.0\r\n{host}\r\n"), PLAIN),
            ("close", format!("GET / HTTP/1.1\r\n{host}connection: Close\r\n\r\n"), PLAIN),
            (
                "keep-alive",
                format!("GET / HTTP/1.1\r\n{host}Connection: keep-alive\r\n\r\n"),
                PLAIN,
            ),
            ("no space after a colon", "GET / HTTP/1.1\r\nHost:a\r\n\r\n".into(), PLAIN),
            ("space around a value", "GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n".into(), PLAIN),
            ("an empty value", format!("GET / HTTP/1.1\r\n{host}X:\r\n\r\n"), PLAIN),
            ("obs-text, RFC 9110 5.5", format!("GET / HTTP/1.1\r\n{host}X: \u{e9}\r\n\r\n"), PLAIN),
            (
                "what browsers leave raw",
                format!("GET /a|b{{}}?[x]=|^` HTTP/1.1\r\n{host}\r\n"),
                PLAIN,
            ),
            ("two slashes", format!("GET //a HTTP/1.1\r\n{host}\r\n"), PLAIN),
            // Not plain, but fine.
            ("POST", format!("POST / HTTP/1.1\r\n{host}\r\n"), LONG),
            ("a method nobody knows", format!("BREW / HTTP/1.1\r\n{host}\r\n"), LONG),
            ("methods have a case", format!("get / HTTP/1.1\r\n{host}\r\n"), LONG),
            ("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n".into(), LONG),
            (
                "a GET with a length",
                format!("GET / HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n"),
                LONG,
            ),
            (
                "a GET with a body",
                format!("GET / HTTP/1.1\r\n{host}Content-Length: 3\r\n\r\n"),
                LONG,
            ),
            (
                "chunked",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: Chunked\r\n\r\n"),
                LONG,
            ),
            ("an upgrade", format!("GET / HTTP/1.1\r\n{host}Upgrade: websocket\r\n\r\n"), LONG),
            ("expect", format!("GET / HTTP/1.1\r\n{host}Expect: 100-Continue\r\n\r\n"), LONG),
            ("expect in 1.0", format!("GET / HTTP/1.0\r\n{host}Expect: x\r\n\r\n"), LONG),
            ("te", format!("GET / HTTP/1.1\r\n{host}TE: trailers\r\n\r\n"), LONG),
            ("trailer", format!("GET / HTTP/1.1\r\n{host}Trailer: x\r\n\r\n"), LONG),
            (
                "connection options",
                format!("GET / HTTP/1.1\r\n{host}Connection: close, x\r\n\r\n"),
                LONG,
            ),
            (
                "another option",
                format!("GET / HTTP/1.1\r\n{host}Connection: Upgrade\r\n\r\n"),
                LONG,
            ),
            (
                "two Connections",
                format!("GET / HTTP/1.1\r\n{host}Connection: close\r\nConnection: close\r\n\r\n"),
                LONG,
            ),
            ("absolute-form", format!("GET http://b/x HTTP/1.1\r\n{host}\r\n"), LONG),
            ("OPTIONS *", format!("OPTIONS * HTTP/1.1\r\n{host}\r\n"), LONG),
            // RFC 9112 6.1, 6.3: framing that could be read in two ways
            (
                "CL and TE",
                format!(
                    "POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                ),
                Err(400),
            ),
            (
                "TE and CL",
                format!(
                    "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
                ),
                Err(400),
            ),
            (
                "two lengths",
                format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 4\r\n\r\n"),
                Err(400),
            ),
            (
                "two equal lengths",
                format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\ncontent-length: 3\r\n\r\n"),
                Err(400),
            ),
            (
                "a list of lengths",
                format!("POST / HTTP/1.1\r\n{host}Content-Length: 3, 3\r\n\r\n"),
                Err(400),
            ),
            (
                "a signed length",
                format!("POST / HTTP/1.1\r\n{host}Content-Length: +3\r\n\r\n"),
                Err(400),
            ),
            (
                "a negative length",
                format!("POST / HTTP/1.1\r\n{host}Content-Length: -3\r\n\r\n"),
                Err(400),
            ),
            (
                "a hexadecimal length",
                format!("POST / HTTP/1.1\r\n{host}Content-Length: 0x3\r\n\r\n"),
                Err(400),
            ),
            (
                "an empty length",
                format!("POST / HTTP/1.1\r\n{host}Content-Length:\r\n\r\n"),
                Err(400),
            ),
            (
                "a length beyond all",
                format!("POST / HTTP/1.1\r\n{host}Content-Length: 99999999999999999999\r\n\r\n"),
                Err(400),
            ),
            (
                "TE in HTTP/1.0",
                format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n"),
                Err(400),
            ),
            (
                "TE twice",
                format!(
                    "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
                ),
                Err(400),
            ),
            (
                "TE: identity after chunked",
                format!(
                    "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
                ),
                Err(400),
            ),
            (
                "chunked, chunked",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, chunked\r\n\r\n"),
                Err(400),
            ),
            (
                "chunked not last",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, gzip\r\n\r\n"),
                Err(400),
            ),
            (
                "not chunked at all",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: identity\r\n\r\n"),
                Err(400),
            ),
            (
                "nearly chunked",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"),
                Err(400),
            ),
            (
                "chunked with a parameter",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked;a\r\n\r\n"),
                Err(400),
            ),
            (
                "chunked in a list",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: ,chunked\r\n\r\n"),
                Err(400),
            ),
            ("TE, empty", format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding:\r\n\r\n"), Err(400)),
            (
                "another coding, RFC 9112 6.1",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
                Err(501),
            ),
            (
                "a name with a space behind",
                format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding : chunked\r\n\r\n"),
                Err(400),
            ),
            ("a folded line, 5.2", format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"), Err(400)),
            (
                "a fold before all fields",
                format!("GET / HTTP/1.1\r\n X: a\r\n{host}\r\n"),
                Err(400),
            ),
            ("bare CR", format!("GET / HTTP/1.1\r\n{host}X: a\rb\r\n\r\n"), Err(400)),
            ("bare LF", format!("GET / HTTP/1.1\r\n{host}X: a\nb: c\r\n\r\n"), Err(400)),
            ("bare LF after the request line", format!("GET / HTTP/1.1\n{host}\r\n"), Err(400)),
            ("an end of bare LFs", "GET / HTTP/1.1\r\nHost: a\n\n".into(), Err(400)),
            ("NUL", format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"), Err(400)),
            ("DEL", format!("GET / HTTP/1.1\r\n{host}X: a\x7fb\r\n\r\n"), Err(400)),
            ("no colon", format!("GET / HTTP/1.1\r\n{host}X\r\n\r\n"), Err(400)),
            ("no name", format!("GET / HTTP/1.1\r\n{host}: x\r\n\r\n"), Err(400)),
            ("a name that is none", format!("GET / HTTP/1.1\r\n{host}a(b: x\r\n\r\n"), Err(400)),
            // RFC 9112 3.2: Host
            ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), Err(400)),
            ("two Hosts", format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), Err(400)),
            ("two Hosts, HTTP/1.0", format!("GET / HTTP/1.0\r\n{host}HOST: b\r\n\r\n"), Err(400)),
            ("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), Err(400)),
            ("no Host beside absolute-form", "GET http://b/ HTTP/1.1\r\n\r\n".into(), Err(400)),
            // RFC 9112 3.2: targets
            ("no target", format!("GET  HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("two spaces", format!("GET  / HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("a space in the target", format!("GET /a b HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("a tab in the target", format!("GET /a\tb HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("a fragment", format!("GET /a#b HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("beyond ASCII", format!("GET /\u{e9} HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("beyond ASCII in the query", format!("GET /?\u{e9} HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("no slash", format!("GET a HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("GET *", format!("GET * HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("another scheme", format!("GET ftp://a/ HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("a scheme without slashes", format!("GET http:a/ HTTP/1.1\r\n{host}\r\n"), Err(400)),
            ("no authority", format!("GET http:///x HTTP/1.1\r\n{host}\r\n"), Err(400)),
            (
                "userinfo, RFC 9110 4.2.4",
                format!("GET http://u@a/ HTTP/1.1\r\n{host}\r\n"),
                Err(400),
            ),
            (
                "a backslash in the authority",
                format!("GET http://a\\b/ HTTP/1.1\r\n{host}\r\n"),
                Err(400),
            ),
            ("CONNECT", format!("CONNECT a:80 HTTP/1.1\r\n{host}\r\n"), Err(405)),
            ("TRACE", format!("TRACE / HTTP/1.1\r\n{host}\r\n"), Err(405)),
            (
                "TRACE, Max-Forwards",
                format!("TRACE / HTTP/1.1\r\n{host}Max-Forwards: 0\r\n\r\n"),
                Err(405),
            ),
            ("TRACE in HTTP/1.0", "TRACE / HTTP/1.0\r\n\r\n".into(), Err(405)),
            ("trace", format!("trace http://b/ HTTP/1.1\r\n{host}\r\n"), Err(405)),
            (
                "another expectation",
                format!("GET / HTTP/1.1\r\n{host}Expect: tea\r\n\r\n"),
                Err(417),
            ),
            // RFC 9112 2.3: versions
            ("HTTP/1.2", format!("GET / HTTP/1.2\r\n{host}\r\n"), Err(505)),
            ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Err(505)),
            ("HTTP/0.9", "GET /\r\n\r\n".into(), Err(400)),
            ("no version", format!("GET / HTTP\r\n{host}\r\n"), Err(400)),
            ("lower case", format!("GET / http/1.1\r\n{host}\r\n"), Err(400)),
            ("TLS", "\x16\x03\x01\x02".into(), Err(400)),
            ("nothing but an end", "\r\n\r\n".into(), Err(400)),
            // limits
            (
                "a long target",
                format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(8192)),
                Err(414),
            ),
            (
                "the longest target",
                format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(8191)),
                PLAIN,
            ),
            ("a line that does not end", format!("GET /{}", "a".repeat(9000)), Err(414)),
            (
                "a large head",
                format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(16384)),
                Err(431),
            ),
            (
                "a head that does not end",
                format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(16384)),
                Err(431),
            ),
            (
                "many fields",
                format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(100)),
                Err(431),
            ),
            (
                "as many as may be",
                format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(99)),
                PLAIN,
            ),
        ];
        for (what, bytes, expected) in rows {
            let got = read(bytes.as_bytes());
            let got = got.map(|head| head.expect(what).1).map_err(|r| r.status().as_u16());
            assert_eq!(got, *expected, "{what}");
        }
    }

    #[test]
    fn absolute_form_becomes_origin_form() {
        let rows = [
            ("GET http://b/x?y HTTP/1.1", "GET /x?y HTTP/1.1\r\nHost: b\r\n"),
            ("GET HTTP://b:81 HTTP/1.1", "GET / HTTP/1.1\r\nHost: b:81\r\n"),
            ("GET https://b?q HTTP/1.0", "GET /?q HTTP/1.0\r\nHost: b\r\n"),
            ("OPTIONS http://b HTTP/1.1", "OPTIONS * HTTP/1.1\r\nHost: b\r\n"),
            ("OPTIONS http://b/ HTTP/1.1", "OPTIONS / HTTP/1.1\r\nHost: b\r\n"),
        ];
        for (line, expected) in rows {
            let bytes = format!("{line}\r\nX: 1\r\nhost:  a\r\ny:2\r\n\r\n");
            let mut room = room();
            let head = parse(bytes.as_bytes(), &mut room, &limits()).expect(line);
            let normalised = String::from_utf8(head.normalised().expect(line)).unwrap();
            assert_eq!(normalised, format!("{expected}X: 1\r\ny: 2\r\n\r\n"));
        }
    }

    /// Reads `bytes` as pingora does: method, target, version, fields, length of the body.
    fn pingora(bytes: &[u8]) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut session = ServerSession::new_http1(Box::new(Cursor::new(bytes.to_vec())));
            match session.read_request().await {
                Ok(true) => {}
                other => return Err(format!("{other:?}")),
            }
            let head = session.req_header();
            let mut text = format!("{} {:?} {:?}", head.method, head.raw_path(), head.version);
            for (name, value) in &head.headers {
                text += &format!("|{name}:{:?}", value.as_bytes());
            }
            Ok(format!("{text}|{}", session.is_body_empty()))
        })
    }

    fn ours(bytes: &[u8]) -> Option<String> {
        let end = find_end(bytes, 0).ok()??;
        let mut room = room();
        let head = parse(&bytes[..end], &mut room, &limits()).ok()?;
        if head.absolute.is_some() {
            return None;
        }
        let version = if head.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
        let mut text = format!("{} {:?} {version}", head.method, head.target.as_bytes());
        let mut fields = http::HeaderMap::new();
        for field in head.fields {
            let name = http::HeaderName::from_bytes(field.name.as_bytes()).unwrap();
            fields.append(name, http::HeaderValue::from_bytes(field.value).unwrap());
        }
        for (name, value) in &fields {
            text += &format!("|{name}:{:?}", value.as_bytes());
        }
        Some(format!("{text}|{}", head.length == Length::Known(0)))
    }

    /// Pieces that heads are made of, good and bad.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => prop::sample::select(vec![
                "GET", "HEAD", "POST", " ", "  ", "/", "*", "/a?b", "http://b/x", "HTTP/1.1",
                "HTTP/1.0", "HTTP/2.0", "\r\n", "\n", "\r", "\r\n ", "Host: a\r\n", "Host: b\r\n",
                "host:a:80\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\n",
                "Transfer-Encoding: chunked\r\n", "Transfer-Encoding:\tchunked \r\n", ":", "\t",
                "Connection: close\r\n", "Connection: keep-alive\r\n", "X: y\r\n", "X:\r\n", "\0",
                "Upgrade: websocket\r\n", "Expect: 100-continue\r\n", "\u{e9}", "#", "\\", "\"",
            ]).prop_map(|s| s.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ]
    }

    fn head_like() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            6 => "(GET|HEAD|POST|OPTIONS|X) (/[!-~]{0,12}|\\*|http://[a-z]{1,3}/[a-z?]{0,3}) HTTP/1\\.[01]\r\n"
                .prop_map(String::into_bytes),
            1 => prop::collection::vec(piece(), 0..6).prop_map(|p| p.concat()),
        ];
        let host = prop::sample::select(vec!["Host: a\r\n", "Host: a\r\n", "Host: a\r\n", ""]);
        (line, host, prop::collection::vec(piece(), 0..6), any::<bool>()).prop_map(
            |(line, host, pieces, ends)| {
                let end: &[u8] = if ends { b"\r\n" } else { b"" };
                [&line, host.as_bytes(), &pieces.concat(), end, b"body"].concat()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// Whatever comes, there is an answer, and it does not depend on how the bytes were cut.
        #[test]
        fn no_bytes_panic_and_cuts_do_not_matter(bytes in head_like(), cut in any::<prop::sample::Index>()) {
            let whole = find_end(&bytes, 0);
            let cut = cut.index(bytes.len() + 1);
            let in_two = match find_end(&bytes[..cut], 0) {
                Ok(None) => find_end(&bytes, cut),
                found => found,
            };
            prop_assert_eq!(whole, in_two);
            let _ = read(&bytes);
        }

        /// What is taken here, pingora takes for the same.
        #[test]
        fn pingora_reads_the_same(bytes in head_like()) {
            if let Some(text) = ours(&bytes) {
                prop_assert_eq!(Ok(text), pingora(&bytes));
            }
        }

        /// A head that was normalised is one that needs it no more.
        #[test]
        fn normalising_is_done_once(bytes in head_like()) {
            let mut fields = room();
            let Ok(Some(end)) = find_end(&bytes, 0) else { return Ok(()) };
            let Ok(head) = parse(&bytes[..end], &mut fields, &limits()) else { return Ok(()) };
            let Some(normalised) = head.normalised() else { return Ok(()) };
            let mut fields = room();
            let again = parse(&normalised, &mut fields, &limits()).expect("normalised heads parse");
            prop_assert!(again.normalised().is_none());
            prop_assert_eq!(again.length, head.length);
            prop_assert_eq!(again.persistent, head.persistent);
        }
    }
}
