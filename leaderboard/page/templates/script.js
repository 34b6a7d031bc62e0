// What needs more than links: sorting, filtering, the theme, and telling assistive technology which view is shown.
"use strict";
const LONG = 24; // rows from which a table gets a filter

// What a link's fragment leads to; nothing if it is mistyped.
function leadsTo(hash) {
  try { return document.getElementById(decodeURIComponent(hash.slice(1))); } catch { return null; }
}

// A browser opens the details that a link leads into; older ones are helped.
function follow() {
  const target = leadsTo(location.hash);
  for (let at = target; at; at = at.parentElement) if (at.localName === "details") at.open = true;
  for (const link of document.querySelectorAll(".toolbar a, .tiers a")) {
    const place = leadsTo(link.hash);
    const within = place?.matches(".board") && place.contains(target) && !target.closest(".tiers");
    const current = target ? place === target || within : link.hash === "#boards";
    if (current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function theme() {
  const label = document.querySelector(".theme"), choice = label.querySelector("select");
  const apply = () => choice.value ? (document.documentElement.dataset.theme = choice.value) : delete document.documentElement.dataset.theme;
  try { choice.value = localStorage.getItem("theme") || ""; } catch { /* no storage for this page */ }
  choice.addEventListener("change", () => {
    apply();
    try { localStorage.setItem("theme", choice.value); } catch { /* then it lasts as long as the page */ }
  });
  apply();
  label.hidden = false;
}

// A cell's number, or its text in lower case, or null where it has nothing to say.
function valueOf(cell) {
  if ("value" in cell.dataset) return Number(cell.dataset.value);
  const text = cell.textContent.trim(), number = parseFloat(text);
  if (text === "" || text === "–") return null;
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compare(one, other) {
  if (typeof one === typeof other) return typeof one === "number" ? one - other : one.localeCompare(other, "en");
  return typeof one === "number" ? -1 : 1;
}

// Numbers start with the largest, texts with the first; what has no value stays last; equal rows keep their order.
function sort(head) {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
  const numbers = rows.filter(([value]) => typeof value === "number").length * 2 > rows.length;
  const before = head.getAttribute("aria-sort");
  const order = before ? (before === "descending" ? "ascending" : "descending") : numbers && column > 0 ? "descending" : "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
  body.append(...rows.map(([, row]) => row));
}

function sortable(table) {
  for (const head of table.tHead.rows[0].cells) {
    if (head.matches(".tall")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }
}

// A field before a table or a list that hides what lacks one of its words.
function filterable(place, items, what) {
  const label = document.createElement("label"), field = document.createElement("input"), count = document.createElement("output");
  label.className = "filter";
  label.append(`Filter ${what}`, field, count);
  field.type = "search";
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const item of items()) {
      const text = (item.querySelector(":scope > summary") || item).textContent.toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
      left += !item.hidden;
    }
    count.textContent = words.length ? `${left} of ${items().length}` : "";
  });
  place.before(label);
}

function prepare(table) {
  if (table.dataset.ready) return;
  table.dataset.ready = "true";
  sortable(table);
  const rows = table.tBodies[0].rows;
  if (rows.length > LONG) filterable(table.parentElement, () => [...rows], "rows");
}

// Tables within closed details are prepared when they are opened: there are hundreds.
for (const table of document.querySelectorAll("table")) if (!table.closest("details:not([open])")) prepare(table);
for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", () => details.open && details.querySelectorAll("table").forEach(prepare));
}
for (const list of document.querySelectorAll(".details")) {
  if (list.children.length > LONG) filterable(list, () => [...list.children], "entries");
}
addEventListener("hashchange", follow);
theme();
follow();
