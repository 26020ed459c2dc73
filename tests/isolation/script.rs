//! What happens in a case: pages, what their origin answers, and who asks for
//! them when. All of it comes from a seed.

use std::fmt;

use fastrand::Rng;

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
  backoff: { min: 1s, max: 1s }
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

/// What a visitor sends beside the target.
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

/// When a visitor leaves without the whole answer.
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

/// A lifetime that no test outlasts, and an `Age` far beyond it.
const LONG: u64 = 600;
const OLD: u64 = 10_000;
const VERY_LONG: u64 = 100_000;

/// Makes cases.
pub(super) struct Maker {
    rng: Rng,
    preset: Preset,
    /// Out of so many visits one is to another page than the others.
    strays: usize,
}

impl Maker {
    /// Cases where visits mostly meet at one page; `apart`: or spread.
    pub(super) fn new(seed: u64, preset: Preset, apart: bool) -> Self {
        Self { rng: Rng::with_seed(seed), preset, strays: if apart { 2 } else { 6 } }
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.rng.usize(..n) == 0
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    /// A case of this seed; with a storm if it is to have one.
    pub(super) fn script(mut self, seed: u64, storm: bool) -> Script {
        let count = self.rng.usize(1..=3);
        let mut pages = Vec::new();
        for n in 0..count {
            let public = self.one_in(3);
            pages.push(self.page(n, public));
        }
        let mut rounds = Vec::new();
        for _ in 0..self.rng.usize(2..=5) {
            let together = self.one_in(2);
            let visits = self.rng.usize(1..=4) + usize::from(together);
            let focus = self.rng.usize(..count);
            let visits = (0..visits).map(|_| self.visit(&pages, focus, !together)).collect();
            rounds.push(if together { Round::Together(visits) } else { Round::InTurn(visits) });
        }
        if storm {
            let at = self.rng.usize(1..=rounds.len());
            rounds.insert(at, Round::Storm);
            let focus = self.rng.usize(..count);
            let visits = (0..4).map(|_| self.visit(&pages, focus, false)).collect();
            rounds.insert(at + 1, Round::InTurn(visits));
        }
        Script { seed, preset: self.preset, pages, rounds }
    }

    fn page(&mut self, n: usize, public: bool) -> Page {
        let modes: &[Mode] = match self.preset {
            Preset::Generic => &[
                Mode::Ssr,
                Mode::Ssr,
                Mode::Ssr,
                Mode::Ssr,
                Mode::Isr,
                Mode::Isr,
                Mode::Lang,
                Mode::Dsg,
                Mode::Dsg,
                Mode::OriginLang,
                Mode::OriginLang,
                Mode::Pass,
            ],
            Preset::Nextjs => {
                &[Mode::Origin, Mode::Origin, Mode::Origin, Mode::Ssr, Mode::Isr, Mode::OriginLang]
            }
        };
        let mut mode = self.of(modes);
        let public = if public && mode != Mode::Pass {
            Some(self.public(n, mode))
        } else {
            mode = if public { Mode::Ssr } else { mode };
            None
        };
        let personal = !self.one_in(4);
        let several = if self.one_in(2) { self.rng.usize(2..=3) } else { 1 };
        let mut answers: Vec<Answer> = Vec::new();
        for _ in 0..several {
            let mut answer = self.answer(mode);
            if self.one_in(2)
                && let Some(first) = answers.first()
            {
                answer.vary.clone_from(&first.vary);
            }
            answers.push(answer);
        }
        if let Some(public) = &public {
            for answer in &mut answers {
                // What a page varies on it says in every answer (RFC 9110 §12.5.5).
                answer.vary.clone_from(&public.answer.vary);
            }
        }
        Page { mode, public, personal, answers }
    }

    fn public(&mut self, n: usize, mode: Mode) -> Public {
        use Directive::{MaxAge, MustRevalidate, Public as Everybody, SMaxage};
        let mut answer = match mode {
            Mode::Ssr if self.one_in(2) => Answer::page(&[MaxAge(LONG)]),
            Mode::Ssr => Answer::page(&[Everybody, SMaxage(LONG)]),
            Mode::Origin | Mode::OriginLang => Answer::page(&[SMaxage(LONG)]),
            _ => Answer::page(self.of(&[&[][..], &[MaxAge(0), MustRevalidate], &[MaxAge(LONG)]])),
        };
        answer.etag = self.one_in(2);
        let mut ask = Visit::to(n);
        if mode == Mode::Ssr {
            let varies: [&[&str]; 5] = [
                &["Cookie"],
                &["Cookie"],
                &["Accept-Language"],
                &["Cookie", "Accept-Language"],
                &["Accept"],
            ];
            answer.vary = self.of(&varies).to_vec();
        }
        if mode.by_language() || answer.vary.contains(&"Accept-Language") {
            let language = self.of(&["de", "en"]);
            ask.sends.push(Sends::Language(language));
        }
        let mut asks = vec![ask.clone()];
        if mode == Mode::Origin && self.one_in(2) {
            let payload = match self.rng.u8(..3) {
                0 => vec![Sends::Rsc],
                1 => vec![Sends::Rsc, Sends::Prefetch(1)],
                _ => vec![Sends::Rsc, Sends::Prefetch(1), Sends::Segment(0)],
            };
            asks.push(Visit { sends: payload, ..ask });
        }
        Public { asks, answer }
    }

    fn directives(&mut self, targeted: bool) -> Vec<Directive> {
        use Directive::{
            MaxAge, MustRevalidate, NoCache, NoStore, Private, ProxyRevalidate, Public, SMaxage,
            StaleIfError, StaleWhileRevalidate,
        };
        let usual: [&[Directive]; 13] = [
            &[MaxAge(0)],
            &[MaxAge(0), MustRevalidate],
            &[NoCache],
            &[],
            &[MaxAge(0), Public],
            &[MaxAge(LONG)],
            &[MaxAge(LONG), Public],
            &[MaxAge(LONG), MustRevalidate],
            &[Private, MaxAge(LONG)],
            &[NoStore],
            &[MaxAge(0), StaleWhileRevalidate(VERY_LONG)],
            &[MaxAge(LONG), StaleIfError(VERY_LONG)],
            &[NoCache, MaxAge(LONG)],
        ];
        if self.one_in(2) {
            return self.of(&usual).to_vec();
        }
        let mut directives = Vec::new();
        let all = [
            Public,
            Private,
            NoStore,
            NoCache,
            MustRevalidate,
            ProxyRevalidate,
            MaxAge(0),
            SMaxage(0),
            StaleWhileRevalidate(1),
            StaleIfError(1),
        ];
        for directive in all {
            let common = matches!(directive, MaxAge(_) | SMaxage(_));
            if self.rng.usize(..6) >= if common { 3 } else { 1 } {
                continue;
            }
            let long = self.one_in(2);
            directives.push(match directive {
                MaxAge(_) => MaxAge(if long { LONG } else { 0 }),
                // The targeted field has none of its own.
                SMaxage(_) if targeted => continue,
                SMaxage(_) => SMaxage(if long { LONG } else { 0 }),
                StaleWhileRevalidate(_) => StaleWhileRevalidate(if long { VERY_LONG } else { 0 }),
                StaleIfError(_) => StaleIfError(if long { VERY_LONG } else { 0 }),
                other => other,
            });
        }
        directives
    }

    fn answer(&mut self, mode: Mode) -> Answer {
        let cache = self.directives(false);
        let mut answer = Answer::page(&cache);
        answer.status = match self.rng.u8(..12) {
            0 => self.of(&[401, 403, 451]),
            1 => self.of(&[404, 410, 404]),
            2 => self.of(&[500, 503, 500, 502]),
            3 => self.of(&[429, 301, 307, 204, 400, 405]),
            _ => 200,
        };
        if self.one_in(8) {
            answer.cdn = self.directives(true);
        }
        if self.one_in(8) {
            answer.expires = Some(self.of(&[-100, LONG.cast_signed()]));
        }
        if self.one_in(4) {
            answer.age = OLD;
        }
        if mode == Mode::Ssr || mode.by_origin() {
            let varies: [&[&str]; 8] = [
                &[],
                &[],
                &[],
                &["Cookie"],
                &["Accept-Language"],
                &["Authorization", "Cookie"],
                &["X-Api-Key"],
                &["*"],
            ];
            answer.vary = self.of(&varies).to_vec();
        }
        answer.sets_cookie = self.one_in(8);
        answer.etag = !self.one_in(3);
        answer.renewal = match self.rng.u8(..4) {
            0 => Renewal::Anew,
            1 => Renewal::Bare,
            2 => Renewal::Says(cache),
            _ => Renewal::Says(self.directives(false)),
        };
        answer.hints = self.one_in(4);
        answer.delivery = match self.rng.u8(..16) {
            0..3 => Delivery::Chunked,
            3 => Delivery::UntilClose,
            4 => Delivery::Short,
            5 => Delivery::Nothing,
            _ => Delivery::Whole,
        };
        if self.one_in(8) {
            answer.kind = self.of(&[Kind::Html, Kind::Plain]);
        }
        answer
    }

    fn visit(&mut self, pages: &[Page], focus: usize, may_leave: bool) -> Visit {
        let page = if self.one_in(self.strays) { self.rng.usize(..pages.len()) } else { focus };
        let mut visit = Visit { who: self.rng.usize(1..6), ..Visit::to(page) };
        let read_only = pages[page].public.is_some() && pages[page].mode == Mode::Ssr;
        visit.method = match self.rng.u8(..16) {
            0 => "HEAD",
            // It would invalidate, as it must (RFC 9111 §4.4).
            1 if !read_only => "POST",
            _ => "GET",
        };
        if self.one_in(12) {
            visit.query = self.of(&["?x=1", "?_rsc=1", "?", "?session=2"]);
        }
        visit.sends = self.sends();
        if self.preset == Preset::Nextjs && self.one_in(8) {
            visit.data = Some(self.of(&["B1", "MADEUP", "B1"]));
        }
        if self.one_in(if may_leave { 16 } else { 6 }) {
            visit.leaves = Some(self.of(&[Leaves::BeforeTheHead, Leaves::AfterTheHead]));
        }
        visit
    }

    fn sends(&mut self) -> Vec<Sends> {
        let mut sends = Vec::new();
        let mut maybe = |one_in: usize, what: Sends, rng: &mut Rng| {
            if rng.usize(..one_in) == 0 {
                sends.push(what);
            }
        };
        let rng = &mut self.rng;
        maybe(2, Sends::Cookie, rng);
        maybe(4, Sends::Key, rng);
        maybe(10, Sends::Authorization, rng);
        let language = ["de", "en", "fr", "DE, en;q=0.5", "en;q=0.5,de", "x-made-up"];
        let language = language[rng.usize(..language.len())];
        maybe(2, Sends::Language(language), rng);
        let accept = ["text/html", "application/json", "application/json, */*;q=0.1", "*/*", ";;"];
        let accept = accept[rng.usize(..accept.len())];
        maybe(4, Sends::Accept(accept), rng);
        let control = ["no-cache", "no-store", "max-age=0", "only-if-cached"];
        let control = control[rng.usize(..control.len())];
        maybe(12, Sends::Control(control), rng);
        maybe(16, Sends::Purpose, rng);
        maybe(10, Sends::Condition, rng);
        maybe(20, Sends::Range, rng);
        if self.preset == Preset::Nextjs {
            let (prefetch, segment, from) = (rng.u32(1..20), rng.u32(..4), rng.u32(..3));
            maybe(3, Sends::Rsc, rng);
            maybe(4, Sends::Prefetch(if rng.bool() { 1 } else { prefetch }), rng);
            maybe(6, Sends::Segment(segment), rng);
            maybe(6, Sends::NextUrl(from), rng);
            maybe(16, Sends::Draft, rng);
        }
        sends
    }
}
