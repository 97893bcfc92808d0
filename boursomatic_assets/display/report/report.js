"use strict";
(() => {
  const { figures, lists } = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)");
  const hidden = new Map(Object.entries(figures).map(([name, figure]) => [name, new Set(figure.hidden)]));

  // Colours are named in the figures and looked up in the style sheet, so that both follow the scheme together.
  function resolved(value, style) {
    if (typeof value === "string") return value.startsWith("var:") ? style.getPropertyValue(value.slice(4)).trim() : value;
    if (Array.isArray(value)) return value.map((item) => resolved(item, style));
    if (value === null || typeof value !== "object") return value;
    if ("list" in value) return lists[value.list];
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, style)]));
  }

  function draw(box) {
    const figure = figures[box.id];
    const style = getComputedStyle(root);
    const data = resolved(figure.data, style).map((trace) => ({
      ...trace, visible: !hidden.get(box.id).has(trace.legendgroup),
    }));
    const layout = resolved(figure.layout, style);
    // A finger that scrolls the page must not draw a frame in a chart.
    if (touch.matches) layout.dragmode = false;
    return Plotly.react(box, data, layout, { displayModeBar: false, responsive: true, showTips: false });
  }

  const boxes = [...document.querySelectorAll(".plot")];
  const drawAll = () => Promise.all(boxes.map(draw));
  // One chart a frame: the words are there at once, and the window answers meanwhile.
  boxes.reduce((before, box) => before.then(() => new Promise((after) => setTimeout(after))).then(() => draw(box)), Promise.resolve())
    .then(() => { root.dataset.drawn = "yes"; });
  dark.addEventListener("change", drawAll);

  for (const button of document.querySelectorAll("button[data-figure]")) {
    button.addEventListener("click", () => {
      const { figure, group } = button.dataset;
      const away = hidden.get(figure);
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      if (shown) away.delete(group); else away.add(group);
      draw(document.getElementById(figure));
    });
  }

  // Paper is light, about 680 px wide whatever the window is, and nothing on it unfolds.
  let folded = [];
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((part) => { part.open = true; });
    boxes.forEach((box) => { box.style.width = "680px"; draw(box); Plotly.Plots.resize(box); });
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    folded.forEach((part) => { part.open = false; });
    boxes.forEach((box) => { box.style.width = ""; draw(box); Plotly.Plots.resize(box); });
  });
})();
