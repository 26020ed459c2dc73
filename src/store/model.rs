//! The fence, held against models of it: every interleaving of a few steps,
//! random histories of many, and real threads.
//!
//! The promise (semantics §5): a render that began before an invalidation is never
//! fresh after its acknowledgement, and one that began after the acknowledgement
//! is never made stale by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::FutureExt;
use futures::executor::block_on as now;
use proptest::prelude::*;

use super::invalidation::Entry;
use super::tier::testing::Slow;
use super::*;
use crate::page::testing::{key, rep};
use Standing::{Dead, Live};

fn effect(hardness: Hardness) -> Standing {
    match hardness {
        Hardness::Soft => Standing::Stale,
        Hardness::Hard => Standing::Dead,
    }
}

fn config(max_invalidations: usize) -> config::Cache {
    config::Cache {
        memory: 1 << 24,
        max_object: 1 << 20,
        max_variants: 2,
        max_invalidations,
        max_notes: 1 << 20,
        ..config::Cache::default()
    }
}

/// Logging has a task of its own.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// All ways to interleave actors that take so many steps each.
fn interleavings(steps: &[usize], each: &mut impl FnMut(&[usize])) {
    fn go(left: &mut [usize], so_far: &mut Vec<usize>, each: &mut impl FnMut(&[usize])) {
        if left.iter().all(|&n| n == 0) {
            return each(so_far);
        }
        for actor in 0..left.len() {
            if left[actor] > 0 {
                left[actor] -= 1;
                so_far.push(actor);
                go(left, so_far, each);
                so_far.pop();
                left[actor] += 1;
            }
        }
    }
    go(&mut steps.to_vec(), &mut Vec::new(), each);
}

/// An actor: what it does, step by step.
#[derive(Clone, Debug)]
enum Actor {
    /// Appended to the log; applied.
    Invalidate(Name, Hardness),
    /// One step, as it takes one lock.
    Unsafe,
    /// Begin, commit: of a form, with tags.
    Fill(Form, &'static [&'static str]),
    /// So many times.
    Lookup(usize),
    /// One step.
    Evict,
}

impl Actor {
    fn steps(&self) -> usize {
        match self {
            Self::Invalidate(..) | Self::Fill(..) => 2,
            Self::Lookup(times) => *times,
            Self::Unsafe | Self::Evict => 1,
        }
    }
}

/// When the things that matter happened, in steps.
#[derive(Clone, Debug, Default)]
struct Events {
    /// Of an actor that invalidates: it got its number; it was acknowledged.
    started: Option<usize>,
    acknowledged: Option<usize>,
    /// Of an actor that fills.
    born: Born,
    began: Option<usize>,
    seq: crate::page::Seq,
}

