//! What all layers of the fills work with, and what store and notes say together.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::ask::Ask;
use super::compress::Compressor;
use super::notes::{Notes, Subject};
use crate::assets::Assets;
use crate::config;
use crate::framework::Preset;
use crate::page::{Born, Form, Page, PageKey, Standing, Tags};
use crate::store::Store;

/// The rooms below the fills.
pub(super) struct Context {
    pub(super) store: Arc<Store>,
    pub(super) cache: ArcSwap<config::Cache>,
    pub(super) assets: Assets,
    pub(super) notes: Notes,
    pub(super) compressor: Compressor,
}

impl Context {
    /// Whether a page was not invalidated since `born`, so that what was noted of it then
    /// still counts. `page` is what is stored.
    fn is_untouched(&self, key: &PageKey, page: Option<&Page>, route: &Tags, born: Born) -> bool {
        let tags = page.map(|page| page.tags.union(route));
        self.store.fence(key, Some(tags.as_ref().unwrap_or(route)), born) == Standing::Live
    }

    /// Whether the page is known not to have this form.
    pub(super) fn lacks_data(
        &self,
        preset: &Preset,
        key: &PageKey,
        form: Form,
        selection: u64,
        page: Option<&Page>,
        route: &Tags,
    ) -> bool {
        if !preset.is_speculative(form) {
            return false;
        }
        let about = self.notes.form(key.as_str(), form, selection);
        let Some(born) = self.notes.no_data(about) else { return false };
        if self.is_untouched(key, page, route, born) {
            return true;
        }
        self.notes.forget_no_data(about);
        false
    }

    /// The same for what is asked for.
    pub(super) fn lacks(&self, ask: &Ask, page: Option<&Page>) -> bool {
        let (form, selection, route) = (ask.form, ask.selection(), &ask.route.tags);
        self.lacks_data(&ask.upstream.preset, &ask.key, form, selection, page, route)
    }

    /// Whether the next attempt waits, because one has failed since the page was last
    /// invalidated. `page` is what is stored.
    pub(super) fn is_waiting(
        &self,
        about: Subject,
        key: &PageKey,
        page: Option<&Arc<Page>>,
        route: &Tags,
    ) -> bool {
        let Some(born) = self.notes.waiting(about) else { return false };
        if self.is_untouched(key, page.map(|page| &**page), route, born) {
            return true;
        }
        self.notes.forget_failures(about);
        false
    }

    /// Whether more is known of the page than when a request looked (see
    /// [`Store::changes`]): it was stored, or turned out to be server-rendered or without
    /// this form.
    pub(super) fn has_news(&self, ask: &Ask, looked: u64) -> bool {
        let stored = self.store.get(ask.key.as_str());
        let about = ask.about(&self.notes, ask.form, ask.selection());
        (ask.page && ask.route.mode.is_by_origin() && self.notes.server_rendered(about))
            || (ask.page && self.lacks(ask, stored.as_deref()))
            || self.store.changes(ask.key.as_str()) != looked
    }
}
