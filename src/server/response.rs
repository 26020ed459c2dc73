//! Reads the response heads that pingora writes: each comes in one piece.

/// The status of a response head.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    head.ends_with(b"\r\n\r\n").then_some(())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A line of a head as name and value; the name is empty where it is no field.
pub(super) fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => (&line[..colon], line[colon + 1..].trim_ascii()),
        None => (b"", b""),
    }
}

/// What a response head says of its framing and of the connection.
#[derive(Default)]
pub(super) struct Said {
    pub(super) close: bool,
    pub(super) chunked: bool,
    pub(super) length: bool,
}

impl Said {
    pub(super) fn by(head: &[u8]) -> Said {
        let mut said = Said::default();
        for line in head.split(|b| *b == b'\n') {
            let (name, value) = split(line);
            if name.eq_ignore_ascii_case(b"connection") {
                said.close |= value.eq_ignore_ascii_case(b"close");
            } else if name.eq_ignore_ascii_case(b"content-length") {
                said.length = true;
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                said.chunked = true;
            }
        }
        said
    }

    /// Whether the body has an end of its own.
    pub(super) fn framed(&self) -> bool {
        self.chunked || self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_head_says() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (Some(200), false, true, false)),
            ("HTTP/1.1 200 OK\r\nconnection: Close\r\n\r\n", (Some(200), true, false, false)),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", (Some(200), false, false, false)),
            (
                "HTTP/1.0 404 x\r\ntransfer-encoding: chunked\r\n\r\n",
                (Some(404), false, true, true),
            ),
            ("HTTP/1.1 200 OK\r\nX: content-length: 1\r\n\r\n", (Some(200), false, false, false)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", (Some(101), false, false, false)),
            ("HTTP/1.1 200 OK\r\n", (None, false, false, false)),
            ("SSH-2.0\r\n\r\n", (None, false, false, false)),
            ("", (None, false, false, false)),
        ] {
            let said = Said::by(head.as_bytes());
            let got = (status(head.as_bytes()), said.close, said.framed(), said.chunked);
            assert_eq!(got, expected, "{head}");
        }
    }
}
