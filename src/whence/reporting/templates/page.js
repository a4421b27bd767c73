// The lists of a run's report, and what its addresses open.
const ways = {
  ...(data.kind === "picture" ? { tiles: { name: "pictures", card: auditTile, page: PAGE.tiles } } : {}),
  cards: { name: "details", card: auditCard, page: PAGE.cards },
  table: { name: "table", card: auditRow, page: PAGE.rows, table: auditTable },
};
const instances = list("audited", data.audited, { draw: ways, orders: Object.keys(ORDERS), kinds: true });
list("explanations", data.explanations, { draw: { cards: { card: whyCard, page: PAGE.explanations } } });

const tools = document.querySelector("[data-export]");
const count = () => {
  if (tools) tools.querySelector("[data-selected]").textContent = chosen.size ? whole(chosen.size) + " selected" : "Without a selection, all that match are exported.";
};
const tableOf = (items) => {
  const numbers = ["p_wrong", "memorization", "influence_on_dev", "p_own", "p_flipped", "p_full"].filter((name) => name in items[0]);
  return csv(["id", "given_label", "suggested_label", ...numbers, "kind"], items.map((item) => {
    const instance = data.instances[item.i];
    return [...[instance.id, instance.label, item.to].map(cell), ...numbers.map((name) => numeral(item[name])), item.kind];
  }));
};
if (tools && instances) {
  tools.hidden = false;
  count();
  tools.querySelector("[data-all]").addEventListener("click", () => { instances.matching().forEach((item) => chosen.add(item)); count(); instances.redraw(); });
  tools.querySelector("[data-none]").addEventListener("click", () => { chosen.clear(); count(); instances.redraw(); });
  tools.querySelector("[data-csv]").addEventListener("click", () => {
    const items = chosen.size ? data.audited.filter((item) => chosen.has(item)) : instances.matching();
    if (items.length) save(tableOf(items), data.name + "-instances");
  });
}

const instanceOf = (item) => data.instances[item.i];
place("instance", "instances", "Training instance", data.audited, (item) => instanceOf(item).id, (item) => [openedInstance(item)]);
place("target", "predictions", "Target", data.explanations, (item) => instanceOf(item).id, (item) => [whyCard(item)]);
place("group", "groups", "Group", data.groups, (item) => item.name, (item) => [openedGroup(item)]);
follow();
