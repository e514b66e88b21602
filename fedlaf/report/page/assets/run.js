// The page of a run: the verdict first, then what it rests on.
function top(request, rest) {
  const made = el("header", {}, el("p", { class: "kind" }, `fedlaf · ${DATA.method} · seed ${DATA.seed} · ${DATA.made}`), el("h1", {}, request.sentence), request.reasons ? el("p", {}, request.reasons) : null, el("p", { class: "soft" }, request.title));
  if (DATA.requests.length > 1) {
    made.append(choice("Request", DATA.requests.map((r, i) => [i, r.title]), DATA.requests.indexOf(request), (v) => show(DATA.requests[v])));
  }
  made.append(summary(request), el("ul", { class: "small soft" }, request.remarks.map((r) => el("li", {}, r))), links(rest));
  return made;
}

function originSection() {
  const copy = el("button", { type: "button", onclick: async () => { await navigator.clipboard.writeText(DATA.command); copy.textContent = "Copied"; } }, "Copy");
  const pairs = (values, shown) => el("table", {}, el("tbody", {}, Object.entries(values).map(([k, v]) => el("tr", {}, el("th", { scope: "row" }, k), el("td", {}, shown(v))))));
  return section("origin", "Made with", `Seed ${DATA.seed}. The same command, seed and versions make the same models again.`,
    el("pre", { class: "command", tabindex: "0", "aria-label": "The command that makes this run again" }, DATA.command), copy,
    el("div", { class: "grid" }, el("div", {}, el("h3", {}, "Versions"), pairs(DATA.versions, String)), el("div", {}, el("h3", {}, "Wall time, seconds"), pairs(DATA.seconds, (v) => number(v, 1)))),
    el("details", {}, el("summary", {}, "Whole configuration"), el("pre", { tabindex: "0", "aria-label": "Configuration" }, yaml(DATA.config).trim())));
}

function yaml(value, depth = 0) {
  const pad = "  ".repeat(depth);
  if (value === null || typeof value !== "object") return ` ${value === "" ? '""' : value}\n`;
  const entries = Object.entries(value);
  if (!entries.length) return Array.isArray(value) ? " []\n" : " {}\n";
  if (Array.isArray(value) && value.every((v) => v === null || typeof v !== "object")) return ` [${value.join(", ")}]\n`;
  return `${depth ? "\n" : ""}${entries.map(([k, v]) => `${pad}${Array.isArray(value) ? "-" : `${k}:`}${yaml(v, depth + 1)}`).join("")}`;
}

function alternativesSection() {
  if (!DATA.alternatives) return null;
  const [header, ...rows] = DATA.alternatives;
  return section("alternatives", "Each client in turn", "Mean distance to the model retrained without that client, in points. Each left alone, from the same trained model.", rowsTable("Each client in turn", header, rows));
}

function onwardSection(request) {
  if (!request.onward) return null;
  const [header, ...rows] = request.onward;
  return section("onward", "If training goes on", "Mean distance to the retrained model, in points, after each further round without the forgotten rows, from all three models. What was forgotten may come back; and the original, on which nothing was done, may come as near by itself.", rowsTable("If training goes on", header, rows));
}

function show(request) {
  charts.length = 0;
  const made = request.rows ? [
    measuresSection(request), flowsSection(request), projectionSection(request), roundsSection(request), membershipSection(request),
    samplesSection(request), classesSection(request), clientsSection(request), layersSection(request),
  ] : [measuresSection(request)];
  const sections = [...streamSections(), alternativesSection(), ...made, onwardSection(request), partitionSection(), costsSection(request), originSection()].filter(Boolean);
  PAGE.replaceChildren(top(request, sections), ...sections);
  redrawAll();
}

ready(() => {
  if (DATA.requests.length) show(DATA.requests.at(-1));
  else PAGE.replaceChildren(el("header", {}, el("h1", {}, "Training only: nothing was asked to be forgotten.")), ...[partitionSection(), originSection()].filter(Boolean));
  drawAll();
});
