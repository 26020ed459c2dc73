//! What happens in a case: pages, what their origin answers, and who asks for
//! them when. All of it comes from a seed.

use std::fmt;

/// Directives of a `Cache-Control` or `CDN-Cache-Control`; times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    Public,
    Private,
    NoStore,
    NoCache,
    MustRevalidate,
    ProxyRevalidate,
    MaxAge(u64),
    SMaxage(u64),
    StaleWhileRevalidate(u64),
    StaleIfError(u64),
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Private => f.write_str("private"),
            Self::NoStore => f.write_str("no-store"),
            Self::NoCache => f.write_str("no-cache"),
            Self::MustRevalidate => f.write_str("must-revalidate"),
            Self::ProxyRevalidate => f.write_str("proxy-revalidate"),
            Self::MaxAge(n) => write!(f, "max-age={n}"),
            Self::SMaxage(n) => write!(f, "s-maxage={n}"),
            Self::StaleWhileRevalidate(n) => write!(f, "stale-while-revalidate={n}"),
            Self::StaleIfError(n) => write!(f, "stale-if-error={n}"),
        }
    }
}

/// The value of a field with these directives.
pub(super) fn field(directives: &[Directive]) -> String {
    directives.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The mode of a page's route, and the preset where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Ssr,
    Isr,
    /// `isr` with `vary: [accept-language]`.
    Lang,
    Dsg,
    /// `isr: { revalidate: origin }`; with the preset `nextjs` its own route.
    Origin,
    /// The same with `vary: [accept-language]`.
    OriginLang,
    Pass,
}

impl Mode {
    /// Its path in [`ROUTES`].
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Ssr => "/ssr",
            Self::Isr => "/isr",
            Self::Lang => "/lang",
            Self::Dsg => "/dsg",
            Self::Origin => "/origin",
            Self::OriginLang => "/olang",
            Self::Pass => "/pass",
        }
    }

    /// Whether the language is declared, and with that part of every key.
    pub(super) fn by_language(self) -> bool {
        matches!(self, Self::Lang | Self::OriginLang)
    }

    /// Whether the origin says how long a page lives.
    pub(super) fn by_origin(self) -> bool {
        matches!(self, Self::Origin | Self::OriginLang)
    }
}

