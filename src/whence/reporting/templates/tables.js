// Tables are ordered by their headings: each holds a button, and says the order by aria-sort.
const collator = new Intl.Collator("en", { numeric: true });
const nothing = (x) => x === undefined || x === null || x === "" || (typeof x === "number" && !known(x));
// What is not known comes last, whichever way.
const ordered = (a, b, down) => {
  if (nothing(a) || nothing(b)) return nothing(a) - nothing(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b);
  return down ? -order : order;
};
const sorter = (headings, sort) => {
  let column = -1, down = false;
  headings.forEach((heading, k) => {
    const button = el("button", "sort", heading.textContent);
    button.type = "button";
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      down = column === k ? !down : heading.classList.contains("num"); // of numbers, the largest first
      column = k;
      for (const one of headings) one.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down);
    });
  });
};
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const rows = [...table.tBodies[0].rows];
  const valueOf = (row, k) => {
    const cell = row.cells[k];
    return "value" in cell.dataset ? parseFloat(cell.dataset.value) : cell.textContent.trim();
  };
  sorter([...table.tHead.rows[0].cells], (column, down) => {
    table.tBodies[0].append(...[...rows].sort((a, b) => ordered(valueOf(a, column), valueOf(b, column), down)));
  });
}

// Training instances as a table: a row each, drawn a page at a time like cards.
const KINDS = { label_issue: data.regression ? "suspected value" : "suspected label", memorized: "memorized", ambiguous: "ambiguous" };
const COLUMNS = [
  ["Instance", (item) => data.instances[item.i].id],
  [data.regression ? "Given value" : "Given label", (item) => data.instances[item.i].label],
  ["Suggested", (item) => (item.kind === "label_issue" ? item.to : "")],
  ["Kind", (item) => KINDS[item.kind] || ""],
  ["Suspicion", (item) => item.p_wrong, (item) => percent(item.p_wrong)],
  ["Memorization", (item) => item.memorization, (item) => memorization(item)],
  ...(data.audited && data.audited.some((item) => known(item.dev)) ? [["Influence on dev", (item) => item.dev, (item) => signed(item.dev)]] : []),
];
const auditRow = (item) => {
  const instance = data.instances[item.i], row = el("tr"), pick = el("td");
  pick.append(picker(item, row));
  row.append(pick);
  COLUMNS.forEach(([, valueOf, shown], k) => {
    const cell = el(k ? "td" : "th", shown ? "num" : ""), box = words("bdi", "", "");
    if (!k) {
      cell.scope = "row";
      if (seen(instance)) cell.append(picture(instance), " ");
      box.append(linked("instance", instance.id));
    } else {
      box.textContent = shown ? shown(item) : valueOf(item);
    }
    cell.append(box);
    row.append(cell);
  });
  if (data.kind === "text") row.append(words("td", "excerpt", instance.text.slice(0, 90) + (instance.text.length > 90 ? "\u2026" : "")));
  return row;
};
const auditTable = (sort) => {
  const box = el("div", "scroll"), table = el("table", "table tight instances"), top = el("thead"), titles = el("tr"), rows = el("tbody");
  const headings = COLUMNS.map(([name, , shown]) => el("th", shown ? "num" : "", name));
  titles.append(el("td"), ...headings, ...(data.kind === "text" ? [el("th", "", "Text")] : []));
  for (const heading of titles.querySelectorAll("th")) heading.scope = "col";
  sorter(headings, (column, down) => sort((a, b) => ordered(COLUMNS[column][1](a), COLUMNS[column][1](b), down)));
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Training instances");
  top.append(titles);
  table.append(top, rows);
  box.append(table);
  return [box, rows];
};