/// `memory` is used again and again: to make one takes longer than a run.
fn run(actors: &[Actor], order: &[usize], memory: &Memory) {
    let log = Arc::new(MemoryLog::default());
    let without = config::Cache { memory: 0, ..config(100) };
    let mut store = Store::open(&without, Arc::clone(&log) as Arc<dyn Log>, None).unwrap();
    store.memory = Some(memory.clone());
    let invalidations = &store.invalidations;
    let key = key("/a/b");
    store.remove(&key);
    let mut events = vec![Events::default(); actors.len()];
    let mut taken = vec![0; actors.len()];
    // Between which severities a fill's render may stand, as names of `tags`.
    let bounds = |events: &[Events], fill: usize, tags: &Tags| {
        let began = events[fill].began.unwrap();
        let (mut least, mut most) = (Live, Live);
        for (actor, event) in actors.iter().zip(events) {
            let (covers, effect) = match actor {
                Actor::Invalidate(name, with) => (name.covers(&key, tags), effect(*with)),
                Actor::Unsafe => (true, Dead),
                _ => continue,
            };
            let Some(started) = event.started.filter(|_| covers) else { continue };
            if began < started && event.acknowledged.is_some() {
                least = effect.max(least);
            }
            if event.acknowledged.is_none_or(|acknowledged| began < acknowledged) {
                most = effect.max(most);
            }
        }
        (least, most)
    };
    let look = |events: &[Events]| {
        let Some(page) = store.get(key.as_str()) else { return };
        for member in &page.members {
            let fill = actors
                .iter()
                .position(|actor| matches!(actor, Actor::Fill(form, _) if *form == member.form))
                .unwrap();
            let (least, most) = bounds(events, fill, &page.tags);
            let found = store.standing(&page, member, &Tags::default());
            assert!((least..=most).contains(&found), "{actors:?} {order:?} {found:?}");
        }
    };
    for (at, &which) in order.iter().enumerate() {
        let step = taken[which];
        taken[which] += 1;
        match (&actors[which], step) {
            (Actor::Invalidate(name, hardness), 0) => {
                let appended = log.append(std::slice::from_ref(name), *hardness);
                events[which].seq = appended.now_or_never().unwrap().unwrap();
                events[which].started = Some(at);
            }
            (Actor::Invalidate(name, hardness), _) => {
                let (seq, names) = (events[which].seq, vec![name.clone()]);
                invalidations.apply(&Entry { seq, names, hardness: *hardness });
                events[which].acknowledged = Some(at);
            }
            (Actor::Unsafe, _) => {
                events[which].started = Some(at);
                invalidations.invalidate_unsafe(key.host(), key.path(), Hardness::Hard);
                events[which].acknowledged = Some(at);
            }
            (Actor::Fill(..), 0) => {
                events[which].born = store.born();
                events[which].began = Some(at);
            }
            (Actor::Fill(form, tags), _) => {
                let (least, most) = {
                    let joined = crate::page::testing::tags(tags);
                    let old = store.get(key.as_str()).map(|page| page.tags.union(&joined));
                    bounds(&events, which, &old.unwrap_or(joined))
                };
                let rep = rep(*form, events[which].born, tags, "");
                let found = match now(store.commit(&key, &Tags::default(), vec![rep], |_| false)) {
                    Committed::Stored { standing, .. } => standing,
                    Committed::Dead => Dead,
                    other => panic!("{other:?}"),
                };
                assert!((least..=most).contains(&found), "{actors:?} {order:?} {found:?}");
            }
            (Actor::Lookup(_), _) => look(&events),
            (Actor::Evict, _) => {
                store.remove(&key);
            }
        }
    }
    look(&events);
}

#[test]
fn every_interleaving_of_a_few_steps_keeps_the_fence() {
    use Actor::{Evict, Fill, Invalidate, Lookup, Unsafe};
    use Hardness::{Hard, Soft};
    let tag = || Name::Tag { host: None, tag: "t".into() };
    let path = || Name::Path { host: Some("example.com".into()), path: "/a/b".into() };
    let prefix = || Name::Prefix { host: None, path: "/a".into() };
    let doc = || Fill(Form::Document, &["t"]);
    // A member without the tag: the page has it by the other one.
    let data = || Fill(Form::Data, &[]);
    let memory = Memory::new(1 << 20).unwrap();
    let mut runs = 0;
    let mut all = |actors: &[Actor]| {
        let steps: Vec<_> = actors.iter().map(Actor::steps).collect();
        interleavings(&steps, &mut |order| {
            runs += 1;
            run(actors, order, &memory);
        });
    };
    for name in [Name::All, Name::Host("example.com".into()), path(), prefix(), tag()] {
        for hardness in [Soft, Hard] {
            all(&[Invalidate(name.clone(), hardness), doc(), Lookup(2), Evict]);
        }
    }
    for hardness in [Soft, Hard] {
        // An unsafe method does not wait for one that is being logged.
        all(&[Invalidate(tag(), hardness), Unsafe, doc(), Lookup(2)]);
        all(&[Invalidate(tag(), hardness), doc(), data(), Lookup(1)]);
        // They are applied in any order.
        all(&[Invalidate(prefix(), hardness), Invalidate(tag(), Soft), doc(), Lookup(2)]);
        all(&[Invalidate(Name::All, Hard), Invalidate(tag(), hardness), doc(), Lookup(2)]);
    }
    assert!(runs > 15_000, "{runs}");
}

