// A stream of requests: bars from issued to forgotten, the published model below, and what it took.
const WAYS = { method: "services of the method", each: "retraining after each request", window: "retraining after each batch", once: "retraining once, at the end" };
const SPENT = { passes: "client passes", bytes: "bytes down and up", client_seconds: "client seconds" };
const TIMED = { wait: "wait until its service (rounds)", service: "service (rounds)", time: "time to forget (rounds)", exposure: "exposure (rounds)", check_seconds: "check of the result (seconds)", client_seconds: "client seconds of its service", bytes: "MB of its service, down and up" };
const askedOf = (asked) => (asked.client === null ? "all clients" : `client ${asked.client}`);
const served = (r) => r.status === "completed" && r.forgotten;
const few = (value, digits = 1) => (known(value) ? number(value, Number.isInteger(value) ? 0 : digits) : "");
const shownTime = (name, value) => (name === "bytes" ? number(value / 1e6, 1) : few(value, name.endsWith("seconds") ? 2 : 1));

function streamSections() {
  const stream = DATA.stream;
  if (!stream || !stream.requests.length) return [];
  return [timelineSection(stream), requestsSection(stream), spentSection(stream), prefixSection(stream)].filter(Boolean);
}

function rowsTable(name, header, rows) {
  const head = el("thead", {}, el("tr", {}, header.map((h) => el("th", { scope: "col" }, h))));
  const body = el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, i) => (i ? el("td", {}, cell) : el("th", { scope: "row" }, cell))))));
  return scrolled(name, el("table", {}, head, body));
}

function timelineSection(stream) {
  const counts = Object.entries(stream.counts).filter(([name, n]) => n || name === "issued").map(([name, n]) => `${n} ${name.replace(/_/g, " ")}`).join(", ");
  const height = 150 + 22 * Math.min(stream.requests.length, 40);
  const made = chart("timeline", "Requests over elapsed rounds", { height, words: counts, draw: () => timeline(stream) });
  const below = chart("published", "The published model: test accuracy, and requests that are not served yet", {
    height: 330, draw: () => published(stream),
    words: `${number(stream.quality[0]?.accuracy)} percent at first, ${number(stream.quality.at(-1)?.accuracy)} at the end.`,
  });
  return section("stream", "The stream of requests", `${counts}. Elapsed rounds are those of training and those of services.`, made.figure, below.figure);
}

function timeline(stream) {
  const names = stream.requests.map((r) => `${r.request.id} (${askedOf(r.request)})`);
  const part = (name, shown, colourName, base, length, pattern) => ({
    type: "bar", orientation: "h", name, y: names, base: stream.requests.map((r) => (shown(r) ? base(r) : null)), x: stream.requests.map((r) => (shown(r) ? length(r) : null)),
    marker: { color: colour(colourName), pattern: { shape: pattern, fillmode: "overlay", fgcolor: colour("back"), size: 6, solidity: 0.25 } },
    customdata: stream.requests.map((r) => `${r.status}${r.fallback ? " by the fallback" : ""}${r.reason ? `: ${r.reason}` : ""}`), hovertemplate: `%{y} ${name}: %{x} rounds; %{customdata}<extra></extra>`,
  });
  const data = [
    part("waits", served, "original", (r) => r.issued, (r) => r.started - r.issued, "/"),
    part("is served", served, "unlearned", (r) => r.started, (r) => r.completed - r.started, ""),
    part("not served", (r) => !served(r), "soft", (r) => r.issued, (r) => Math.max(r.completed - r.issued, 0.3), "x"),
  ];
  const due = stream.requests.map((r) => (r.request.deadline === null ? null : r.issued + r.request.deadline - r.request.issued));
  if (due.some(known)) data.push({ type: "scatter", mode: "markers", name: "deadline", x: due, y: names, marker: { symbol: stream.requests.map((r) => (r.missed_deadline ? "diamond" : "diamond-open")), size: 9, color: colour("ink") }, hovertemplate: "%{y}: due after %{x} rounds<extra></extra>" });
  return { data, layout: { barmode: "overlay", xaxis: { title: "elapsed rounds", range: [0, stream.elapsed] }, yaxis: { autorange: "reversed", type: "category" }, shapes: shaded(stream), legend: { orientation: "h", y: -0.25, yanchor: "top", x: 0 } } };
}

const shaded = (stream) => stream.segments.filter((s) => s.kind === "service").map((s) => ({ type: "rect", layer: "below", yref: "paper", y0: 0, y1: 1, x0: s.elapsed, x1: s.elapsed + s.rounds, fillcolor: seeThrough("#888888", 0.15), line: { width: 0 } }));

