//! The cookies of a client, as far as a route takes them (semantics §1).

use httparse::Header;

use crate::config::Cookies;
use crate::request::{Facts, Request};
use crate::rules::Lines;

/// A request with the cookies that its route takes, where those are not all that it
/// carries: what the origin is sent, what selects among variants, and what counts.
#[derive(Debug)]
pub struct Taken {
    /// The field; none: no cookie is left.
    field: Option<Vec<u8>>,
}

impl Taken {
    /// None where the route takes the cookies as they are.
    #[must_use]
    pub fn of(cookies: &Cookies, request: &Request<'_>, facts: &Facts) -> Option<Taken> {
        let Cookies::Names(names) = cookies else { return None };
        if !facts.cookie {
            return None;
        }
        let mut field = Vec::new();
        for line in request.lines("cookie") {
            for cookie in line.split(|b| *b == b';').map(<[u8]>::trim_ascii) {
                let name = cookie.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
                if names.binary_search_by(|listed| listed.as_bytes().cmp(name)).is_ok() {
                    if !field.is_empty() {
                        field.extend_from_slice(b"; ");
                    }
                    field.extend_from_slice(cookie);
                }
            }
        }
        Some(Taken { field: (!field.is_empty()).then_some(field) })
    }

    /// The fields of the request with these cookies in place of its own.
    #[must_use]
    pub fn fields<'a>(&'a self, fields: &[Header<'a>]) -> Vec<Header<'a>> {
        let others = fields.iter().filter(|field| !field.name.eq_ignore_ascii_case("cookie"));
        let own = self.field.as_deref().map(|value| Header { name: "Cookie", value });
        others.copied().chain(own).collect()
    }

    /// What the request is then.
    #[must_use]
    pub fn facts(&self, facts: &Facts) -> Facts {
        Facts { cookie: self.field.is_some(), ..*facts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_route_takes() {
        let names =
            |names: &[&str]| Cookies::Names(names.iter().map(|n| (*n).to_owned()).collect());
        let all = ["_ga=1; session=a b", "theme=dark;session=2 ;x=session"];
        for (cookies, expected) in [
            (Cookies::All, None),
            (Cookies::Shared, None),
            (names(&[]), Some(None)),
            (names(&["other"]), Some(None)),
            (names(&["session"]), Some(Some("session=a b; session=2"))),
            (names(&["session", "theme"]), Some(Some("session=a b; theme=dark; session=2"))),
            (names(&["Session"]), Some(None)),
        ] {
            let mut fields = vec![Header { name: "Accept", value: b"*/*" }];
            fields.extend(all.map(|line| Header { name: "cookie", value: line.as_bytes() }));
            let request = crate::request::testing::get("/", &fields);
            let facts = Facts::of(&request);
            let taken = Taken::of(&cookies, &request, &facts);
            assert_eq!(taken.is_some(), expected.is_some(), "{cookies:?}");
            let (Some(taken), Some(expected)) = (taken, expected) else { continue };
            let fields = taken.fields(request.fields);
            assert_eq!(fields[0].name, "Accept");
            let left = fields.get(1).map(|field| std::str::from_utf8(field.value).unwrap());
            assert_eq!((left, fields.len()), (expected, 1 + usize::from(expected.is_some())));
            assert_eq!(taken.facts(&facts).cookie, expected.is_some());
        }
    }
}
