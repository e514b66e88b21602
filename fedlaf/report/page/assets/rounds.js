// Round by round: one slider moves the curves' cursor, the accuracies of classes, and the projection.
const FOLLOWED = { accuracy_test: "accuracy, test rows (%)", accuracy_forget: "accuracy, forgotten rows (%)", backdoor_success: "backdoor success (%)" };

function roundsSection(request) {
  const path = request.rounds.filter((p) => p.phase !== "retraining");
  if (!path.length) return null;
  const trained = path.filter((p) => p.phase === "training").length;
  path.forEach((p, i) => { p.step = i - trained + 1; });
  const again = request.rounds.filter((p) => p.phase === "retraining");
  again.forEach((p, i) => { p.step = i + 1; });
  const state = { at: path.length - 1 };
  const measures = Object.keys(FOLLOWED).filter((name) => path.some((p) => known(p.measures[name])));
  const curves = measures.map((name) => chart(`curve-${name}`, FOLLOWED[name], {
    height: 270, draw: () => curve(path, again, name, state, request),
    words: `${number(path[0].measures[name])} at first, ${number(path.at(-1).measures[name])} at the end; retrained ${number(again.at(-1)?.measures[name])}.`,
  }));
  const classes = ["forget", "test"].filter((kind) => path.at(-1).by_class[kind]).map((kind) => chart(`round-${kind}`, `Accuracy by class, ${kind === "test" ? "test" : "forgotten"} rows`, {
    height: 270, draw: () => classBars(path[state.at], kind, request),
  }));
  const moving = path.some((p) => p.at) ? [chart("round-projection", "Forgotten rows inside the model", { height: 300, draw: () => projectedAt(request, path, state) })] : [];
  const words = (i) => `${path[i].phase}, round ${path[i].round} (${path[i].step <= 0 ? `${1 - path[i].step} before` : `${path[i].step} after`} the request)`;
  const steps = slider("Round", { min: 0, max: path.length - 1, value: state.at, text: words, changed: (i) => { state.at = i; update(); } });
  function update() {
    const now = path[state.at];
    const told = (kind) => Object.entries(now.by_class[kind]).map(([c, v]) => `class ${c} ${number(v)}`).join(", ");
    ["forget", "test"].filter((kind) => now.by_class[kind]).forEach((kind, i) => classes[i]?.words(`${words(state.at)}: ${told(kind)}.`));
    moving.forEach((one) => one.words(`${words(state.at)}: places of the forgotten rows.`));
    for (const one of [...curves, ...classes, ...moving]) one.redraw();
  }
  let timer = null;
  const play = el("button", { type: "button", onclick: () => {
    if (timer) { clearInterval(timer); timer = null; play.textContent = "Play"; return; }
    if (state.at === path.length - 1) steps.set(0);
    play.textContent = "Stop";
    timer = setInterval(() => (state.at < path.length - 1 ? steps.set(state.at + 1) : play.click()), 450);
  } }, "Play");
  update();
  return section("rounds", "Round by round", `Training up to the request, then forgetting; the retraining runs beside it. Measured on a few rows of each kind after every round that changed the model. ${moving.length ? "" : "Representations of each round were not kept."}`,
    el("div", { class: "controls" }, play, steps.element), el("div", { class: "grid" }, [...curves, ...classes, ...moving].map((c) => c.figure)));
}

function curve(path, again, name, state, request) {
  const parts = { original: path.filter((p) => p.step <= 0), unlearned: path.filter((p) => p.step >= 0), retrained: again };
  const data = Object.entries(parts).filter(([, points]) => points.length).map(([model, points]) => ({
    type: "scatter", mode: "lines+markers", name: model, x: points.map((p) => p.step), y: points.map((p) => p.measures[name]), line: { color: colour(model), dash: DASHES[model] },
    marker: { color: colour(model), symbol: SYMBOLS[model], size: 5 }, hovertemplate: `${model}, %{x} rounds: %{y:.1f} %<extra></extra>`,
  }));
  const band = request.measures.find((m) => m.name === name);
  const noise = known(band?.band) && known(band.values.retrained) ? [{ type: "rect", layer: "below", xref: "paper", x0: 0, x1: 1, y0: band.values.retrained - band.band, y1: band.values.retrained + band.band, fillcolor: seeThrough("#888888", 0.3), line: { width: 0 } }] : [];
  return { data, layout: { xaxis: { title: "rounds since the request" }, yaxis: { title: "percent", range: [-3, 103] }, shapes: [...noise, line(path[state.at].step, { width: 2 }), line(0, { width: 1, dash: "dot" })], legend: { orientation: "h", y: -0.32, yanchor: "top", x: 0 } } };
}

function classBars(point, kind, request) {
  const values = point.by_class[kind];
  const names = values.map((_, c) => String(c));
  const model = point.step <= 0 ? "original" : "unlearned";
  const data = [{ ...bars(model), x: names, y: values, hovertemplate: "class %{x}: %{y:.1f} %<extra></extra>" }];
  if (request.by_class.retrained) data.push({ type: "scatter", mode: "markers", ...marks("retrained"), x: names, y: request.by_class.retrained[kind], hovertemplate: "retrained, class %{x}: %{y:.1f} %<extra></extra>" });
  return { data, layout: { xaxis: { title: "class", type: "category" }, yaxis: { title: "percent", range: [0, 103] }, legend: { orientation: "h", y: -0.32, yanchor: "top", x: 0 } } };
}

function projectedAt(request, path, state) {
  const forget = range(request.rows.kind.length).filter((i) => request.rows.kind[i] === "forget");
  const point = path[state.at];
  const places = path.flatMap((p) => p.at || []);
  const data = [];
  for (const label of [...new Set(forget.map((i) => request.rows.label[i]))].sort((a, b) => a - b)) {
    const of = range(forget.length).filter((i) => request.rows.label[forget[i]] === label);
    if (request.projection.at.retrained) data.push({ type: "scatter", mode: "markers", showlegend: false, hoverinfo: "skip", x: of.map((i) => request.projection.at.retrained[forget[i]][0]), y: of.map((i) => request.projection.at.retrained[forget[i]][1]), marker: { color: ofClass(label), symbol: `${formOf(label)}-open`, size: 9, opacity: 0.5 } });
    if (point.at) data.push({ type: "scatter", mode: "markers", name: classed(label), showlegend: false, hovertemplate: `${classed(label)}<extra></extra>`, x: of.map((i) => point.at[i][0]), y: of.map((i) => point.at[i][1]), marker: { color: ofClass(label), symbol: formOf(label), size: 7 } });
  }
  const fit = (axis) => {
    const values = [...places, ...forget.map((i) => request.projection.at.retrained?.[i] ?? request.projection.at.unlearned[i])].map((p) => p[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return [low - 0.05 * (high - low), high + 0.05 * (high - low)];
  };
  return { data, layout: { xaxis: { title: "component 1 (no unit)", range: fit(0), zeroline: false }, yaxis: { title: "component 2", range: fit(1), zeroline: false } } };
}
