// Addresses open what they name above its list: #instance=ID, #target=ID, #group=NAME, and #instances-memorized a kind. Where one
// came from is kept by the back button, because every way there is a link.
const places = {};
const place = (what, section, name, items, nameOf, card) => {
  const box = document.querySelector("#" + section + " [data-opened]");
  if (!box) return;
  let byName = null;
  const find = (wanted) => {
    if (!byName) byName = new Map(items.map((item) => [nameOf(item), item]));
    return byName.get(wanted);
  };
  places[what] = { box, section, name, find, card, count: items.length };
};
const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};
const lookUp = (what, wanted) => {
  const { box, section, name, find, card, count } = places[what], item = find(wanted);
  const top = el("div", "opened-top"), title = el("h3", "", name + " "), close = el("a", "close", "Close");
  title.append(words("bdi", "", wanted));
  close.href = "#" + section;
  top.append(title, close);
  const missing = el("p", "", "There is no such " + name.toLowerCase() + " among the " + whole(count) + " of this report.");
  box.append(top, ...(item ? card(item) : [missing]));
  box.classList.toggle("missing", !item);
  box.setAttribute("aria-label", name + " " + wanted);
  box.hidden = false;
  box.scrollIntoView({ block: "start", behavior: "instant" });
  box.focus({ preventScroll: true });
};
const follow = () => {
  for (const { box } of Object.values(places)) {
    box.hidden = true;
    box.replaceChildren();
  }
  const named = /^#(\w+)=(.*)$/s.exec(location.hash), kind = /^#instances-(\w+)$/.exec(location.hash);
  if (named && named[1] in places) lookUp(named[1], decoded(named[2]));
  if (kind && instances && document.querySelector('[data-kind="' + kind[1] + '"]')) {
    instances.show(kind[1]);
    document.getElementById("instances").scrollIntoView();
  }
};
window.addEventListener("hashchange", follow);
// A link within the page is scrolled to before the hash changes, so what was opened has to be out of the way by then: were it shut
// while the page scrolls, the goal would move. It is only hidden: a link in it is still to be followed.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']"), plain = !(event.button || event.ctrlKey || event.metaKey || event.shiftKey);
  if (!link || !plain || event.defaultPrevented || link.hash === location.hash) return;
  for (const { box } of Object.values(places)) box.hidden = true;
});
