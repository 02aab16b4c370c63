"use strict";
// Fetches the figures again while logs arrive; the server answers 304 where nothing changed. Nothing here builds markup from data.
(() => {
  const EVERY_MS = 3000;
  const live = document.getElementById("live");
  const filters = document.getElementById("filters");
  const link = document.getElementById("link");
  let tag = "";
  let waiting = 0;
  let asked = 0;

  const say = (text, isLost) => {
    if (link.textContent !== text) link.textContent = text;
    link.classList.toggle("lost", isLost);
  };

  const address = () => {
    const chosen = new URLSearchParams(new FormData(filters));
    for (const [name, value] of [...chosen]) if (!value) chosen.delete(name);
    return chosen.toString();
  };

  const show = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html");
    const scrolled = [...live.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    const options = next.getElementById("next-filters");
    if (options && !filters.contains(document.activeElement)) filters.replaceChildren(...options.content.children);
    live.replaceChildren(...next.body.childNodes);
    live.querySelectorAll(".scroll").forEach((each, place) => { each.scrollLeft = scrolled[place] || 0; });
  };

  const refresh = async () => {
    clearTimeout(waiting);
    const mine = ++asked;
    try {
      const headers = tag ? { "If-None-Match": tag } : {};
      const answer = await fetch("live?" + address(), { headers, cache: "no-store" });
      if (mine !== asked) return;
      if (answer.status === 200) {
        const text = await answer.text();
        if (mine !== asked) return;
        tag = answer.headers.get("ETag") || "";
        show(text);
      } else if (answer.status !== 304) {
        throw new Error(answer.statusText);
      }
      say("Live: changes as logs arrive", false);
    } catch {
      say("Connection lost; what is shown may be old. Trying again.", true);
    }
    if (mine === asked) waiting = setTimeout(refresh, EVERY_MS);
  };

  filters.addEventListener("change", () => {
    const chosen = address();
    history.replaceState(null, "", chosen ? "?" + chosen : "./");
    tag = "";
    refresh();
  });
  filters.addEventListener("submit", (event) => { event.preventDefault(); tag = ""; refresh(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  document.documentElement.classList.add("scripted");
  waiting = setTimeout(refresh, 500);
})();
