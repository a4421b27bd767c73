// Two runs beside each other: held-out instances with both predictions, training instances with both suspicions.
const NAMED = { 3: "both", 1: "only " + data.names[0], 2: "only " + data.names[1] };
const runsTable = (lines) => {
  const table = el("table", "table tight runs"), top = el("thead"), titles = el("tr"), rows = el("tbody");
  titles.append(el("td"));
  for (const name of data.names) {
    const heading = el("th", "num"), called = words("bdi", "", name);
    heading.scope = "col";
    heading.append(called);
    titles.append(heading);
  }
  top.append(titles);
  for (const [what, ...cells] of lines) {
    const row = el("tr"), name = el("th", "", what);
    name.scope = "row";
    row.append(name, ...cells.map(([shown, className]) => {
      const cell = el("td", ("num " + (className || "")).trim());
      cell.append(words("bdi", "", shown));
      return cell;
    }));
    rows.append(row);
  }
  table.append(top, rows);
  return table;
};
const sideBySide = (instance, heading, lines, shared) => {
  const target = el("div", "target"), head = el("div", "head"), say = el("div", "say");
  if (seen(instance)) head.append(picture(instance));
  say.append(heading, identity(instance));
  head.append(say);
  target.append(head, ...body(instance, shared), runsTable(lines));
  return target;
};
const namedRow = ([what, ours, theirs, who], className, most) => {
  const named = who === 2 ? theirs : ours;
  const row = data.level === "group" ? groupRow([what, named, ""], className, most) : instanceRow([what, named], className, most);
  const score = row.querySelector(".score"), of = (x) => el("span", x < 0 ? "hurts" : "helps", signed(x));
  score.replaceChildren(of(ours), " ", of(theirs));
  score.classList.add("pair");
  const badge = el("span", who === 3 ? "named both" : "named", "");
  badge.append(words("bdi", "", NAMED[who]));
  row.append(badge);
  return row;
};
const namedSide = (title, className, pairs, most) => {
  const side = el("div"), tiles = data.level !== "group" && data.kind === "picture";
  side.append(el("h4", className, title));
  if (!pairs.length) side.append(el("p", "status", "none"));
  const list = el("ol", tiles ? "rows tiles stack" : "rows"), rows = pairs.map((pair) => namedRow(pair, className, most));
  const first = tiles ? 8 : FIRST;
  list.append(...rows.slice(0, first));
  if (rows.length) side.append(list);
  if (rows.length > first) side.append(restOf(list, rows.slice(first)));
  return side;
};
const changeCard = (item) => {
  const instance = data.instances[item.i], [ours, theirs] = item.runs, title = el("h3");
  title.append(words("bdi", "", instance.label));
  const mark = (one) => (data.regression ? "" : one.right ? "better" : "worse");
  const lines = [["Predicted", [ours.predicted, mark(ours)], [theirs.predicted, mark(theirs)]]];
  if (!data.regression) {
    lines.push(["Probability", [percent(ours.probability)], [percent(theirs.probability)]]);
    lines.push(["Of its label", [percent(ours.true_probability)], [percent(theirs.true_probability)]]);
  }
  lines.push([data.regression ? "Error" : "Loss", [significant(ours.loss)], [significant(theirs.loss)]]);
  const card = el("article", "why two");
  card.append(sideBySide(instance, title, lines));
  if (!item.helps) return card;
  const most = largest([...item.helps, ...item.hurts].flatMap(([what, ours, theirs]) => [[what, ours], [what, theirs]]));
  card.append(namedSide("+ helps", "helps", item.helps, most), namedSide("\u2212 hurts", "hurts", item.hurts, most));
  return card;
};
const changeTile = (item) => {
  const instance = data.instances[item.i], tile = el("article", "tile"), link = el("a"), line = el("div", "labels");
  link.href = address("target", instance.id);
  link.append(picture(instance));
  line.append(words("bdi", "", instance.label));
  tile.append(link, line);
  for (const one of item.runs) tile.append(words("div", one.right ? "under better" : "under worse", one.predicted + " " + percent(one.probability)));
  tile.title = "id " + instance.id;
  return tile;
};
const ISSUE = { label_issue: "suspected", memorized: "memorized", ambiguous: "ambiguous", ok: "no" };
const issueCard = (item) => {
  const instance = data.instances[item.i], [ours, theirs] = item.runs, card = el("article", "card");
  const both = (what) => [ours, theirs].map((one) => [one ? what(one) : "\u2013"]);
  const lines = [["Suspicion", ...both((one) => percent(one.p_wrong))], ["Suggested", ...both((one) => one.to)]];
  if (item.kind === "relabeled") lines.unshift(["Given", ...both((one) => one.label)]);
  lines.push(["Issue", ...both((one) => ISSUE[one.kind] || one.kind)], ["Memorization", ...both((one) => memorization(one))]);
  const title = el("div", "labels");
  title.append(words("bdi", "", instance.label));
  card.append(sideBySide(instance, title, lines));
  return card;
};
// From a training instance, or a group, to the predictions for which a run names it; scores are those of this run.
const namedFor = (what) => {
  const scored = (side) => data.changes.flatMap((item) => (item[side] || []).filter((pair) => pair[0] === what).map((pair) => [item.i, pair[1]]));
  const helps = scored("helps"), hurts = scored("hurts");
  if (!helps.length && !hurts.length) return [el("p", "status", "Neither run names it for a prediction above.")];
  const most = largest([...helps, ...hurts]);
  return [influences("+ named as helping", "helps", helps, most, false), influences("\u2212 named as hurting", "hurts", hurts, most, false)];
};
const openedPair = (item) => {
  const card = el("article", "why two"), frame = issueCard(item);
  card.append(...frame.children, ...namedFor(item.i));
  return card;
};
const openedGroup = (name) => {
  const card = el("article", "why");
  card.append(el("p", "status", "Predictions for which a run names it"), ...namedFor(name));
  return card;
};
const changes = list("changes", data.changes, {
  draw: {
    cards: { name: "details", card: changeCard, page: PAGE.explanations },
    ...(data.kind === "picture" && !data.regression ? { tiles: { name: "pictures", card: changeTile, page: PAGE.tiles } } : {}),
  },
  kinds: true,
});
const instances = list("audited", data.audited, { draw: { cards: { card: issueCard, page: PAGE.cards } }, kinds: true });
// Export: all that match; first and second are the runs in the order of the heading.
const KIND = {
  gained: "better in first", lost: "better in second", other_error: "wrong in both, differently", same_error: "wrong in both, alike", right: "right in both",
  both: "suspected by both", only_first: "suspected by first", only_second: "suspected by second", relabeled: "labeled differently",
  only_first_data: "trained on by first", only_second_data: "trained on by second", named: "named for a prediction",
};
const byRun = (names) => ["first", "second"].flatMap((run) => names.map((name) => run + "_" + name));
const exportOf = (name, matching, header, cellsOf) => {
  const tools = document.querySelector(`[data-export="${name}"]`);
  if (!tools) return;
  tools.hidden = false;
  tools.querySelector("[data-csv]").addEventListener("click", () => {
    const rows = matching().map((item) => [cell(data.instances[item.i].id), ...cellsOf(item), cell(KIND[item.kind])]);
    if (rows.length) save(csv(["id", ...header, "kind"], rows), data.names.join("-against-") + "-" + name);
  });
};
const PREDICTED = data.regression ? ["predicted", "error"] : ["predicted", "probability", "probability_of_label", "loss"];
exportOf("predictions", changes && changes.matching, ["label", ...byRun(PREDICTED)], (item) => [
  cell(data.instances[item.i].label),
  ...item.runs.flatMap((one) => [cell(one.predicted), ...(data.regression ? [one.loss] : [one.probability, one.true_probability, one.loss]).map(numeral)]),
]);
exportOf("instances", instances && instances.matching, byRun(["given_label", "suggested_label", "p_wrong", "memorization", "kind"]), (item) =>
  item.runs.flatMap((one) => (one ? [cell(one.label), cell(one.to), numeral(one.p_wrong), numeral(one.memorization), one.kind] : ["", "", "", "", ""])));
place("target", "predictions", "Held-out instance", data.changes, (item) => data.instances[item.i].id, (item) => [changeCard(item)]);
place("instance", "instances", "Training instance", data.audited, (item) => data.instances[item.i].id, (item) => [openedPair(item)]);
place("group", "groups", "Group", data.groups, (name) => name, (name) => [openedGroup(name)]);
follow();