const HOSTS: [&str; 3] = ["a.com", "a.com:8080", "b.com"];
const PATHS: [&str; 4] = ["/", "/x", "/x/y", "/xy"];
const TAGS: [&str; 3] = ["s", "t", "u"];
const FORMS: [Form; 2] = [Form::Document, Form::Data];

#[derive(Clone, Debug)]
enum Op {
    Begin { page: usize, forms: u8, tags: [u8; 2], overflow: bool },
    Commit(usize),
    Invalidate(Name, Hardness),
    Unsafe(usize),
    Lookup(usize),
    Evict(usize),
    Free(Name),
    Withdraw(usize, usize),
}

fn page_key(page: usize) -> PageKey {
    PageKey::new("", "https", HOSTS[page % HOSTS.len()], PATHS[page / HOSTS.len() % PATHS.len()])
}

fn names() -> impl Strategy<Value = Name> {
    let host = || prop::option::of(prop::sample::select(&HOSTS[..]).prop_map(Into::into));
    prop_oneof![
        1 => Just(Name::All),
        1 => prop::sample::select(&HOSTS[..]).prop_map(|host| Name::Host(host.into())),
        1 => (host(), prop::sample::select(&PATHS[..]))
            .prop_map(|(host, path)| Name::Path { host, path: path.into() }),
        1 => (host(), prop::sample::select(&PATHS[..]))
            .prop_map(|(host, path)| Name::Prefix { host, path: path.into() }),
        3 => (host(), prop::sample::select(&TAGS[..]))
            .prop_map(|(host, tag)| Name::Tag { host, tag: tag.into() }),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Few pages, so that much happens to each.
    let page = || prop_oneof![3 => 3_usize..5, 1 => 0_usize..12];
    let op = prop_oneof![
        4 => (page(), 1_u8..4, prop::array::uniform2(0_u8..8), prop::bool::weighted(0.05))
            .prop_map(|(page, forms, tags, overflow)| Op::Begin { page, forms, tags, overflow }),
        4 => any::<usize>().prop_map(Op::Commit),
        3 => (names(), prop_oneof![3 => Just(Hardness::Soft), 1 => Just(Hardness::Hard)])
            .prop_map(|(name, hardness)| Op::Invalidate(name, hardness)),
        1 => page().prop_map(Op::Unsafe),
        4 => page().prop_map(Op::Lookup),
        1 => page().prop_map(Op::Evict),
        1 => names().prop_map(Op::Free),
        1 => (page(), 0_usize..2).prop_map(|(page, form)| Op::Withdraw(page, form)),
    ];
    prop::collection::vec(op, 1..80)
}

/// One response: what the model knows about it. Its body is its number.
#[derive(Clone, Debug)]
struct Render {
    page: usize,
    form: Form,
    began: usize,
    born: Born,
    tags: Tags,
    /// What an acknowledged invalidation made of it, at the least.
    least: Standing,
}

struct Model {
    store: Store,
    /// The tier below memory, if there is one.
    slow: Option<Arc<Slow>>,
    runtime: tokio::runtime::Runtime,
    /// Whether every name is kept apart, so that nothing is stale without reason.
    exact: bool,
    now: usize,
    /// When, what, how.
    invalidations: Vec<(usize, Name, Hardness)>,
    unsafe_methods: Vec<(usize, usize)>,
    renders: Vec<Render>,
    in_flight: Vec<Vec<usize>>,
    /// Every tag that each page ever had.
    ever: Vec<Tags>,
}

/// Without the store, which says little.
impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("now", &self.now)
            .field("invalidations", &self.invalidations)
            .field("unsafe_methods", &self.unsafe_methods)
            .field("renders", &self.renders)
            .finish_non_exhaustive()
    }
}

