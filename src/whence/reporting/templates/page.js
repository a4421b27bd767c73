// Lists: of one kind, searched, filtered, ordered, and drawn a page at a time.
const haystack = (item) => {
  const instance = data.instances[item.i];
  return [instance.id, instance.label, item.to, item.predicted, instance.group, instance.text]
    .filter((part) => part !== undefined).join("\n").toLowerCase();
};
const FILTERS = [
  ["Given label", (item) => data.instances[item.i].label],
  ["Suggested", (item) => (item.kind === "label_issue" ? item.to : undefined)],
  ["Predicted", (item) => item.predicted],
  ["Group", (item) => data.instances[item.i].group],
];
const OWN_ORDER = { label_issue: "p_wrong", memorized: "memorization", nearest: "memorization", ambiguous: "most in doubt first" };
const ORDERS = {
  p_wrong: ["least trusted first", (a, b) => b.p_wrong - a.p_wrong],
  memorization: ["most memorized first", (a, b) => b.memorization - a.memorization],
  harm: ["most harmful first", (a, b) => a.dev - b.dev],
  help: ["most helpful first", (a, b) => b.dev - a.dev],
};
const field = (name, options) => {
  const label = el("label", "field"), select = el("select");
  for (const [shown, value] of options) {
    const option = el("option", "", shown);
    option.value = value;
    select.append(option);
  }
  label.append(el("span", "", name), select);
  return [label, select];
};
// A filter for each quality in which items differ; a value has "=" in front, so that "" is all of them.
const filtersOf = (items) => FILTERS.filter(([name]) => !(data.regression && name !== "Group")).map(([name, quality]) => {
  const values = new Map();
  for (const item of items) {
    const value = quality(item);
    if (value !== undefined) values.set(value, (values.get(value) || 0) + 1);
  }
  if (values.size < 2) return null;
  const sorted = [...values].sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
  const [label, select] = field(name, [["all", ""], ...sorted.map(([value, n]) => [value + " (" + whole(n) + ")", "=" + value])]);
  return { label, select, quality };
}).filter(Boolean);
const list = (name, items, { draw, orders = [], kinds = false }) => {
  const root = document.querySelector('[data-list="' + name + '"]');
  if (!root || !items.length) return null;
  const find = (what) => root.querySelector("[data-" + what + "]"), all = (what) => [...root.querySelectorAll("[data-" + what + "]")];
  const cards = find("cards"), more = find("more"), status = find("status"), search = find("search"), tools = find("tools");
  const hay = new Map();
  const hayOf = (item) => { if (!hay.has(item)) hay.set(item, haystack(item)); return hay.get(item); };
  let mine = items, matches = items, drawn = 0, filters = [], view = null, order = null;
  const page = () => {
    const way = draw[view ? view.value : "cards"], next = matches.slice(drawn, drawn + way.page);
    cards.append(...next.map(way.card));
    drawn += next.length;
    more.hidden = drawn >= matches.length;
    status.textContent = matches.length ? "Showing " + whole(drawn) + " of " + whole(matches.length) + (matches.length < mine.length ? " that match (" + whole(mine.length) + " in all)" : "") : "Nothing matches.";
  };
  const redraw = () => {
    cards.replaceChildren();
    cards.classList.toggle("tiles", view !== null && view.value === "tiles");
    drawn = 0;
    page();
  };
  const filter = () => {
    const wanted = search.value.trim().toLowerCase(), set = filters.filter((one) => one.select.value);
    matches = mine.filter((item) => (!wanted || hayOf(item).includes(wanted)) && set.every((one) => "=" + one.quality(item) === one.select.value));
    if (order && order.value) matches = [...matches].sort(ORDERS[order.value][1]);
    redraw();
  };
  const show = (kind) => {
    mine = kinds ? items.filter((item) => item.kind === kind) : items;
    for (const button of all("kind")) button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    for (const about of all("about")) about.hidden = about.dataset.about !== kind;
    for (const one of [...filters.map((filter) => filter.label), ...tools.querySelectorAll("[data-own]")]) one.remove();
    filters = filtersOf(mine);
    const own = OWN_ORDER[kind], offered = mine.length < 2 ? [] : orders.filter((key) => key !== own && known(mine[0][key in mine[0] ? key : "dev"]));
    const fields = filters.map((one) => one.label);
    order = null;
    if (offered.length) {
      const [label, select] = field("Order", [[own in ORDERS ? ORDERS[own][0] : own, ""], ...offered.map((key) => [ORDERS[key][0], key])]);
      label.dataset.own = "";
      order = select;
      fields.push(label);
    }
    search.closest("label").after(...fields);
    for (const select of [...filters.map((one) => one.select), order]) if (select) select.addEventListener("change", filter);
    filter();
  };
  if (Object.keys(draw).length > 1) {
    const [label, select] = field("View", [["pictures", "tiles"], ["details", "cards"]]);
    view = select;
    tools.append(label);
    view.addEventListener("change", redraw);
  }
  search.addEventListener("input", filter);
  for (const button of all("kind")) button.addEventListener("click", () => show(button.dataset.kind));
  more.addEventListener("click", () => {
    const first = drawn;
    page();
    const next = cards.children[first];
    if (next) { next.tabIndex = -1; next.focus({ preventScroll: true }); }
  });
  const first = kinds ? (all("kind").find((button) => items.some((item) => item.kind === button.dataset.kind)) || {}).dataset : null;
  show(first ? first.kind : null);
  return { matching: () => matches, redraw, show };
};
const ways = { cards: { card: auditCard, page: PAGE.cards } };
const pictured = data.kind === "picture" ? { tiles: { card: auditTile, page: PAGE.tiles }, ...ways } : ways;
const instances = list("audited", data.audited, { draw: pictured, orders: Object.keys(ORDERS), kinds: true });
list("explanations", data.explanations, { draw: { cards: { card: whyCard, page: PAGE.explanations } } });

