//! What the origin receives and sends.

use std::fmt;

use bytes::Bytes;

use super::super::http1::Fields;

/// A request as the origin received it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) body: Bytes,
    /// Which connection brought it, counted from 0.
    pub(crate) connection: u64,
}

impl Request {
    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first field of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}\n{}", self.method, self.target, self.fields)?;
        if self.body.is_empty() { Ok(()) } else { write!(f, "\n{:?}", self.body) }
    }
}

/// How a connection is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// Closed as if all were well.
    Fin,
    /// Reset.
    Rst,
}

/// How a body's end is told (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
    /// `Content-Length` of so many bytes, whatever the body has.
    Lie(usize),
}

/// A response to send.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Bytes,
    pub(super) framing: Framing,
    pub(super) interim: Vec<(u16, Fields)>,
    pub(super) trailers: Fields,
    pub(super) break_after: Option<(usize, Break)>,
}

impl Response {
    /// A response without fields and body.
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            fields: Fields::default(),
            body: Bytes::new(),
            framing: Framing::Length,
            interim: Vec::new(),
            trailers: Fields::default(),
            break_after: None,
        }
    }

    /// 200 with an HTML page.
    pub(crate) fn html(body: impl Into<Bytes>) -> Self {
        Self::status(200).header("Content-Type", "text/html; charset=utf-8").body(body)
    }

    /// 200 with JSON.
    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::status(200).header("Content-Type", "application/json").body(body)
    }

    /// With another status.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one more field.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push(name, value);
        self
    }

    /// With this `Cache-Control`.
    pub(crate) fn cache(self, value: &str) -> Self {
        self.header("Cache-Control", value)
    }

    /// With this body.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Chunked, instead of with a `Content-Length`.
    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Ended by closing the connection, instead of with a `Content-Length`.
    pub(crate) fn until_close(mut self) -> Self {
        self.framing = Framing::Close;
        self
    }

    /// With a `Content-Length` that need not be true.
    pub(crate) fn claim_length(mut self, length: usize) -> Self {
        self.framing = Framing::Lie(length);
        self
    }

    /// After this 1xx response.
    pub(crate) fn after_interim(mut self, status: u16, fields: &[(&str, &str)]) -> Self {
        let mut interim = Fields::default();
        fields.iter().for_each(|(name, value)| interim.push(*name, value));
        self.interim.push((status, interim));
        self
    }

    /// With this trailer; only where chunked.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push(name, value);
        self
    }

    /// Broken off when so many bytes of the body were sent: few enough to fit
    /// the socket's buffers, for a RST discards what the kernel still holds.
    pub(crate) fn break_after(mut self, bytes: usize, how: Break) -> Self {
        self.break_after = Some((bytes, how));
        self
    }

    /// The 1xx responses and the head as they go over the wire.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (status, fields) in &self.interim {
            write_head(&mut out, *status, fields, "");
        }
        let framing = match self.framing {
            _ if self.bodiless() => String::new(),
            Framing::Length => format!("Content-Length: {}\r\n", self.body.len()),
            Framing::Lie(length) => format!("Content-Length: {length}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".into(),
            Framing::Close => "Connection: close\r\n".into(),
        };
        write_head(&mut out, self.status, &self.fields, &framing);
        out
    }

    /// Takes the 1xx responses away, as they go over the wire.
    pub(super) fn take_interim(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (status, fields) in self.interim.drain(..) {
            write_head(&mut out, status, &fields, "");
        }
        out
    }

    /// Whether the status allows no body (RFC 9110 §6.4.1).
    pub(super) fn bodiless(&self) -> bool {
        matches!(self.status, 100..200 | 204 | 304)
    }

    /// A piece of the body as it goes over the wire.
    pub(super) fn frame(&self, piece: &[u8]) -> Vec<u8> {
        if self.framing != Framing::Chunked || piece.is_empty() {
            return piece.to_vec();
        }
        let mut out = format!("{:x}\r\n", piece.len()).into_bytes();
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// What ends the body.
    pub(super) fn end(&self) -> Vec<u8> {
        match self.framing {
            Framing::Chunked => {
                let mut out = b"0\r\n".to_vec();
                write_fields(&mut out, &self.trailers);
                out.extend_from_slice(b"\r\n");
                out
            }
            _ => Vec::new(),
        }
    }

    /// Whether the connection is done after this response.
    pub(super) fn closes(&self) -> bool {
        self.framing == Framing::Close
            || self.fields.list("connection").iter().any(|option| option == "close")
    }
}

fn write_head(out: &mut Vec<u8>, status: u16, fields: &Fields, framing: &str) {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Whatever");
    out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
    write_fields(out, fields);
    out.extend_from_slice(framing.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_fields(out: &mut Vec<u8>, fields: &Fields) {
    for (name, value) in fields.iter() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}
