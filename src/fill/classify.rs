//! What becomes of a response whose head has arrived: one decision, made of facts alone.

use http::StatusCode;

use crate::origin::Priority;
use crate::rules::Reason;
use crate::rules::freshness::Terms;
use crate::rules::status::{OnPage, meaning};
use crate::rules::storable::{Class, Verdict};

/// For whom a response was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// All, on a page route.
    All,
    /// The same, and the client who began it carries nothing that the fill leaves out: it
    /// gets what comes, whatever that is.
    AllAsAsked,
    /// The client whose own request goes ahead of one for all, because nothing is known of
    /// the path. It is judged as one for all.
    First,
    /// The clients of an `ssr` route; how the origin answers may be the doing of the one
    /// whose fields were sent.
    Client,
    /// The same, asked as it was for what is stored: the answer depends on no client.
    Clients,
    /// The client whom middleware has let through.
    Guarded,
}

impl For {
    /// Whether nothing of a client was sent.
    pub(super) fn is_page(self) -> bool {
        matches!(self, For::All | For::AllAsAsked)
    }
}

/// What was asked for, as far as the form goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A form that the page has.
    Usual,
    /// A part of a payload: its URL is for clients to make up.
    Part,
    /// A form that the page may not have, and what came is something else.
    NotBrought,
}

/// What is stored in the place of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Nothing,
    Page,
    /// An error or a redirect.
    Other,
}

/// The body of the response, as its head describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Usual,
    /// Longer than what is stored.
    TooLarge,
    /// In a coding that is not decoded here.
    Coded,
}

/// What is known when the head of a response has arrived, and, where only the body tells
/// for whom it was rendered, that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) asked_for: For,
    pub(super) priority: Priority,
    pub(super) kind: Kind,
    /// By the rules of its route.
    pub(super) verdict: Verdict,
    pub(super) status: StatusCode,
    pub(super) stored: Stored,
    pub(super) body: Body,
    /// Refused because of the client's cookies, and storable without them.
    pub(super) is_for_all_but_cookies: bool,
    /// The path counts as server-rendered for now.
    pub(super) was_server_rendered: bool,
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The page has no such form: the readers ask for the document.
    NoData,
    /// The path is server-rendered: the readers ask again as on `ssr`.
    ServerRendered,
    /// It is stored when it is complete. All readers stream it.
    Stored {
        terms: Terms,
        /// It is a stale copy of the origin's own.
        origin_stale: bool,
    },
    /// It is not stored; its leader streams it, and the others ask for themselves.
    Private(Reason, Class),
    /// It is not stored, and all readers stream it: each would get the same error.
    SharedError(Reason),
}

impl Fate {
    /// Whether it will be stored, or why not. `keeps`: whether there is a store at all.
    pub(super) const fn stored(self, keeps: bool) -> Result<(), Reason> {
        match self {
            Fate::Stored { .. } if keeps => Ok(()),
            Fate::Stored { .. } => Err(Reason::NoCache),
            Fate::Private(reason, _) | Fate::SharedError(reason) => Err(reason),
            Fate::NoData => Err(Reason::ContentType),
            Fate::ServerRendered => Err(Reason::ServerRendered),
        }
    }
}

/// What is to be remembered of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It has no such form.
    NoData,
    /// It is server-rendered.
    ServerRendered,
    /// It still is.
    StillServerRendered,
    /// The origin sent a stale copy: it is asked again soon.
    OriginStale,
    /// Requests like this one do not wait for one another.
    Uncollapsible,
}

/// What else is asked for because of a response, before it is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    Nothing,
    /// What is for all: that a client got ahead of it looks as if it were.
    ForAll,
    /// The same without cookies.
    WithoutCookies,
}

/// What is decided about a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) fate: Fate,
    pub(super) notes: Vec<Note>,
    pub(super) follow: Follow,
}

/// Decides it.
pub(super) fn classify(facts: &Facts) -> Decision {
    let mut notes = Vec::new();
    let mut follow = Follow::Nothing;
    let fate = match facts.asked_for {
        For::First => first(facts, &mut notes, &mut follow),
        _ => fate(facts, &mut notes),
    };
    if let Fate::Private(reason, _) | Fate::SharedError(reason) = fate {
        let for_all = reason == Reason::Cookie && facts.is_for_all_but_cookies;
        if for_all {
            follow = Follow::WithoutCookies;
        } else if facts.was_server_rendered && matches!(facts.verdict, Verdict::Refuse { .. }) {
            notes.push(Note::StillServerRendered);
        }
    }
    if is_uncollapsible(facts, fate) {
        notes.push(Note::Uncollapsible);
    }
    Decision { fate, notes, follow }
}

