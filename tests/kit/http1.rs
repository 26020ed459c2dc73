//! What an origin and a client share: header fields, and a connection that reads
//! HTTP/1.1 strictly.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of a head that are read before the peer is called mad.
const MAX_HEAD: usize = 256 * 1024;
/// Fields of a head.
const MAX_FIELDS: usize = 256;

/// Header fields in the order they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    /// Adds a field.
    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl AsRef<[u8]>) {
        self.0.push((name.into(), value.as_ref().to_vec()));
    }

    /// The first field of that name, in any case; fails the test when it is no text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (name, value) = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(text(name, value))
    }

    /// Every field of that name, in any case.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        fields.map(|(name, value)| text(name, value))
    }

    /// Whether there is a field of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// The members of the comma-separated list in all fields of that name, in lower case.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(|member| member.trim().to_ascii_lowercase())
            .filter(|member| !member.is_empty())
            .collect()
    }

    /// Every field, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    fn from_parsed(parsed: &[httparse::Header<'_>]) -> Self {
        Self(parsed.iter().map(|f| (f.name.to_owned(), f.value.to_vec())).collect())
    }
}

fn text<'a>(name: &str, value: &'a [u8]) -> &'a str {
    std::str::from_utf8(value).unwrap_or_else(|_| panic!("{name} is not text: {value:?}"))
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        Ok(())
    }
}

/// How a message ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The connection closed before the first byte of the message.
    Nothing,
    /// The connection closed in the middle (a FIN).
    Short,
    /// The connection was reset (a RST), or failed otherwise.
    Failed(io::ErrorKind),
    /// The bytes are not HTTP/1.1 as we demand it.
    Garbage(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.kind())
    }
}

/// The first lines of a message.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Minor version of HTTP/1.
    pub(crate) minor: u8,
    pub(crate) fields: Fields,
}

/// The first lines of a message.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// Minor version of HTTP/1.
    pub(crate) minor: u8,
    pub(crate) fields: Fields,
}

/// What is left of a body (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// So many bytes.
    Length(u64),
    /// So many bytes of the chunk, then more chunks.
    Chunk(u64),
    /// A chunk's size line comes next.
    Size,
    /// Everything until the connection closes.
    UntilClose,
    /// Nothing.
    End,
}

/// The framing of a message with a body, from its fields (RFC 9112 §6.3);
/// none where no field says. Demands more than the RFC: nothing ambiguous.
pub(crate) fn framing(fields: &Fields) -> Result<Option<Left>, Broken> {
    let garbage = |what: String| Err(Broken::Garbage(what));
    let lengths: Vec<_> = fields.all("content-length").collect();
    let codings: Vec<_> = fields.all("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => match length.parse() {
            Ok(0) => Ok(Some(Left::End)),
            Ok(n) => Ok(Some(Left::Length(n))),
            Err(_) => garbage(format!("Content-Length: {length}")),
        },
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Left::Size)),
        _ => garbage(format!("ambiguous framing: {lengths:?} {codings:?}")),
    }
}

/// Whether a byte, with the one before it, is a LF without its CR.
fn bare_line_feed((byte, before): (&u8, &u8)) -> bool {
    *byte == b'\n' && *before != b'\r'
}

