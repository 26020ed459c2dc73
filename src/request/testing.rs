//! Requests for the tests of every room.

use httparse::Header;

use super::Request;

/// Fields as they are parsed.
pub(crate) fn fields<'a>(list: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
    list.iter().map(|&(name, value)| Header { name, value: value.as_bytes() }).collect()
}

/// A GET of `target` on `a.test`, from this machine. What else a test needs it
/// changes: `Request { method: "POST", ..get("/a", &fields) }`.
pub(crate) fn get<'a>(target: &'a str, fields: &'a [Header<'a>]) -> Request<'a> {
    Request {
        method: "GET",
        target,
        host: "a.test",
        scheme: "http",
        fields,
        peer: [127, 0, 0, 1].into(),
    }
}
