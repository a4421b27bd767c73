// Training instances as a table: a row each, drawn a page at a time like cards.
const KINDS = { label_issue: data.regression ? "suspected value" : "suspected label", memorized: "memorized", ambiguous: "ambiguous" };
const COLUMNS = [
  ["Instance", (item) => data.instances[item.i].id],
  [data.regression ? "Given value" : "Given label", (item) => data.instances[item.i].label],
  ["Suggested", (item) => (item.kind === "label_issue" ? item.to : "")],
  ["Kind", (item) => KINDS[item.kind] || ""],
  ["Suspicion", (item) => item.p_wrong, (item) => percent(item.p_wrong)],
  ["Memorization", (item) => item.memorization, (item) => memorization(item)],
  ...(data.audited && data.audited.some((item) => known(item.dev)) ? [["Influence on dev" + (data.units.dev.trim() ? " (" + data.units.dev.trim() + ")" : ""), (item) => item.dev, (item) => signed(item.dev)]] : []),
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
    if (!k && data.kind === "text") row.append(words("td", "excerpt", instance.text.slice(0, 90) + (instance.text.length > 90 ? "\u2026" : "")));
  });
  return row;
};
const auditTable = (sort) => {
  const box = el("div", "scroll"), table = el("table", "table tight instances"), top = el("thead"), titles = el("tr"), rows = el("tbody");
  const headings = COLUMNS.map(([name, , shown]) => el("th", shown ? "num" : "", name));
  titles.append(el("td"), headings[0], ...(data.kind === "text" ? [el("th", "", "Text")] : []), ...headings.slice(1));
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
