// The board: all runs and comparisons below a folder; filter, sort, compare two.
const short = (path) => path.split("/").slice(-3).join("/");

function boardColumns(chosen, toggled) {
  const link = (entry) => (entry.page ? el("a", { href: entry.page }, short(entry.path) || "this folder") : short(entry.path));
  const box = (entry) => (entry.kind === "run" ? el("input", { type: "checkbox", "aria-label": `Compare ${entry.path}`, checked: chosen.has(entry), onchange: (event) => toggled(entry, event.target) }) : "");
  const figure = (name, model) => (entry) => entry.measures?.[name]?.[model] ?? null;
  return [
    { title: "folder", value: (e) => e.path, shown: link, text: true },
    { title: "compare", value: (e) => (chosen.has(e) ? 0 : 1), shown: box },
    { title: "kind", value: (e) => e.kind, text: true },
    { title: "group", value: (e) => e.group, text: true },
    { title: "method", value: (e) => e.method, text: true },
    { title: "seed", value: (e) => e.seed, digits: 0 },
    { title: "data", value: (e) => e.data, text: true },
    { title: "test rows right (%)", value: figure("accuracy_test", "unlearned") },
    { title: "forgotten rows right (%)", value: figure("accuracy_forget", "unlearned") },
    { title: "mean distance (points)", value: (e) => e.gap },
    { title: "client passes (% of retraining)", value: (e) => e.passes },
    { title: "verdict", value: (e) => e.verdict, text: true, wide: true },
    { title: "made", value: (e) => e.made, text: true },
  ];
}

function sideBySide(pair) {
  if (pair.length < 2) return [el("p", { class: "soft" }, `Tick two runs to see them side by side; ${pair.length} ticked.`)];
  const titles = pair.map((e) => short(e.path));
  const row = (name, values, digits) => el("tr", {}, el("th", { scope: "row" }, name), values.map((v) => el("td", {}, typeof v === "number" ? number(v, digits) : String(v ?? ""))),
    el("td", {}, values.every((v) => typeof v === "number") ? number(values[1] - values[0], digits) : ""));
  const head = el("thead", {}, el("tr", {}, ["", ...titles, "second minus first"].map((h) => el(h ? "th" : "td", h ? { scope: "col" } : {}, h))));
  const measures = Object.keys({ ...pair[0].measures, ...pair[1].measures }).map((name) => row(DATA.titles[name]?.title ?? name, pair.map((e) => e.measures[name]?.unlearned ?? null), DATA.titles[name]?.digits ?? 1));
  const keys = Object.keys({ ...pair[0].config, ...pair[1].config }).filter((k) => pair[0].config[k] !== pair[1].config[k]);
  const config = el("table", {}, el("thead", {}, el("tr", {}, ["", ...titles].map((h) => el(h ? "th" : "td", h ? { scope: "col" } : {}, h)))),
    el("tbody", {}, keys.map((k) => el("tr", {}, el("th", { scope: "row" }, k), pair.map((e) => el("td", {}, String(e.config[k] ?? "")))))));
  return [el("h3", {}, "Unlearned models"), scrolled("Measures of both runs", el("table", {}, head, el("tbody", {}, measures))),
    el("h3", {}, "Keys that differ"), keys.length ? scrolled("Keys that differ", config) : el("p", {}, "None: the runs have the same configuration.")];
}

ready(() => {
  const chosen = new Set();
  const state = { text: "", kind: "all", group: "all" };
  const count = el("p", { "aria-live": "polite" });
  const beside = el("div", { "aria-live": "polite" });
  const toggled = (entry, box) => {
    if (box.checked && chosen.size === 2) chosen.delete([...chosen][0]);
    box.checked ? chosen.add(entry) : chosen.delete(entry);
    update();
  };
  const columns = boardColumns(chosen, toggled);
  const matches = (e) => (state.kind === "all" || e.kind === state.kind) && (state.group === "all" || e.group === state.group)
    && state.text.toLowerCase().split(/\s+/).every((word) => [e.path, e.method, e.data, e.verdict, e.title].join(" ").toLowerCase().includes(word));
  const table = sortable("Runs and comparisons", columns, DATA.entries, { sorted: columns.at(-1), down: true });
  function update() {
    const found = DATA.entries.filter(matches);
    count.textContent = `${found.length} of ${plural(DATA.entries.length, "entry").replace("entrys", "entries")}`;
    table.fill(found);
    beside.replaceChildren(...sideBySide([...chosen]));
  }
  const search = el("input", { type: "search", oninput: () => { state.text = search.value; update(); } });
  const groups = [...new Set(DATA.entries.map((e) => e.group))].sort();
  PAGE.replaceChildren(
    el("header", {}, el("p", { class: "kind" }, `fedlaf · board · ${DATA.made}`), el("h1", {}, `Runs and comparisons in ${DATA.folder}`)),
    section("list", "All", "The folder's name leads to the report. Press a head to sort.",
      el("div", { class: "controls" }, el("label", {}, "Words in folder, method, data or verdict", search), choice("Kind", [["all", "all"], ["run", "runs"], ["comparison", "comparisons"]], "all", (v) => { state.kind = v; update(); }),
        choice("Group", [["all", "all"], ...groups.map((g) => [g, g])], "all", (v) => { state.group = v; update(); })), count, table.element),
    section("beside", "Two runs side by side", null, beside));
  update();
  document.documentElement.dataset.drawn = "true";
});
