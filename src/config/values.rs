//! The values of the YAML that are one word, number or text (see [`super::forms`]).

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde_json::{Value as Json, json};

use super::forms::{Scalar, Word};
use crate::page::canonical_path;

/// The longest duration: what is longer is a mistake, and sums of durations
/// must not overflow.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `off`
pub(super) struct Off;

impl Word for Off {
    const WORD: &'static str = "off";
}

/// `origin`: as the origin says.
pub(super) struct ByOrigin;

impl Word for ByOrigin {
    const WORD: &'static str = "origin";
}

/// A duration as one writes it, in units of fixed length: `90s` is `1m 30s`.
/// (humantime's own form has years of 365.25 days: 365 days would be
/// `11months 30days 3h …`.)
pub(super) fn human_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut parts = Vec::new();
    for (unit, nanos) in [
        ("d", 86_400_000_000_000_u128),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if rest >= nanos {
            parts.push(format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A duration: `10s`, `5m`, `30d`. With `ZERO`, `0s` is one.
pub(super) struct Lasting<const ZERO: bool>;
/// Any duration.
pub(super) type Span = Lasting<true>;
/// A duration that is not zero.
pub(super) type Time = Lasting<false>;

impl<const ZERO: bool> Scalar for Lasting<ZERO> {
    type Value = Duration;
    const EXPECTED: &str = "a duration such as 60s";

    fn text(v: &str) -> Result<Duration, String> {
        match humantime::parse_duration(v) {
            Ok(d) if d > MAX_DURATION => Err(format!("{v:?} is too long: at most 100 years")),
            Ok(d) if d.is_zero() && !ZERO => Err("must be longer than 0s".to_owned()),
            Ok(d) => Ok(d),
            Err(_) if v.bytes().all(|b| b.is_ascii_digit()) && !v.is_empty() => {
                Err(format!("the duration {v:?} lacks its unit: did you mean {v}s?"))
            }
            Err(why) => Err(format!("{v:?} is not a duration such as 10s, 5m or 30d: {why}")),
        }
    }
    fn number(v: u64) -> Result<Duration, String> {
        match v {
            0 => Self::text("0s"),
            _ => Err(format!("the duration {v} lacks its unit: did you mean {v}s?")),
        }
    }
    fn show(value: &Duration) -> Json {
        human_duration(*value).into()
    }
    fn schema() -> Json {
        let pattern = r"^0$|^([0-9]+(\.[0-9]+)?\s*[a-zA-Zµ]+\s*)+$|\$\{";
        json!({ "type": ["string", "integer"], "pattern": pattern, "maximum": 0 })
    }
}

/// A size in the largest unit that divides it: `512MiB`.
pub(super) fn human_size(bytes: u64) -> String {
    for (unit, size) in [
        ("TiB", bytesize::TIB),
        ("GiB", bytesize::GIB),
        ("MiB", bytesize::MIB),
        ("KiB", bytesize::KIB),
    ] {
        if bytes > 0 && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    if bytes == 0 { "0".to_owned() } else { format!("{bytes}B") }
}

/// A size: `512MiB`, or a number of bytes; within bounds.
pub(super) struct Size<T = u64, const MIN: u64 = 0, const MAX: u64 = { u64::MAX }>(PhantomData<T>);

impl<T, const MIN: u64, const MAX: u64> Scalar for Size<T, MIN, MAX>
where
    T: TryFrom<u64> + TryInto<u64> + Copy,
{
    type Value = T;
    const EXPECTED: &str = "a size such as 32MiB, or a number of bytes";

    fn text(v: &str) -> Result<T, String> {
        let size = v.trim().parse::<bytesize::ByteSize>().map_err(|_| {
            format!("{v:?} is not a size such as 16KiB, 32MiB or 1GiB, or a number of bytes")
        })?;
        Self::number(size.as_u64())
    }
    fn number(v: u64) -> Result<T, String> {
        let size = T::try_from(v).ok().filter(|_| (MIN..=MAX).contains(&v));
        size.ok_or_else(|| {
            format!("from {} to {}, found {}", human_size(MIN), human_size(MAX), human_size(v))
        })
    }
    fn show(value: &T) -> Json {
        match (*value).try_into() {
            Ok(0) | Err(_) => json!(0),
            Ok(size) => human_size(size).into(),
        }
    }
    fn schema() -> Json {
        let pattern = r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpP]?i?[bB]?)$|\$\{";
        json!({ "type": ["string", "integer"], "pattern": pattern, "minimum": 0 })
    }
}

/// A whole number within bounds.
pub(super) struct Count<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> Scalar for Count<MIN, MAX> {
    type Value = usize;

    const EXPECTED: &str = "a whole number";
    fn text(v: &str) -> Result<usize, String> {
        let number = v.trim().parse();
        number
            .map_err(|_| format!("expected {}, found {v:?}", Self::expected()))
            .and_then(Self::number)
    }
    fn number(v: u64) -> Result<usize, String> {
        let count = usize::try_from(v).ok().filter(|count| (MIN..=MAX).contains(count));
        count.ok_or_else(|| format!("from {MIN} to {MAX}, found {v}"))
    }
    fn show(value: &usize) -> Json {
        (*value).into()
    }
    fn schema() -> Json {
        json!({
            "type": ["integer", "string"],
            "minimum": MIN, "maximum": MAX, "pattern": r"^[0-9]+$|\$\{"
        })
    }
}

/// Yes or no.
pub(super) struct Flag;

impl Scalar for Flag {
    type Value = bool;

    const EXPECTED: &str = "`true` or `false`";
    fn text(v: &str) -> Result<bool, String> {
        v.parse().map_err(|_| format!("expected {}, found {v:?}", Self::expected()))
    }
    fn boolean(v: bool) -> Result<bool, String> {
        Ok(v)
    }
    fn show(value: &bool) -> Json {
        (*value).into()
    }
    fn schema() -> Json {
        json!({ "type": ["boolean", "string"], "pattern": r"^(true|false)$|\$\{" })
    }
}

/// A text that must not be seen: no error and no schema repeats it.
pub(super) struct Secret;

impl Scalar for Secret {
    type Value = String;

    const EXPECTED: &str = "a string";
    fn text(v: &str) -> Result<String, String> {
        Ok(v.to_owned())
    }
    fn number(_: u64) -> Result<String, String> {
        Err("expected a string, found a number; put it in quotes".to_owned())
    }
    fn show(_: &String) -> Json {
        Json::Null
    }
}

/// The name of a field.
pub(super) struct Field;

impl Scalar for Field {
    type Value = HeaderName;

    const EXPECTED: &str = "the name of a field";
    fn text(v: &str) -> Result<HeaderName, String> {
        HeaderName::from_bytes(v.as_bytes())
            .map_err(|_| format!("{v:?} is not the name of a field"))
    }
    fn show(value: &HeaderName) -> Json {
        value.as_str().into()
    }
}

/// An address to listen on.
pub(super) struct Address;

impl Scalar for Address {
    type Value = SocketAddr;

    const EXPECTED: &str = "an address and a port such as 0.0.0.0:8080";
    fn text(v: &str) -> Result<SocketAddr, String> {
        v.parse().map_err(|_| {
            let cure = match v.strip_prefix(':').unwrap_or(v).parse::<u16>() {
                Ok(port) => format!("; did you mean 0.0.0.0:{port}?"),
                Err(_) if v.starts_with("localhost:") => {
                    format!("; did you mean {}?", v.replace("localhost", "127.0.0.1"))
                }
                Err(_) => String::new(),
            };
            format!("expected {} or [::]:8080, found {v:?}{cure}", Self::expected())
        })
    }
    fn number(v: u64) -> Result<SocketAddr, String> {
        Self::text(&v.to_string())
    }
    fn show(value: &SocketAddr) -> Json {
        value.to_string().into()
    }
    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^.+:[0-9]{1,5}$|\$\{" })
    }
}

/// A network, as an address with a prefix length or an address alone.
pub(super) struct Network;

impl Scalar for Network {
    type Value = IpNet;

    const EXPECTED: &str = "an address such as 10.0.0.7, or a network such as 10.0.0.0/8";
    fn text(v: &str) -> Result<IpNet, String> {
        let network = v.parse().or_else(|_| v.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| format!("expected {}, found {v:?}", Self::expected()))
    }
    fn show(value: &IpNet) -> Json {
        value.to_string().into()
    }
    fn schema() -> Json {
        json!({ "type": "string", "pattern": r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$|\$\{" })
    }
}

/// A path below which a site lies: empty, or as in `/docs`.
pub(super) struct Base;

impl Scalar for Base {
    type Value = String;
    const EXPECTED: &str = "a path such as `/docs`";

    fn text(v: &str) -> Result<String, String> {
        base(v).map_err(|()| format!("expected {}", Self::EXPECTED))
    }
    fn show(value: &String) -> Json {
        value.as_str().into()
    }
}

/// A path below which a site lies: empty, or in canonical form. An error: it is no such path.
pub(crate) fn base(written: &str) -> Result<String, ()> {
    let base = written.trim_end_matches('/');
    let plain = is_path(base, false) && !base.contains(['*', '{', '[']);
    match base {
        "" => Ok(String::new()),
        _ if plain => Ok(canonical_path(base).into_owned()),
        _ => Err(()),
    }
}

/// Whether it can stand in a request line.
pub(super) fn is_path(path: &str, query: bool) -> bool {
    path.starts_with('/')
        && path.len() <= 1024
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && (query || b != b'?'))
}

/// Whether it can be a locale, such as `en-GB`.
pub(crate) fn is_locale(locale: &str) -> bool {
    !locale.is_empty() && locale.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Whether a field can carry the secret of drafts.
pub(crate) fn is_preview_id(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_graphic())
}

/// A locale, such as `en-GB`.
pub(super) struct Locale;

impl Scalar for Locale {
    type Value = String;
    const EXPECTED: &str = "a locale such as `en` or `en-GB`";

    fn text(v: &str) -> Result<String, String> {
        match is_locale(v) {
            true => Ok(v.to_owned()),
            false => Err(format!("expected {}", Self::EXPECTED)),
        }
    }
    fn show(value: &String) -> Json {
        value.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::de::De;
    use super::super::forms::{OneOrMany, Or, Written};
    use super::super::origins::{HostField, Server};
    use super::super::source::{Node, Value};
    use super::*;
    use proptest::prelude::*;

    fn read<W: Written>(node: &Node) -> Result<W::Value, String> {
        W::read(De(node)).map_err(|fault| fault.to_string())
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for (secs, text) in [(0, "0s"), (60, "1m"), (90, "1m 30s"), (86_400 * 365, "365d")] {
            assert_eq!(human_duration(Duration::from_secs(secs)), text);
        }
        assert_eq!(human_duration(Duration::from_millis(1500)), "1s 500ms");
        for (bytes, text) in
            [(0, "0"), (1, "1B"), (1000, "1000B"), (1024, "1KiB"), (3 << 29, "1536MiB")]
        {
            assert_eq!(human_size(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn durations_come_back(nanos in 0..MAX_DURATION.as_nanos() as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(humantime::parse_duration(&human_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_come_back(bytes: u64) {
            let node = Node { line: 1, value: Value::Text(human_size(bytes)) };
            prop_assert_eq!(read::<Size>(&node), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}|[0-9.]{1,4}[a-zA-Z]{1,3}|https?://\\PC{0,12}") {
            let node = Node { line: 1, value: Value::Text(text) };
            let _ = (read::<Span>(&node), read::<Size>(&node), read::<Count<1, 9>>(&node));
            let _ = (read::<Flag>(&node), read::<Address>(&node), read::<Or<Off, Address>>(&node));
            let _ = (read::<Server>(&node), read::<HostField>(&node), read::<Or<ByOrigin, Span>>(&node));
            let _ = read::<OneOrMany<Address>>(&node);
        }
    }
}
