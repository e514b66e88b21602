// Classes and clients: accuracy of each, and who holds what.
function classesSection(request) {
  const kinds = ["forget", "test"].filter((kind) => request.by_class.unlearned?.[kind]);
  if (!kinds.length) return null;
  const figures = kinds.map((kind) => {
    const title = `Accuracy by class, ${kind === "test" ? "test" : "forgotten"} rows`;
    const words = request.models.map((m) => `${m}: ${request.by_class[m][kind].map((v, c) => `class ${c} ${number(v)}`).join(", ")}`).join("; ");
    return chart(`classes-${kind}`, title, {
      words,
      draw: () => ({
        data: request.models.map((model) => ({ ...bars(model), x: request.by_class[model][kind].map((_, c) => String(c)), y: request.by_class[model][kind], hovertemplate: `${model}, class %{x}: %{y:.1f} %<extra></extra>` })),
        layout: { barmode: "group", xaxis: { title: "class", type: "category" }, yaxis: { title: "percent right", range: [0, 103] } },
      }),
    }).figure;
  });
  return section("classes", "Each class", "Before, after, and retrained.", el("div", { class: "grid wide" }, figures));
}

function clientsSection(request) {
  const of = request.clients;
  if (!of?.ids?.length) return null;
  const names = of.ids.map(String);
  const marked = (ids) => ids.map((k) => `client ${k}`).join(", ");
  const made = chart("clients-chart", "Accuracy on each client's rows", {
    words: request.models.map((m) => `${m}: ${of.ids.map((k, i) => `client ${k} ${number(of.accuracy[m][i])}`).slice(0, 20).join(", ")}`).join("; "),
    draw: () => ({
      data: request.models.map((model) => ({ type: "scatter", mode: "markers", ...marks(model), x: names, y: of.accuracy[model], hovertemplate: `${model}, client %{x}: %{y:.1f} %<extra></extra>` })),
      layout: {
        xaxis: { title: "client (shaded: has rows to forget)", type: "category" }, yaxis: { title: "percent right" },
        shapes: of.asked.map((k) => ({ type: "rect", layer: "below", yref: "paper", y0: 0, y1: 1, x0: of.ids.indexOf(k) - 0.5, x1: of.ids.indexOf(k) + 0.5, fillcolor: seeThrough("#888888", 0.3), line: { width: 0 } })),
      },
    }),
  });
  const some = of.ids.length < of.of ? ` ${of.ids.length} of ${number(of.of, 0)} clients are shown: those with rows to forget, then those that changed most.` : "";
  return section("clients", "Each client", `Accuracy on the training rows of each client. ${of.asked.length ? `Rows to forget: ${of.asked.length > 8 ? plural(of.asked.length, "client") : marked(of.asked)}.` : ""}${some}`, made.figure);
}

function partitionSection() {
  const part = DATA.partition;
  if (!part?.ids?.length) return null;
  const names = part.ids.map((k) => (part.asked.includes(k) ? `▶ ${k}` : String(k)));
  const classes = part.counts[0].map((_, c) => String(c));
  const words = part.ids.slice(0, 20).map((k, i) => `client ${k}${part.asked.includes(k) ? " (has rows to forget)" : ""}: ${part.counts[i].join(", ")}`).join("; ");
  const few = part.ids.length * classes.length <= 150;
  const made = chart("partition-chart", "Rows by client and class", {
    height: Math.min(760, 110 + 24 * names.length), words,
    draw: () => ({
      data: [{ type: "heatmap", z: part.counts, x: classes, y: names, colorscale: "Cividis", zmin: 0, colorbar: { title: { text: "rows" }, thickness: 14 }, texttemplate: few ? "%{z}" : "", hovertemplate: "client %{y}, class %{x}: %{z} rows<extra></extra>" }],
      layout: {
        xaxis: { title: "class", type: "category" }, yaxis: { title: "client", type: "category", autorange: "reversed" },
        shapes: part.asked.map((k) => ({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: part.ids.indexOf(k) - 0.5, y1: part.ids.indexOf(k) + 0.5, line: { color: colour("unlearned"), width: 3 }, fillcolor: "rgba(0,0,0,0)" })),
      },
    }),
  });
  const some = part.ids.length < part.of ? ` ${part.ids.length} of ${number(part.of, 0)} clients are shown.` : "";
  return section("partition", "Who holds what", `Labels as the clients hold them; clients with rows to forget are framed and marked ▶.${some}`, made.figure);
}
