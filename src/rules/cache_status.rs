//! What became of a request: the one value that makes the `Cache-Status` field
//! (RFC 9211), `X-Cache`, the metric label and the access log line.

use std::fmt;

use strum::{Display, IntoStaticStr, VariantArray};

use super::Reason;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// From the store, fresh. `ttl` in seconds; none for a page that is static until revalidated.
    Hit {
        /// Seconds of freshness left.
        ttl: Option<i64>,
    },
    /// From the store, stale. `ttl` is negative: seconds since it went stale.
    Stale {
        /// Seconds of freshness left: zero or less; none where an invalidation made it stale.
        ttl: Option<i64>,
        /// Why a stale page was good enough.
        why: StaleWhy,
    },
    /// From the origin, through a fill.
    Miss {
        /// Why the store could not answer.
        fwd: Fwd,
        /// The status the origin answered with.
        status: u16,
        /// Whether the response is being stored, or why not.
        stored: Result<(), Reason>,
        /// Whether this request waited for a fill that another one had begun.
        collapsed: bool,
    },
    /// From the store after the origin said 304.
    Revalidated {
        /// Seconds of freshness left.
        ttl: Option<i64>,
        /// Whether this request waited for a fill that another one had begun.
        collapsed: bool,
    },
    /// To the origin without asking the store.
    Bypass {
        /// Why the store was not asked.
        why: Bypass,
    },
    /// A plain error page of ours.
    Failed {
        /// What went wrong.
        why: Failure,
    },
    /// Perennial's own answer, not a page: the webhook.
    Own,
    /// Perennial's own answer, because the request was to go no further: `Max-Forwards: 0`
    /// (RFC 9110 §7.6.2).
    Hop,
    /// The client left before there was an answer. Nobody is sent this.
    Left,
}

/// The kinds of [`Outcome`]. Their names are metric labels and the `outcome` of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// [`Outcome::Hit`].
    Hit,
    /// [`Outcome::Stale`].
    Stale,
    /// [`Outcome::Miss`], and a failure that is the request's own doing.
    Miss,
    /// [`Outcome::Revalidated`].
    Revalidated,
    /// [`Outcome::Bypass`].
    Bypass,
    /// [`Outcome::Failed`].
    Failed,
    /// [`Outcome::Own`] and [`Outcome::Hop`].
    Own,
    /// [`Outcome::Left`].
    Left,
}

/// The status that a request is logged and counted with whose client left before there was an
/// answer. No RFC has one; this is nginx's.
pub const CLIENT_LEFT: u16 = 499;

/// Why a stale page was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum StaleWhy {
    /// One regeneration is running or was started.
    Regenerating,
    /// The last regeneration failed and the next one waits.
    Backoff,
    /// The origin's breaker is open.
    Breaker,
    /// A prefetch does not start a regeneration.
    Prefetch,
    /// The origin failed and its `stale-if-error` allows it.
    #[strum(serialize = "stale-if-error")]
    Error,
    /// Too many regenerations wait already.
    Busy,
    /// It is of a deployment before the current one, for who still has that open.
    Superseded,
}

/// Why a request went to the origin (the `fwd` parameter, RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Fwd {
    /// Nothing is stored for the page.
    UriMiss,
    /// The page is stored, but not in the form or variant asked for.
    VaryMiss,
    /// What is stored is stale and may not be served so.
    Stale,
    /// The page is known not to be collapsible or storable.
    Miss,
    /// The method is never answered from the store.
    Method,
    /// What is stored would do, but not for what the request carries: credentials
    /// (RFC 9111 §3.5).
    Request,
}

/// Why the store was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Bypass {
    /// The route says `pass`.
    Pass,
    /// The method is not GET or HEAD.
    Method,
    /// The request carries `Authorization`.
    Authorization,
    /// The request carries a draft cookie, or calls a server action.
    Draft,
    /// The request asks for an upgrade.
    Upgrade,
    /// `--dev`.
    Dev,
    /// The path turned out to be server-rendered for now.
    ServerRendered,
    /// The request names a form of a page that is not known: of another build, or
    /// with values that no client of the framework sends.
    Unknown,
    /// The origin sends clients of this URL elsewhere by what they say of themselves,
    /// such as their language.
    Negotiated,
}

