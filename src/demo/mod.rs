//! `perennial demo`: a small renderer that takes its time, the configuration
//! to put Perennial in front of it, and what to try. It starts no edge: the
//! program does that, with this configuration as with any other.

mod flower;
mod pages;
mod renderer;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use self::renderer::Renderer;
use self::renderer::Shown;
use crate::config::{Config, Errors, Note};

/// The configuration, with variables for what is known only at the start.
const CONFIG: &str = include_str!("perennial.yaml");

/// How long a page takes: long enough to be noticed, short enough to be borne.
pub const DELAY: Duration = Duration::from_millis(1000);

/// The port that is tried first when none is asked for.
pub const PORT: u16 = 8080;

/// A demo whose renderer runs until it is dropped.
#[derive(Debug)]
pub struct Demo {
    renderer: Renderer,
    secret: String,
}

impl Demo {
    /// Starts the renderer on the current runtime, each page taking `delay`.
    ///
    /// # Errors
    /// When no port of loopback can be bound.
    pub async fn start(delay: Duration) -> io::Result<Demo> {
        let secret = secret();
        let listener = Renderer::bind().await?;
        let config = shown(listener.local_addr()?, &secret);
        let shown = Shown { secret: secret.clone(), config };
        Ok(Demo { renderer: Renderer::serve(listener, shown, delay)?, secret })
    }

    /// The configuration for Perennial on `port` of loopback; 0 picks a free one.
    ///
    /// # Errors
    /// None: a test reads the text.
    pub fn config(&self, port: u16) -> Result<(Config, Vec<Note>), Errors> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Config::from_yaml(CONFIG, "perennial.yaml", &|name| {
            Some(match name {
                "LISTEN" => listen.to_string(),
                "ADMIN" => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string(),
                "RENDERER" => format!("http://{}", self.renderer.addr()),
                "SECRET" => self.secret.clone(),
                _ => return None,
            })
        })
    }

    /// The secret of its webhook: made up at the start.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// What a person at a terminal should read and try, once it listens.
    #[must_use]
    pub fn welcome(&self, public: SocketAddr, admin: Option<SocketAddr>, colours: bool) -> String {
        let (bold, dim, green, reset) =
            if colours { ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m") } else { ("", "", "", "") };
        let base = format!("http://{public}");
        let secret = &self.secret;
        let admin = admin.map_or_else(String::new, |admin| {
            format!("  {dim}metrics and health: http://{admin}/metrics  /readyz{reset}\n")
        });
        let page = |path: &str, what: &str| format!("  {base}{path:<12} {dim}{what}{reset}\n");
        format!(
            "\n  {green}❀{reset} {bold}Perennial{reset} in front of a renderer that takes a second for every page.\n\n  \
             {bold}Open {base}/{reset}\n\n{}{}{}{}{}\n  {bold}Or by hand{reset} {dim}(twice: MISS, then HIT){reset}\n\n  \
             curl -i {base}/isr\n  \
             curl -i -H 'Accept: application/json' {base}/dsg/one\n\n  \
             {bold}The webhook of a CMS{reset}\n\n  \
             curl '{base}/__revalidate?secret={secret}&path=/isr'\n  \
             curl '{base}/__revalidate?secret={secret}&tag=shop'\n\n{admin}  \
             {dim}Ctrl-C ends it. A line for every request follows.{reset}\n\n",
            page("/isr", "ISR: fresh for 20 s, then renewed behind your back"),
            page("/dsg/one", "DSG: rendered at the first request, as HTML and JSON"),
            page("/ssr", "SSR: as the renderer's Cache-Control says"),
            page("/flaky", "fails two times of three, and nobody sees it"),
            page("/shop", "a listing and its products, renewed by tag"),
        )
    }
}

/// The configuration as the front page shows it: without what is of no
/// interest there.
fn shown(renderer: SocketAddr, secret: &str) -> String {
    let lines = CONFIG.lines().filter(|l| !l.starts_with("listen:") && !l.starts_with("admin:"));
    let mut out = lines.collect::<Vec<_>>().join("\n");
    out = out.replace("${RENDERER}", &format!("http://{renderer}"));
    out.replace("${SECRET}", secret)
}

/// Three words and a number, 16 characters at least, easy to type again. Not for
/// anything that is not on loopback.
fn secret() -> String {
    const WORDS: [&str; 32] = [
        "aster", "birch", "briar", "cedar", "clover", "daisy", "elder", "fern", "furze", "hazel",
        "heath", "holly", "iris", "ivy", "laurel", "lilac", "linden", "mallow", "maple", "mint",
        "moss", "myrtle", "olive", "poppy", "reed", "rowan", "rush", "sage", "sorrel", "thyme",
        "willow", "yarrow",
    ];
    let word = || WORDS.get(fastrand::usize(..WORDS.len())).copied().unwrap_or("fern");
    format!("{}-{}-{}-{}", word(), word(), word(), fastrand::u32(1000..10_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    #[tokio::test]
    async fn its_configuration_is_one() {
        let demo = Demo::start(Duration::ZERO).await.unwrap();
        let (config, warnings) = demo.config(0).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(warnings, []);
        assert_eq!(config.listen[0].port(), 0);
        assert_eq!(config.origins[0].servers[0].port, demo.renderer.addr().port());
        assert_eq!(config.revalidate.unwrap().secret, demo.secret());
        assert!(config.routes.iter().any(|route| matches!(route.mode, Mode::Dsg { .. })));
    }

    #[tokio::test]
    async fn the_welcome_has_what_to_try() {
        let demo = Demo::start(Duration::ZERO).await.unwrap();
        let public = SocketAddr::from(([127, 0, 0, 1], 8080));
        let text = demo.welcome(public, Some(public), false);
        let call =
            format!("curl 'http://127.0.0.1:8080/__revalidate?secret={}&tag=shop'", demo.secret());
        assert!(text.contains(&call), "{text}");
        assert!(!text.contains('\x1b'));
        assert!(demo.welcome(public, None, true).contains("\x1b[1mOpen http://127.0.0.1:8080/"));
    }

    #[test]
    fn a_secret_is_long_enough() {
        assert!((0..1000).all(|_| secret().len() >= 16));
    }

    #[test]
    fn the_front_page_shows_what_runs() {
        let text = shown(SocketAddr::from(([127, 0, 0, 1], 3000)), "fern");
        assert!(text.starts_with("origins:\n  renderer: http://127.0.0.1:3000\n"), "{text}");
        assert!(!text.contains('$'));
    }
}