/// A route of each mode. With the preset `nextjs` what no route matches is its own.
pub(super) const ROUTES: &str = "
- path: /ssr/**
  ssr: {}
- path: /isr/**
  isr: { revalidate: 1h }
- path: /lang/**
  isr: { revalidate: 1h }
  vary: [accept-language]
- path: /dsg/**
  dsg: {}
- path: /olang/**
  isr: { revalidate: origin }
  vary: [accept-language]
- path: /pass/**
  pass: {}
backoff: { min: 1s, max: 1s }
";

/// Which forms pages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preset {
    Generic,
    Nextjs,
}

/// How an answer comes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Chunked,
    UntilClose,
    /// Breaks off within its body.
    Short,
    /// No head at all.
    Nothing,
}

/// What a condition that holds is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Another 200.
    Anew,
    /// A 304 with nothing but its `ETag`.
    Bare,
    /// A 304 with this `Cache-Control`, perhaps another one, and a cookie where
    /// the answer sets one.
    Says(Vec<Directive>),
}

/// Of which type an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the form that was asked for.
    Asked,
    Html,
    Plain,
}

/// What the origin answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) cache: Vec<Directive>,
    /// `CDN-Cache-Control`.
    pub(super) cdn: Vec<Directive>,
    /// Seconds from now; below zero in the past.
    pub(super) expires: Option<i64>,
    pub(super) age: u64,
    pub(super) vary: Vec<&'static str>,
    pub(super) sets_cookie: bool,
    pub(super) etag: bool,
    pub(super) renewal: Renewal,
    /// After a 103 that names whom it is for.
    pub(super) hints: bool,
    pub(super) delivery: Delivery,
    pub(super) kind: Kind,
}

impl Answer {
    /// 200 with this `Cache-Control`.
    pub(super) fn page(cache: &[Directive]) -> Self {
        Self {
            status: 200,
            cache: cache.to_vec(),
            cdn: Vec::new(),
            expires: None,
            age: 0,
            vary: Vec::new(),
            sets_cookie: false,
            etag: false,
            renewal: Renewal::Anew,
            hints: false,
            delivery: Delivery::Whole,
            kind: Kind::Asked,
        }
    }
}

/// A page that is public for who asks for it in these ways, whatever others get.
#[derive(Clone, Debug)]
pub(super) struct Public {
    /// Who selects it.
    pub(super) asks: Vec<Visit>,
    /// What they get.
    pub(super) answer: Answer,
}

/// A page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) mode: Mode,
    pub(super) public: Option<Public>,
    /// Whether what it shows depends on who asks: its `ETag` does, too.
    pub(super) personal: bool,
    /// What the origin answers, one after the other, and over again.
    pub(super) answers: Vec<Answer>,
}

/// What a client sends beside the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    Cookie,
    /// A cookie that Next takes for an editor's.
    Draft,
    Key,
    Authorization,
    Language(&'static str),
    Accept(&'static str),
    Rsc,
    Prefetch(u32),
    Segment(u32),
    NextUrl(u32),
    Control(&'static str),
    Purpose,
    /// `If-None-Match` with the last `ETag` that the page's origin gave anybody.
    Condition,
    Range,
}

/// When a client leaves without the whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    BeforeTheHead,
    AfterTheHead,
}

/// Somebody asks for a page.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) page: usize,
    pub(super) who: usize,
    pub(super) method: &'static str,
    /// With its question mark.
    pub(super) query: &'static str,
    /// Its JSON by the URL of this build.
    pub(super) data: Option<&'static str>,
    pub(super) sends: Vec<Sends>,
    pub(super) leaves: Option<Leaves>,
}

impl Visit {
    /// A plain request.
    pub(super) fn to(page: usize) -> Self {
        Self { page, who: 0, method: "GET", query: "", data: None, sends: Vec::new(), leaves: None }
    }

    /// What it sends in this field, by a name in lower case.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let who = self.who;
        let mut cookies = Vec::new();
        for sends in &self.sends {
            let (of, value) = match *sends {
                Sends::Cookie => {
                    cookies.push(format!("me=visitor-{who}"));
                    continue;
                }
                Sends::Draft => {
                    cookies.push(format!("__prerender_bypass=guess-{who}"));
                    continue;
                }
                Sends::Key => ("x-api-key", format!("key-{who}")),
                Sends::Authorization => ("authorization", format!("Bearer token-{who}")),
                Sends::Language(language) => ("accept-language", language.to_owned()),
                Sends::Accept(accept) => ("accept", accept.to_owned()),
                Sends::Rsc => ("rsc", "1".to_owned()),
                Sends::Prefetch(n) => ("next-router-prefetch", n.to_string()),
                Sends::Segment(0) => ("next-router-segment-prefetch", "/_tree".to_owned()),
                Sends::Segment(n) => ("next-router-segment-prefetch", format!("/made-up-{n}")),
                Sends::NextUrl(n) => ("next-url", format!("/seen-from/{n}")),
                Sends::Control(value) => ("cache-control", value.to_owned()),
                Sends::Purpose => ("sec-purpose", "prefetch".to_owned()),
                Sends::Range => ("range", "bytes=0-40".to_owned()),
                // Only the origin's log knows it.
                Sends::Condition => continue,
            };
            if of == name {
                return Some(value);
            }
        }
        (name == "cookie" && !cookies.is_empty()).then(|| cookies.join("; "))
    }

    /// Whether it says more than which page it wants, for a renderer that is not
    /// told who asks.
    pub(super) fn says_more(&self) -> bool {
        let more = [Sends::Cookie, Sends::Draft, Sends::Key, Sends::Authorization];
        !self.query.is_empty() || self.sends.iter().any(|sends| more.contains(sends))
    }
}

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Round {
    /// One after the other.
    InTurn(Vec<Visit>),
    /// The origin holds its answers until all of them are there; the first is
    /// first.
    Together(Vec<Visit>),
    /// The origin breaks off every connection, and the breaker opens.
    Storm,
}

/// A case.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) preset: Preset,
    pub(super) pages: Vec<Page>,
    pub(super) rounds: Vec<Round>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} ({:?})", self.seed, self.preset)?;
        for (n, page) in self.pages.iter().enumerate() {
            let Page { mode, public, personal, answers } = page;
            writeln!(f, "page {n}: {mode:?}, personal: {personal}")?;
            if let Some(public) = public {
                writeln!(f, "  public for {:?}:\n    {}", public.asks, public.answer)?;
            }
            for answer in answers {
                writeln!(f, "  {answer}")?;
            }
        }
        for round in &self.rounds {
            match round {
                Round::Storm => writeln!(f, "a storm")?,
                Round::InTurn(visits) => {
                    writeln!(f, "in turn:")?;
                    visits.iter().try_for_each(|visit| writeln!(f, "  {visit:?}"))?;
                }
                Round::Together(visits) => {
                    writeln!(f, "together:")?;
                    visits.iter().try_for_each(|visit| writeln!(f, "  {visit:?}"))?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.status, field(&self.cache))?;
        if !self.cdn.is_empty() {
            write!(f, " CDN [{}]", field(&self.cdn))?;
        }
        if let Some(expires) = self.expires {
            write!(f, " Expires {expires:+}")?;
        }
        if self.age > 0 {
            write!(f, " Age {}", self.age)?;
        }
        if !self.vary.is_empty() {
            write!(f, " Vary {:?}", self.vary)?;
        }
        if self.sets_cookie {
            write!(f, " Set-Cookie")?;
        }
        if self.etag {
            write!(f, " ETag, renewed by {:?}", self.renewal)?;
        }
        if self.hints {
            write!(f, " after a 103")?;
        }
        write!(f, " {:?} {:?}", self.delivery, self.kind)
    }
}
