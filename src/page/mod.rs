//! What is stored: a page, its representations, and the names by which they are
//! revalidated. No I/O, no clock.

mod fields;
mod key;
mod path;
mod standing;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use http::StatusCode;
use strum::{Display, IntoStaticStr};

pub use fields::{Fields, FieldsBuf};
pub use key::{KeyBuf, PageKey};
pub use path::canonical_path;
pub(crate) use path::{NOT_IN_PATH, canonical_escapes, push_normalised};
pub use standing::{Born, Checked, Seq, Standing};

use crate::rules::freshness::Terms;
use crate::rules::{Lines, Time, vary};

/// One form of a page (semantics: *representation*).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Form {
    /// What a browser shows: HTML, or whatever the URL stands for.
    Document,
    /// The JSON data of the page.
    Data,
    /// What a client-side router asks for at the document's own URL, by request fields, such
    /// as the payload of React's server components.
    Payload,
}

/// How a body is coded (RFC 9110 §8.4); its name is that in `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Coding {
    /// As the origin sent it.
    Identity,
    /// `gzip`.
    Gzip,
    /// `br`.
    #[strum(serialize = "br")]
    Brotli,
    /// `zstd`.
    Zstd,
}

/// One coding of a body, with the part of the response head that belongs to it.
#[derive(Clone, Debug)]
pub struct Body {
    /// How `bytes` is coded.
    pub coding: Coding,
    /// The entity tag of this coding, quotes and weakness mark included.
    pub etag: Box<str>,
    /// The bytes.
    pub bytes: Bytes,
}

/// The tags of a page: the names by which a CMS purges it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// At most 128 of at most 256 characters.
    pub names: Box<[Box<str>]>,
    /// The page had more than are kept: *every* tag purge makes it stale.
    pub overflow: bool,
}

impl Tags {
    /// Bytes of heap that the tags take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.names.iter().map(|name| name.len() + size_of::<Box<str>>()).sum()
    }

    /// These and those, each once.
    #[must_use]
    pub fn union(&self, other: &Tags) -> Tags {
        let mut names: Vec<Box<str>> = self.names.iter().chain(&other.names).cloned().collect();
        names.sort_unstable();
        names.dedup();
        Tags { names: names.into(), overflow: self.overflow || other.overflow }
    }
}

/// A request field that chose this representation (RFC 9111 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaryField {
    /// The name, lower case.
    pub name: Box<str>,
    /// The request's value, normalised; none if the request had no such field.
    pub value: Option<Box<[u8]>>,
}

/// Whether a body is compressed, once it is asked for again.
#[derive(Debug)]
pub struct Compress {
    /// It is of a kind that is.
    worth: bool,
    /// It is still to be tried.
    wanted: AtomicBool,
}

impl Compress {
    /// Worth trying, or not.
    #[must_use]
    pub fn new(worth: bool) -> Compress {
        Compress { worth, wanted: AtomicBool::new(worth) }
    }

    /// The same kind of body, with its codings made already.
    #[must_use]
    pub fn done(&self) -> Compress {
        Compress { worth: self.worth, wanted: AtomicBool::new(false) }
    }

    /// Whether the body is of a kind that is compressed, so that clients may get
    /// different codings of it.
    #[must_use]
    pub fn worth(&self) -> bool {
        self.worth
    }

    /// Whether it is still to be tried.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Whether it is to be tried by the caller: true once.
    #[must_use]
    pub fn take(&self) -> bool {
        self.wanted() && self.wanted.swap(false, Ordering::Relaxed)
    }

    /// It could not be tried now.
    pub fn put_off(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }
}

impl Clone for Compress {
    fn clone(&self) -> Compress {
        Compress { worth: self.worth, wanted: AtomicBool::new(self.wanted()) }
    }
}

/// Whose fields the origin was asked with. Under which terms a response may be
/// used depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The route's own, on `isr` and `dsg`: nothing of a client.
    Route,
    /// A client's, on `ssr`.
    Client {
        /// `Authorization` was among them (RFC 9111 §3.5).
        authorization: bool,
        /// `Cookie` was among them.
        cookie: bool,
        /// The request said `no-store` (RFC 9111 §5.2.1.5).
        no_store: bool,
    },
}

