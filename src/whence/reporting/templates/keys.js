// Keys: / goes to the search of the list that is being read, Escape empties it and then leaves it, or closes what a link opened.
const searches = [...document.querySelectorAll("[data-search]")];
const nearest = () => {
  const above = searches.filter((search) => search.closest("section").getBoundingClientRect().top < window.innerHeight / 2);
  return above.length ? above[above.length - 1] : searches[0];
};
const typing = (node) => node.matches("input:not([type=checkbox]), select, textarea");
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = document.activeElement || document.body;
  if (event.key === "/" && !typing(at) && searches.length) {
    event.preventDefault();
    const search = nearest();
    search.focus();
    search.select();
    search.closest("section").querySelector("[data-tools]").scrollIntoView({ block: "nearest" });
  }
  if (event.key !== "Escape") return;
  const opened = document.querySelector("[data-opened]:not([hidden])");
  if (at.matches("[data-search]") && at.value) {
    event.preventDefault();
    at.value = "";
    at.dispatchEvent(new Event("input"));
  } else if (at.matches("[data-search]")) {
    at.blur();
  } else if (opened) {
    location.hash = opened.querySelector("a.close").hash;
  }
});
