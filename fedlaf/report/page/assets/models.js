// The three models side by side: measures with the band of retrainings, flows of answers, layers, costs.
const MODEL_WORDS = {
  original: "trained with the rows", unlearned: "after the request", retrained: "trained without the rows",
};

function summary(request) {
  const value = (name, model) => request.measures.find((m) => m.name === name)?.values[model];
  const card = (model) => el("div", { class: `card ${model}` }, el("b", {}, model), el("span", { class: "soft" }, MODEL_WORDS[model]),
    ["accuracy_test", "accuracy_forget", "backdoor_success"].filter((n) => known(value(n, model))).map((n) =>
      el("span", {}, `${number(value(n, model))} % ${{ accuracy_test: "of test rows right", accuracy_forget: "of forgotten rows right", backdoor_success: "backdoor success" }[n]}`)));
  return el("div", { class: "three" }, request.models.map(card));
}

function measuresSection(request) {
  const shown = request.measures.filter((m) => m.title.includes("(%)") && (m.decides || m.group === "accuracy"));
  const names = shown.map((m) => m.title.replace(" (%)", ""));
  const wrapped = names.map((n) => n.replace(", ", ",<br>"));
  const told = shown.map((m) => `${m.title.replace(" (%)", "")}: ${request.models.map((k) => `${k} ${number(m.values[k])}`).join(", ")}`).join("; ");
  const any = shown.some((m) => known(m.band));
  const made = chart("models-chart", "Measures in percent", {
    height: 110 + 38 * shown.length, words: told,
    draw: () => ({
      data: request.models.map((model) => ({
        type: "scatter", mode: "markers", ...marks(model, { size: 11, line: { color: colour("back"), width: 1 } }),
        x: shown.map((m) => m.values[model]), y: wrapped, text: names, hovertemplate: `%{text}<br>${model}: %{x:.1f} %<extra></extra>`,
      })),
      layout: {
        xaxis: { title: "percent", range: [-2, 102] }, yaxis: { autorange: "reversed", type: "category" }, margin: { l: 40, r: 12, t: 10, b: 40 },
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
        shapes: shown.flatMap((m, i) => (known(m.band) && known(m.values.retrained) ? [{
          type: "rect", layer: "below", line: { width: 0 }, fillcolor: seeThrough("#888888", 0.4), y0: i - 0.4, y1: i + 0.4,
          x0: m.values.retrained - m.band, x1: m.values.retrained + m.band,
        }] : [])),
      },
    }),
  });
  const lead = any
    ? "The grey band is the noise between retrainings: the largest distance between models retrained from different seeds, around the retrained model. Inside the band, an unlearned model is like a retrained one."
    : "No model was retrained from another seed, so there is no band of noise between retrainings. With evaluation.reference_seeds=2 there is one.";
  return section("models", "Original, unlearned, retrained", lead, made.figure,
    el("details", {}, el("summary", {}, `All ${request.measures.length} measures`), scrolled("All measures", measureTable(request))));
}

function measureTable(request) {
  const head = ["", ...request.models, "between retrainings (±)", "distance", "verdict"];
  const body = el("tbody");
  let group = "";
  for (const m of request.measures) {
    if (m.group !== group) body.append(el("tr", { class: "group" }, el("th", { colspan: head.length, scope: "rowgroup" }, m.group)));
    group = m.group;
    const cells = [...request.models.map((k) => m.values[k]), m.band, m.distance].map((v) => el("td", {}, number(v, m.digits)));
    body.append(el("tr", {}, el("th", { scope: "row" }, m.title), cells, el("td", { class: "text" }, m.word)));
  }
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((h) => el(h ? "th" : "td", h ? { scope: "col" } : {}, h)))), body);
}

function flowsSection(request) {
  const { classes, moves, agree } = request.flows;
  if (!classes) return null;
  const total = request.counts.forget;
  const stayed = (model) => classes.reduce((sum, _, i) => sum + moves[model][i][i], 0);
  const figures = ["unlearned", "retrained"].filter((m) => moves[m]).map((model) => {
    const words = `${percent(total - stayed(model), total)} of the forgotten rows get another answer from the ${model} model.`;
    return chart(`flow-${model}`, `original → ${model}`, { height: 420, words, draw: () => sankey(classes, moves[model], model) }).figure;
  });
  const told = ["unlearned", "retrained"].filter((m) => moves[m]).map((m) => `${percent(total - stayed(m), total)} in the ${m} model`).join(", ");
  const same = known(agree) ? ` The unlearned and the retrained model give the same answer to ${number(agree)} % of them.` : "";
  return section("flow", "Where did they go?", `Answers to the ${number(total, 0)} forgotten rows. Another answer than before: ${told}.${same} If both pictures look alike, the rows went where they go in a model that never saw them.`,
    el("div", { class: "grid wide" }, figures));
}

const sum = (pairs) => pairs.reduce((all, [, , count]) => all + count, 0);

