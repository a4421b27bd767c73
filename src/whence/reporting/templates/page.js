// The lists of a run's report, and what its addresses open.
const ways = {
  ...(data.kind === "picture" ? { tiles: { name: "pictures", card: auditTile, page: PAGE.tiles } } : {}),
  cards: { name: "details", card: auditCard, page: PAGE.cards },
  table: { name: "table", card: auditRow, page: PAGE.rows, table: auditTable },
};
const instances = list("audited", data.audited, { draw: ways, orders: Object.keys(ORDERS), kinds: true });
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

const instanceOf = (item) => data.instances[item.i];
place("instance", "instances", "Training instance", data.audited, (item) => instanceOf(item).id, (item) => [openedInstance(item)]);
place("target", "predictions", "Target", data.explanations, (item) => instanceOf(item).id, (item) => [whyCard(item)]);
place("group", "groups", "Group", data.groups, (item) => item.name, (item) => [openedGroup(item)]);
follow();
