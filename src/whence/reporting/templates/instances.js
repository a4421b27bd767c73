// Elements, numbers and what is seen of an instance. All text of the data enters the page as textContent.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = { cards: 24, tiles: 72, rows: 100, explanations: 10 };

const el = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const words = (tag, className, text) => {
  const node = el(tag, className, text);
  node.dir = "auto";
  return node;
};
const known = (x) => typeof x === "number" && Number.isFinite(x);
const minus = (text) => text.replace(/-/g, "\u2212");
const percent = (x) => {
  if (!known(x)) return "\u2013";
  if (x > 0 && x < 0.0005) return "<\u00a00.1\u00a0%";
  if (x >= 0.9995 && x < 1) return ">\u00a099.9\u00a0%";
  return minus((100 * x).toFixed(1)) + "\u00a0%";
};
const whole = (n) => n.toLocaleString("en");
const plain = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const significant = (x) => {
  if (!known(x)) return "\u2013";
  if (x === 0) return "0";
  if (Math.abs(x) < 1e-4) return minus(x.toExponential(1)).replace(/e(.*)/, " \u00d7 10^$1");
  return minus(plain.format(x));
};
const signed = (x) => (known(x) && x > 0 ? "+" : "") + significant(x);
const value = new Intl.NumberFormat("en", { maximumSignificantDigits: 4, useGrouping: false });

// Addresses within the page: #instance=ID, #target=ID, #group=NAME, which links.js opens.
const address = (what, id) => "#" + what + "=" + encodeURIComponent(id);
const linked = (what, id, className = "") => {
  const link = words("a", className, id);
  link.href = address(what, id);
  return link;
};
const addressOf = (instance) => (instance.split === "train" ? "instance" : "target");

// Pictures: each sheet is decoded once, when one of its pictures is first drawn; a tile is copied when its sheet is there.
const sheetsOf = (album) => (album ? album.sources : []).map((source) => {
  const image = new Image();
  const loaded = new Promise((resolve) => { image.onload = () => resolve(image); });
  return { load: () => { if (!image.src) image.src = source; return loaded; } };
});
const sheets = { picture: sheetsOf(data.sheets), small: sheetsOf(data.small) };
const seen = (instance) => instance.picture !== undefined || instance.small !== undefined;
const picture = (instance) => {
  const large = instance.picture !== undefined, number = large ? instance.picture : instance.small;
  const { tiles, columns, width, height } = large ? data.sheets : data.small;
  const canvas = el("canvas", Math.max(width, height) <= 28 ? "picture tiny" : "picture");
  canvas.width = width;
  canvas.height = height;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "picture of instance " + instance.id + ", label " + instance.label);
  const place = number % tiles;
  const left = (place % columns) * width, top = Math.floor(place / columns) * height;
  sheets[large ? "picture" : "small"][Math.floor(number / tiles)].load().then((image) => {
    canvas.getContext("2d").drawImage(image, left, top, width, height, 0, 0, width, height);
  });
  return canvas;
};
// Words by the rule of shared_words.py.
const UNSPACED = "\\u0e00-\\u0e7f\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff";
const LETTER = "(?![" + UNSPACED + "])[\\p{L}\\p{N}\\u0300-\\u036f\\u0591-\\u05c7\\u064b-\\u065f\\u0900-\\u0963\\u0966-\\u0dff]";
const WORD = new RegExp("[" + UNSPACED + "]|" + LETTER + "(?:" + LETTER + "|['\u2019](?=[\\p{L}\\p{N}]))*", "gu");
const marked = (node, content, shared) => {
  let end = 0;
  for (const found of shared.length ? content.matchAll(WORD) : []) {
    if (!shared.includes(found[0].toLowerCase())) continue;
    node.append(content.slice(end, found.index), el("mark", "", found[0]));
    end = found.index + found[0].length;
  }
  node.append(content.slice(end));
};
const text = (instance, shared = []) => {
  const box = el("div");
  const body = words("p", "text", "");
  marked(body, instance.text, shared);
  if (instance.cut) body.append(" \u2026 (" + instance.cut + " more characters)");
  box.append(body);
  if (instance.text.length > 160 || (instance.text.match(/\n/g) || []).length > 2) {
    const more = el("button", "link", "Show all");
    more.type = "button";
    more.setAttribute("aria-expanded", "false");
    more.addEventListener("click", () => {
      const open = body.classList.toggle("open");
      more.textContent = open ? "Show less" : "Show all";
      more.setAttribute("aria-expanded", String(open));
    });
    box.append(more);
  }
  return box;
};
const values = (instance) => {
  const table = el("table", "values");
  instance.values.forEach((x, k) => {
    const row = el("tr"), name = words("th", "", data.features[k]);
    name.scope = "row";
    row.append(name, el("td", "", known(x) ? minus(value.format(x)) : "\u2013"));
    table.append(row);
  });
  return table;
};
const body = (instance, shared) => {
  const parts = [];
  if (instance.text !== undefined) parts.push(text(instance, shared));
  if (instance.values !== undefined) parts.push(values(instance));
  return parts;
};
const identity = (instance) => {
  const line = el("span", "id", "id ");
  const id = words("bdi", "", ""), group = words("bdi", "", "");
  id.append(linked(addressOf(instance), instance.id));
  line.append(id);
  if (instance.group !== undefined) {
    group.append(linked("group", instance.group));
    line.append(" \u00b7 group ", group);
  }
  return line;
};
const measures = (pairs) => {
  const list = el("dl", "measures");
  for (const [name, shown, className, hint] of pairs) {
    const term = el("dt", "", name);
    if (hint) term.title = hint;
    list.append(term, words("dd", className, shown));
  }
  return list;
};
const meter = (className, inner, share) => {
  const bar = el("div", className), fill = el("i", inner);
  fill.style.width = Math.max(0, Math.min(100, 100 * share)) + "%";
  bar.setAttribute("aria-hidden", "true");
  bar.append(fill);
  return bar;
};
const audited = (item) => {
  const pairs = [];
  if (known(item.p_own)) {
    pairs.push(["Label by own mask", percent(item.p_own), "", "by the sub-network that learned the instance"]);
    pairs.push(["Label by flipped mask", percent(item.p_flipped), "", "by the sub-network that did not learn it"]);
  }
  if (known(item.dev)) pairs.push(["Influence on dev", signed(item.dev) + data.units.dev, item.dev < 0 ? "hurts" : "helps"]);
  return pairs;
};
const shift = (from, arrow, to, struck) => {
  const line = el("div", "labels");
  line.append(words("bdi", struck ? "from" : "", from), el("span", "arrow", arrow), words("bdi", "", to));
  return line;
};