function published(stream) {
  const at = stream.prefixes.map((p) => p.elapsed);
  const point = (model) => ({ type: "scatter", mode: "markers", ...marks(model), x: at, y: stream.prefixes.map((p) => p[model]), hovertemplate: `${model}, after %{x} rounds: %{y:.1f} %<extra></extra>` });
  const data = [
    { type: "scatter", mode: "lines+markers", name: "published model, some test rows", x: stream.quality.map((q) => q.elapsed), y: stream.quality.map((q) => q.accuracy), line: { color: colour("original"), shape: "hv" }, marker: { size: 4 }, hovertemplate: "after %{x} rounds: %{y:.1f} %<extra></extra>" },
    point("unlearned"), point("retrained"),
    { type: "scatter", mode: "lines", name: "requests not served yet", x: range(stream.backlog.length), y: stream.backlog, yaxis: "y2", line: { shape: "hv", color: colour("soft"), dash: "dot" }, hovertemplate: "%{y} not served yet<extra></extra>" },
  ];
  return { data, layout: { xaxis: { title: "elapsed rounds", range: [0, stream.elapsed] }, yaxis: { title: "percent right" }, yaxis2: { title: "requests", overlaying: "y", side: "right", rangemode: "tozero", dtick: Math.max(1, Math.ceil(Math.max(...stream.backlog) / 5)), showgrid: false }, shapes: shaded(stream), margin: { l: 48, r: 48, t: 10, b: 44 }, legend: { orientation: "h", y: -0.28, yanchor: "top", x: 0 } } };
}

function requestsSection(stream) {
  const rows = stream.requests.map((r) => {
    const last = stream.sightings[r.request.id]?.at(-1);
    return [r.request.id, askedOf(r.request), r.request.scope.replace("_", " "), String(r.issued_round), few(r.wait), few(r.service), few(r.time), few(r.exposure), r.missed_deadline ? "missed" : known(r.request.deadline) && served(r) ? "met" : "", r.status !== "completed" ? r.status : served(r) ? "served" : "nothing forgotten", `${r.method}${r.fallback ? " (fallback)" : ""}`, number(stream.sightings[r.request.id]?.[0].unlearned), number(last?.unlearned), number(last?.retrained), number(stream.resurfaced[r.request.id])];
  });
  const header = ["request", "of", "scope", "issued", "wait", "service", "time", "exposure", "deadline", "outcome", "by", "accuracy on its rows just after", "at the end", "retrained to the end", "resurfaced"];
  const timed = Object.entries(TIMED).filter(([name]) => known(stream.times[name]?.median)).map(([name, title]) => [title, ...["median", "p95", "max"].map((key) => shownTime(name, stream.times[name][key]))]);
  return section("requests", "Each request", "Exposure counts the rounds after the request in which a model with its data was published. Resurfaced are points by which the model is right more often on forgotten rows at the end than just after, and than the retrained model.",
    rowsTable("Requests", header, rows), rowsTable("Times", ["", "median", "95th percentile", "largest"], timed));
}

function spentSection(stream) {
  const names = Object.keys(SPENT).filter((name) => stream.costs[name].method.length);
  if (!names.length) return null;
  let served = 0;
  const at = stream.batches.map((b) => (served += b.status === "completed" ? b.requests.length : 0));
  const figures = names.map((name) => chart(`spent-${name}`, `Cumulative ${SPENT[name]}`, {
    height: 280, words: Object.entries(WAYS).map(([way, title]) => `${title}: ${number(stream.costs[name][way].at(-1), 0)}`).join("; "),
    draw: () => ({
      data: Object.entries(WAYS).map(([way, title], i) => ({ type: "scatter", mode: "lines+markers", name: title, x: at, y: stream.costs[name][way], line: { color: way === "method" ? colour("unlearned") : colour("retrained"), dash: ["solid", "dot", "dash", "longdash"][i] }, hovertemplate: `${title}, after %{x} requests: %{y:.3s}<extra></extra>` })),
      layout: { xaxis: { title: "requests served", dtick: Math.max(1, Math.ceil(at.at(-1) / 10)) }, yaxis: { title: SPENT[name], rangemode: "tozero" }, legend: { orientation: "h", y: -0.3, yanchor: "top", x: 0 } },
    }),
  }).figure);
  const even = names.map((name) => `${SPENT[name]}: ${known(stream.break_even[name].once) ? `dearer than retraining once from request ${stream.break_even[name].once} on` : "always cheaper than retraining once"}`).join("; ");
  return section("spent", "What all services cost together", `Retraining is what this run's own rounds cost, scaled to the rows that remain. ${even}.`, el("div", { class: "grid" }, figures));
}

function prefixSection(stream) {
  if (!stream.prefixes.length) return null;
  const rows = stream.prefixes.map((p) => [p.result === "end" ? `the end (${p.requests})` : `${p.requests} served`, String(p.round), number(p.unlearned), number(p.retrained), number(p.gap), number(p.fairness.worst), number(p.fairness.deviation), known(p.fairness.below) ? `${number(p.fairness.below, 0)} %` : ""]);
  const clients = [...new Set(["training", "service"].flatMap((kind) => Object.keys(stream.passes[kind] || {})))].sort((a, b) => a - b);
  const asked = clients.map((k) => [`client ${k}`, ...["training", "service"].map((kind) => number(stream.passes[kind]?.[k] ?? 0, 0)), number(stream.prefixes.at(-1).by_client[k]?.[0]), number(stream.prefixes.at(-1).by_client[k]?.[1])]);
  return section("prefixes", "The model after so many requests", "Held against the model that is retrained to the same round without the rows of all requests until then. The worst client is the one whose accuracy lies furthest below the retrained model's.",
    rowsTable("Prefixes", ["after", "round", "test accuracy", "retrained", "mean distance", "worst client", "deviation", "clients more than 2 below"], rows),
    el("h3", {}, "What was asked of each client"), rowsTable("Clients", ["", "passes in training", "passes in services", "accuracy on its rows, unlearned", "retrained"], asked));
}
