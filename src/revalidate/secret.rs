//! Authentication of calls: the secret, and the throttle of those who guess it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use moka::sync::Cache;
use subtle::ConstantTimeEq;

use crate::request::Request;
use crate::rules::Lines;

/// The longest delay of an answer to a bad secret.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Throttles clients that send bad secrets: counts them by address over the last minutes.
#[derive(Debug)]
pub(crate) struct Throttle(Cache<IpAddr, u32>);

impl Default for Throttle {
    fn default() -> Throttle {
        let minutes = Duration::from_secs(600);
        Throttle(Cache::builder().max_capacity(10_000).time_to_live(minutes).build())
    }
}

impl Throttle {
    /// Counts a bad secret, and says how long its answer waits.
    pub(super) fn bad(&self, peer: IpAddr) -> Duration {
        let peer = network(peer);
        let count = self.0.get(&peer).unwrap_or(0).saturating_add(1);
        self.0.insert(peer, count);
        // The first two are free: people mistype.
        let doublings = count.saturating_sub(3).min(10);
        if count < 3 {
            Duration::ZERO
        } else {
            Duration::from_millis(50 << doublings).min(MAX_DELAY)
        }
    }
}

/// Whose an address is: of IPv6 one has a whole /64 to choose from.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// Whether the call carries the secret: as `Authorization: Bearer`, as the password
/// of HTTP Basic (RFC 7617), as `x-revalidate-secret`, or as an argument.
pub(super) fn authentic(secret: &str, request: &Request<'_>, argument: Option<&str>) -> bool {
    let same = |given: &[u8]| bool::from(given.ct_eq(secret.as_bytes()));
    request.lines("authorization").any(|value| match credentials(value) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer") => same(token),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"basic") => {
            password(token).is_some_and(|password| same(&password))
        }
        _ => false,
    }) || request.lines("x-revalidate-secret").any(same)
        || argument.is_some_and(|argument| same(argument.as_bytes()))
}

/// Scheme and token of an `Authorization` (RFC 9110 §11.4).
fn credentials(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', value)?;
    Some((&value[..space], value[space..].trim_ascii()))
}

/// The password of HTTP Basic, whoever the user is.
fn password(token: &[u8]) -> Option<Vec<u8>> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let mut pair = BASE64.decode(token).ok()?;
    let colon = memchr::memchr(b':', &pair)?;
    Some(pair.split_off(colon + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_secrets_are_slowed_down_by_address() {
        let throttle = Throttle::default();
        let (one, other) = ([1, 1, 1, 1].into(), [2, 2, 2, 2].into());
        let delays: Vec<_> = (0..14).map(|_| throttle.bad(one)).collect();
        assert_eq!(delays[..2], [Duration::ZERO; 2]);
        assert!(delays.is_sorted() && delays[2] > Duration::ZERO && delays[13] == MAX_DELAY);
        assert_eq!(throttle.bad(other), Duration::ZERO);
        // The same one, and another one's neighbour.
        assert_eq!(throttle.bad("::ffff:1.1.1.1".parse().unwrap()), MAX_DELAY);
        for n in 0..3 {
            let slow = throttle.bad(format!("2001:db8::{n}:1").parse().unwrap());
            assert_eq!(slow > Duration::ZERO, n == 2);
        }
        assert_eq!(throttle.bad("2001:db8:0:1::1".parse().unwrap()), Duration::ZERO);
    }

    #[test]
    fn the_secret_in_its_places() {
        let of = |name: &'static str, value: &str| {
            let fields = [httparse::Header { name, value: value.as_bytes() }];
            let request = crate::request::testing::get("/", &fields);
            authentic("open:sesame", &request, None)
        };
        for (name, value, right) in [
            ("Authorization", "Bearer open:sesame", true),
            ("authorization", "bearer  open:sesame ", true),
            ("Authorization", "Bearer open", false),
            ("Authorization", "Beareropen:sesame", false),
            ("Authorization", "open:sesame", false),
            // cms:open:sesame, :open:sesame, and the first without its padding
            ("Authorization", "Basic Y21zOm9wZW46c2VzYW1l", true),
            ("Authorization", "basic Om9wZW46c2VzYW1l", true),
            ("Authorization", "Basic YTpvcGVuOnNlc2FtZQ==", true),
            ("Authorization", "Basic YTpvcGVuOnNlc2FtZQ", true),
            // open:sesame, whose password is sesame; and no base64
            ("Authorization", "Basic b3BlbjpzZXNhbWU=", false),
            ("Authorization", "Basic open:sesame", false),
            ("Authorization", "Basic", false),
            ("X-Revalidate-Secret", "open:sesame", true),
            ("X-Revalidate-Secret", "", false),
            ("X-Secret", "open:sesame", false),
        ] {
            assert_eq!(of(name, value), right, "{name}: {value}");
        }
    }
}