impl Model {
    fn new(max_names: usize, exact: bool, slow: Option<Arc<Slow>>) -> Model {
        let below = slow.clone().map(|slow| slow as Arc<dyn Tier>);
        let log = Arc::new(MemoryLog::default());
        Model {
            store: Store::open(&config(max_names), log, below).unwrap(),
            slow,
            runtime: runtime(),
            exact,
            now: 0,
            invalidations: Vec::new(),
            unsafe_methods: Vec::new(),
            renders: Vec::new(),
            in_flight: Vec::new(),
            ever: vec![Tags::default(); 12],
        }
    }

    /// The renders that are stored as members of a page.
    fn stored(&self, page: usize) -> Vec<usize> {
        let key = page_key(page);
        let below = || self.slow.as_ref()?.read(key.as_str());
        let Some(found) = self.store.get(key.as_str()).or_else(below) else { return Vec::new() };
        let number = |rep: &Arc<Representation>| {
            std::str::from_utf8(&rep.identity().bytes).unwrap().parse().unwrap()
        };
        found.members.iter().map(number).collect()
    }

    /// Their tags as the origin sent them.
    fn tags(&self, renders: &[usize]) -> Tags {
        renders.iter().fold(Tags::default(), |all, &n| all.union(&self.renders[n].tags))
    }

    /// What the invalidations after its beginning made of a render, if its page
    /// has those tags.
    fn verdict(&self, render: usize, tags: &Tags) -> Standing {
        let Render { page, began, .. } = self.renders[render];
        let key = page_key(page);
        let named = self
            .invalidations
            .iter()
            .filter(|(at, name, _)| *at > began && name.covers(&key, tags));
        let unsafe_method =
            self.unsafe_methods.iter().any(|&(at, of)| at > began && page_key(of) == key);
        let worst = named.map(|(_, _, with)| effect(*with)).max().unwrap_or(Live);
        worst.max(if unsafe_method { Dead } else { Live })
    }

    fn bounds(&self, render: usize) -> (Standing, Standing) {
        let page = self.renders[render].page;
        let least = self.verdict(render, &self.tags(&self.stored(page)));
        let most = if self.exact {
            self.verdict(render, &self.ever[page])
        } else {
            // With floors, anything after its beginning may count.
            let began = self.renders[render].began;
            let after = self.invalidations.iter().filter(|(at, ..)| *at > began);
            let worst = after.map(|(_, _, with)| effect(*with)).max().unwrap_or(Live);
            worst.max(self.verdict(render, &self.ever[page]))
        };
        (least.max(self.renders[render].least), most)
    }

    fn look(&self, page: usize) {
        let Some(found) = now(self.store.load(page_key(page).as_str())) else { return };
        for (member, render) in found.members.iter().zip(self.stored(page)) {
            let (least, most) = self.bounds(render);
            let standing = self.store.standing(&found, member, &Tags::default());
            let range = least..=most;
            assert!(range.contains(&standing), "{standing:?} not in {range:?}: {self:?}");
            // As it was remembered.
            assert_eq!(self.store.standing(&found, member, &Tags::default()), standing);
        }
    }

    fn commit(&mut self, renders: Vec<usize>) {
        let page = self.renders[renders[0]].page;
        let key = page_key(page);
        let before = self.stored(page);
        let newer = renders.iter().any(|&n| {
            let new = &self.renders[n];
            let mut old = before.iter().map(|&old| &self.renders[old]);
            old.any(|old| old.form == new.form && old.born > new.born)
        });
        let names = self.tags(&[&before[..], &renders[..]].concat());
        self.ever[page] = self.ever[page].union(&names);
        let least = renders.iter().map(|&n| self.verdict(n, &names)).max().unwrap_or(Live);
        let most = renders.iter().map(|&n| self.bounds(n).1).max().unwrap();
        let reps = renders.iter().map(|&n| {
            let render = &self.renders[n];
            let mut rep = rep(render.form, render.born, &[], &n.to_string());
            rep.tags = Arc::new(render.tags.clone());
            rep
        });
        let reps = reps.collect();
        let committed = now(self.store.commit(&key, &Tags::default(), reps, |_| false));
        let after = self.stored(page);
        match committed {
            Committed::Stored { standing, .. } => {
                assert!(!newer && least < Dead && renders.iter().all(|n| after.contains(n)));
                assert!((least..=most).contains(&standing), "{self:?}");
                renders.iter().for_each(|&n| self.renders[n].least = self.verdict(n, &names));
            }
            Committed::Dead => assert!(most == Dead && after == before, "{self:?}"),
            Committed::Superseded => assert!(newer && after == before, "{self:?}"),
            other => panic!("{other:?}"),
        }
        // Nobody else's member went, unless it was dead.
        for old in before {
            let replaced = renders.iter().any(|&n| self.renders[n].form == self.renders[old].form);
            assert!(replaced || after.contains(&old) || self.bounds(old).1 == Dead, "{self:?}");
        }
        self.keep_least(page);
    }