/// What a stored response is good for under a route, and what clients get of it.
#[derive(Debug)]
pub struct Judgement {
    /// Under which options of the route.
    pub stamp: u64,
    /// How long it is fresh, and when it may be served stale; none: it is of no
    /// use under this route.
    pub terms: Option<Terms>,
    /// The client's fields, ready-made: what is sent on every answer from this
    /// representation, but for `Age`, `Cache-Status`, and what belongs to a body.
    pub head: Fields,
}

/// The latest judgement on a representation: made when it is read first, and anew when
/// the options of its route have changed. It is not part of what is stored.
#[derive(Debug)]
pub struct Judged(ArcSwap<Judgement>);

/// The stamp of no route.
const NOT_JUDGED: u64 = u64::MAX;

impl Default for Judged {
    fn default() -> Judged {
        /// One for all.
        static NONE: LazyLock<Arc<Judgement>> = LazyLock::new(|| {
            Arc::new(Judgement { stamp: NOT_JUDGED, terms: None, head: Fields::default() })
        });
        Judged(ArcSwap::new(Arc::clone(&NONE)))
    }
}

impl Judged {
    /// Judged like this.
    #[must_use]
    pub fn new(judgement: Judgement) -> Judged {
        Judged(ArcSwap::from_pointee(judgement))
    }

    /// The judgement under the options of that stamp, made by `judge` if it is
    /// another one.
    pub fn under(&self, stamp: u64, judge: impl FnOnce() -> Judgement) -> Guard<Arc<Judgement>> {
        let known = self.0.load();
        if known.stamp == stamp {
            return known;
        }
        self.0.store(Arc::new(judge()));
        self.0.load()
    }

    /// Bytes of heap that it takes, or will: clients get about what the `origin` sent.
    fn size(&self, origin: &Fields) -> usize {
        let known = self.0.load();
        let head = if known.stamp == NOT_JUDGED { origin } else { &known.head };
        size_of::<Judgement>() + 2 * size_of::<usize>() + head.size()
    }
}

impl Clone for Judged {
    fn clone(&self) -> Judged {
        Judged(ArcSwap::new(self.0.load_full()))
    }
}

/// How often something was used lately: counted roughly, and no further than
/// 65,535, so that what is asked for all the time is not written to all the time.
#[derive(Debug, Default)]
pub struct Uses(AtomicU32);

impl Uses {
    const MAX: u32 = 65_535;
    /// Beside the number: it was used itself, not only what it took the place of.
    const OWN: u32 = 1 << 31;

    /// One more.
    #[inline]
    pub fn add(&self) {
        let uses = self.0.load(Ordering::Relaxed);
        if uses & !Uses::OWN < Uses::MAX {
            // Of two at the same moment one may be lost.
            self.0.store((uses + 1) | Uses::OWN, Ordering::Relaxed);
        }
    }

    /// It takes the place of what was used so often.
    pub fn inherit(&self, uses: u32) {
        // Still to be counted up, so that its own first use is seen.
        self.0.fetch_max(uses.min(Uses::MAX - 1), Ordering::Relaxed);
    }

    /// Whether it was used itself.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) & Uses::OWN != 0
    }

    /// How often.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & !Uses::OWN
    }
}

impl Clone for Uses {
    fn clone(&self) -> Uses {
        Uses(AtomicU32::new(self.0.load(Ordering::Relaxed)))
    }
}

/// A stored response.
#[derive(Clone, Debug)]
pub struct Representation {
    /// Which form of the page this is.
    pub form: Form,
    /// What the request had in the fields that the response varies on.
    pub vary: Box<[VaryField]>,
    /// The status.
    pub status: StatusCode,
    /// The origin's end-to-end fields, as they came, without those of framing
    /// and of one hop. `Set-Cookie` is never among them.
    pub origin: Fields,
    /// Whether there was a `Set-Cookie`.
    pub set_cookie: bool,
    /// Whose fields the origin was asked with.
    pub asked: Asked,
    /// Of a client's fields with which it was asked, those that browsers send: it is
    /// renewed with these where another client's bring no page. No cookies, credentials
    /// or keys, unless it varies on them.
    pub request: Fields,
    /// Whether the entity tag is the origin's own (and may be sent to it).
    pub origin_etag: bool,
    /// `Last-Modified`, if it is there and valid.
    pub last_modified: Option<Time>,
    /// The bodies; the identity one comes first. Never empty.
    pub bodies: Box<[Body]>,
    /// Whether the body is to be compressed, or was.
    pub compress: Compress,
    /// What it is good for under its route, once it is read.
    pub judged: Judged,
    /// How often it was served since it was stored.
    pub uses: Uses,
    /// When the request was sent, and when the head of the response had arrived
    /// (RFC 9111 §4.2.3).
    pub request_time: Time,
    /// See [`request_time`](Self::request_time).
    pub response_time: Time,
    /// When it was generated, by its corrected initial age (RFC 9111 §4.2.3):
    /// its age is `now` less this.
    pub generated: Time,
    /// When its fill began.
    pub born: Born,
    /// The tags of this response and of its route. Its page mostly shares them.
    pub tags: Arc<Tags>,
}

