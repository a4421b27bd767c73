// Cards: training instances that the audit lists, explained predictions.
const chosen = new Set();
const picker = (item, card) => {
  const pick = el("input", "pick");
  pick.type = "checkbox";
  pick.checked = chosen.has(item);
  pick.setAttribute("aria-label", "select instance " + data.instances[item.i].id);
  const mark = () => card.classList.toggle("chosen", pick.checked);
  pick.addEventListener("change", () => {
    if (pick.checked) chosen.add(item); else chosen.delete(item);
    mark();
    count();
  });
  mark();
  return pick;
};
const memorization = (item) => (data.regression ? significant(item.memorization) : minus((100 * item.memorization).toFixed(1)) + " points");
// What the kind of an instance is about, in one line and as a figure.
const title = (item) => {
  const instance = data.instances[item.i];
  if (item.kind === "label_issue") {
    const line = shift(instance.label, "\u2192", item.to, true);
    line.setAttribute("aria-label", "given label " + instance.label + ", suggested " + item.to);
    return line;
  }
  const line = el("div", "labels");
  line.append(words("bdi", "", instance.label));
  return line;
};
const figure = (item) => {
  if (item.kind === "label_issue") return ["Suspicion", percent(item.p_wrong)];
  if (item.kind === "ambiguous" && item.believed) return ["Likeliest", item.believed.map(([name, p]) => name + " " + percent(p)).join(", ")];
  return item.kind === "ambiguous" ? ["Suspicion", percent(item.p_wrong)] : ["Memorization", memorization(item)];
};
const auditCard = (item) => {
  const instance = data.instances[item.i], card = el("article", "card"), head = el("div", "head"), say = el("div", "say");
  if (seen(instance)) head.append(picture(instance));
  say.append(title(item), identity(instance));
  if (item.kind === "label_issue") say.append(meter("meter", "", item.p_wrong));
  head.append(say, picker(item, card));
  card.append(head, ...body(instance), measures([figure(item), ...audited(item)]));
  return card;
};
// Many pictures at a glance.
const auditTile = (item) => {
  const instance = data.instances[item.i], tile = el("article", "tile"), said = figure(item);
  const line = el("div", "under");
  line.append(words("span", "", item.kind === "ambiguous" && item.believed ? item.believed.map((pair) => pair[0]).join(" or ") + "?" : said[1]));
  const link = el("a");
  link.href = address("instance", instance.id);
  link.append(picture(instance));
  tile.append(link, picker(item, tile), title(item), line);
  tile.title = "id " + instance.id + (instance.group === undefined ? "" : ", group " + instance.group);
  return tile;
};

