//! The pages of the demo, as text.

use std::fmt::Write;
use std::time::Duration;

use super::flower;

const LAYOUT: &str = include_str!("site/layout.html");
const PAGE: &str = include_str!("site/page.html");
const INDEX: &str = include_str!("site/index.html");
const STYLE: &str = include_str!("site/style.css");
const SCRIPT: &str = include_str!("site/script.js");

/// What the shop sells: the name in the URL, which is its tag as well, and its own.
pub(super) const PRODUCTS: [(&str, &str); 4] = [
    ("aster", "Italian aster"),
    ("echinacea", "Purple coneflower"),
    ("salvia", "Meadow sage"),
    ("geranium", "Rozanne cranesbill"),
];

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page<'a> {
    Isr,
    Dsg(&'a str),
    Ssr(&'a str),
    Flaky,
    Shop,
    Product(&'a str),
}

/// What a render knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Render<'a> {
    /// The how many-th of this page.
    pub(super) number: u64,
    /// When, in milliseconds since the epoch.
    pub(super) at: u64,
    /// How long it takes.
    pub(super) took: Duration,
    /// Prices in cents, in the order of [`PRODUCTS`].
    pub(super) prices: &'a [u64],
    /// The webhook's secret.
    pub(super) secret: &'a str,
}

impl Page<'_> {
    /// The tags that the origin gives it.
    pub(super) fn tags(self) -> Option<String> {
        match self {
            Self::Shop => {
                let all: Vec<&str> = PRODUCTS.iter().map(|(slug, _)| *slug).collect();
                Some(format!("shop, {}", all.join(", ")))
            }
            Self::Product(slug) => Some(slug.to_owned()),
            _ => None,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Isr => "ISR · revalidate 20s",
            Self::Dsg(_) => "DSG · HTML and JSON",
            Self::Ssr(_) => "SSR · s-maxage=5, stale-while-revalidate=15",
            Self::Flaky => "ISR · revalidate 5s",
            Self::Shop => "ISR · tagged shop and with every product",
            Self::Product(_) => "ISR · tagged with its name",
        }
    }

    fn title(self) -> String {
        match self {
            Self::Isr => "In flower today".to_owned(),
            Self::Dsg(name) => format!("Plate “{name}”"),
            Self::Ssr("") => "Whatever the origin says".to_owned(),
            Self::Ssr(query) => format!("Whatever the origin says about {query}"),
            Self::Flaky => "A renderer with bad days".to_owned(),
            Self::Shop => "The nursery’s shop".to_owned(),
            Self::Product(slug) => product(slug).map_or(slug, |(_, name, _)| name).to_owned(),
        }
    }

    fn text(self, render: &Render<'_>) -> String {
        match self {
            Self::Isr => {
                "<p>This page is fresh for twenty seconds. Then it is <em>stale</em>, and \
                still answered at once: the visitor who comes next gets it as it is and sets off \
                one render behind their back. Whoever comes after that render sees another \
                flower.</p><p>Reload as often as you like. Only the very first visitor ever \
                waited.</p>"
                    .to_owned()
            }
            Self::Dsg(_) => "<p>Nobody had rendered this page before somebody asked for it. That \
                one visitor waited; since then it is static, until it is revalidated or a new \
                deploy arrives.</p><p>It has a second form at the same URL: ask with <code>Accept: \
                application/json</code>, and you get its data. The first request for either has \
                brought the other.</p><p>More of them: <a href=\"/dsg/one\">one</a>, <a \
                href=\"/dsg/two\">two</a>, <a href=\"/dsg/three\">three</a>, or write any name \
                into the address.</p>"
                .to_owned(),
            Self::Ssr(_) => "<p>No policy of ours: the renderer sends <code>Cache-Control: \
                s-maxage=5, stale-while-revalidate=15</code>, and that is what happens. Five \
                seconds fresh; for fifteen more the stale page is served while one render runs; \
                after that the visitor waits.</p><p>The query counts here: <a \
                href=\"/ssr?q=roses\">roses</a> and <a href=\"/ssr?q=tulips\">tulips</a> are \
                pages of their own.</p>"
                .to_owned(),
            Self::Flaky => "<p>Of three renders of this page one answers with an error and one \
                breaks off half-way. You are looking at the last good one, and always will be: a \
                render that fails changes nothing, and the next attempt waits a little \
                longer.</p><p>Mark it stale and reload a few times. Render it now, and the webhook \
                tells you when it failed.</p>"
                .to_owned(),
            Self::Shop => format!(
                "<p>This listing carries the tag of every product on it, and each product its own. \
                 So whatever system keeps the prices has one call to make, with one tag, and does \
                 not need to know where a product is shown.</p><table><tr><th>Plant<th>Price</tr>\
                 {}</table>",
                rows(render)
            ),
            Self::Product(slug) => {
                let price = product(slug)
                    .and_then(|(index, _, _)| render.prices.get(index))
                    .map_or_else(String::new, |&cents| money(cents));
                format!(
                    "<p>In a two-litre pot: <b>{price}</b>.</p><p>Raise the price, and the button \
                     calls the webhook with <code>tag={slug}</code>. This page and <a \
                     href=\"/shop\">the listing</a> are stale from then on: the next visitor of \
                     either gets the old one once more and sets off a render. With \
                     <code>mode=expire</code> they would wait for the new one instead.</p>"
                )
            }
        }
    }

    /// Buttons besides those that every page has.
    fn acts(self) -> serde_json::Value {
        match self {
            Self::Dsg(_) => serde_json::json!([{ "label": "Ask for its JSON", "json": true }]),
            Self::Shop => serde_json::json!([{ "label": "Renew tag “shop”", "tag": "shop" }]),
            Self::Product(slug) => serde_json::json!([{
                "label": "Raise the price",
                "post": format!("/renderer/raise/{slug}"),
                "then": slug,
            }]),
            _ => serde_json::json!([]),
        }
    }

    /// The page as HTML.
    pub(super) fn html(self, render: &Render<'_>) -> String {
        let seed = render.number.wrapping_mul(31) ^ render.at;
        let text = self.text(render);
        let main = fill(
            PAGE,
            &[
                ("kind", self.kind()),
                ("title", &escape(&self.title())),
                ("text", &text),
                ("flower", &flower::svg(seed)),
                ("render", &render.number.to_string()),
                ("iso", &iso(render.at)),
                ("took", &format!("{:.1} s", render.took.as_secs_f64())),
            ],
        );
        let facts = serde_json::json!({
            "render": render.number,
            "secret": render.secret,
            "acts": self.acts(),
        });
        layout(&self.title(), &main, &facts)
    }

    /// The page as JSON.
    pub(super) fn json(self, render: &Render<'_>) -> String {
        let page = serde_json::json!({
            "title": self.title(),
            "render": render.number,
            "rendered": iso(render.at),
            "took_ms": render.took.as_millis(),
        });
        format!("{page:#}\n")
    }
}