/// Of a client's own request that went ahead of one for all: nothing of it is stored, and
/// what it says of the path may be so because of what this client carries. Anybody can carry
/// that, so the path is not noted as server-rendered.
fn first(facts: &Facts, notes: &mut Vec<Note>, follow: &mut Follow) -> Fate {
    let reason = match facts.verdict {
        _ if facts.kind == Kind::NotBrought => {
            notes.push(Note::NoData);
            Reason::ContentType
        }
        Verdict::Store { .. } => {
            *follow = Follow::ForAll;
            Reason::FirstVisit
        }
        Verdict::Refuse { class: Class::ServerRendered, .. } => Reason::ServerRendered,
        Verdict::Refuse { reason, .. } => reason,
    };
    Fate::Private(reason, Class::Unshared)
}

fn fate(facts: &Facts, notes: &mut Vec<Note>) -> Fate {
    let asked_for = facts.asked_for;
    // Its client's own request is not made twice.
    let is_whole = asked_for == For::AllAsAsked;
    if asked_for.is_page() && facts.kind == Kind::NotBrought {
        notes.push(Note::NoData);
        let as_asked = Fate::Private(Reason::ContentType, Class::Unshared);
        return if is_whole { as_asked } else { Fate::NoData };
    }
    let stored = match facts.verdict {
        // What clients can make up must not take the place of what there is.
        Verdict::Store { .. }
            if facts.kind == Kind::Part && meaning(facts.status).page == OnPage::Missing =>
        {
            return Fate::Private(Reason::Status, Class::Unshared);
        }
        Verdict::Store { terms, origin_stale } => {
            if origin_stale {
                notes.push(Note::OriginStale);
            }
            Fate::Stored { terms, origin_stale }
        }
        Verdict::Refuse { class: Class::ServerRendered, .. } => {
            // A form that no client asked for says nothing of the path.
            if !(facts.priority == Priority::Background && facts.stored == Stored::Nothing) {
                notes.push(Note::ServerRendered);
            }
            let as_asked = Fate::Private(Reason::ServerRendered, Class::Unshared);
            return if is_whole { as_asked } else { Fate::ServerRendered };
        }
        // All readers get it, or each would try again at once.
        Verdict::Refuse { reason, class: Class::Failed }
            if asked_for.is_page() && facts.body != Body::Coded =>
        {
            return Fate::SharedError(reason);
        }
        Verdict::Refuse { reason, class } => return Fate::Private(reason, class),
    };
    // Beside a page that is stored an error is a failed render, or one client's own.
    if !asked_for.is_page() && facts.stored == Stored::Page && !facts.status.is_success() {
        if facts.status.is_server_error() {
            return Fate::Private(Reason::ServerError, Class::Failed);
        }
        if asked_for != For::Clients {
            return Fate::Private(Reason::Status, Class::Unshared);
        }
    }
    if facts.body == Body::TooLarge {
        return Fate::Private(Reason::TooLarge, Class::Unshared);
    }
    stored
}

