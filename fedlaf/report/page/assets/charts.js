// Plotly: unpacked once, themed for light and dark, and every chart with a title and words for it.
const MODELS = ["original", "unlearned", "retrained"];
const SYMBOLS = { original: "square", unlearned: "circle", retrained: "diamond" };
const DASHES = { original: "dash", unlearned: "solid", retrained: "dot" };
const PATTERNS = { original: "", unlearned: "/", retrained: "." };
// Okabe and Ito's colours, grey for black (which is the ink), and a symbol of its own for each class.
const CLASSES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a8a", "#b5a800"];
const FORMS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "cross", "hourglass", "hexagram"];
const charts = [];
const dark = matchMedia("(prefers-color-scheme: dark)");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const ofClass = (label) => (label < 0 ? "#8a8a8a" : CLASSES[label % CLASSES.length]);
const formOf = (label) => FORMS[Math.max(label, 0) % FORMS.length];
const classed = (label) => (label < 0 ? "other classes" : `class ${label}`);
const seeThrough = (hex, alpha) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",")},${alpha})`;

function chart(id, title, { height = 320, words = "", draw, after = null }) {
  const plot = el("div", { class: "chart", id, role: "img", "aria-label": `${title}. ${words}`, style: { height: `${height}px` } });
  const made = { plot, draw, after };
  made.redraw = () => {
    if (!window.Plotly || !plot.isConnected) return;
    const { data, layout } = draw();
    Plotly.react(plot, data, themed(layout), { displayModeBar: false, responsive: true, scrollZoom: false });
    plot.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
    if (after && !made.wired) after(plot);
    made.wired = true;
  };
  made.words = (told) => plot.setAttribute("aria-label", `${title}. ${told}`);
  made.figure = el("figure", {}, el("figcaption", {}, title), plot);
  charts.push(made);
  return made;
}

function themed(layout) {
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true, title: { standoff: 8 } };
  const made = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("ink"), size: 13, family: getComputedStyle(document.body).fontFamily },
    margin: { l: 48, r: 12, t: 10, b: 44 }, hoverlabel: { font: { size: 13 } }, dragmode: false,
    legend: { orientation: "h", y: -0.2, yanchor: "top", x: 0, itemsizing: "constant" }, ...layout,
  };
  for (const name of Object.keys(made).filter((key) => /^[xy]axis\d*$/.test(key))) {
    const given = made[name];
    const named = typeof given.title === "string" ? { text: given.title } : given.title || {};
    made[name] = { ...axis, fixedrange: true, ...given, title: { ...axis.title, ...named } };
  }
  return made;
}

const marks = (model, more = {}) => ({ name: model, marker: { color: colour(model), symbol: SYMBOLS[model], size: 9, ...more } });
const bars = (model) => ({
  type: "bar", name: model,
  marker: { color: colour(model), pattern: { shape: PATTERNS[model], fillmode: "overlay", fgcolor: colour("back"), size: 6, solidity: 0.25 }, line: { color: colour(model), width: 1 } },
});
const line = (x, more = {}) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour("ink"), width: 1.5, ...more } });

async function loadPlotly() {
  const packed = atob(document.getElementById("plotly").textContent);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i); // six times faster than Uint8Array.from
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  // From an address, not as text: so browsers compile it beside the page's own thread.
  const address = URL.createObjectURL(new Blob([await new Response(stream).blob()], { type: "text/javascript" }));
  const script = el("script", { src: address });
  await new Promise((loaded, failed) => {
    script.onload = loaded;
    script.onerror = failed;
    document.head.append(script);
  });
  URL.revokeObjectURL(address);
}

async function drawAll() {
  await loadPlotly();
  dark.addEventListener("change", redrawAll);
  window.addEventListener("beforeprint", () => charts.forEach((one) => one.redraw()));
  await redrawAll();
}

// Charts in view come first, wherever the page is scrolled to; the others while nothing else is to be done.
// The page's `data-drawn` says how far this is: `view`, then `true`. A later call ends an earlier one.
let drawing = 0;
async function redrawAll() {
  const mine = ++drawing;
  const told = document.documentElement.dataset;
  delete told.drawn;
  if (!window.Plotly) return; // `drawAll` comes back when it is there
  const left = [...charts];
  while (left.length) {
    const place = left.findIndex(inView);
    if (place < 0) told.drawn = "view";
    await new Promise((go) => (place < 0 && window.requestIdleCallback ? requestIdleCallback(go, { timeout: 200 }) : setTimeout(go)));
    if (mine !== drawing) return;
    left.splice(Math.max(left.findIndex(inView), 0), 1)[0].redraw();
  }
  told.drawn = "true";
}

function inView(one) {
  const { top, bottom } = one.plot.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}
