// Single rows: their picture and the models' answers, the projection, membership, ten of them.
function picture(request, place, size = 56) {
  const sheet = request.pictures;
  const label = `Row of class ${request.rows.label[place]}`;
  if (sheet.kind === "series") return series(sheet.values[place], label, size);
  const scale = size / Math.max(sheet.width, sheet.height);
  const [w, h] = [sheet.width * scale, sheet.height * scale];
  return el("span", {
    class: "picture", role: "img", "aria-label": label,
    style: {
      width: `${w}px`, height: `${h}px`, backgroundImage: `url(${sheet.png})`, backgroundSize: `${sheet.columns * w}px auto`,
      backgroundPosition: `-${(place % sheet.columns) * w}px -${Math.floor(place / sheet.columns) * h}px`,
    },
  });
}

function series(lines, label, size) {
  const all = lines.flat();
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const at = (value, i, count) => `${(i / Math.max(count - 1, 1)) * 100},${50 - ((value - low) / (high - low || 1)) * 46 - 2}`;
  const path = (values, i) => el("polyline", {
    points: values.map((v, j) => at(v, j, values.length)).join(" "), fill: "none", stroke: ofClass(i), "stroke-width": "1.5",
  });
  return el("svg", { class: "picture", role: "img", "aria-label": label, viewBox: "0 0 100 50", width: 2 * size, height: size }, lines.map(path));
}

const KIND_WORDS = { forget: "to be forgotten", retain: "remaining", test: "unseen (test)" };

function card(request, place, tag = "li") {
  const { rows, answers } = request;
  const who = rows.client[place] < 0 ? KIND_WORDS[rows.kind[place]] : `client ${rows.client[place]}, ${KIND_WORDS[rows.kind[place]]}`;
  const answer = (model) => [
    el("dt", { class: model }, model),
    el("dd", {}, `${classed(answers[model].class[place])}, ${number(100 * answers[model].sure[place], 0)} %`),
  ];
  return el(tag, { class: "card" }, picture(request, place), el("div", { class: "small" }, el("b", {}, `labelled ${classed(rows.label[place])}`), el("br"), el("span", { class: "soft" }, who)),
    el("dl", {}, request.models.map(answer)));
}

function samplesSection(request) {
  const forget = range(request.rows.kind.length).filter((i) => request.rows.kind[i] === "forget");
  const step = Math.max(1, Math.floor(forget.length / 10));
  const ten = forget.filter((_, i) => i % step === 0).slice(0, 10);
  return section("samples", `${ten.length === 10 ? "Ten" : ten.length} forgotten rows`, "What each model answers, and how sure it is of it. Evenly spaced over the forgotten rows, not picked.",
    el("ul", { class: "cards" }, ten.map((place) => card(request, place))));
}

function projectionSection(request) {
  const places = range(request.rows.kind.length);
  const state = { kind: "forget", label: "all", chosen: null, way: "pca" };
  const shown = () => places.filter((i) => (state.kind === "all" || request.rows.kind[i] === state.kind) && (state.label === "all" || request.rows.label[i] === Number(state.label)));
  const detail = el("div", { "aria-live": "polite" }, el("p", { class: "small soft" }, "Point at a row, or step through the rows with the slider."));
  const made = chart("projection-chart", "Representations of rows, in two dimensions", {
    height: 520, words: `${places.length} rows; from where the original model has each to where the unlearned model has it; outlines: where the retrained model has it.`,
    draw: () => projected(request, shown(), state.chosen, state.way),
    after: (plot) => hoverRows(plot, request, (place) => { state.chosen = place; detail.replaceChildren(card(request, place, "div")); }),
  });
  const steps = slider("Row", {
    min: 0, max: Math.max(shown().length - 1, 0), value: 0, text: (v) => `${v + 1} of ${shown().length}`,
    changed: (v) => { state.chosen = shown()[v] ?? null; if (known(state.chosen)) detail.replaceChildren(card(request, state.chosen, "div")); made.redraw(); },
  });
  const refresh = () => { state.chosen = null; steps.input.max = Math.max(shown().length - 1, 0); steps.set(0); };
  const labels = [...new Set(request.rows.label)].sort((a, b) => a - b);
  const kinds = [["forget", "to be forgotten"], ["retain", "remaining"], ["test", "unseen (test)"], ["all", "all"]];
  const ways = [["pca", "PCA"], ["tsne", "t-SNE"]];
  const controls = el("div", { class: "controls" }, choice("Projection", ways, "pca", (v) => { state.way = v; made.redraw(); }), choice("Rows", kinds, "forget", (v) => { state.kind = v; refresh(); }),
    choice("Label", [["all", "all"], ...labels.map((l) => [l, classed(l)])], "all", (v) => { state.label = v; refresh(); }), steps.element);
  const shares = request.projection.shares;
  const told = `One shared projection of all models (principal components; they hold ${number(shares[0])} % and ${number(shares[1])} % of the spread). A line leads from the original model's place of a row (small cross) to the unlearned model's (filled); an outline of the same shape shows where the retrained model has it. Colour and shape are the row's label. t-SNE is computed here, from the first ${request.projection.at.unlearned[0].length} principal components of the rows shown; distances across its map mean little.`;
  return section("projection", "Where the rows sit inside the model", told, controls, el("div", { class: "split" }, made.figure, detail));
}

