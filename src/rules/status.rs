//! What statuses mean to a cache: one table, for page routes (semantics §1) and for
//! routes that go by RFC 9111 alone. A new rule about a status is a row here.

use http::StatusCode;

use super::Reason;

/// What a cache makes of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// On `isr` and `dsg`.
    pub page: OnPage,
    /// On `ssr`.
    pub ssr: OnSsr,
}

/// What a response with this status is on a page route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPage {
    /// A page: stored for as long as its route says.
    Stored,
    /// A temporary redirect: stored for `not_found` at most.
    Moved,
    /// There is no such page: stored for `not_found` at most.
    Missing,
    /// The page is not public (any more): forbids storing.
    Withdrawn,
    /// It speaks of one request or one moment and not of the page: a failed render,
    /// whatever it says of storing.
    Transient(Reason),
    /// No page either, but a complete answer: where it forbids storing, that counts.
    NoPage(Reason),
}

/// What RFC 9111 allows of a response with this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSsr {
    /// May be stored, by a heuristic lifetime, too (RFC 9110 §15.1).
    Heuristic,
    /// May be stored with an explicit lifetime.
    Explicit,
    /// The same, but not with `must-understand`: it is not known what this status means
    /// (RFC 9111 §5.2.2.3).
    NotUnderstood,
    /// Is never stored.
    Never(Reason),
}

/// What a status means. Understood are those of RFC 9110 §15 that are final, and 451
/// (RFC 7725); those of RFC 6585 §§3-6 are never stored.
#[must_use]
pub fn meaning(status: StatusCode) -> Meaning {
    use OnPage::{Missing, Moved, NoPage, Stored, Transient, Withdrawn};
    use OnSsr::{Explicit, Heuristic, Never, NotUnderstood};
    use Reason::{NoContent, Partial, ServerError, Status};
    let (page, ssr) = match status.as_u16() {
        ..200 => (Transient(Status), Never(Status)),
        200 => (Stored, Heuristic),
        203 => (NoPage(Status), Heuristic),
        201 | 202 => (NoPage(Status), Explicit),
        204 => (NoPage(NoContent), Heuristic),
        205 => (NoPage(NoContent), Explicit),
        206 | 304 => (Transient(Partial), Never(Partial)),
        300 => (NoPage(Status), Heuristic),
        301 | 308 => (Stored, Heuristic),
        302 | 307 => (Moved, Explicit),
        303 | 305 => (NoPage(Status), Explicit),
        401 | 403 | 451 => (Withdrawn, Explicit),
        404 | 410 => (Missing, Heuristic),
        405 | 414 => (NoPage(Status), Heuristic),
        408 | 421 => (Transient(Status), Explicit),
        400..=417 | 422 | 426 => (NoPage(Status), Explicit),
        425 => (Transient(Status), NotUnderstood),
        428 | 429 | 431 => (Transient(Status), Never(Status)),
        501 => (Transient(ServerError), Heuristic),
        500..=505 => (Transient(ServerError), Explicit),
        511 => (Transient(ServerError), Never(Status)),
        506.. => (Transient(ServerError), NotUnderstood),
        _ => (NoPage(Status), NotUnderstood),
    };
    Meaning { page, ssr }
}

impl Meaning {
    /// Whether we know what the status means for caches (RFC 9111 §5.2.2.3).
    #[must_use]
    pub fn is_understood(self) -> bool {
        matches!(self.ssr, OnSsr::Heuristic | OnSsr::Explicit)
    }

    /// Whether it says something of the page: no failed render, and no refusal.
    #[must_use]
    pub fn is_of_the_page(self) -> bool {
        !matches!(self.page, OnPage::Transient(_) | OnPage::Withdrawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wanted: impl Fn(Meaning) -> bool) -> Vec<u16> {
        let is_wanted = |code: &u16| StatusCode::from_u16(*code).is_ok_and(|s| wanted(meaning(s)));
        (100..600).filter(is_wanted).collect()
    }

    #[test]
    fn of_page_routes() {
        assert_eq!(all(|m| m.page == OnPage::Stored), [200, 301, 308]);
        assert_eq!(all(|m| m.page == OnPage::Moved), [302, 307]);
        assert_eq!(all(|m| m.page == OnPage::Missing), [404, 410]);
        assert_eq!(all(|m| m.page == OnPage::Withdrawn), [401, 403, 451]);
        assert_eq!(all(|m| m.page == OnPage::NoPage(Reason::NoContent)), [204, 205]);
        let partial = OnPage::Transient(Reason::Partial);
        assert_eq!(all(|m| m.page == partial), [206, 304]);
        let failed = OnPage::Transient(Reason::ServerError);
        assert!(all(|m| m.page == failed).into_iter().eq(500..600));
        let transient = all(|m| m.page == OnPage::Transient(Reason::Status));
        assert!(transient.into_iter().eq((100..200).chain([408, 421, 425, 428, 429, 431])));
    }

    /// RFC 9110 §15, RFC 7725, RFC 6585.
    #[test]
    fn of_rfc_9111() {
        let heuristic = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
        assert_eq!(all(|m| m.ssr == OnSsr::Heuristic), heuristic);
        let understood = (200..=205)
            .chain(300..=303)
            .chain([305, 307, 308])
            .chain(400..=417)
            .chain([421, 422, 426, 451])
            .chain(500..=505);
        assert!(all(Meaning::is_understood).into_iter().eq(understood));
        assert_eq!(all(|m| m.ssr == OnSsr::Never(Reason::Partial)), [206, 304]);
        let never = (100..200).chain([428, 429, 431, 511]);
        assert!(all(|m| m.ssr == OnSsr::Never(Reason::Status)).into_iter().eq(never));
    }
}