/// Whether requests like this one wait for one another in vain.
fn is_uncollapsible(facts: &Facts, fate: Fate) -> bool {
    match (fate, facts.asked_for) {
        (Fate::NoData | Fate::ServerRendered | Fate::SharedError(_), _) => false,
        // What one client is told says nothing of what will be for all …
        (_, For::Guarded) => false,
        (_, For::First) => match facts.verdict {
            Verdict::Store { .. } | Verdict::Refuse { class: Class::Failed, .. } => false,
            Verdict::Refuse { .. } => facts.kind != Kind::NotBrought,
        },
        (Fate::Stored { terms, .. }, asked_for) => !asked_for.is_page() && terms.always_validate(),
        // … nor of a page that another request brought.
        (Fate::Private(..), For::Client) => facts.stored == Stored::Nothing,
        (Fate::Private(..), For::All | For::AllAsAsked | For::Clients) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rules::cache_control::Window;

    const TERMS: Terms = Terms {
        fresh_for: Some(Duration::from_secs(60)),
        while_revalidating: Window::None,
        if_error: Window::None,
        if_unreachable: Window::None,
    };
    const STORE: Verdict = Verdict::Store { terms: TERMS, origin_stale: false };
    const STORED: Fate = Fate::Stored { terms: TERMS, origin_stale: false };
    const STALE: Verdict = Verdict::Store { terms: TERMS, origin_stale: true };
    /// Stored, and good for nothing without the origin's word.
    const ASKED: Terms = Terms { fresh_for: Some(Duration::ZERO), ..TERMS };

    const fn refuse(reason: Reason, class: Class) -> Verdict {
        Verdict::Refuse { reason, class }
    }
    const ERROR: Verdict = refuse(Reason::ServerError, Class::Failed);
    const PRIVATE: Verdict = refuse(Reason::Private, Class::Forbidden);
    const COOKIE: Verdict = refuse(Reason::Cookie, Class::Unshared);
    const FOR_EACH: Verdict = refuse(Reason::ServerRendered, Class::ServerRendered);

    const fn facts(asked_for: For, verdict: Verdict) -> Facts {
        Facts {
            asked_for,
            priority: Priority::Client,
            kind: Kind::Usual,
            verdict,
            status: StatusCode::OK,
            stored: Stored::Nothing,
            body: Body::Usual,
            is_for_all_but_cookies: false,
            was_server_rendered: false,
        }
    }

    #[track_caller]
    fn check(facts: &Facts, fate: Fate, notes: &[Note], follow: Follow) {
        let expected = Decision { fate, notes: notes.to_vec(), follow };
        assert_eq!(classify(facts), expected, "{facts:?}");
    }

    const EVERYBODY: [For; 6] =
        [For::All, For::AllAsAsked, For::First, For::Client, For::Clients, For::Guarded];

    #[test]
    fn what_is_storable() {
        for asked_for in EVERYBODY {
            let facts = facts(asked_for, STORE);
            if asked_for == For::First {
                let first = Fate::Private(Reason::FirstVisit, Class::Unshared);
                check(&facts, first, &[], Follow::ForAll);
                continue;
            }
            check(&facts, STORED, &[], Follow::Nothing);
            let stale = Facts { verdict: STALE, ..facts };
            let fate = Fate::Stored { terms: TERMS, origin_stale: true };
            check(&stale, fate, &[Note::OriginStale], Follow::Nothing);
            let large = Facts { body: Body::TooLarge, ..facts };
            let alone: &[Note] =
                if asked_for == For::Guarded { &[] } else { &[Note::Uncollapsible] };
            let fate = Fate::Private(Reason::TooLarge, Class::Unshared);
            check(&large, fate, alone, Follow::Nothing);
        }
        // Followers would wait in vain for what only its leader may use.
        let verdict = Verdict::Store { terms: ASKED, origin_stale: false };
        for (asked_for, notes) in
            [(For::All, &[][..]), (For::Client, &[Note::Uncollapsible]), (For::Guarded, &[])]
        {
            let fate = Fate::Stored { terms: ASKED, origin_stale: false };
            check(&facts(asked_for, verdict), fate, notes, Follow::Nothing);
        }
    }

    #[test]
    fn what_is_refused() {
        use Fate::{Private, SharedError};
        use For::{All, AllAsAsked, Client, Clients, First, Guarded};
        const ALONE: &[Note] = &[Note::Uncollapsible];
        let private = Private(Reason::Private, Class::Forbidden);
        let error = Private(Reason::ServerError, Class::Failed);
        let cookie = Private(Reason::Cookie, Class::Unshared);
        for (asked_for, verdict, fate, notes) in [
            (All, ERROR, SharedError(Reason::ServerError), &[][..]),
            (AllAsAsked, ERROR, SharedError(Reason::ServerError), &[]),
            (First, ERROR, Private(Reason::ServerError, Class::Unshared), &[]),
            (Client, ERROR, error, ALONE),
            (Guarded, ERROR, error, &[]),
            (All, PRIVATE, private, ALONE),
            (First, PRIVATE, Private(Reason::Private, Class::Unshared), ALONE),
            (Client, PRIVATE, private, ALONE),
            (Clients, PRIVATE, private, ALONE),
            (Guarded, PRIVATE, private, &[]),
            (Client, COOKIE, cookie, ALONE),
            (First, FOR_EACH, Private(Reason::ServerRendered, Class::Unshared), ALONE),
        ] {
            check(&facts(asked_for, verdict), fate, notes, Follow::Nothing);
        }
        // What is not decoded here goes to a client that accepts its coding.
        let coded = Facts { body: Body::Coded, ..facts(All, ERROR) };
        check(&coded, error, ALONE, Follow::Nothing);
        // What one client is told says nothing of a page that another request brought.
        let beside = Facts { stored: Stored::Page, ..facts(Client, PRIVATE) };
        check(&beside, private, &[], Follow::Nothing);
        let but_cookies = Facts { is_for_all_but_cookies: true, ..facts(Client, COOKIE) };
        check(&but_cookies, cookie, ALONE, Follow::WithoutCookies);
    }

    #[test]
    fn what_says_that_a_path_is_server_rendered() {
        let found = Note::ServerRendered;
        let each = facts(For::All, FOR_EACH);
        check(&each, Fate::ServerRendered, &[found], Follow::Nothing);
        let whole = Facts { asked_for: For::AllAsAsked, ..each };
        let as_asked = Fate::Private(Reason::ServerRendered, Class::Unshared);
        check(&whole, as_asked, &[found, Note::Uncollapsible], Follow::Nothing);
        // Data that no client asked for are a guess; a regeneration is none.
        let background = Facts { priority: Priority::Background, ..each };
        check(&background, Fate::ServerRendered, &[], Follow::Nothing);
        let renewed = Facts { stored: Stored::Page, ..background };
        check(&renewed, Fate::ServerRendered, &[found], Follow::Nothing);
        // It still is: unless it was the client's cookies alone.
        let again = [Note::StillServerRendered, Note::Uncollapsible];
        for (verdict, is_for_all_but_cookies, notes) in
            [(PRIVATE, false, &again[..]), (COOKIE, false, &again), (COOKIE, true, &again[1..])]
        {
            let client = facts(For::Client, verdict);
            let facts = Facts { was_server_rendered: true, is_for_all_but_cookies, ..client };
            assert_eq!(classify(&facts).notes, notes, "{facts:?}");
        }
        let storable = Facts { was_server_rendered: true, ..facts(For::Client, STORE) };
        check(&storable, STORED, &[], Follow::Nothing);
    }

    #[test]
    fn what_the_page_has_no_form_of() {
        for (asked_for, fate, notes) in [
            (For::All, Fate::NoData, &[Note::NoData][..]),
            (
                For::AllAsAsked,
                Fate::Private(Reason::ContentType, Class::Unshared),
                &[Note::NoData, Note::Uncollapsible],
            ),
            (For::First, Fate::Private(Reason::ContentType, Class::Unshared), &[Note::NoData]),
            (For::Client, STORED, &[]),
        ] {
            let facts = Facts { kind: Kind::NotBrought, ..facts(asked_for, STORE) };
            check(&facts, fate, notes, Follow::Nothing);
        }
        // Parts that clients make up.
        for (status, stored) in [(200, true), (404, false), (410, false), (302, true)] {
            let status = StatusCode::from_u16(status).expect("a status");
            let part = Facts { kind: Kind::Part, status, ..facts(For::All, STORE) };
            assert_eq!(classify(&part).fate == STORED, stored, "{status}");
        }
    }

    #[test]
    fn an_error_does_not_take_the_place_of_a_page() {
        let failed = Fate::Private(Reason::ServerError, Class::Failed);
        let own = Fate::Private(Reason::Status, Class::Unshared);
        for (asked_for, beside, status, fate) in [
            (For::Client, Stored::Page, 200, STORED),
            (For::Client, Stored::Page, 500, failed),
            (For::Client, Stored::Page, 404, own),
            (For::Client, Stored::Other, 404, STORED),
            (For::Client, Stored::Nothing, 500, STORED),
            (For::Clients, Stored::Page, 500, failed),
            (For::Clients, Stored::Page, 404, STORED),
            (For::Guarded, Stored::Page, 404, own),
            (For::All, Stored::Page, 404, STORED),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let facts = Facts { status, stored: beside, ..facts(asked_for, STORE) };
            assert_eq!(classify(&facts).fate, fate, "{facts:?}");
        }
    }
}
