//! `Via` (RFC 9110 §7.6.3): what every request to an origin carries, and how an
//! edge knows a request of its own when it comes back to it.
//!
//! The pseudonym has a part that is drawn at random for each edge. So one
//! Perennial in front of another is fine, and one that is its own origin is
//! told at the first round (508), not when a deadline passes.

use std::sync::Arc;

use crate::rules::Lines;

/// The name of one edge. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Via {
    /// The member, `1.1 perennial-…`, and where the pseudonym begins in it.
    member: Arc<str>,
    pseudonym: usize,
}

/// The version with which origins are asked.
const PROTOCOL: &str = "1.1 ";

impl Default for Via {
    fn default() -> Via {
        let member = format!("{PROTOCOL}perennial-{:016x}", fastrand::u64(..));
        Via { member: member.into(), pseudonym: PROTOCOL.len() }
    }
}

impl Via {
    /// The member that is added to the `Via` of a request.
    #[must_use]
    pub fn member(&self) -> &str {
        &self.member
    }

    /// Whether the request has been here before.
    #[must_use]
    pub fn is_in(&self, request: &(impl Lines + ?Sized)) -> bool {
        let pseudonym = &self.member.as_bytes()[self.pseudonym..];
        request
            .lines("via")
            .flat_map(|line| line.split(|b| *b == b','))
            // A recipient on the way may have written the protocol in another way.
            .filter_map(|member| {
                member.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1)
            })
            .any(|received_by| received_by.eq_ignore_ascii_case(pseudonym))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_knows_its_own_requests_and_no_others() {
        let (this, other) = (Via::default(), Via::default());
        assert_ne!(this.member(), other.member());
        assert_eq!(this.member().len(), "1.1 perennial-0123456789abcdef".len());
        let own = this.member();
        let pseudonym = &own[4..];
        for (lines, known) in [
            (vec![own.to_owned()], true),
            (vec![other.member().to_owned()], false),
            (vec![format!("1.0 a, {}", other.member()), format!("{own}, 2 b")], true),
            (vec![format!("HTTP/1.1\t{pseudonym} (a comment)")], true),
            (vec![format!("1.1 {}", pseudonym.to_uppercase())], true),
            (vec![format!("1.1 cdn ({pseudonym})")], false),
            (vec![format!("1.1 x{pseudonym}"), format!("1.1 {pseudonym}x")], false),
            (vec![pseudonym.to_owned(), ",, ,".to_owned()], false),
            (vec!["1.1 perennial".to_owned()], false),
            (vec![], false),
        ] {
            let fields: Vec<_> = lines
                .iter()
                .map(|line| httparse::Header { name: "vIa", value: line.as_bytes() })
                .collect();
            assert_eq!(this.is_in(&fields[..]), known, "{lines:?}");
        }
    }
}
