//! What an exchange tells of its origin: whether it answers (semantics §3).

use http::StatusCode;

use crate::rules::cache_status::Failure;

/// How an exchange counts for the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The page was served: a status below 400.
    Served,
    /// The origin answered, with any other status than those of a gateway that
    /// has nobody behind it, or with what is no response. A page that says 500 or
    /// whose head is malformed is broken; its origin is not.
    Answered,
    /// Nothing came: the connection was reset or closed before a head, or the
    /// deadline passed, or a gateway in between says so (502, 503, 504).
    Silent,
    /// It could not even be asked: connecting was refused, failed, or took too
    /// long. No client has a part in that.
    Unreachable,
}

/// How far an exchange with the origin came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was sent yet.
    Connect,
    /// The request was sent, or a part of it; no final response head had come.
    Head,
    /// Something had come, and it was no response head that can be used: no HTTP, or a head
    /// that contradicts itself, or one interim response after the other.
    Malformed,
    /// The final response head had come.
    Body,
}

/// The body of a request, when its exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// There was none.
    None,
    /// The client had sent all of it.
    Whole,
    /// The client had not sent all of it.
    Unfinished,
}

impl Liveness {
    /// Whether it speaks against the origin.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Liveness::Silent | Liveness::Unreachable)
    }

    /// What the status of a response tells; none: nothing.
    #[must_use]
    pub fn of_status(status: StatusCode, body: RequestBody) -> Option<Liveness> {
        match status.as_u16() {
            502..=504 => (body != RequestBody::Unfinished).then_some(Liveness::Silent),
            ..400 => Some(Liveness::Served),
            _ => Some(Liveness::Answered),
        }
    }

    /// What it tells that no response came, or not all of it; none: nothing.
    #[must_use]
    pub const fn of_failure(why: Failure, stage: Stage, body: RequestBody) -> Option<Liveness> {
        match (stage, why) {
            (Stage::Connect, Failure::Connect | Failure::Tls | Failure::Timeout) => {
                Some(Liveness::Unreachable)
            }
            // Somebody is there, and does not get this one page right.
            (Stage::Malformed, _) => Some(Liveness::Answered),
            // Who does not want an upload closes the connection in the middle of it.
            (Stage::Head, Failure::Reset) => match body {
                RequestBody::None => Some(Liveness::Silent),
                RequestBody::Whole | RequestBody::Unfinished => None,
            },
            (Stage::Head, Failure::Timeout) => match body {
                RequestBody::None | RequestBody::Whole => Some(Liveness::Silent),
                RequestBody::Unfinished => None,
            },
            // It had answered; or it is a fault of ours, of the client's, or of the
            // resolver's.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    use Liveness::{Answered, Served, Silent, Unreachable};
    use RequestBody::{None as Empty, Unfinished, Whole};

    #[test]
    fn statuses() {
        for (statuses, body, expected) in [
            (&[101, 200, 204, 206, 301, 304][..], Empty, Some(Served)),
            (&[200, 303], Unfinished, Some(Served)),
            (&[400, 401, 403, 404, 408, 410, 413, 429, 451], Empty, Some(Answered)),
            (&[500, 501, 505, 507, 520, 599], Empty, Some(Answered)),
            (&[413, 500], Unfinished, Some(Answered)),
            (&[502, 503, 504], Empty, Some(Silent)),
            (&[502, 503, 504], Whole, Some(Silent)),
            (&[502, 503, 504], Unfinished, None),
        ] {
            for &status in statuses {
                let status = StatusCode::from_u16(status).unwrap();
                assert_eq!(Liveness::of_status(status, body), expected, "{status} {body:?}");
            }
        }
    }

    #[test]
    fn failures() {
        for &why in Failure::VARIANTS {
            for stage in [Stage::Connect, Stage::Head, Stage::Malformed, Stage::Body] {
                for body in [Empty, Whole, Unfinished] {
                    let expected = match (stage, why, body) {
                        (Stage::Connect, Failure::Connect | Failure::Tls | Failure::Timeout, _) => {
                            Some(Unreachable)
                        }
                        (Stage::Malformed, ..) => Some(Answered),
                        (Stage::Head, Failure::Reset, Empty) => Some(Silent),
                        (Stage::Head, Failure::Timeout, Empty | Whole) => Some(Silent),
                        _ => None,
                    };
                    let liveness = Liveness::of_failure(why, stage, body);
                    assert_eq!(liveness, expected, "{why:?} {stage:?} {body:?}");
                }
            }
        }
    }
}
