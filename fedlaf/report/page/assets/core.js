// Values of the page, elements, and small words that all pages share.
const DATA = JSON.parse(document.getElementById("data").textContent);
const PAGE = document.getElementById("page");

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "polyline"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

function section(id, title, told, ...content) {
  const heading = el("h2", { id: `${id}-title` }, title);
  const made = el("section", { id, "aria-labelledby": `${id}-title` }, heading, told ? el("p", { class: "soft" }, told) : null);
  made.append(...content.flat().filter(Boolean));
  return made;
}

function links(sections) {
  const entry = (s) => el("a", { href: `#${s.id}` }, s.querySelector("h2").textContent);
  return el("nav", { "aria-label": "Sections" }, sections.map(entry));
}

function choice(label, options, chosen, changed) {
  const select = el("select", { onchange: () => changed(select.value) });
  for (const [value, text] of options) select.append(el("option", { value, selected: String(value) === String(chosen) }, text));
  return el("label", {}, label, select);
}

function slider(label, { min, max, step = 1, value, text, changed }) {
  const shown = el("span", {}, "");
  const input = el("input", { type: "range", min, max, step, value, oninput: () => update(true) });
  function update(tell) {
    const told = text(Number(input.value));
    shown.textContent = told;
    input.setAttribute("aria-valuetext", told);
    if (tell) changed(Number(input.value));
  }
  update(false);
  const set = (next) => { input.value = next; update(true); };
  return { element: el("label", { class: "long" }, el("span", {}, `${label}: `, shown), input), input, set };
}

function scrolled(name, content) {
  return el("div", { class: "scroll", role: "region", "aria-label": name, tabindex: "0" }, content);
}

const known = (value) => value !== null && value !== undefined;

function number(value, digits = 1) {
  if (!known(value)) return "";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const percent = (part, whole) => (whole ? `${number((100 * part) / whole)} %` : "");
const plural = (count, noun) => `${number(count, 0)} ${noun}${count === 1 ? "" : "s"}`;
const range = (count) => Array.from({ length: count }, (_, i) => i);
const ready = (start) => (document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start());