/// A connection that reads HTTP/1.1 messages.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buf: BytesMut,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Only fails on a dead socket, which the first write tells better.
        let _ = stream.set_nodelay(true);
        Self { stream, buf: BytesMut::new() }
    }

    /// Writes all of it.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Bytes that were read and belong to no message yet.
    pub(crate) fn surplus(&self) -> &[u8] {
        &self.buf
    }

    /// Takes what was read and belongs to no message yet.
    pub(crate) fn take_surplus(&mut self) -> Bytes {
        self.buf.split().freeze()
    }

    /// Takes the first `n` bytes of it.
    pub(crate) fn split_off(&mut self, n: usize) -> Bytes {
        self.buf.split_to(n).freeze()
    }

    /// Reads once into the buffer; 0 at the end of the stream. Cancel safe.
    pub(crate) async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buf).await
    }

    /// Comes back when the peer has closed or reset the connection.
    pub(crate) async fn gone(&mut self) {
        while matches!(self.more().await, Ok(n) if n > 0) {}
    }

    /// Closes with a RST instead of a FIN.
    pub(crate) fn reset(self) {
        // A linger of zero is what makes close(2) send a RST.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Reads more of a message of which `seen` bytes are there.
    async fn need(&mut self, seen: usize) -> Result<(), Broken> {
        match self.more().await? {
            0 if seen == 0 => Err(Broken::Nothing),
            0 => Err(Broken::Short),
            _ => Ok(()),
        }
    }

    /// Reads a head, as `parse` reads it. Cancel safe.
    async fn head<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, httparse::Error>,
    ) -> Result<T, Broken> {
        loop {
            let shown = || self.buf[..self.buf.len().min(400)].escape_ascii().to_string();
            match parse(&self.buf) {
                Ok(Some((length, head))) => {
                    let lines = self.buf.split_to(length);
                    // httparse takes a bare LF for the end of a line; we don't.
                    if lines.iter().zip([b'\r'].iter().chain(&lines)).any(bare_line_feed) {
                        return Err(Broken::Garbage(format!("a bare LF in {lines:?}")));
                    }
                    return Ok(head);
                }
                Ok(None) if self.buf.len() > MAX_HEAD => {
                    return Err(Broken::Garbage(format!("an endless head: {}", shown())));
                }
                Ok(None) => self.need(self.buf.len()).await?,
                Err(error) => return Err(Broken::Garbage(format!("{error}: {}", shown()))),
            }
        }
    }

    /// Reads a request head.
    pub(crate) async fn request_head(&mut self) -> Result<RequestHead, Broken> {
        self.head(|bytes| {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut parsed = httparse::Request::new(&mut fields);
            let httparse::Status::Complete(length) = parsed.parse(bytes)? else { return Ok(None) };
            let head = RequestHead {
                method: parsed.method.unwrap_or_default().to_owned(),
                target: parsed.path.unwrap_or_default().to_owned(),
                minor: parsed.version.unwrap_or_default(),
                fields: Fields::from_parsed(parsed.headers),
            };
            Ok(Some((length, head)))
        })
        .await
    }

    /// Reads a response head, whatever its status.
    pub(crate) async fn response_head(&mut self) -> Result<ResponseHead, Broken> {
        self.head(|bytes| {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut parsed = httparse::Response::new(&mut fields);
            let httparse::Status::Complete(length) = parsed.parse(bytes)? else { return Ok(None) };
            let head = ResponseHead {
                status: parsed.code.unwrap_or_default(),
                minor: parsed.version.unwrap_or_default(),
                fields: Fields::from_parsed(parsed.headers),
            };
            Ok(Some((length, head)))
        })
        .await
    }

    /// Reads a line without its CRLF.
    async fn line(&mut self) -> Result<Bytes, Broken> {
        loop {
            if let Some(end) = self.buf.windows(2).position(|two| two == b"\r\n") {
                let line = self.buf.split_to(end).freeze();
                drop(self.buf.split_to(2));
                return Ok(line);
            }
            if self.buf.len() > MAX_HEAD {
                return Err(Broken::Garbage("an endless line".into()));
            }
            self.need(1).await?;
        }
    }

    /// The next piece of a body, of `most` bytes at most; none at its end.
    pub(crate) async fn piece(
        &mut self,
        left: &mut Left,
        most: usize,
    ) -> Result<Option<Bytes>, Broken> {
        loop {
            match *left {
                Left::End => return Ok(None),
                Left::Length(n) | Left::Chunk(n) => {
                    if self.buf.is_empty() {
                        self.need(1).await?;
                    }
                    let n_now = usize::try_from(n).unwrap_or(usize::MAX);
                    let piece = self.buf.split_to(n_now.min(self.buf.len()).min(most)).freeze();
                    let rest = n - piece.len() as u64;
                    if matches!(*left, Left::Length(_)) {
                        *left = if rest == 0 { Left::End } else { Left::Length(rest) };
                    } else if rest > 0 {
                        *left = Left::Chunk(rest);
                    } else {
                        if !self.line().await?.is_empty() {
                            return Err(Broken::Garbage("a chunk longer than its size".into()));
                        }
                        *left = Left::Size;
                    }
                    return Ok(Some(piece));
                }
                Left::Size => {
                    let line = self.line().await?;
                    let text = std::str::from_utf8(&line).unwrap_or("?");
                    let digits = text.split(';').next().unwrap_or_default();
                    let size = u64::from_str_radix(digits, 16)
                        .map_err(|_| Broken::Garbage(format!("chunk size {text:?}")))?;
                    if size > 0 {
                        *left = Left::Chunk(size);
                        continue;
                    }
                    while !self.line().await?.is_empty() {} // trailers
                    *left = Left::End;
                }
                Left::UntilClose => {
                    if self.buf.is_empty() && self.more().await? == 0 {
                        *left = Left::End;
                        continue;
                    }
                    let most = most.min(self.buf.len());
                    return Ok(Some(self.buf.split_to(most).freeze()));
                }
            }
        }
    }

    /// Reads the rest of a body.
    pub(crate) async fn body(&mut self, left: &mut Left) -> Result<Bytes, Broken> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece(left, usize::MAX).await? {
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }
}
