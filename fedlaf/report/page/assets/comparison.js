// A comparison: cost against distance with a name at each point, and a table that sorts.
const COSTS = { passes: "client passes", bytes: "bytes sent and received", client_seconds: "client seconds", labels_read: "labels read" };
const TICKS = [0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];
const bent = (x) => Math.log10(x + 0.5); // zero has a place, and small shares have room
const own = (rows) => rows.filter((row) => !row.original && known(row.gap.mean));
const interval = (value, digits = 2) => (known(value?.mean) ? `${number(value.mean, digits)}${known(value.half) ? ` ± ${number(value.half, digits)}` : ""}` : "");

function paretoOf(rows, cost) {
  const sorted = own(rows).filter((r) => known(r.shares[cost])).sort((a, b) => a.shares[cost] - b.shares[cost] || a.gap.mean - b.gap.mean);
  return sorted.filter((row, i) => sorted.slice(0, i).every((other) => other.gap.mean > row.gap.mean));
}

function scatter(rows, cost, width) {
  const points = own(rows).filter((row) => known(row.shares[cost]));
  const nothing = rows.find((row) => row.original);
  const noise = nothing?.spread?.mean;
  const x = points.map((row) => bent(row.shares[cost]));
  const y = points.map((row) => Math.log10(Math.max(row.gap.mean, 0.01)));
  const low = points.map((row, i) => y[i] - Math.log10(Math.max(row.gap.mean - (row.gap.half ?? 0), row.gap.mean / 4, 0.01)));
  const high = points.map((row, i) => Math.log10(Math.max(row.gap.mean + (row.gap.half ?? 0), 0.01)) - y[i]);
  const levels = [...y.map((v, i) => v - low[i]), ...y.map((v, i) => v + high[i]), ...[nothing?.gap?.mean, noise].filter((v) => v > 0).map(Math.log10)];
  const [bottom, top] = [Math.min(...levels) - 0.06, Math.max(...levels) + 0.1];
  const [left, right] = [Math.min(...x, bent(0)) - 0.08, Math.max(...x, bent(1)) + 0.15];
  const front = paretoOf(rows, cost);
  const steps = front.flatMap((row, i) => (i ? [[bent(row.shares[cost]), Math.log10(front[i - 1].gap.mean)], [bent(row.shares[cost]), Math.log10(row.gap.mean)]] : [[bent(row.shares[cost]), Math.log10(row.gap.mean)]]));
  const level = (value, text, dash) => (value > 0 ? [{ shape: { type: "line", xref: "paper", x0: 0, x1: 1, y0: Math.log10(value), y1: Math.log10(value), line: { color: colour("original"), dash, width: 1.5 } }, text, at: Math.log10(value) }] : []);
  const lines = [...level(nothing?.gap?.mean, "doing nothing", "dot"), ...level(noise, "between retrainings", "dash")];
  const yticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];
  const data = [
    { type: "scatter", mode: "lines", name: "no other is closer and cheaper", x: steps.map((s) => s[0]), y: steps.map((s) => s[1]), line: { color: colour("original"), width: 1.5 }, hoverinfo: "skip" },
    {
      type: "scatter", mode: "markers", name: "method, with its 95 % interval", x, y, text: points.map((row) => `${row.method}: ${interval(row.gap)} points, ${number(row.shares[cost])} %`), hovertemplate: "%{text}<extra></extra>",
      marker: { size: 10, color: points.map((row) => (front.includes(row) ? colour("unlearned") : colour("retrained"))), symbol: points.map((row) => (front.includes(row) ? "diamond" : "circle")), line: { color: colour("back"), width: 1 } },
      error_y: { type: "data", array: high, arrayminus: low, symmetric: false, thickness: 1, width: 3, color: colour("soft") },
    },
  ];
  const labels = placed(points.map((row) => row.method), x, y, { left, right, bottom, top, width, height: 480, levels: lines.map((l) => l.at) });
  const layout = {
    margin: { l: 52, r: 12, t: 16, b: 50 },
    xaxis: { title: `${COSTS[cost]}, percent of retraining's`, range: [left, right], tickvals: TICKS.map(bent), ticktext: TICKS.map(String), zeroline: false },
    yaxis: { title: "mean distance to retrained (points)", range: [bottom, top], tickvals: yticks.map(Math.log10), ticktext: yticks.map(String), zeroline: false },
    shapes: lines.map((l) => l.shape), legend: { orientation: "h", y: -0.16, yanchor: "top", x: 0 },
    annotations: [...labels, ...lines.map((l) => ({ x: 1, xref: "paper", xanchor: "right", y: l.at, yanchor: "bottom", text: l.text, showarrow: false, font: { size: 12, color: colour("soft") } }))],
  };
  return { data, layout };
}

