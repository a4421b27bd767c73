// Lists: searched, filtered, and drawn a page at a time.
const haystack = (item) => {
  const instance = data.instances[item.i];
  return [instance.id, instance.label, item.to, item.predicted, instance.group, instance.text]
    .filter((part) => part !== undefined).join("\n").toLowerCase();
};
const list = (name, items, draw) => {
  const root = document.querySelector('[data-list="' + name + '"]');
  if (!root) return null;
  const find = (what) => root.querySelector("[data-" + what + "]");
  const cards = find("cards"), more = find("more"), status = find("status"), search = find("search"), classes = find("class"), sort = find("sort");
  const hay = items.map(haystack);
  let matches = items, drawn = 0;
  if (classes) {
    const labels = new Map();
    for (const item of items) {
      const label = data.instances[item.i].label;
      labels.set(label, (labels.get(label) || 0) + 1);
    }
    for (const [label, n] of [...labels].sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }))) {
      const option = el("option", "", label + " (" + n + ")");
      option.value = "=" + label;
      classes.append(option);
    }
  }
  const page = () => {
    const next = matches.slice(drawn, drawn + PAGE[name]);
    cards.append(...next.map(draw));
    drawn += next.length;
    more.hidden = drawn >= matches.length;
    status.textContent = matches.length ? "Showing " + whole(drawn) + " of " + whole(matches.length) + (matches.length < items.length ? " that match (" + whole(items.length) + " in all)" : "") : "Nothing matches.";
  };
  const filter = () => {
    const wanted = search.value.trim().toLowerCase(), label = classes ? classes.value : "";
    matches = items.filter((item, k) => (!wanted || hay[k].includes(wanted)) && (!label || "=" + data.instances[item.i].label === label));
    if (sort && sort.value === "dev") matches = [...matches].sort((a, b) => a.dev - b.dev);
    redraw();
  };
  const redraw = () => {
    cards.replaceChildren();
    drawn = 0;
    page();
  };
  search.addEventListener("input", filter);
  for (const control of [classes, sort]) if (control) control.addEventListener("change", filter);
  more.addEventListener("click", () => {
    const first = drawn;
    page();
    const next = cards.children[first];
    if (next) { next.tabIndex = -1; next.focus({ preventScroll: true }); }
  });
  page();
  return { matching: () => matches, redraw };
};
const issues = list("issues", data.issues, issueCard);
list("memorized", data.memorized, memorizedCard);
list("explanations", data.explanations, whyCard);

// Export. A cell of the user's that a spreadsheet would run as a formula gets an apostrophe in front.
const tools = document.querySelector("[data-export]");
const count = () => {
  if (tools) tools.querySelector("[data-selected]").textContent = chosen.size ? whole(chosen.size) + " selected" : "Without a selection, all that match are exported.";
};
const cell = (text) => '"' + (/^[=+\-@\t\r]/.test(text) ? "'" : "") .concat(text).replace(/"/g, '""') + '"';
const csv = (items) => {
  const numbers = ["p_wrong", "memorization", "influence_on_dev", "p_own", "p_flipped", "p_full"].filter((name) => name in items[0]);
  const lines = [["id", "given_label", "suggested_label", ...numbers].join(",")];
  for (const item of items) {
    const instance = data.instances[item.i];
    lines.push([...[instance.id, instance.label, item.to].map(cell), ...numbers.map((name) => (known(item[name]) ? String(item[name]) : ""))].join(","));
  }
  return lines.join("\r\n") + "\r\n";
};
if (tools && issues) {
  tools.hidden = false;
  count();
  tools.querySelector("[data-all]").addEventListener("click", () => { issues.matching().forEach((item) => chosen.add(item)); count(); issues.redraw(); });
  tools.querySelector("[data-none]").addEventListener("click", () => { chosen.clear(); count(); issues.redraw(); });
  tools.querySelector("[data-csv]").addEventListener("click", () => {
    const items = chosen.size ? data.issues.filter((item) => chosen.has(item)) : issues.matching();
    if (!items.length) return;
    const link = el("a"), address = URL.createObjectURL(new Blob([csv(items)], { type: "text/csv;charset=utf-8" }));
    link.href = address;
    link.download = data.name.replace(/[^\w.-]+/g, "-") + "-suspected.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}

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
