"use strict";
(() => {
  const all = (query, within) => [...(within || document).querySelectorAll(query)];
  const chapters = all("details.chapter"), folds = all("main details");
  const unfold = (place) => { for (let each = place; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true; };
  const follow = () => {
    const place = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (place) { unfold(place); place.scrollIntoView(); }
  };
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    const place = link && document.getElementById(link.hash.slice(1));
    if (place) unfold(place);
  });
  follow();

  const find = document.getElementById("find"), hits = document.getElementById("hits"), opener = document.getElementById("unfold");
  if (find) {
    find.closest("[hidden]").hidden = false;
    const rows = all("details.chapter tbody tr");
    find.addEventListener("input", () => {
      const wanted = find.value.trim().toLowerCase();
      let found = 0;
      for (const row of rows) row.hidden = false;
      for (const chapter of chapters) {
        const holds = (place) => place.textContent.toLowerCase().includes(wanted);
        const is = wanted === "" || holds(chapter);
        chapter.hidden = !is;
        chapter.open = wanted !== "" && is;
        found += is ? 1 : 0;
        for (const fold of all("details", chapter)) fold.open = wanted !== "" && holds(fold);
        if (wanted === "") continue;
        for (const body of all("tbody", chapter)) if (holds(body)) for (const row of all("tr", body)) row.hidden = !holds(row);
      }
      hits.textContent = wanted === "" ? "" : `${found} of ${chapters.length} chapters`;
    });
    opener.addEventListener("click", () => {
      const open = opener.textContent === "Open all";
      for (const fold of folds) fold.open = open;
      opener.textContent = open ? "Close all" : "Open all";
    });
  }

  const number = (text) => {
    const found = /-?\d[\d,]*(\.\d+)?/.exec(text.replace("\u2212", "-"));
    return found ? Number(found[0].replaceAll(",", "")) * (/\d(\.\d+)?\s*s\b/.test(text) ? 1000 : 1) : NaN;
  };
  for (const table of all("main table")) {
    const body = table.tBodies[0];
    if (body.rows.length < 2 || table.closest("[aria-label='Options']")) continue;
    all("thead th", table).forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "descending";
        for (const each of all("thead th", table)) each.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const isNumber = head.classList.contains("r");
        const value = (row) => (isNumber ? number(row.cells[place].textContent) : row.cells[place].textContent.trim());
        const compared = (one, other) => {
          if (!isNumber) return one.localeCompare(other);
          if (Number.isNaN(one) || Number.isNaN(other)) return (Number.isNaN(one) ? 1 : 0) - (Number.isNaN(other) ? 1 : 0);
          return one - other;
        };
        const last = (each) => isNumber && Number.isNaN(each);
        body.append(...[...body.rows].map((row) => [value(row), row]).sort(([one], [other]) =>
          last(one) || last(other) ? compared(one, other) : (up ? 1 : -1) * compared(one, other)).map(([, row]) => row));
      });
    });
  }
})();