/// What went wrong where no page could be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Failure {
    /// The request is malformed: 400.
    BadRequest,
    /// The head is larger than the limit: 431.
    HeadTooLarge,
    /// The target is longer than the limit: 414.
    UriTooLong,
    /// The head did not arrive in time: 408.
    HeadTimeout,
    /// The client stopped sending in the middle of its body: 408.
    BodyTimeout,
    /// The request names a method or an expectation that is not served: 405, 417, 501.
    Unsupported,
    /// The origin's name does not resolve: 502.
    Dns,
    /// Connecting was refused or failed: 502.
    Connect,
    /// TLS with the origin failed: 502.
    Tls,
    /// The origin broke off or answered no HTTP: 502.
    Reset,
    /// The origin answered in a coding that the client does not accept: 502.
    Coding,
    /// The origin did not answer in time: 504.
    Timeout,
    /// Too many fills wait for the origin: 503.
    Busy,
    /// The origin's breaker is open: 503.
    Breaker,
    /// No origin server is healthy: 502.
    Unhealthy,
    /// `only-if-cached` and not stored: 504 (RFC 9111 §5.2.1.7).
    OnlyIfCached,
    /// The edge is draining or out of a resource: 503.
    Unavailable,
    /// The origin is this edge itself: 508 (RFC 5842 §7.2).
    Loop,
}

impl Failure {
    /// Whether the origin was asked and no response head arrived (RFC 9111 §4.2.4,
    /// *disconnected*). That Perennial declined to ask is none.
    #[must_use]
    pub const fn is_disconnection(self) -> bool {
        matches!(
            self,
            Self::Dns | Self::Connect | Self::Tls | Self::Reset | Self::Timeout | Self::Unhealthy
        )
    }
}

impl Outcome {
    /// The value of `X-Cache`.
    #[must_use]
    pub const fn x_cache(self) -> &'static str {
        match self {
            Self::Hit { .. } => "HIT",
            Self::Stale { .. } => "STALE",
            Self::Miss { .. } | Self::Failed { .. } | Self::Left => "MISS",
            Self::Revalidated { .. } => "REVALIDATED",
            Self::Bypass { .. } | Self::Own | Self::Hop => "BYPASS",
        }
    }

    /// The kind that it counts as.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Hit { .. } => Kind::Hit,
            Self::Stale { .. } => Kind::Stale,
            Self::Miss { .. } | Self::Failed { why: Failure::OnlyIfCached } => Kind::Miss,
            Self::Revalidated { .. } => Kind::Revalidated,
            Self::Bypass { .. } => Kind::Bypass,
            Self::Failed { .. } => Kind::Failed,
            Self::Own | Self::Hop => Kind::Own,
            Self::Left => Kind::Left,
        }
    }

    /// The status that a request counts with which was answered with `status`: 504 is what
    /// RFC 9111 §5.2.1.7 wants for `only-if-cached`, and no failure of a server; the request
    /// itself ruled out that anybody be asked.
    #[must_use]
    pub const fn counted(self, status: u16) -> u16 {
        match self {
            Self::Failed { why: Failure::OnlyIfCached } => 400,
            _ => status,
        }
    }

    /// The reason behind the outcome, where there is one: for the log.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Hit { .. } | Self::Revalidated { .. } | Self::Own | Self::Left => None,
            Self::Stale { why, .. } => Some(why.into()),
            Self::Miss { stored: Err(reason), .. } => Some(reason.into()),
            Self::Miss { fwd, stored: Ok(()), .. } => Some(fwd.into()),
            Self::Bypass { why } => Some(why.into()),
            Self::Failed { why } => Some(why.into()),
            Self::Hop => Some("max-forwards"),
        }
    }
}