// Places of the rows by model: the first two principal components, or a t-SNE map of the rows shown.
const maps = new Map();
function placesOf(request, places, way) {
  const key = `${way} ${places}`;
  if (way === "pca" || places.length < 4) return request.projection.at;
  if (!maps.has(key)) {
    const points = request.models.flatMap((m) => places.map((i) => request.projection.at[m][i]));
    const map = tsne(points, points.map((p) => p.slice(0, 2)));
    const of = (k) => Object.fromEntries(places.map((i, j) => [i, map[k * places.length + j]]));
    maps.set(key, Object.fromEntries(request.models.map((m, k) => [m, of(k)])));
  }
  return maps.get(key);
}

function projected(request, places, chosen, way) {
  const at = placesOf(request, places, way);
  const pick = (model, axis, of) => of.map((i) => at[model][i][axis]);
  const data = [];
  if (at.original) {
    data.push({
      type: "scatter", mode: "lines", name: "from original to unlearned", line: { color: seeThrough("#888888", 0.55), width: 1 }, hoverinfo: "skip",
      x: places.flatMap((i) => [at.original[i][0], at.unlearned[i][0], null]), y: places.flatMap((i) => [at.original[i][1], at.unlearned[i][1], null]),
    });
    data.push({ type: "scatter", mode: "markers", name: "original", x: pick("original", 0, places), y: pick("original", 1, places), customdata: places, hoverinfo: "none", marker: { symbol: "x-thin", size: 6, line: { width: 1.2, color: colour("original") } } });
  }
  for (const label of [...new Set(places.map((i) => request.rows.label[i]))].sort((a, b) => a - b)) {
    const of = places.filter((i) => request.rows.label[i] === label);
    data.push({ type: "scatter", mode: "markers", name: classed(label), legendgroup: `c${label}`, x: pick("unlearned", 0, of), y: pick("unlearned", 1, of), customdata: of, hoverinfo: "none", marker: { color: ofClass(label), symbol: formOf(label), size: 8, line: { color: colour("back"), width: 0.5 } } });
    if (at.retrained) data.push({ type: "scatter", mode: "markers", name: `${classed(label)}, retrained`, legendgroup: `c${label}`, showlegend: false, x: pick("retrained", 0, of), y: pick("retrained", 1, of), customdata: of, hoverinfo: "none", marker: { color: ofClass(label), symbol: `${formOf(label)}-open`, size: 12, line: { width: 1.5 } } });
  }
  if (known(chosen)) {
    const models = request.models;
    data.push({ type: "scatter", mode: "lines+markers+text", name: "chosen row", x: models.map((m) => at[m][chosen][0]), y: models.map((m) => at[m][chosen][1]), text: models, textposition: "top center", textfont: { color: colour("ink") }, hoverinfo: "skip", line: { color: colour("ink"), width: 1.5 }, marker: { symbol: "circle-open", size: 18, color: colour("ink"), line: { width: 2 } } });
  }
  const axis = (n) => ({ title: `${way === "pca" ? "component" : "t-SNE"} ${n} (no unit)`, zeroline: false });
  return { data, layout: { xaxis: axis(1), yaxis: axis(2), hovermode: "closest", legend: { orientation: "h", y: -0.14, yanchor: "top", x: 0, font: { size: 12 } } } };
}

