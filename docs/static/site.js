// What the theme leaves out for the keyboard and for screen readers.
document.addEventListener("DOMContentLoaded", () => {
  const name = (selector, label) =>
    document.querySelectorAll(selector).forEach((found) => found.setAttribute("aria-label", label));
  name("aside.sidebar-drawer", "Pages");
  name("aside.toc-drawer", "On this page");
  document.querySelectorAll("p.caption[role=heading]").forEach((found) => found.setAttribute("aria-level", "2"));
  // What scrolls sideways can be reached by keyboard, in any width of the window.
  document.querySelectorAll("pre, .table-wrapper, .cell_output > .output").forEach((found) => {
    found.tabIndex = 0;
  });
  // An empty corner of a table is no heading.
  document.querySelectorAll("th").forEach((found) => {
    if (!found.textContent.trim()) found.replaceWith(document.createElement("td"));
  });
});
