"use strict";
(() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const $ = (id) => document.getElementById(id);
  const here = location.pathname + location.search;

  for (const link of document.querySelectorAll("header.top nav a")) {
    const top = "/" + location.pathname.split("/")[1];
    if ("/" + link.getAttribute("href").split("/")[1] === top) link.setAttribute("aria-current", "page");
  }
  for (const time of document.querySelectorAll("[data-clock]")) {
    const at = new Date(time.dateTime);
    time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  }
  if ($("curl")) {
    const secret = `-H 'x-revalidate-secret: ${facts.secret}'`;
    $("curl").textContent =
      `curl -i ${location.origin}/isr\n` +
      `curl ${secret} '${location.origin}/__revalidate?path=/isr'\n` +
      `curl ${secret} '${location.origin}/__revalidate?tag=shop'`;
  }
  if (!$("cache")) return;

  // How long this visitor waited for this page.
  const nav = performance.getEntriesByType("navigation")[0];
  const waited = nav ? nav.responseStart - nav.requestStart : null;
  const ms = (n) => n < 10 ? `${n.toFixed(1)} ms` : `${Math.round(n)} ms`;
  const span = (n) => {
    n = Math.max(0, Math.floor(n));
    return n < 120 ? `${n} s` : n < 7200 ? `${Math.floor(n / 60)} min` : `${Math.floor(n / 3600)} h`;
  };

  // What the cache has of a page, without a render: `only-if-cached` asks no
  // origin, and a prefetch does not start a regeneration.
  let state = null;
  async function look() {
    const answer = await fetch(here, {
      method: "HEAD", cache: "no-store",
      headers: { "cache-control": "only-if-cached", purpose: "prefetch" },
    }).catch(() => null);
    if (!answer) { state = { chip: "ERROR", gone: true }; return draw(); }
    const status = answer.headers.get("cache-status") || "";
    const ttl = /;\s*ttl=(-?\d+)/.exec(status);
    state = {
      at: performance.now(),
      chip: answer.headers.get("x-cache") || "BYPASS",
      stored: answer.ok || answer.status === 304,
      ttl: ttl ? Number(ttl[1]) : null,
      age: answer.headers.has("age") ? Number(answer.headers.get("age")) : null,
      render: answer.headers.get("x-render"),
      headers: ["cache-status", "x-cache", "age", "cache-control", "etag"]
        .map((name) => [name, answer.headers.get(name)]),
    };
    draw();
  }

  let busy = false;
  function draw() {
    if (!state) return;
    $("cache").hidden = false;
    const since = (performance.now() - state.at) / 1000;
    const ttl = state.ttl === null ? null : state.ttl - since;
    const age = state.age === null ? null : state.age + since;
    let chip = state.chip, say, more = "";
    if (state.gone) {
      say = "Perennial does not answer.";
    } else if (!state.stored) {
      chip = "NOT STORED";
      say = "The next visitor waits for a render.";
    } else if (ttl === null && chip === "HIT") {
      say = "Static until it is revalidated.";
    } else if (ttl === null || ttl <= 0) {
      chip = "STALE";
      say = "The next visitor gets it at once and starts <b>one</b> render in the background.";
    } else {
      say = `Fresh for <b>${span(Math.ceil(ttl))}</b>.`;
    }
    if (age !== null && state.stored) more = `Rendered ${span(age)} ago`;
    if (waited !== null) more += `${more ? ", and you" : "You"} waited ${ms(waited)} for what you see.`;
    if (busy) say = "The renderer is at work on this page. Nobody waits for it.";
    const newer = state.stored && state.render && state.render !== String(facts.render);
    $("chip").textContent = chip;
    $("chip").dataset.is = chip;
    const html = `${say}${newer ? ' <span class="newer">A newer page is stored: reload.</span>' : ""}<small>${more}</small>`;
    if ($("say").dataset.html !== html) { $("say").dataset.html = html; $("say").innerHTML = html; }
    const whole = (state.ttl ?? 0) + (state.age ?? 0);
    $("life").toggleAttribute("data-busy", busy);
    $("life").toggleAttribute("data-stale", chip === "STALE");
    $("life").firstElementChild.style.transform =
      `scaleX(${!state.stored ? 0 : ttl === null ? 1 : Math.max(0, Math.min(1, ttl / Math.max(1, whole)))})`;
    const list = $("headers");
    list.replaceChildren();
    for (const [name, value] of state.stored ? state.headers : state.headers ? state.headers.slice(0, 2) : []) {
      if (!value) continue;
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = name.replace(/(^|-)[a-z]/g, (c) => c.toUpperCase()).replace("Etag", "ETag");
      dd.textContent = value;
      list.append(dt, dd);
    }
  }
  setInterval(draw, 250);

  function act(label, run, main) {
    const button = document.createElement("button");
    button.textContent = label;
    if (main) button.className = "main";
    button.onclick = async () => {
      button.disabled = true;
      try { await run(); } finally { button.disabled = false; }
    };
    $("acts").append(button);
  }
  async function say(method, url, headers) {
    const begun = performance.now();
    const shown = `${method} ${url}`;
    $("said").textContent = `${shown}\n…`;
    const answer = await fetch(url, { method, headers, cache: "no-store" }).catch((e) => e);
    const text = answer.text ? (await answer.text()).trim() : String(answer);
    const cache = answer.headers?.get("x-cache");
    $("said").textContent = `${shown}\n${answer.status ?? ""} in ${ms(performance.now() - begun)}${cache ? `, ${cache}` : ""}\n${text}`;
    await look();
  }
  const webhook = (query) => say("POST", `/__revalidate?${query}`, { "x-revalidate-secret": facts.secret });
  const path = "path=" + encodeURIComponent(location.pathname);

  act("Reload", () => location.reload(), true);
  for (const extra of facts.acts || []) {
    if (extra.json) act(extra.label, () => say("GET", here, { accept: "application/json" }));
    if (extra.tag) act(extra.label, () => webhook("tag=" + encodeURIComponent(extra.tag)));
    if (extra.post) act(extra.label, async () => {
      await fetch(extra.post, { method: "POST" });
      await webhook("tag=" + encodeURIComponent(extra.then));
    });
  }
  act("Render it now", () => webhook(path));
  act("Mark it stale", () => webhook(path + "&mode=stale"));
  act("Delete it", () => webhook(path + "&mode=delete"));

  // What the renderer does, as it happens: an event stream through Perennial.
  let events = null;
  function listen() {
    events = new EventSource("/renderer/events");
    events.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (event.path !== location.pathname) return;
      busy = event.what === "begins";
      // The answer is on its way into the store.
      if (!busy) setTimeout(look, 120);
      draw();
    };
  }
  document.addEventListener("visibilitychange", () => {
    events?.close();
    if (!document.hidden) { listen(); look(); }
  });
  addEventListener("pagehide", () => events?.close());
  addEventListener("pageshow", (event) => { if (event.persisted) { listen(); look(); } });
  listen();
  look();
})();