function hoverRows(plot, request, found) {
  const tip = document.getElementById("tip") || document.body.appendChild(el("div", { id: "tip", hidden: true }));
  plot.on("plotly_hover", ({ points, event }) => {
    const place = points[0].customdata;
    if (!known(place)) return;
    found(place);
    tip.replaceChildren(card(request, place, "div"));
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 235)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - 200)}px`;
  });
  plot.on("plotly_unhover", () => { tip.hidden = true; });
}

const SCORED = ["forget", "retain", "test"];
const SCORED_COLOURS = { forget: "unlearned", retain: "original", test: "retrained" };
const above = (scores, least) => scores.filter((s) => s >= least).length;

function membershipSection(request) {
  const all = Object.values(request.membership).flatMap((kinds) => SCORED.flatMap((k) => kinds[k]));
  const [low, high] = [Math.floor(Math.min(...all)), Math.ceil(Math.max(...all))];
  const state = { model: "unlearned", least: attackThreshold(request.membership.unlearned) };
  const told = el("p", { "aria-live": "polite" });
  const caught = el("ul", { class: "caught" });
  const scores = chart("scores-chart", "Scores of rows under the attack", { height: 340, draw: () => histograms(request, state, low, high), after: (plot) => draggable(plot, (x) => steps.set(x)) });
  const roc = chart("roc-chart", "ROC: forgotten against unseen rows", { height: 340, draw: () => rocs(request, state) });
  const steps = slider("Threshold", {
    min: low, max: high, step: 0.05, value: state.least, text: (v) => `score ${number(v, 2)}`,
    changed: (v) => { state.least = v; update(); },
  });
  function update() {
    const of = request.membership[state.model];
    const [hit, wrong] = [above(of.forget, state.least), above(of.test, state.least)];
    const words = `At a threshold of ${number(state.least, 2)} the attack takes ${hit} of ${of.forget.length} forgotten rows (${percent(hit, of.forget.length)}) for members of the ${state.model} model's training rows, and ${percent(wrong, of.test.length)} of unseen rows by mistake.`;
    told.textContent = words;
    scores.words(words);
    roc.words(`${request.models.map((m) => `area under the curve of ${m}: ${number(area(request.membership[m]), 1)} %`).join(", ")}. ${words}`);
    caught.replaceChildren(...caughtRows(request, of, state.least));
    scores.redraw();
    roc.redraw();
  }
  const controls = el("div", { class: "controls" }, choice("Model", request.models.map((m) => [m, m]), state.model, (v) => { state.model = v; update(); }), steps.element);
  const made = section("membership", "Who would be caught?", "A membership attack looks at how sure a model is of a row's own label (the logit of its probability) and takes rows above a threshold for rows that the model was trained on. Once forgotten, rows should look like unseen ones. The threshold starts where remaining rows are best told from unseen ones; drag it in the chart, or move it with the slider.",
    controls, told, el("div", { class: "grid wide" }, scores.figure, roc.figure), el("h3", {}, "Forgotten rows that are caught, the surest first"), caught);
  update();
  return made;
}

function caughtRows(request, of, least) {
  const forget = range(request.rows.kind.length).filter((i) => request.rows.kind[i] === "forget");
  const order = range(of.forget.length).filter((i) => of.forget[i] >= least).sort((a, b) => of.forget[b] - of.forget[a]);
  const items = order.slice(0, 24).map((i) => el("li", {}, picture(request, forget[i], 44), number(of.forget[i], 1)));
  if (order.length > 24) items.push(el("li", {}, `and ${order.length - 24} more`));
  return items.length ? items : [el("li", {}, "None.")];
}