// Centres of nodes on top of each other, in the order of classes on both sides.
function heights(sizes) {
  const whole = sizes.reduce((a, b) => a + b, 0);
  let above = 0;
  return sizes.map((size) => { above += size; return Math.min(0.999, Math.max(0.001, (above - size / 2) / whole)); });
}

function sankey(classes, matrix, model) {
  const pairs = matrix.flatMap((row, i) => row.map((count, j) => [i, j, count])).filter(([, , count]) => count);
  const left = classes.map((_, i) => i).filter((i) => pairs.some(([from]) => from === i));
  const right = classes.map((_, j) => j).filter((j) => pairs.some(([, to]) => to === j));
  const nodes = [...left, ...right].map((place) => classes[place]);
  const sizes = [...left.map((i) => sum(pairs.filter(([from]) => from === i))), ...right.map((j) => sum(pairs.filter(([, to]) => to === j)))];
  return {
    data: [{
      type: "sankey", arrangement: "fixed", valueformat: ",d", valuesuffix: " rows",
      node: {
        label: nodes.map(classed), color: nodes.map(ofClass), x: nodes.map((_, i) => (i < left.length ? 0.001 : 0.999)),
        y: [...heights(sizes.slice(0, left.length)), ...heights(sizes.slice(left.length))], pad: 6, thickness: 16, line: { color: colour("ink"), width: 0.5 },
      },
      link: {
        source: pairs.map(([i]) => left.indexOf(i)), target: pairs.map(([, j]) => left.length + right.indexOf(j)), value: pairs.map(([, , count]) => count),
        color: pairs.map(([i, j]) => seeThrough(ofClass(classes[i]), i === j ? 0.25 : 0.6)),
      },
      textfont: { color: colour("ink"), size: 12, shadow: "none" },
    }],
    layout: {
      margin: { l: 8, r: 8, t: 26, b: 8 },
      annotations: [["original", 0, "left"], [model, 1, "right"]].map(([text, x, anchor]) => ({
        text: `<b>${text}</b>`, x, xanchor: anchor, xref: "paper", yref: "paper", y: 1, yanchor: "bottom", showarrow: false,
      })),
    },
  };
}

function layersSection(request) {
  const models = Object.keys(request.layers).filter((m) => m !== "retrained");
  if (!models.length) return null;
  const names = Object.keys(request.layers[models[0]]);
  const words = models.map((m) => `${m}: ${names.map((n) => `${n} ${number(request.layers[m][n], 3)}`).join(", ")}`).join("; ");
  const made = chart("layers-chart", "CKA to the retrained model, by layer", {
    words,
    draw: () => ({
      data: models.map((model) => ({
        type: "scatter", mode: "lines+markers", ...marks(model), line: { dash: DASHES[model], color: colour(model) },
        x: names, y: names.map((n) => request.layers[model][n]), hovertemplate: `%{x}<br>${model}: %{y:.3f}<extra></extra>`,
      })),
      layout: { xaxis: { title: "layer, from the input to the output" }, yaxis: { title: "CKA (1: alike)", rangemode: "tozero" }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 } },
    }),
  });
  return section("layers", "Which layers changed?", "Likeness of each layer's activations on forgotten rows to those of the retrained model; 1 is alike.", made.figure);
}

function costsSection(request) {
  if (!request.costs.length) return null;
  const shown = request.costs.filter((c) => known(c.share) && c.share > 0);
  const made = chart("costs-chart", "Cost of unlearning, in percent of retraining", {
    height: 80 + 28 * shown.length, words: shown.map((c) => `${c.title} ${number(c.share)} %`).join(", "),
    draw: () => ({
      data: [{ ...bars("unlearned"), orientation: "h", x: shown.map((c) => c.share), y: shown.map((c) => c.title), text: shown.map((c) => `${number(c.share)} %`), textposition: "outside", cliponaxis: false, hovertemplate: "%{y}: %{x:.1f} %<extra></extra>", showlegend: false }],
      layout: {
        xaxis: { title: "percent of retraining's cost", range: [0, 1.18 * Math.max(100, ...shown.map((c) => c.share))] },
        yaxis: { autorange: "reversed" }, shapes: [line(100, { dash: "dot" })], margin: { l: 40, r: 12, t: 10, b: 44 },
      },
    }),
  });
  const table = el("table", {}, el("thead", {}, el("tr", {}, ["cost", "unlearning", "retraining", "share"].map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, request.costs.map((c) => el("tr", {}, el("th", { scope: "row" }, c.title),
      [c.unlearned, c.retrained].map((v) => el("td", {}, number(v, c.name === "client_seconds" ? 1 : 0))), el("td", {}, known(c.share) ? `${number(c.share)} %` : "")))));
  return section("costs", "What it cost", "Counts of work on all clients, held against retraining without the rows; the dotted line is as much as retraining.", made.figure,
    el("details", {}, el("summary", {}, "All costs"), scrolled("All costs", table)));
}
