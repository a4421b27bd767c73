// Export as CSV. A cell of the user's that a spreadsheet would run as a formula gets an apostrophe in front.
// Numbers stay numbers: of an id -7 or a value -1.5 nothing runs.
const FORMULA = /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/, PLAIN = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const cell = (text) => '"' + (FORMULA.test(text) && !PLAIN.test(text) ? "'" : "").concat(text).replace(/"/g, '""') + '"';
const numeral = (value) => (known(value) ? String(value) : "");
const csv = (header, rows) => [header, ...rows].map((row) => row.join(",") + "\r\n").join("");
const save = (text, name) => {
  const link = el("a"), address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.href = address;
  link.download = name.replace(/[^\w.-]+/g, "-") + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
};
