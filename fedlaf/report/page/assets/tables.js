// Tables that sort by their heads: a click or Enter turns a column, and aria-sort says how it stands.
function sortable(name, columns, rows, { sorted = null, down = false } = {}) {
  const body = el("tbody");
  const state = { column: sorted ?? columns[0], down };
  const heads = columns.map((column) => {
    const button = el("button", { type: "button", onclick: () => {
      state.down = state.column === column ? !state.down : false;
      state.column = column;
      fill();
    } }, column.title, el("span", { "aria-hidden": "true" }, ""));
    return el("th", { scope: "col", "aria-sort": "none", class: column.text ? "text" : null }, button);
  });
  const value = (row) => state.column.value(row);
  const order = (one, other) => {
    const [a, b] = [value(one), value(other)];
    if (!known(a) || !known(b)) return known(a) ? -1 : known(b) ? 1 : 0; // what is not known comes last either way
    return (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b) * (state.down ? -1 : 1);
  };
  const cell = (column, row, i) => el(i ? "td" : "th", { scope: i ? null : "row", class: column.text ? (column.wide ? "text wrap" : "text") : null }, column.shown ? column.shown(row) : format(column, row));
  const format = (column, row) => { const v = column.value(row); return typeof v === "number" ? number(v, column.digits ?? 1) : (v ?? ""); };
  let listed = rows;
  function fill(next = listed) {
    listed = next;
    columns.forEach((column, i) => {
      const own = column === state.column;
      heads[i].setAttribute("aria-sort", own ? (state.down ? "descending" : "ascending") : "none");
      heads[i].querySelector("span").textContent = own ? (state.down ? " ▼" : " ▲") : "";
    });
    body.replaceChildren(...[...listed].sort(order).map((row) => el("tr", {}, columns.map((column, i) => cell(column, row, i)))));
  }
  fill();
  const table = el("table", {}, el("thead", {}, el("tr", {}, heads)), body);
  return { element: scrolled(name, table), fill };
}
