//! A client over HTTP/1.1, on the connection's own task.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::AsyncWriteExt;

use crate::answer::{Answer, line, status_line};
use crate::page::Fields;
use crate::rules::cache_status::Failure;
use crate::rules::{Outcome, date};
use crate::serve::{Client, Ended, Follows, Head, failure_page, own_fields};
use crate::server::{Version, Withhold};

/// The connection of a plain request, for its response.
pub(super) struct Direct {
    stream: Withhold,
    version: Version,
    method: &'static str,
    framing: Framing,
    ended: Ended,
    /// Whether the response is complete, so that the connection can carry another one.
    complete: bool,
}

/// How the end of the body is told (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By `Content-Length`, or there is none.
    Length,
    /// By the last chunk.
    Chunks,
    /// By the end of the connection.
    Close,
}

/// Room for a head of ordinary size.
const HEAD: usize = 1024;

impl Direct {
    /// For a request of this method and version that was taken out of `stream`.
    pub(super) fn new(stream: Withhold, method: &'static str, version: Version) -> Direct {
        let ended = Ended { status: None, bytes: 0, broke_off: false };
        Direct { stream, version, method, framing: Framing::Length, ended, complete: false }
    }

    /// How the response ended.
    pub(super) fn ended(&self) -> Ended {
        self.ended
    }

    /// The connection, if it can carry another request.
    pub(super) fn release(self) -> Option<Withhold> {
        self.complete.then_some(self.stream)
    }

    /// Writes a head that ends with its last field.
    async fn head(&mut self, status: StatusCode, mut head: Vec<u8>) -> io::Result<()> {
        // The stream says `close` instead where the connection is to end.
        head.extend_from_slice(b"Connection: keep-alive\r\n\r\n");
        self.ended.status = Some(status);
        self.stream.write_all(&head).await
    }

    /// Writes parts of a body.
    async fn body(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match self.stream.write_vectored(rest).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut rest, written),
            }
        }
        Ok(())
    }

    /// The response is complete.
    async fn finish(&mut self) -> io::Result<()> {
        self.stream.flush().await?;
        self.complete = true;
        Ok(())
    }
}

impl Client for Direct {
    type Gone = io::Error;

    async fn interim(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        // 100 answers an `Expect` that the client did not send; HTTP/1.0 knows none.
        if status == 100 || self.version == Version::Http10 {
            return Ok(());
        }
        let mut head = Vec::with_capacity(HEAD);
        status_line(&mut head, StatusCode::from_u16(status).unwrap_or(StatusCode::PROCESSING));
        head.extend_from_slice(fields.as_bytes());
        head.extend_from_slice(b"\r\n");
        self.stream.write_all(&head).await?;
        self.stream.flush().await
    }

    async fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let mut head = Vec::with_capacity(HEAD);
        answer.write_head(&mut head);
        self.head(answer.status(), head).await?;
        let mut parts = Vec::new();
        answer.each_body(&mut |part| parts.push(part));
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        self.body(&parts).await?;
        self.ended.bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.finish().await
    }

    async fn begin(&mut self, head: &Head<'_>) -> io::Result<Follows> {
        let follows = head.follows(self.method);
        let mut out = Vec::with_capacity(HEAD);
        status_line(&mut out, head.status);
        out.extend_from_slice(head.fields.as_bytes());
        self.framing = match (head.content_length(), follows) {
            (Some(length), _) => {
                let mut digits = itoa::Buffer::new();
                line(&mut out, "Content-Length", digits.format(length).as_bytes());
                Framing::Length
            }
            (None, Follows::Nothing) => Framing::Length,
            // It gets the body up to the end of the connection.
            (None, Follows::Body) if self.version == Version::Http10 => Framing::Close,
            (None, Follows::Body) => {
                line(&mut out, "Transfer-Encoding", b"chunked");
                Framing::Chunks
            }
        };
        head.each_own(&mut |name, value| line(&mut out, name, value));
        self.head(head.status, out).await?;
        if follows == Follows::Nothing {
            self.finish().await?;
        }
        Ok(follows)
    }

    async fn piece(&mut self, piece: Bytes) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.framing == Framing::Chunks {
            let mut size = [0u8; 18];
            let mut rest = &mut size[..];
            // It fits: sixteen digits at most.
            let _ = write!(rest, "{:x}\r\n", piece.len());
            let free = rest.len();
            self.body(&[&size[..size.len() - free], &piece, b"\r\n"]).await?;
        } else {
            self.body(&[&piece]).await?;
        }
        self.ended.bytes += piece.len() as u64;
        Ok(())
    }

    async fn end(&mut self) -> io::Result<()> {
        match self.framing {
            Framing::Length => {}
            Framing::Chunks => self.stream.write_all(b"0\r\n\r\n").await?,
            Framing::Close => return self.stream.shutdown().await,
        }
        self.finish().await
    }

    async fn break_off(&mut self, why: &'static str) -> io::Error {
        // A page that breaks off can be seen; a connection that closes without a word is asked
        // again.
        let _ = self.stream.flush().await;
        io::Error::new(io::ErrorKind::ConnectionAborted, why)
    }

    async fn failure(&mut self, why: Failure) -> io::Result<()> {
        let (mut head, mut fields) = (Vec::with_capacity(HEAD), Vec::with_capacity(HEAD));
        let (status, text) = failure_page(why, &mut |name, value| line(&mut fields, name, value));
        status_line(&mut head, status);
        head.append(&mut fields);
        own_fields(Outcome::Failed { why }, text, &mut |name, value| line(&mut head, name, value));
        line(&mut head, "Date", date::format(crate::clock::now()).as_bytes());
        self.head(status, head).await?;
        if self.method != "HEAD" {
            self.body(&[text.as_bytes()]).await?;
            self.ended.bytes = text.len() as u64;
        }
        self.finish().await
    }

    async fn left(&mut self) -> io::Error {
        self.stream.left().await
    }
}
