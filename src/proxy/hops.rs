//! What a request says about its hops: whether it goes on as a WebSocket
//! (RFC 9110 §7.8), and how much further it may go (§7.6.2).

use http::header::{CONNECTION, MAX_FORWARDS, UPGRADE};
use pingora::http::RequestHeader;

use crate::request::{Facts, Request};
use crate::rules::Lines;
use crate::rules::cache_status::Bypass;

/// Whether a request that goes to the origin for this reason may take its connection along.
/// `WebSocket` is the one protocol that is known here, and pages have none: what else is asked
/// for is not passed on, and the request served as any other.
pub(super) fn upgrades(facts: &Facts, why: Bypass) -> bool {
    facts.websocket && matches!(why, Bypass::Pass | Bypass::Upgrade | Bypass::Dev)
}

/// Lets a request ask for a WebSocket, or for nothing.
pub(super) fn set_upgrade(head: &mut RequestHeader, upgrades: bool) -> pingora::Result<()> {
    head.remove_header(&UPGRADE);
    if upgrades {
        head.insert_header(UPGRADE, "websocket")?;
        head.insert_header(CONNECTION, "upgrade")?;
    }
    Ok(())
}

/// How much further a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hops {
    /// As far as it likes.
    Any,
    /// To the origin, which may pass it on so many times.
    Left(u32),
    /// No further: it is to be answered here.
    None,
}

impl Hops {
    /// Of a request; `Max-Forwards` is for OPTIONS alone (TRACE is refused before), and one that
    /// is no number says nothing.
    pub(super) fn of(request: &Request<'_>) -> Hops {
        if request.method != "OPTIONS" {
            return Hops::Any;
        }
        let mut lines = request.lines(MAX_FORWARDS.as_str());
        let (Some(value), None) = (lines.next(), lines.next()) else { return Hops::Any };
        let value = value.trim_ascii();
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Hops::Any;
        }
        let number = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        number.unwrap_or(u32::MAX).checked_sub(1).map_or(Hops::None, Hops::Left)
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn only_a_websocket_upgrades_and_never_on_a_page() {
        let (asks, plain) = (Facts { websocket: true, ..Facts::default() }, Facts::default());
        for &why in Bypass::VARIANTS {
            let may = matches!(why, Bypass::Pass | Bypass::Upgrade | Bypass::Dev);
            assert_eq!(upgrades(&asks, why), may, "{why:?}");
            assert!(!upgrades(&plain, why));
        }
        for upgrades in [true, false] {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            for protocol in ["h2c", "websocket"] {
                head.append_header(UPGRADE, protocol).unwrap();
            }
            head.insert_header(CONNECTION, "x, upgrade").unwrap();
            set_upgrade(&mut head, upgrades).unwrap();
            let left: Vec<_> = head.headers.get_all(UPGRADE).iter().collect();
            assert_eq!(left, if upgrades { vec!["websocket"] } else { vec![] });
        }
    }

    /// RFC 9110 §7.6.2
    #[test]
    fn how_far_a_request_may_go() {
        for (method, lines, hops) in [
            ("OPTIONS", &[][..], Hops::Any),
            ("OPTIONS", &["0"], Hops::None),
            ("OPTIONS", &["00"], Hops::None),
            ("OPTIONS", &["1"], Hops::Left(0)),
            ("OPTIONS", &[" 10 "], Hops::Left(9)),
            ("OPTIONS", &["99999999999999"], Hops::Left(u32::MAX - 1)),
            ("OPTIONS", &["-1"], Hops::Any),
            ("OPTIONS", &["+0"], Hops::Any),
            ("OPTIONS", &["ten"], Hops::Any),
            ("OPTIONS", &[""], Hops::Any),
            ("OPTIONS", &["1", "2"], Hops::Any),
            ("GET", &["0"], Hops::Any),
            ("POST", &["0"], Hops::Any),
        ] {
            let fields: Vec<_> = lines
                .iter()
                .map(|line| httparse::Header { name: "max-forwards", value: line.as_bytes() })
                .collect();
            let request = Request { method, ..crate::request::testing::get("*", &fields) };
            assert_eq!(Hops::of(&request), hops, "{method} {lines:?}");
        }
    }
}
