"use strict";
// All text of the data enters the page as textContent; nothing is ever parsed as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = { issues: 24, memorized: 12, explanations: 10 };

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
  const plain = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
  const significant = (x) => {
    if (!known(x)) return "\u2013";
    if (x === 0) return "0";
    if (Math.abs(x) < 1e-4) return minus(x.toExponential(1)).replace(/e(.*)/, " \u00d7 10^$1");
    return minus(plain.format(x));
  };
  const signed = (x) => (known(x) && x > 0 ? "+" : "") + significant(x);
  const value = new Intl.NumberFormat("en", { maximumSignificantDigits: 4, useGrouping: false });

  // Pictures: each sheet is decoded once; a tile is copied when its sheet is there.
  const sheets = (data.sheets ? data.sheets.sources : []).map((source) => {
    const image = new Image();
    const loaded = new Promise((resolve) => { image.onload = () => resolve(image); });
    return { load: () => { if (!image.src) image.src = source; return loaded; } };
  });
  const picture = (instance) => {
    const { tiles, columns, width, height } = data.sheets;
    const canvas = el("canvas", Math.max(width, height) <= 48 ? "picture tiny" : "picture");
    canvas.width = width;
    canvas.height = height;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "picture of instance " + instance.id + ", label " + instance.label);
    const place = instance.picture % tiles;
    const left = (place % columns) * width, top = Math.floor(place / columns) * height;
    sheets[Math.floor(instance.picture / tiles)].load().then((image) => {
      canvas.getContext("2d").drawImage(image, left, top, width, height, 0, 0, width, height);
    });
    return canvas;
  };
  const text = (instance) => {
    const box = el("div");
    const body = words("p", "text", instance.text + (instance.cut ? " \u2026 (" + instance.cut + " more characters)" : ""));
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
  const body = (instance) => {
    const parts = [];
    if (instance.text !== undefined) parts.push(text(instance));
    if (instance.values !== undefined) parts.push(values(instance));
    return parts;
  };
  const identity = (instance) => {
    const line = el("span", "id", "id ");
    line.append(words("bdi", "", instance.id));
    if (instance.group !== undefined) line.append(" \u00b7 group ", words("bdi", "", instance.group));
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

  // Suspected labels
  const chosen = new Set();
  const issueCard = (item) => {
    const instance = data.instances[item.i], card = el("article", "card"), head = el("div", "head"), say = el("div", "say");
    const pick = el("input", "pick");
    pick.type = "checkbox";
    pick.checked = chosen.has(item);
    pick.setAttribute("aria-label", "select instance " + instance.id);
    const mark = () => card.classList.toggle("chosen", pick.checked);
    pick.addEventListener("change", () => {
      if (pick.checked) chosen.add(item); else chosen.delete(item);
      mark();
      count();
    });
    mark();
    if (instance.picture !== undefined) head.append(picture(instance));
    const line = shift(instance.label, "\u2192", item.to, true);
    line.setAttribute("aria-label", "given label " + instance.label + ", suggested " + item.to);
    say.append(line, identity(instance), meter("meter", "", item.p_wrong));
    head.append(say, pick);
    card.append(head, ...body(instance), measures([["Suspicion", percent(item.p_wrong)], ...audited(item)]));
    return card;
  };
  const memorizedCard = (item) => {
    const instance = data.instances[item.i], card = el("article", "card"), head = el("div", "head"), say = el("div", "say");
    if (instance.picture !== undefined) head.append(picture(instance));
    const line = el("div", "labels");
    line.append(words("bdi", "", instance.label));
    say.append(line, identity(instance));
    head.append(say);
    const memorization = data.regression ? significant(item.memorization) : minus((100 * item.memorization).toFixed(1)) + " points";
    card.append(head, ...body(instance), measures([["Memorization", memorization], ...audited(item)]));
    return card;
  };

  // Explanations
  const FIRST = 4; // of a list of texts or groups, the rest on demand
  const flag = () => el("span", "flag", data.regression ? "\u2691 value suspected" : "\u2691 suspected");
  const groupRow = ([name, score, members], className, most) => {
    const row = el("li", "row plain"), line = el("div", "line"), left = el("span");
    left.append(words("bdi", "", name), el("small", "", " (" + members + ")"));
    line.append(left, el("span", "score " + className, signed(score)));
    row.append(line, meter("bar " + className, "", Math.abs(score) / most));
    return row;
  };
  const instanceRow = ([number, score], className, most) => {
    const instance = data.instances[number], tile = instance.picture !== undefined;
    const row = el("li", tile ? "row" : "row plain"), line = el("div", "line"), left = el("span");
    left.append(words("bdi", "label", instance.label));
    line.append(left, el("span", "score " + className, signed(score)));
    const under = tile ? row : left;
    if (tile) row.append(picture(instance));
    row.append(line, meter("bar " + className, "", Math.abs(score) / most), ...body(instance));
    under.append(" ", identity(instance));
    if (instance.suspected) under.append(" ", flag());
    return row;
  };
  const influences = (title, className, pairs, most) => {
    const side = el("div");
    side.append(el("h4", className, title));
    if (!pairs.length) {
      side.append(el("p", "status", "none"));
      return side;
    }
    const groups = data.level === "group", tiles = !groups && data.kind === "picture";
    const list = el("ol", tiles ? "rows tiles" : "rows");
    const rows = pairs.map((pair) => (groups ? groupRow : instanceRow)(pair, className, most));
    const first = tiles ? rows.length : FIRST;
    list.append(...rows.slice(0, first));
    side.append(list);
    if (rows.length > first) {
      const more = el("button", "link", "Show " + (rows.length - first) + " more");
      more.type = "button";
      more.addEventListener("click", () => { list.append(...rows.slice(first)); more.remove(); });
      side.append(more);
    }
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
      name.append(words("bdi", "", instance.id));
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
  const facts = (item, instance) => {
    const same = item.predicted === instance.label;
    if (data.regression) {
      return [["Given value", instance.label], ["Predicted", item.predicted], ["Error", signed(item.error), "", "predicted minus given"], ["Loss on it", significant(item.loss)]];
    }
    return [
      ...(same ? [["Given and predicted", instance.label]] : [["Given label", instance.label], ["Predicted", item.predicted, "hurts"]]),
      [same ? "Its probability" : "Probability of predicted", percent(item.probability)],
      ...(same ? [] : [["Probability of given", percent(item.true_probability)]]),
      ["Loss on it", significant(item.loss), "", data.units.loss],
    ];
  };
  const whyCard = (item) => {
    const instance = data.instances[item.i], wide = data.level !== "group" && data.kind === "values";
    const card = el("article", wide ? "why wide" : "why"), target = el("div", "target"), head = el("div", "head"), say = el("div", "say");
    if (instance.picture !== undefined) head.append(picture(instance));
    const title = el("h3");
    if (data.regression || item.predicted === instance.label) title.append(words("bdi", "", instance.label));
    else title.append(words("bdi", "", instance.label), el("span", "arrow", " taken for "), words("bdi", "", item.predicted));
    if (data.regression) title.prepend("Given ");
    if (data.regression) title.append(", predicted ", words("bdi", "", item.predicted));
    say.append(title, identity(instance));
    head.append(say);
    target.append(head, ...(wide ? [] : body(instance)), measures(facts(item, instance)));
    card.append(target);
    if (wide) {
      card.append(comparison(instance, item));
      return card;
    }
    const most = Math.max(...[...item.helps, ...item.hurts].map((pair) => Math.abs(pair[1])), 1e-30);
    card.append(influences("+ helped most", "helps", item.helps, most), influences("\u2212 hurt most", "hurts", item.hurts, most));
    return card;
  };

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
      status.textContent = matches.length ? "Showing " + drawn + " of " + matches.length + (matches.length < items.length ? " that match (" + items.length + " in all)" : "") : "Nothing matches.";
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
    if (tools) tools.querySelector("[data-selected]").textContent = chosen.size ? chosen.size + " selected" : "Without a selection, all that match are exported.";
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
})();
