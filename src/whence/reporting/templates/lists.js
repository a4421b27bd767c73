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
  ["Cleansing", (item) => (item.cleansed ? item.cleansed.map(([number]) => data.cleansings[number].name).join(", ") : "none")],
];
const MOST_VALUES = 300; // of a filter; among more, search is quicker
const OWN_ORDER = { label_issue: "p_wrong", memorized: "memorization", nearest: "memorization", ambiguous: "most in doubt first", all: "p_wrong" };
const ORDERS = {
  p_wrong: ["least trusted first", (a, b) => b.p_wrong - a.p_wrong],
  memorization: ["most memorized first", (a, b) => b.memorization - a.memorization],
  harm: ["most harmful first", (a, b) => a.dev - b.dev],
  help: ["most helpful first", (a, b) => b.dev - a.dev],
};
const ofKind = (items, kind) => {
  if (kind !== "all") return items.filter((item) => item.kind === kind && !item.beyond);
  const unique = new Map(items.map((item) => [item.i, item]));
  return [...unique.values()].sort(ORDERS.p_wrong[1]);
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
const filtersOf = (items) => FILTERS.filter(([name]) => !data.regression || name === "Group" || name === "Cleansing").map(([name, quality]) => {
  const values = new Map();
  for (const item of items) {
    const value = quality(item);
    if (value !== undefined) values.set(value, (values.get(value) || 0) + 1);
  }
  if (values.size < 2 || values.size > MOST_VALUES) return null;
  const sorted = [...values].sort((a, b) => collator.compare(a[0], b[0]));
  const [label, select] = field(name, [["all", ""], ...sorted.map(([value, n]) => [value + " (" + whole(n) + ")", "=" + value])]);
  return { name, label, select, quality };
}).filter(Boolean);
// draw: by the name of a view, card (of an item), page (how many at once), and of a table, table (its frame and body).
const list = (name, items, { draw, orders = [], kinds = false }) => {
  const root = document.querySelector('[data-list="' + name + '"]');
  if (!root || !items.length) return null;
  const find = (what) => root.querySelector("[data-" + what + "]"), all = (what) => [...root.querySelectorAll("[data-" + what + "]")];
  const cards = find("cards"), more = find("more"), status = find("status"), search = find("search"), tools = find("tools");
  const hay = new Map();
  const hayOf = (item) => { if (!hay.has(item)) hay.set(item, haystack(item)); return hay.get(item); };
  let mine = items, matches = items, drawn = 0, filters = [], view = null, order = null, body = cards, byHeading = null;
  const page = () => {
    const way = draw[view ? view.value : "cards"], next = matches.slice(drawn, drawn + way.page);
    body.append(...next.map(way.card));
    drawn += next.length;
    more.hidden = drawn >= matches.length;
    status.textContent = matches.length ? "Showing " + whole(drawn) + " of " + whole(matches.length) + (matches.length < mine.length ? " that match (" + whole(mine.length) + " in all)" : "") : "Nothing matches.";
  };
  const redraw = () => {
    body.replaceChildren();
    drawn = 0;
    page();
  };
  const filter = () => {
    const wanted = search.value.trim().toLowerCase(), set = filters.filter((one) => one.select.value);
    matches = mine.filter((item) => (!wanted || hayOf(item).includes(wanted)) && set.every((one) => "=" + one.quality(item) === one.select.value));
    const sort = byHeading || (order && order.value ? ORDERS[order.value][1] : null);
    if (sort) matches = [...matches].sort(sort);
    redraw();
  };
  // A table has headings to order by, so no field for that.
  const frame = () => {
    const way = draw[view ? view.value : "cards"];
    cards.classList.toggle("tiles", view !== null && view.value === "tiles");
    cards.classList.toggle("rows-of", Boolean(way.table));
    cards.replaceChildren();
    body = cards;
    byHeading = null;
    if (order) order.closest("label").hidden = Boolean(way.table);
    if (way.table) {
      const [box, rows] = way.table((sort) => { byHeading = sort; filter(); });
      cards.append(box);
      body = rows;
    }
    filter();
  };
  const show = (kind) => {
    mine = kinds ? ofKind(items, kind) : items;
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
    frame();
  };
  // The items with one value of a filter, whatever was searched before.
  const only = (quality, value) => {
    search.value = "";
    if (kinds) show("all");
    for (const one of filters) if (one.name === quality) one.select.value = "=" + value;
    if (!filters.some((one) => one.name === quality)) search.value = value;
    filter();
  };
  if (Object.keys(draw).length > 1) {
    const [label, select] = field("View", Object.entries(draw).map(([value, way]) => [way.name, value]));
    view = select;
    tools.append(label);
    view.addEventListener("change", frame);
  }
  search.addEventListener("input", filter);
  for (const button of all("kind")) button.addEventListener("click", () => show(button.dataset.kind));
  more.addEventListener("click", () => {
    const first = drawn;
    page();
    const next = body.children[first];
    if (next) { next.tabIndex = -1; next.focus({ preventScroll: true }); }
  });
  const first = kinds ? (all("kind").find((button) => items.some((item) => item.kind === button.dataset.kind)) || { dataset: { kind: "all" } }).dataset : null;
  show(first ? first.kind : null);
  return { matching: () => matches, redraw, show, only };
};
