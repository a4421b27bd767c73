// A review: an instance a card, with a choice of its right label. Answers stay in this browser until they are saved.
const FEW = 12; // classes that have a button each
const stored = (() => {
  try { return JSON.parse(localStorage.getItem(data.key)) || {}; } catch { return {}; }
})();
const answers = data.review.map((asked) => {
  const kept = stored[data.instances[asked.i].id];
  return ["", data.none, ...data.classes].includes(kept) ? kept : asked.answer;
});
const status = document.querySelector("[data-status]");
const count = () => {
  status.textContent = whole(answers.filter((answer) => answer !== "").length) + " of " + whole(answers.length) + " looked at";
};
const answer = (number, label) => {
  answers[number] = label;
  count();
  try {
    localStorage.setItem(data.key, JSON.stringify(Object.fromEntries(data.review.map((asked, k) => [data.instances[asked.i].id, answers[k]]))));
  } catch { /* a private window, or no room: only what is saved stays */ }
};
const shown = (label) => (label === data.none && !data.classes.includes(label) ? "none of these" : label);
const choices = data.classes.includes(data.none) ? data.classes : [...data.classes, data.none];
const buttons = (number) => {
  const box = el("div", "kinds");
  const mark = () => [...box.children].forEach((button, k) => button.setAttribute("aria-pressed", String(choices[k] === answers[number])));
  for (const label of choices) {
    const button = words("button", "", shown(label));
    button.type = "button";
    button.addEventListener("click", () => { answer(number, answers[number] === label ? "" : label); mark(); });
    box.append(button);
  }
  mark();
  return box;
};
const menu = (number) => {
  const select = el("select");
  const fill = (labels) => {
    select.replaceChildren(...labels.map((label) => {
      const option = el("option", "", label === "" ? "\u2013" : shown(label));
      option.value = label;
      return option;
    }));
    select.value = answers[number];
  };
  fill(["", ...(answers[number] ? [answers[number]] : [])]);
  // Hundreds of classes of thousands of instances are too many to be there from the beginning.
  for (const event of ["focus", "pointerdown"]) select.addEventListener(event, () => fill(["", ...choices]), { once: true });
  select.addEventListener("change", () => answer(number, select.value));
  return select;
};
const card = (asked, number) => {
  const instance = data.instances[asked.i], box = el("article", "card"), head = el("div", "head"), say = el("div", "say");
  const given = el("p", "", "given label "), line = el("span", "id", (number + 1) + " \u00b7 id ");
  line.setAttribute("role", "heading");
  line.setAttribute("aria-level", "2");
  line.append(words("bdi", "", instance.id));
  given.append(words("b", "", instance.label));
  if (seen(instance)) head.append(picture(instance));
  say.append(line, given);
  head.append(say);
  const choice = (data.classes.length > FEW ? menu : buttons)(number);
  if (choice.tagName !== "SELECT") choice.setAttribute("role", "group");
  choice.setAttribute("aria-label", "right label of instance " + instance.id);
  box.append(head, ...body(instance), choice);
  return box;
};
document.querySelector("[data-cards]").append(...data.review.map(card));
document.querySelector("[data-save]").addEventListener("click", () => {
  save(csv(["id", "given_label", "right_label"], data.review.map((asked, number) => [data.instances[asked.i].id, data.instances[asked.i].label, answers[number]].map(cell))), "review");
});
count();
