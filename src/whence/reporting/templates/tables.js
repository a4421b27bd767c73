// Tables are ordered by their headings: each holds a button, and says the order by aria-sort.
const collator = new Intl.Collator("en", { numeric: true });
const nothing = (x) => x === undefined || x === null || x === "" || (typeof x === "number" && !known(x));
// What is not known comes last, whichever way.
const ordered = (a, b, down) => {
  if (nothing(a) || nothing(b)) return nothing(a) - nothing(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b);
  return down ? -order : order;
};
const sorter = (headings, sort) => {
  let column = -1, down = false;
  headings.forEach((heading, k) => {
    const button = el("button", "sort", heading.textContent);
    button.type = "button";
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      down = column === k ? !down : heading.classList.contains("num"); // of numbers, the largest first
      column = k;
      for (const one of headings) one.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(column, down);
    });
  });
};
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const rows = [...table.tBodies[0].rows];
  const valueOf = (row, k) => {
    const cell = row.cells[k];
    return "value" in cell.dataset ? parseFloat(cell.dataset.value) : cell.textContent.trim();
  };
  sorter([...table.tHead.rows[0].cells], (column, down) => {
    table.tBodies[0].append(...[...rows].sort((a, b) => ordered(valueOf(a, column), valueOf(b, column), down)));
  });
}