// A name beside each point where it covers no other name and no point, as far as there is room.
function placed(names, x, y, { left, right, bottom, top, width, height, levels }) {
  const [w, h] = [width - 64, height - 66];
  const px = x.map((v) => ((v - left) / (right - left)) * w);
  const py = y.map((v) => ((top - v) / (top - bottom)) * h);
  const taken = px.map((cx, i) => [cx - 6, py[i] - 6, cx + 6, py[i] + 6]);
  taken.push(...levels.map((at) => ((top - at) / (top - bottom)) * h).map((at) => [w - 130, at - 16, w, at + 2]));
  const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return names.map((text, i) => {
    const [tw, th] = [7 * text.length + 4, 15];
    let best = null;
    for (const far of [10, 22, 36, 54]) {
      for (const turn of [0, 4, 2, 6, 1, 7, 3, 5]) {
        const [dx, dy] = [Math.cos((turn * Math.PI) / 4), Math.sin((turn * Math.PI) / 4)];
        const [cx, cy] = [px[i] + dx * (far + tw / 2), py[i] + dy * far];
        const box = [cx - tw / 2, cy - th / 2, cx + tw / 2, cy + th / 2];
        const outside = Math.max(0, -box[0]) + Math.max(0, box[2] - w) + Math.max(0, -box[1]) + Math.max(0, box[3] - h);
        const cost = taken.reduce((all, other, j) => all + (j === i ? 0 : overlap(box, other)), 0) + 40 * outside + 0.3 * far;
        if (!best || cost < best.cost) best = { cost, box, far, ax: cx - px[i], ay: cy - py[i] };
      }
    }
    taken.push(best.box);
    return { x: x[i], y: y[i], ax: best.ax, ay: best.ay, text, showarrow: true, arrowhead: 0, arrowwidth: best.far > 10 ? 0.7 : 0.01, arrowcolor: colour("soft"), standoff: 5, font: { size: 12 } };
  });
}

function comparisonColumns(rows) {
  const mean = (part, name) => (row) => row[part]?.[name]?.mean ?? null;
  const some = (value) => rows.some((row) => known(value(row)));
  const measures = [["apart", 2], ["js", 4]].flatMap(([part, digits]) => Object.keys(rows[0]?.[part] ?? {}).map((name) => ({
    title: DATA.titles[name] ?? name, value: mean(part, name), shown: (row) => interval(row[part][name], digits),
  })));
  const costs = Object.keys(COSTS).map((name) => ({ title: `${COSTS[name]} (%)`, value: (row) => row.shares[name] }));
  const figures = Object.entries(DATA.figures ?? {}).map(([name, title]) => ({ title, value: mean("stream", name), shown: (row) => interval(row.stream?.[name], 1) }));
  return [
    { title: "method", value: (row) => (row.original ? (DATA.figures ? "carry_on (nothing is forgotten)" : "original (doing nothing)") : row.method), text: true },
    { title: "mean distance (points)", value: (row) => row.gap.mean, shown: (row) => interval(row.gap) },
    ...figures, ...measures, ...costs, { title: "stored on the server (MB)", value: (row) => row.stored_mb, digits: 0 },
    { title: "notes", text: true, wide: true, value: (row) => Object.entries(row.errors ?? {}).map(([seed, error]) => `seed ${seed}: ${error}`).join("; ") || null },
  ].filter((column, i) => i < 2 || some(column.value));
}

ready(() => {
  const settings = [...new Set(DATA.rows.map((row) => row.setting))];
  const state = { setting: settings[0], cost: "passes" };
  const rows = () => DATA.rows.filter((row) => row.setting === state.setting);
  const told = el("h1");
  const made = chart("pareto-chart", "Cost against distance to the retrained model", { height: 480, draw: () => scatter(rows(), state.cost, made.plot.clientWidth) });
  const columns = comparisonColumns(DATA.rows);
  const table = sortable("Table of all methods", columns, rows(), { sorted: columns[1] });
  function update() {
    const front = paretoOf(rows(), state.cost);
    const closest = own(rows()).sort((a, b) => a.gap.mean - b.gap.mean)[0];
    told.textContent = closest ? `Closest to retraining: ${closest.method}, ${interval(closest.gap, 1)} points away at ${number(closest.shares[state.cost])} % of its ${COSTS[state.cost]}.` : "No method has a figure.";
    made.words(`${told.textContent} Methods that no other beats in both: ${front.map((r) => `${r.method} (${number(r.gap.mean, 1)} points, ${number(r.shares[state.cost])} %)`).join(", ")}.`);
    table.fill(rows());
    made.redraw();
  }
  const controls = el("div", { class: "controls" },
    settings.length > 1 ? choice("Setting", settings.map((s) => [s, s]), state.setting, (v) => { state.setting = v; update(); }) : null,
    choice("Cost", Object.entries(COSTS), state.cost, (v) => { state.cost = v; update(); }));
  PAGE.replaceChildren(
    el("header", {}, el("p", { class: "kind" }, `fedlaf · comparison · ${plural(DATA.seeds.length, "seed")}: ${DATA.seeds.join(", ")}`), told, el("p", {}, DATA.title, DATA.question ? ` ${DATA.question}` : ""), controls),
    section("cost", "Cost and distance", "Down is closer to the retrained model, left is cheaper; both axes are logarithmic. Bars are 95 % intervals over seeds. Diamonds: no other method is closer and cheaper.", made.figure),
    section("table", "All methods", "Means over seeds ± the half-width of the 95 % Student-t interval. d is the signed difference to the retrained model in points. Press a head to sort.", table.element));
  update();
  drawAll();
});
