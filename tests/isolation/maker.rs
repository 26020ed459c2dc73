//! Cases out of seeds.

use fastrand::Rng;

use super::script::{
    Answer, Delivery, Directive, Kind, Leaves, Mode, Page, Preset, Public, Renewal, Round, Script,
    Sends, Visit,
};

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