/// The `Cache-Status` field value (RFC 9211 §2).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("perennial")?;
        let ttl = |f: &mut fmt::Formatter<'_>, ttl: Option<i64>| match ttl {
            Some(ttl) => write!(f, "; ttl={ttl}"),
            None => Ok(()),
        };
        match *self {
            Self::Hit { ttl: t } => {
                f.write_str("; hit")?;
                ttl(f, t)
            }
            Self::Stale { ttl: t, why } => {
                f.write_str("; hit")?;
                ttl(f, t)?;
                write!(f, "; detail={why}")
            }
            Self::Miss { fwd, status, stored, collapsed } => {
                write!(f, "; fwd={fwd}; fwd-status={status}")?;
                if collapsed {
                    f.write_str("; collapsed")?;
                }
                match stored {
                    Ok(()) => f.write_str("; stored"),
                    Err(reason) => write!(f, "; detail={reason}"),
                }
            }
            Self::Revalidated { ttl: t, collapsed } => {
                f.write_str("; fwd=stale; fwd-status=304")?;
                if collapsed {
                    f.write_str("; collapsed")?;
                }
                f.write_str("; stored")?;
                ttl(f, t)
            }
            Self::Bypass { why: Bypass::Method } => f.write_str("; fwd=method"),
            Self::Bypass { why } => write!(f, "; fwd=bypass; detail={why}"),
            Self::Failed { why } => write!(f, "; detail={why}"),
            Self::Own => f.write_str("; detail=webhook"),
            Self::Hop => f.write_str("; detail=max-forwards"),
            Self::Left => f.write_str("; detail=client-left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfv::{BareItem, ListEntry};

    fn miss(fwd: Fwd, stored: Result<(), Reason>, collapsed: bool) -> Outcome {
        Outcome::Miss { fwd, status: 200, stored, collapsed }
    }

    #[test]
    fn what_clients_see() {
        // RFC 9211 §2; semantics §6
        let rows = [
            (Outcome::Hit { ttl: Some(41) }, "perennial; hit; ttl=41", "HIT", None),
            (Outcome::Hit { ttl: None }, "perennial; hit", "HIT", None),
            (
                Outcome::Stale { ttl: Some(-3), why: StaleWhy::Regenerating },
                "perennial; hit; ttl=-3; detail=regenerating",
                "STALE",
                Some("regenerating"),
            ),
            (
                Outcome::Stale { ttl: None, why: StaleWhy::Error },
                "perennial; hit; detail=stale-if-error",
                "STALE",
                Some("stale-if-error"),
            ),
            (
                miss(Fwd::UriMiss, Ok(()), false),
                "perennial; fwd=uri-miss; fwd-status=200; stored",
                "MISS",
                Some("uri-miss"),
            ),
            (
                miss(Fwd::VaryMiss, Ok(()), true),
                "perennial; fwd=vary-miss; fwd-status=200; collapsed; stored",
                "MISS",
                Some("vary-miss"),
            ),
            (
                miss(Fwd::Stale, Err(Reason::SetCookie), false),
                "perennial; fwd=stale; fwd-status=200; detail=set-cookie",
                "MISS",
                Some("set-cookie"),
            ),
            (
                Outcome::Revalidated { ttl: Some(60), collapsed: true },
                "perennial; fwd=stale; fwd-status=304; collapsed; stored; ttl=60",
                "REVALIDATED",
                None,
            ),
            (
                Outcome::Bypass { why: Bypass::Method },
                "perennial; fwd=method",
                "BYPASS",
                Some("method"),
            ),
            (
                Outcome::Bypass { why: Bypass::Draft },
                "perennial; fwd=bypass; detail=draft",
                "BYPASS",
                Some("draft"),
            ),
            (
                Outcome::Failed { why: Failure::Timeout },
                "perennial; detail=timeout",
                "MISS",
                Some("timeout"),
            ),
            (Outcome::Own, "perennial; detail=webhook", "BYPASS", None),
            (Outcome::Hop, "perennial; detail=max-forwards", "BYPASS", Some("max-forwards")),
            (Outcome::Left, "perennial; detail=client-left", "MISS", None),
            (
                Outcome::Failed { why: Failure::Loop },
                "perennial; detail=loop",
                "MISS",
                Some("loop"),
            ),
        ];
        for (outcome, field, x_cache, reason) in rows {
            assert_eq!(outcome.to_string(), field);
            assert_eq!(outcome.x_cache(), x_cache, "{field}");
            assert_eq!(outcome.reason(), reason, "{field}");
        }
    }

    fn every_outcome() -> Vec<Outcome> {
        let mut all = vec![Outcome::Own, Outcome::Hop, Outcome::Left];
        for ttl in [None, Some(0), Some(-1), Some(i64::from(u32::MAX)), Some(-999_999_999_999_999)]
        {
            all.push(Outcome::Hit { ttl });
            all.push(Outcome::Revalidated { ttl, collapsed: false });
            all.extend(StaleWhy::VARIANTS.iter().map(|&why| Outcome::Stale { ttl, why }));
        }
        for &fwd in Fwd::VARIANTS {
            all.push(miss(fwd, Ok(()), true));
            all.extend(Reason::VARIANTS.iter().map(|&reason| miss(fwd, Err(reason), false)));
        }
        all.extend(Bypass::VARIANTS.iter().map(|&why| Outcome::Bypass { why }));
        all.extend(Failure::VARIANTS.iter().map(|&why| Outcome::Failed { why }));
        all
    }

    /// Every value there is parses as RFC 9211 §2 wants it.
    #[test]
    fn the_field_is_valid() {
        for outcome in every_outcome() {
            let field = outcome.to_string();
            let list: sfv::List = sfv::Parser::new(&field).parse().expect(&field);
            let [ListEntry::Item(item)] = &list[..] else { panic!("{field}") };
            assert_eq!(item.bare_item.as_token().map(|t| t.as_str()), Some("perennial"));
            for (name, value) in &item.params {
                let valid = match name.as_str() {
                    "hit" | "stored" | "collapsed" => matches!(value, BareItem::Boolean(true)),
                    "ttl" | "fwd-status" => value.as_integer().is_some(),
                    "detail" => value.as_token().is_some(),
                    "fwd" => value.as_token().is_some_and(|token| {
                        // §2.2
                        let known = [
                            "bypass",
                            "method",
                            "uri-miss",
                            "vary-miss",
                            "miss",
                            "request",
                            "stale",
                        ];
                        known.contains(&token.as_str())
                    }),
                    _ => false,
                };
                assert!(valid, "{name} in {field}");
            }
            let has = |name: &str| item.params.keys().any(|key| key.as_str() == name);
            // §2.1: hit and fwd exclude each other; §2.3, §2.5, §2.6: these need fwd.
            assert!(!(has("hit") && has("fwd")), "{field}");
            for name in ["fwd-status", "stored", "collapsed"] {
                assert!(!has(name) || has("fwd"), "{field}");
            }
            assert_eq!(
                field.contains("hit"),
                outcome.x_cache() == "HIT" || outcome.x_cache() == "STALE"
            );
        }
    }

    #[test]
    fn what_the_request_ruled_out_is_no_failure() {
        let unmet = Outcome::Failed { why: Failure::OnlyIfCached };
        assert_eq!((unmet.kind(), unmet.counted(504)), (Kind::Miss, 400));
        let timeout = Outcome::Failed { why: Failure::Timeout };
        assert_eq!((timeout.kind(), timeout.counted(504)), (Kind::Failed, 504));
    }

    #[test]
    fn every_kind_is_used_and_names_are_distinct() {
        for kind in Kind::VARIANTS {
            assert!(every_outcome().iter().any(|outcome| outcome.kind() == *kind), "{kind}");
        }
        fn distinct(mut names: Vec<&str>) {
            let n = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), n);
        }
        distinct(Reason::VARIANTS.iter().map(Into::into).collect());
        distinct(Failure::VARIANTS.iter().map(Into::into).collect());
        distinct(Bypass::VARIANTS.iter().map(Into::into).collect());
        distinct(StaleWhy::VARIANTS.iter().map(Into::into).collect());
    }
}