// Explanations
const FIRST = 4; // of a list of texts or groups, the rest on demand
const flag = () => el("span", "flag", data.regression ? "\u2691 value suspected" : "\u2691 suspected");
const groupRow = ([name, score, members], className, most) => {
  const row = el("li", "row plain"), line = el("div", "line"), left = el("span"), called = words("bdi", "", "");
  called.append(linked("group", name));
  left.append(called);
  if (members) left.append(el("small", "", " (" + members + ")"));
  line.append(left, el("span", "score " + className, signed(score)));
  row.append(line, meter("bar " + className, "", Math.abs(score) / most));
  return row;
};
const sharing = (instance, shared) => {
  const line = el("p", "sharing", shared.length ? "shares " : "shares no telling word");
  shared.slice(0, 6).forEach((word, k) => line.append(k ? ", " : "", words("bdi", "", word)));
  if (shared.length > 6) line.append(", and " + (shared.length - 6) + " more");
  if (known(instance.p_own)) line.append(" \u00b7 its label: own mask " + percent(instance.p_own) + ", flipped " + percent(instance.p_flipped));
  return line;
};
const instanceRow = ([number, score, shared], className, most) => {
  const instance = data.instances[number], tile = seen(instance);
  const row = el("li", tile ? "row" : "row plain"), line = el("div", "line"), left = el("span");
  left.append(words("bdi", "label", instance.label));
  if (instance.taken !== undefined) left.append(el("span", "arrow", " taken for "), words("bdi", "label", instance.taken));
  line.append(left, el("span", "score " + className, signed(score)));
  const under = tile ? row : left;
  if (tile) row.append(picture(instance));
  row.append(line, meter("bar " + className, "", Math.abs(score) / most), ...body(instance, shared));
  if (shared) row.append(sharing(instance, shared));
  under.append(" ", identity(instance));
  if (instance.suspected) under.append(" ", flag());
  return row;
};
const stacked = data.instances.some((instance) => instance.label.length > 3) ? " stack" : "";
const restOf = (list, rows) => {
  const more = el("button", "link", "Show " + rows.length + " more");
  more.type = "button";
  more.addEventListener("click", () => { list.append(...rows); more.remove(); });
  return more;
};
const influences = (title, className, pairs, most, groups = data.level === "group") => {
  const side = el("div");
  side.append(el("h4", className, title));
  if (!pairs.length) {
    side.append(el("p", "status", "none"));
    return side;
  }
  const tiles = !groups && data.kind === "picture";
  const list = el("ol", tiles ? "rows tiles" + stacked : "rows");
  const rows = pairs.map((pair) => (groups ? groupRow : instanceRow)(pair, className, most));
  const first = tiles ? rows.length : FIRST;
  list.append(...rows.slice(0, first));
  side.append(list);
  if (rows.length > first) side.append(restOf(list, rows.slice(first)));
  return side;
};
// Features are compared down a column: the target first, then those that helped and those that hurt.
const comparison = (target, item) => {
  const box = el("div", "scroll compare"), table = el("table", "table"), top = el("thead"), titles = el("tr");
  for (const title of ["Instance", "Score", data.regression ? "Value" : "Label"]) titles.append(el("th", "", title));
  for (const name of data.features) titles.append(words("th", "num", name));
  for (const cell of titles.children) cell.scope = "col";
  top.append(titles);
  const line = (instance, score, className) => {
    const row = el("tr", score === null ? "target" : ""), name = el("th");
    name.scope = "row";
    const id = words("bdi", "", "");
    id.append(linked(addressOf(instance), instance.id));
    name.append(id);
    if (instance.suspected) name.append(" ", el("span", "flag", "\u2691"));
    row.append(name, el("td", "score " + className, score === null ? "target" : signed(score)));
    const label = el("td");
    label.append(words("bdi", "", instance.label));
    row.append(label, ...(instance.values || []).map((x) => el("td", "num", known(x) ? minus(value.format(x)) : "\u2013")));
    return row;
  };
  const rows = el("tbody");
  rows.append(line(target, null, ""));
  for (const [side, className] of [["helps", "helps"], ["hurts", "hurts"]]) {
    rows.append(...item[side].map(([number, score]) => line(data.instances[number], score, className)));
  }
  table.append(top, rows);
  box.tabIndex = 0;
  box.append(table);
  return box;
};
const largest = (pairs) => Math.max(...pairs.map((pair) => Math.abs(pair[1])), 1e-30);
const facts = (item, instance) => {
  const same = item.predicted === instance.label;
  if (data.regression) {
    return [["Given value", instance.label], ["Predicted", item.predicted], ["Error", signed(item.error), "", "predicted minus given"], ["Loss on it", significant(item.loss)]];
  }
  return [
    ...(same ? [["Given and predicted", instance.label]] : [["Given label", instance.label], ["Predicted", item.predicted, "hurts"]]),
    ["Its probability", percent(item.probability)],
    ...(same ? [] : [["Label\u2019s probability", percent(item.true_probability)]]),
    ["Loss on it", significant(item.loss), "", data.units.loss],
  ];
};
const whyCard = (item) => {
  const instance = data.instances[item.i], wide = data.level !== "group" && data.kind === "values";
  const card = el("article", wide ? "why wide" : "why"), target = el("div", "target"), head = el("div", "head"), say = el("div", "say");
  if (seen(instance)) head.append(picture(instance));
  const title = el("h3");
  if (data.regression || item.predicted === instance.label) title.append(words("bdi", "", instance.label));
  else title.append(words("bdi", "", instance.label), el("span", "arrow", " taken for "), words("bdi", "", item.predicted));
  if (data.regression) title.prepend("Given ");
  if (data.regression) title.append(", predicted ", words("bdi", "", item.predicted));
  say.append(title, identity(instance));
  head.append(say);
  target.append(head, ...(wide ? [] : body(instance, item.words)), measures(facts(item, instance)));
  card.append(target);
  if (wide) {
    card.append(comparison(instance, item));
    return card;
  }
  const most = largest([...item.helps, ...item.hurts]);
  card.append(influences("+ helped most", "helps", item.helps, most), influences("\u2212 hurt most", "hurts", item.hurts, most));
  return card;
};