function histograms(request, state, low, high) {
  const of = request.membership[state.model];
  const [bins, width] = [32, (high - low) / 32];
  const binned = (scores) => {
    const counts = new Array(bins).fill(0);
    for (const score of scores) counts[Math.min(bins - 1, Math.floor((score - low) / width))] += 100 / scores.length;
    return counts;
  };
  return {
    data: SCORED.map((kind) => ({
      type: "scatter", mode: "lines", name: KIND_WORDS[kind], x: range(bins).map((i) => low + (i + 0.5) * width), y: binned(of[kind]),
      line: { shape: "hvh", width: 2, color: colour(SCORED_COLOURS[kind]), dash: { forget: "solid", retain: "dash", test: "dot" }[kind] },
      fill: kind === "forget" ? "tozeroy" : "none", fillcolor: seeThrough("#d55e00", 0.3), hovertemplate: `${KIND_WORDS[kind]}: %{y:.1f} %<extra></extra>`,
    })),
    layout: {
      xaxis: { title: "score (logit of the own label)", range: [low, high] }, yaxis: { title: "percent of rows of the kind" },
      shapes: [line(state.least, { width: 3 })], annotations: [{ x: state.least, y: 1, yref: "paper", yanchor: "bottom", text: "threshold", showarrow: false }], margin: { l: 48, r: 12, t: 22, b: 44 },
    },
  };
}

function curveOf(kinds) {
  const cuts = [...new Set([...kinds.forget, ...kinds.test])].sort((a, b) => b - a);
  const rate = (kind, least) => (100 * above(kinds[kind], least)) / Math.max(kinds[kind].length, 1);
  return { x: [0, ...cuts.map((c) => rate("test", c))], y: [0, ...cuts.map((c) => rate("forget", c))], cuts };
}

function area(kinds) {
  const { x, y } = curveOf(kinds);
  return range(x.length - 1).reduce((sum, i) => sum + ((x[i + 1] - x[i]) * (y[i + 1] + y[i])) / 200, 0);
}

// Where the attack itself would draw the line: where remaining rows are best told from unseen ones.
function attackThreshold(kinds) {
  const { x, y, cuts } = curveOf({ ...kinds, forget: kinds.retain });
  const best = cuts.reduce((top, _, i) => (y[i + 1] - x[i + 1] > y[top + 1] - x[top + 1] ? i : top), 0);
  return cuts[best];
}

function rocs(request, state) {
  const data = request.models.map((model) => {
    const { x, y } = curveOf(request.membership[model]);
    return { type: "scatter", mode: "lines", name: `${model}, area ${number(area(request.membership[model]), 1)} %`, x, y, line: { color: colour(model), dash: DASHES[model], width: 2 }, hovertemplate: `${model}: %{y:.1f} % caught at %{x:.1f} % false alarms<extra></extra>` };
  });
  const of = request.membership[state.model];
  const at = [of.test, of.forget].map((scores) => (100 * above(scores, state.least)) / Math.max(scores.length, 1));
  data.push({ type: "scatter", mode: "lines", x: [0, 100], y: [0, 100], line: { color: colour("line"), width: 1 }, hoverinfo: "skip", showlegend: false });
  data.push({ type: "scatter", mode: "markers", name: "threshold", x: [at[0]], y: [at[1]], marker: { color: colour("ink"), size: 12, symbol: "cross" }, hovertemplate: "threshold: %{y:.1f} % caught at %{x:.1f} % false alarms<extra></extra>" });
  return { data, layout: { xaxis: { title: "unseen rows caught (%)", range: [-1, 101] }, yaxis: { title: "forgotten rows caught (%)", range: [-1, 101] } } };
}

function draggable(plot, moved) {
  const place = (event) => {
    const axis = plot._fullLayout.xaxis;
    const x = axis.p2d(event.clientX - plot.getBoundingClientRect().left - axis._offset);
    moved(Math.max(axis.range[0], Math.min(axis.range[1], x)));
  };
  plot.style.touchAction = "pan-y";
  plot.style.cursor = "ew-resize";
  plot.addEventListener("pointerdown", (event) => { plot.setPointerCapture(event.pointerId); place(event); });
  plot.addEventListener("pointermove", (event) => { if (plot.hasPointerCapture(event.pointerId)) place(event); });
}