impl Representation {
    /// Whether both are the same member of a page: of one form, for the same
    /// requests.
    #[must_use]
    pub fn is_in_place_of(&self, other: &Representation) -> bool {
        self.form == other.form
            && self.vary.len() == other.vary.len()
            && self.vary.iter().all(|field| other.vary.contains(field))
    }

    /// The names of the fields that it varies on.
    #[must_use]
    pub fn names(&self) -> Box<[Box<str>]> {
        self.vary.iter().map(|field| field.name.clone()).collect()
    }

    /// Whether a request with these fields selects it (RFC 9111 §4.1).
    #[must_use]
    pub fn is_selected_by<L: Lines + ?Sized>(&self, request: &L) -> bool {
        vary::matches(self.vary.iter().map(|f| (&*f.name, f.value.as_deref())), request)
    }

    /// The identity body.
    #[must_use]
    pub fn identity(&self) -> &Body {
        &self.bodies[0]
    }

    /// Bytes that the representation takes, head and bodies and all.
    #[must_use]
    pub fn size(&self) -> usize {
        let vary: usize = self
            .vary
            .iter()
            .map(|v| {
                v.name.len() + v.value.as_ref().map_or(0, |v| v.len()) + size_of::<VaryField>()
            })
            .sum();
        let bodies: usize =
            self.bodies.iter().map(|b| b.bytes.len() + b.etag.len() + size_of::<Body>()).sum();
        size_of::<Self>()
            + vary
            + self.origin.size()
            + self.request.size()
            + self.judged.size(&self.origin)
            + size_of::<Tags>()
            + self.tags.size()
            + bodies
    }
}

/// A page: the unit that is stored, evicted, tagged and revalidated. It is
/// immutable; a commit replaces it whole.
#[derive(Debug)]
pub struct Page {
    /// Its key.
    pub key: PageKey,
    /// The tags of all members: a purge by any of them reaches all. And those that the
    /// page had, as long as a member is stale because of them.
    pub tags: Arc<Tags>,
    /// The representations. Never empty. Of two that a request selects, the
    /// later one was stored later (RFC 9111 §4.1).
    pub members: Box<[Arc<Representation>]>,
    /// How often it was looked up.
    pub uses: Uses,
    /// What was last found about each member, in their order.
    checked: Box<[Checked]>,
}

impl Page {
    /// A page of these members, with their tags and no others.
    #[must_use]
    pub fn new(key: PageKey, members: Vec<Arc<Representation>>) -> Page {
        let tags = match &members[..] {
            [first, rest @ ..] if rest.iter().all(|member| member.tags == first.tags) => {
                Arc::clone(&first.tags)
            }
            _ => Arc::new(members.iter().fold(Tags::default(), |all, m| all.union(&m.tags))),
        };
        let checked = members.iter().map(|_| Checked::default()).collect();
        Page { key, tags, members: members.into(), uses: Uses::default(), checked }
    }

    /// The same, having been looked up so often.
    #[must_use]
    pub fn used(mut self, uses: u32) -> Page {
        self.uses = Uses(AtomicU32::new(uses));
        self
    }

    /// What was last found about this member; none if it is not one.
    #[must_use]
    pub fn checked(&self, rep: &Representation) -> Option<&Checked> {
        let place = self.members.iter().position(|member| std::ptr::eq(&raw const **member, rep));
        place.and_then(|place| self.checked.get(place))
    }

    /// Bytes that the page takes in the store.
    #[must_use]
    pub fn size(&self) -> usize {
        let shared = self.members.iter().any(|member| Arc::ptr_eq(&member.tags, &self.tags));
        self.key.size()
            + if shared { 0 } else { self.tags.size() + size_of::<Tags>() }
            + size_of::<Self>()
            + self
                .members
                .iter()
                .map(|m| m.size() + 3 * size_of::<usize>() + size_of::<Checked>())
                .sum::<usize>()
    }
}