// Export. A cell of the user's that a spreadsheet would run as a formula gets an apostrophe in front.
const tools = document.querySelector("[data-export]");
const count = () => {
  if (tools) tools.querySelector("[data-selected]").textContent = chosen.size ? whole(chosen.size) + " selected" : "Without a selection, all that match are exported.";
};
// Numbers stay numbers: of an id -7 or a value -1.5 nothing runs.
const FORMULA = /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/, PLAIN = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const cell = (text) => '"' + (FORMULA.test(text) && !PLAIN.test(text) ? "'" : "").concat(text).replace(/"/g, '""') + '"';
const csv = (items) => {
  const numbers = ["p_wrong", "memorization", "influence_on_dev", "p_own", "p_flipped", "p_full"].filter((name) => name in items[0]);
  const lines = [["id", "given_label", "suggested_label", ...numbers, "kind"].join(",")];
  for (const item of items) {
    const instance = data.instances[item.i];
    lines.push([...[instance.id, instance.label, item.to].map(cell), ...numbers.map((name) => (known(item[name]) ? String(item[name]) : "")), item.kind].join(","));
  }
  return lines.join("\r\n") + "\r\n";
};
if (tools && instances) {
  tools.hidden = false;
  count();
  tools.querySelector("[data-all]").addEventListener("click", () => { instances.matching().forEach((item) => chosen.add(item)); count(); instances.redraw(); });
  tools.querySelector("[data-none]").addEventListener("click", () => { chosen.clear(); count(); instances.redraw(); });
  tools.querySelector("[data-csv]").addEventListener("click", () => {
    const items = chosen.size ? data.audited.filter((item) => chosen.has(item)) : instances.matching();
    if (!items.length) return;
    const link = el("a"), address = URL.createObjectURL(new Blob([csv(items)], { type: "text/csv;charset=utf-8" }));
    link.href = address;
    link.download = data.name.replace(/[^\w.-]+/g, "-") + "-instances.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}

// #instances-memorized and the like open a kind.
const open = () => {
  const kind = /^#instances-(\w+)$/.exec(location.hash);
  if (!kind || !instances || !data.audited.some((item) => item.kind === kind[1])) return;
  instances.show(kind[1]);
  document.getElementById("instances").scrollIntoView();
};
window.addEventListener("hashchange", open);
open();

// The section being read is marked in the navigation.
const links = new Map([...document.querySelectorAll(".nav a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(entry.target.id);
    if (link) link.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const section of document.querySelectorAll("section")) watcher.observe(section);
