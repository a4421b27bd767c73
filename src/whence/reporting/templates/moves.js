// From a training instance, or a group, to the explained targets that it moves; each leads to its explanation, which leads back.
for (const item of data.explanations) {
  const instance = data.instances[item.i];
  if (!data.regression && item.predicted !== instance.label) instance.taken = item.predicted;
}
const movesOf = new Map(data.groups.filter((group) => group.moves).map((group) => [group.name, group.moves]));
const movedTargets = (pairs, subject) => {
  if (!data.explanations.length) return [];
  if (!pairs || !pairs.length) {
    return [el("p", "status", data.moves_all ? "It moves none of the predictions explained below." : "It is not among the 100 that move an explained prediction most.")];
  }
  const rows = pairs.map(([target, score]) => [data.explanations[target].i, score]), most = largest(rows);
  const side = (title, className, sign) => influences(title, className, rows.filter((pair) => pair[1] * sign > 0), most, false);
  return [side("+ " + subject + " helps most on", "helps", 1), side("\u2212 " + subject + " hurts most on", "hurts", -1)];
};
const cleansedBy = (item) => (item.cleansed || []).map(([number, reason, label]) => {
  const { name, action, verdict } = data.cleansings[number], line = el("p", "sharing", "Cleansing "), link = words("a", "", name);
  link.href = "#cleansing-" + (number + 1);
  line.append(link, " (" + verdict + ") " + (action === "relabel" ? "relabels it as " : "drops it"));
  if (label !== null) line.append(words("bdi", "", label));
  line.append(": ", words("bdi", "", reason));
  return line;
});
const openedInstance = (item) => {
  const instance = data.instances[item.i], byGroup = instance.group !== undefined && movesOf.has(instance.group);
  const card = el("article", "why"), target = el("div", "target"), head = el("div", "head"), say = el("div", "say");
  if (seen(instance)) head.append(picture(instance));
  say.append(title(item), identity(instance));
  if (item.kind in KINDS) say.append(el("span", "flag", KINDS[item.kind]));
  head.append(say);
  const figures = item.kind === "label_issue" ? [] : [["Suspicion", percent(item.p_wrong)]];
  target.append(head, ...body(instance), measures([...figures, figure(item), ...memorized(item), ...audited(item)]), ...cleansedBy(item));
  card.append(target, ...movedTargets(byGroup ? movesOf.get(instance.group) : item.moves, byGroup ? "Its group" : "It"));
  return card;
};
const memorized = (item) => (figure(item)[0] === "Memorization" ? [] : [["Memorization", memorization(item)]]);
const openedGroup = (group) => {
  const card = el("article", "why"), target = el("div", "target"), members = el("button", "", "Show its instances");
  members.type = "button";
  members.addEventListener("click", () => {
    instances.only("Group", group.name);
    document.getElementById("instances").scrollIntoView();
  });
  if (group.moves) target.append(el("p", "", "What the group as a whole does to the predictions explained above."));
  target.append(members);
  if (group.moves) card.append(target, ...movedTargets(group.moves, "It"));
  else card.append(target, el("p", "status", "The predictions of this report are explained by single instances, not by groups."));
  return card;
};