/// The front page, with the configuration that runs.
pub(super) fn index(config: &str, secret: &str, at: u64) -> String {
    let main = fill(INDEX, &[("config", &escape(config)), ("flower", &flower::svg(at))]);
    layout("A slow renderer", &main, &serde_json::json!({ "secret": secret }))
}

fn layout(title: &str, main: &str, facts: &serde_json::Value) -> String {
    // Within a script element only `<` can end it.
    let facts = facts.to_string().replace('<', "\\u003c");
    fill(
        LAYOUT,
        &[
            ("title", &escape(title)),
            ("style", STYLE),
            ("main", main),
            ("facts", &facts),
            ("script", SCRIPT),
        ],
    )
}

/// Position, name and slug of a product.
pub(super) fn product(slug: &str) -> Option<(usize, &'static str, &'static str)> {
    let index = PRODUCTS.iter().position(|(known, _)| *known == slug)?;
    PRODUCTS.get(index).map(|&(slug, name)| (index, name, slug))
}

fn rows(render: &Render<'_>) -> String {
    let mut out = String::new();
    for ((slug, name), &cents) in PRODUCTS.iter().zip(render.prices) {
        // Writing to a string does not fail.
        let _ = write!(out, "<tr><td><a href=\"/shop/{slug}\">{name}</a><td>{}</tr>", money(cents));
    }
    out
}

fn money(cents: u64) -> String {
    format!("€ {}.{:02}", cents / 100, cents % 100)
}

fn iso(at: u64) -> String {
    let since = Duration::from_millis(at);
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}

/// Puts values where the template has `{{name}}`. What is put in is not looked at again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        match after.split_once("}}") {
            Some((name, after)) => {
                let value = values.iter().find(|(known, _)| *known == name);
                out.push_str(value.map_or("", |(_, value)| value));
                rest = after;
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

/// Text that a visitor may have written, for HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render() -> Render<'static> {
        Render {
            number: 3,
            at: 1_772_373_821_120,
            took: Duration::from_millis(1020),
            prices: &[450, 520, 380, 690],
            secret: "s",
        }
    }

    #[test]
    fn every_page_is_whole() {
        for page in [
            Page::Isr,
            Page::Dsg("one"),
            Page::Ssr(""),
            Page::Ssr("roses"),
            Page::Flaky,
            Page::Shop,
            Page::Product("aster"),
        ] {
            let html = page.html(&render());
            assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"), "{page:?}");
            assert!(!html.contains("{{") && !html.contains("}}</"), "{page:?}");
            assert!(html.contains("<b>Render 3</b>") && html.contains("2026-03-01T14:03:41.120Z"));
            let outside = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains("http://") && !outside.contains("https://"), "{page:?}");
            let json: serde_json::Value = serde_json::from_str(&page.json(&render())).unwrap();
            assert_eq!(json["render"], 3);
        }
        let index = index("routes: <all>", "s", 1);
        assert!(index.contains("routes: &lt;all&gt;") && !index.contains("{{"));
    }

    #[test]
    fn what_a_visitor_writes_stays_text() {
        let html = Page::Dsg("</script><b>{{facts}}").html(&render());
        assert!(html.contains("“&lt;/script&gt;&lt;b&gt;{{facts}}”"));
        assert!(!html.contains("</script><b>"));
    }

    #[test]
    fn prices_are_money() {
        assert_eq!(money(450), "€ 4.50");
        assert!(Page::Product("salvia").html(&render()).contains("€ 3.80"));
        assert!(Page::Shop.html(&render()).contains("Rozanne cranesbill</a><td>€ 6.90"));
    }
}
