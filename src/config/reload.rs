//! What of a configuration can take the place of one that runs.

use super::root::Config;

/// A configuration in place of one that runs.
#[derive(Clone, Debug)]
pub struct Succession {
    /// What runs from now on: the new one, but for what is kept.
    pub config: Config,
    /// The keys of which the new values take effect at the next start only. Until
    /// then `config` has the old ones.
    pub kept: Vec<&'static str>,
}

impl Config {
    /// What runs once this configuration takes the place of `running`.
    ///
    /// Addresses, threads, the size of the memory tier and the like are fixed at the
    /// start: such keys are kept, and the rest goes on without them.
    ///
    /// # Errors
    /// Nothing of it can run, and why: it is for another framework, which decides
    /// what a stored page is, and which routes there are beside those of the file.
    pub fn succeed(mut self, running: &Config) -> Result<Succession, String> {
        if running.auto.is_some() && !running.is_untold() {
            self = self.told(running.framework.clone());
        }
        let (old, new) = (&running.framework, &self.framework);
        if self.auto.is_some() && running.auto.is_none() {
            return Err(format!(
                "framework: `auto` instead of `{old}` takes effect at the next start, \
                 and with it all else in the file"
            ));
        }
        if std::mem::discriminant(old) != std::mem::discriminant(new) {
            return Err(format!(
                "framework: `{new}` instead of `{old}` takes effect at the next start, \
                 and with it all else in the file"
            ));
        }
        let mut kept = Vec::new();
        let (cache, before) = (&mut self.cache, &running.cache);
        keep("listen", &mut self.listen, &running.listen, &mut kept);
        keep("admin", &mut self.admin, &running.admin, &mut kept);
        keep("threads", &mut self.threads, &running.threads, &mut kept);
        keep("cache.memory", &mut cache.memory, &before.memory, &mut kept);
        keep(
            "cache.max_invalidations",
            &mut cache.max_invalidations,
            &before.max_invalidations,
            &mut kept,
        );
        keep("log.format", &mut self.log.format, &running.log.format, &mut kept);
        Ok(Succession { config: self, kept })
    }
}

fn keep<T: PartialEq + Clone>(
    name: &'static str,
    new: &mut T,
    running: &T,
    kept: &mut Vec<&'static str>,
) {
    if new != running {
        new.clone_from(running);
        kept.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("origins: {{ web: http://a }}\nthreads: 1\n{text}");
        Config::from_yaml(&text, "p.yaml", &|_| None).unwrap_or_else(|e| panic!("{e}")).0
    }

    /// What a reload cannot apply stays as it was, and all else is taken.
    #[test]
    fn each_key_is_applied_or_kept() {
        const RUNNING: &str = "cache: { memory: 1MiB, max_object: 1KiB }";
        for (text, kept) in [
            (RUNNING, &[][..]),
            ("cache: { memory: 1MiB, max_object: 2KiB, compress_min: 1, max_variants: 2 }", &[]),
            ("framework: generic\ncache: { memory: 1MiB }", &[]),
            ("listen: 0.0.0.0:1\ncache: { memory: 1MiB }", &["listen"]),
            ("admin: off\ncache: { memory: 1MiB }", &["admin"]),
            ("cache: { memory: 2MiB, max_object: 2KiB }", &["cache.memory"]),
            ("cache: { memory: 1MiB, max_invalidations: 1 }", &["cache.max_invalidations"]),
            ("log: { format: json, level: debug }\ncache: { memory: 1MiB }", &["log.format"]),
            (
                "listen: 0.0.0.0:1\nadmin: off\nlog: { format: text }",
                &["listen", "admin", "cache.memory", "log.format"],
            ),
        ] {
            let (running, new) = (config(RUNNING), config(text));
            let done = new.clone().succeed(&running).expect(text);
            assert_eq!(done.kept, kept, "{text}");
            let runs = done.config;
            assert_eq!(runs.listen, running.listen);
            assert_eq!(runs.admin, running.admin);
            assert_eq!(runs.cache.memory, running.cache.memory);
            assert_eq!(runs.cache.max_invalidations, running.cache.max_invalidations);
            assert_eq!(runs.log.format, running.log.format);
            assert_eq!(runs.cache.max_object, new.cache.max_object);
            assert_eq!(runs.cache.compress_min, new.cache.compress_min);
            assert_eq!(runs.cache.max_variants, new.cache.max_variants);
            assert_eq!(runs.log.level, new.log.level);
            // And what was kept is no news to what runs now.
            assert_eq!(runs.clone().succeed(&runs).expect(text).kept, [""; 0]);
        }
        let mut more = config(RUNNING);
        more.threads = 2;
        let done = more.succeed(&config(RUNNING)).expect("threads are kept");
        assert_eq!((done.kept, done.config.threads), (vec!["threads"], 1));
    }

    #[test]
    fn another_framework_is_another_program() {
        let [generic, nextjs, gatsby] =
            ["generic", "nextjs", "gatsby"].map(|name| config(&format!("framework: {name}")));
        for (new, running) in [(&nextjs, &generic), (&gatsby, &nextjs), (&generic, &gatsby)] {
            let why = new.clone().succeed(running).expect_err("another framework");
            assert!(why.contains(<&str>::from(&new.framework)), "{why}");
        }
        let site = config("framework: nextjs\nnextjs: { base_path: /docs }");
        assert_eq!(
            site.succeed(&nextjs).expect("the same").config.routes[0].path,
            "/docs/_next/static/**"
        );
    }

    /// `auto` goes on as what the origin told.
    #[test]
    fn a_framework_that_was_told() {
        let auto = config("framework: auto");
        let nuxt = config("framework: nuxt");
        let told = auto.clone().told(nuxt.framework.clone());
        for (running, new, framework) in [
            (&auto, &auto, Some("generic")),
            (&told, &auto, Some("nuxt")),
            (&told, &nuxt, Some("nuxt")),
            (&nuxt, &auto, None),
            (&auto, &nuxt, None),
        ] {
            let done = new.clone().succeed(running);
            let found = done.as_ref().ok().map(|done| <&str>::from(&done.config.framework));
            assert_eq!(found, framework, "{done:?}");
        }
        assert!(auto.clone().succeed(&auto).unwrap().config.is_untold());
        assert!(!auto.succeed(&told).unwrap().config.is_untold());
    }
}
