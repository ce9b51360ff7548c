// Keeps the page about a deployment up to date: asks for its sections every few seconds, and replaces those that changed.
// The server answers 304 while nothing happened. Nothing is loaded from elsewhere, and nothing is kept but the token, in this tab.
"use strict";

(() => {
  const PERIOD = 5000, SLOWEST = 60000, PATIENCE = 30000, KEY = "surefoot-token";
  const at = id => document.getElementById(id);
  const main = at("main"), bar = at("bar"), age = at("age"), said = at("said"), login = at("login"), input = at("token"), why = at("why");
  let token = sessionStorage.getItem(KEY) || "";
  let tag = "", busy = false, timer = 0, failures = 0, waiting = false;
  let reached = 0;            // when the server last answered, by this tab's clock
  let old = null;             // age of the last event in milliseconds, then
  const shown = new Map();    // id of a section -> its text as the server sent it

  // ------------------------------------------------------------------------------------------------ asking

  async function refresh() {
    clearTimeout(timer);
    if (busy || waiting || document.hidden) return;
    busy = true;
    try {
      const headers = {};
      if (token) headers["Authorization"] = `Bearer ${token}`;
      if (tag) headers["If-None-Match"] = tag;
      const answer = await fetch("live/state", {
        headers, cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(PATIENCE),
      });
      if (answer.status === 401 || answer.status === 403) {
        ask(answer.status);
        return;
      }
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
        const found = await answer.json();
        show(found);
        tag = answer.headers.get("ETag") || "";
        old = 1000 * found.age;
        reached = performance.now();
      } else if (old !== null) {
        old += performance.now() - reached;
        reached = performance.now();
      }
      if (failures) announce("The service is reached again. ");
      failures = 0;
    } catch (error) {
      failures += 1;
      if (failures === 1) announce("The service cannot be reached. ");
    } finally {
      busy = false;
      main.dataset.refreshes = Number(main.dataset.refreshes || 0) + 1;
      tell();
      if (!waiting) timer = setTimeout(refresh, Math.min(PERIOD * 2 ** Math.min(failures, 4), SLOWEST));
    }
  }

  // ----------------------------------------------------------------------------------------------- showing

  function show(found) {
    document.title = found.title;
    const fresh = document.createElement("template");
    fresh.innerHTML = found.html;
    const anchor = lookedAt(), sections = [...fresh.content.children].filter(part => part.id);
    const wanted = new Set(sections.map(section => section.id));
    for (const section of [...main.children]) if (!wanted.has(section.id)) { section.remove(); shown.delete(section.id); }
    let before = null;
    for (const section of sections) {
      const text = section.outerHTML, there = main.querySelector(`:scope > [id="${CSS.escape(section.id)}"]`);
      if (there === null) before === null ? main.prepend(section) : before.after(section);
      else if (shown.get(section.id) !== text) exchange(there, section);
      before = there !== null && there.isConnected ? there : section;
      shown.set(section.id, text);
    }
    if (anchor !== null) back(anchor);
    if (said.dataset.words !== found.said) {
      if (said.dataset.words !== undefined) said.textContent = found.said;
      said.dataset.words = found.said;
    }
  }

  // Puts a section in the place of its older self: what is open stays open, the focus stays, tables stay scrolled.
  function exchange(there, section) {
    for (const drawer of there.querySelectorAll("details[open][id]")) {
      const twin = section.querySelector(`details[id="${CSS.escape(drawer.id)}"]`);
      if (twin !== null) twin.open = true;
    }
    const reachable = "a[href], button, input, summary, [tabindex]";
    const focus = there.contains(document.activeElement) ? [...there.querySelectorAll(reachable)].indexOf(document.activeElement) : -1;
    const scrolled = [...there.querySelectorAll(".across")].map(table => table.scrollLeft);
    there.replaceWith(section);
    section.querySelectorAll(".across").forEach((table, k) => { if (scrolled[k]) table.scrollLeft = scrolled[k]; });
    const twin = focus < 0 ? undefined : section.querySelectorAll(reachable)[focus];
    if (twin !== undefined) twin.focus({preventScroll: true});
  }

  // The section at the top of the window, and where it is: what is being read does not move when something above it grows.
  function lookedAt() {
    if (window.scrollY <= 0) return null;
    const line = bar.getBoundingClientRect().bottom;
    for (const section of main.children) {
      const box = section.getBoundingClientRect();
      if (box.bottom > line) return {id: section.id, top: box.top};
    }
    return null;
  }

  function back(anchor) {
    const section = at(anchor.id);
    if (section === null) return;
    const moved = section.getBoundingClientRect().top - anchor.top;
    if (Math.abs(moved) >= 1) window.scrollBy(0, moved);
  }

  // ---------------------------------------------------------------------------------------------- the bar

  function span(milliseconds) {
    const s = Math.max(0, Math.round(milliseconds / 1000));
    if (s < 100) return `${s} s`;
    if (s < 6000) return `${Math.round(s / 60)} min`;
    return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
  }

  function tell() {
    if (document.hidden) return;
    const since = performance.now() - reached;
    const event = old === null ? "" : `Last event ${span(old + since)} ago`;
    const lost = failures > 0;
    bar.className = lost ? "lost" : "";
    if (waiting) age.textContent = "Waiting for a token";
    else if (lost) age.textContent = old === null ? "The service cannot be reached; trying again" : `Not reached for ${span(since)}: this may be out of date. ${event}`;
    else age.textContent = old === null ? "Connecting" : `${event}; checked ${span(since)} ago`;
  }

  function announce(words) {
    said.textContent = words + (said.dataset.words || "");
  }

  // --------------------------------------------------------------------------------------------- the token

  function ask(status) {
    waiting = true;
    why.textContent = !token ? "This service asks for a token. One for reading will do."
      : status === 403 ? "This token may not read the page; use a reader's, an operator's or the owner's." : "The service does not know this token.";
    token = "";
    sessionStorage.removeItem(KEY);
    main.replaceChildren();
    shown.clear();
    tag = "";
    old = null;
    login.hidden = false;
    input.focus();
  }

  login.addEventListener("submit", event => {
    event.preventDefault();
    token = input.value.trim();
    // What a header cannot carry is no token.
    if (!/^[\x21-\x7e]+$/.test(token)) return;
    sessionStorage.setItem(KEY, token);
    input.value = "";
    login.hidden = true;
    waiting = false;
    refresh();
  });

  at("again").addEventListener("click", refresh);
  document.addEventListener("visibilitychange", () => { document.hidden ? clearTimeout(timer) : refresh(); });
  window.addEventListener("online", refresh);
  setInterval(tell, 1000);
  refresh();
})();