    /// A render that was once found stale never is live again.
    fn keep_least(&mut self, page: usize) {
        let stored = self.stored(page);
        let tags = self.tags(&stored);
        for n in stored {
            self.renders[n].least = self.renders[n].least.max(self.verdict(n, &tags));
        }
    }

    fn step(&mut self, op: Op) {
        self.now += 1;
        match op {
            Op::Begin { page, forms, tags, overflow } => {
                let mut these = Vec::new();
                for (n, form) in FORMS.into_iter().enumerate().filter(|(n, _)| forms >> n & 1 == 1)
                {
                    let names = TAGS.iter().enumerate().filter(|(tag, _)| tags[n] >> tag & 1 == 1);
                    let names = names.map(|(_, &tag)| tag.into()).collect();
                    these.push(self.renders.len());
                    self.renders.push(Render {
                        page,
                        form,
                        began: self.now,
                        born: self.store.born(),
                        tags: Tags { names, overflow },
                        least: Live,
                    });
                }
                self.in_flight.push(these);
            }
            Op::Commit(which) => {
                if !self.in_flight.is_empty() {
                    let renders = self.in_flight.swap_remove(which % self.in_flight.len());
                    self.commit(renders);
                }
            }
            Op::Invalidate(name, hardness) => {
                let names = vec![name.clone()];
                self.runtime.block_on(self.store.invalidate(names, hardness)).unwrap();
                self.invalidations.push((self.now, name, hardness));
                (0..12).for_each(|page| self.keep_least(page));
            }
            Op::Unsafe(page) => {
                self.store.invalidate_unsafe(&page_key(page));
                self.unsafe_methods.push((self.now, page));
            }
            Op::Lookup(page) => self.look(page),
            Op::Evict(page) => {
                self.store.memory.iter().for_each(|m| drop(m.remove(page_key(page).as_str())));
                self.slow.iter().for_each(|slow| slow.write());
            }
            Op::Withdraw(page, form) => {
                now(self.store.withdraw(&page_key(page), &Tags::default(), Born::MAX, |m| {
                    m.form == FORMS[form]
                }));
            }
            // Whatever it removes was dead.
            Op::Free(name) => {
                let before: Vec<_> = (0..12).flat_map(|page| self.stored(page)).collect();
                self.store.free_now(&[name], &|_: &PageKey| Arc::default());
                let after: Vec<_> = (0..12).flat_map(|page| self.stored(page)).collect();
                let gone = before.into_iter().filter(|n| !after.contains(n));
                gone.for_each(|n| assert_eq!(self.bounds(n).1, Dead, "{self:?}"));
            }
        }
        // Fills in flight: whoever asks knows at the least what a commit would find.
        for n in self.in_flight.iter().flatten() {
            let render = &self.renders[*n];
            let key = page_key(render.page);
            let known = self.store.fence(&key, Some(&render.tags), render.born);
            assert!(known >= self.verdict(*n, &render.tags));
            assert!(self.store.fence(&key, None, render.born) >= known);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_histories_keep_the_fence(ops in ops()) {
        let mut model = Model::new(1_000, true, None);
        for op in ops {
            model.step(op);
        }
        (0..12).for_each(|page| model.look(page));
    }

    #[test]
    fn random_histories_over_a_slow_tier_keep_the_fence(ops in ops()) {
        let mut model = Model::new(1_000, true, Some(Arc::default()));
        for op in ops {
            model.step(op);
        }
        (0..12).for_each(|page| model.look(page));
    }

    #[test]
    fn forgetting_names_makes_too_much_stale_and_never_too_little(ops in ops(), max in 1_usize..4) {
        let mut model = Model::new(max, false, None);
        for op in ops {
            model.step(op);
        }
        (0..12).for_each(|page| model.look(page));
    }
}

/// An editor changes the content and purges; the origin renders what the content
/// is; a client that comes after the purge was acknowledged never gets older
/// content as live.
#[test]
fn threads_never_see_old_content_as_live() {
    never_see_old_content(Store::new(&config(50)), None);
}

/// The same where memory loses the page all the time, and the tier below is slow.
#[test]
fn threads_over_a_slow_tier_never_see_old_content_as_live() {
    let (log, slow) = (Arc::new(MemoryLog::default()), Arc::new(Slow::default()));
    let below = Arc::clone(&slow) as Arc<dyn Tier>;
    never_see_old_content(Store::open(&config(50), log, Some(below)).unwrap(), Some(slow));
}

fn never_see_old_content(store: Store, slow: Option<Arc<Slow>>) {
    const PURGES: u64 = 3_000;
    let (content, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let key = key("/a");
    let render = |form, tags: &[&str]| {
        let born = store.born();
        let seen = content.load(Ordering::SeqCst);
        std::thread::yield_now();
        let _ = now(store.commit(
            &key,
            &Tags::default(),
            vec![rep(form, born, tags, &seen.to_string())],
            |_| false,
        ));
    };
    let look = || {
        let least = acknowledged.load(Ordering::SeqCst);
        let Some(page) = now(store.load(key.as_str())) else { return };
        for member in &page.members {
            let seen: u64 = std::str::from_utf8(&member.identity().bytes).unwrap().parse().unwrap();
            if store.standing(&page, member, &Tags::default()) == Live {
                assert!(seen >= least, "{seen} is live after purge {least}");
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = runtime();
            for n in 1..=PURGES {
                content.store(n, Ordering::SeqCst);
                // The tag is on one member only, and other names push it out.
                let mut names = vec![Name::Tag { host: None, tag: "t".into() }];
                names.push(Name::Path { host: None, path: format!("/{n}").into() });
                let hardness = if n % 4 == 0 { Hardness::Hard } else { Hardness::Soft };
                if n % 7 == 0 {
                    store.invalidate_unsafe(&key);
                } else {
                    runtime.block_on(store.invalidate(names, hardness)).unwrap();
                }
                acknowledged.store(n, Ordering::SeqCst);
                std::thread::yield_now();
            }
            done.store(true, Ordering::SeqCst);
        });
        let (done, render, look, store) = (&done, &render, &look, &store);
        let until_done = move |act: &dyn Fn()| {
            while !done.load(Ordering::SeqCst) {
                act();
                std::thread::yield_now();
            }
        };
        scope.spawn(move || until_done(&|| render(Form::Document, &["t"])));
        scope.spawn(move || until_done(&|| render(Form::Data, &["t", "u"])));
        scope.spawn(move || until_done(&look));
        let key = &key;
        if let Some(slow) = slow {
            scope.spawn(move || {
                until_done(&|| {
                    store.memory.iter().for_each(|memory| drop(memory.remove(key.as_str())));
                    slow.write();
                    look();
                });
            });
        }
        scope.spawn(move || {
            until_done(&|| {
                let Some(page) = now(store.load(key.as_str())) else { return };
                let rep = &page.members[0];
                now(store.replace_bodies(key, rep, rep.bodies.clone()));
                look();
            });
        });
    });
    render(Form::Document, &["t"]);
    let page = now(store.load(key.as_str())).unwrap();
    let doc = page.members.iter().find(|member| member.form == Form::Document).unwrap();
    assert_eq!(store.standing(&page, doc, &Tags::default()), Live);
}
