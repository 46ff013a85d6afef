// Draws the charts with the colours and the width of the page, and again when these change.
(() => {
  "use strict";
  const NARROW = 640, PRINTED = 660; // pixels
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = [...document.querySelectorAll("script[data-chart]")].map((script) => ({
    place: document.getElementById(script.dataset.chart),
    figure: JSON.parse(script.textContent),
  }));

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  function themedTrace(trace) {
    const own = colour(`series-${trace.meta.series % 6}`);
    const done = { ...trace, marker: { ...trace.marker, color: own } };
    if (trace.line) done.line = { ...trace.line, color: own };
    if (trace.error_x) done.error_x = { ...trace.error_x, color: own };
    return done;
  }

  function themedAxis(axis) {
    const rule = colour("rule");
    return {
      fixedrange: true, gridcolor: rule, linecolor: rule, zeroline: false, showline: true,
      tickfont: { color: colour("quiet"), size: 12 }, ...axis,
      title: axis.title && { ...axis.title, font: { color: colour("quiet"), size: 13 } },
    };
  }

  function panelled(layout, width) {
    if (layout.meta.panels < 2) return;
    const beside = width >= NARROW;
    const [first, second] = beside ? [[0, 0.44], [0.56, 1]] : [[0.6, 1], [0, 0.4]];
    const direction = beside ? "xaxis" : "yaxis";
    layout[direction] = { ...layout[direction], domain: first };
    layout[`${direction}2`] = { ...layout[`${direction}2`], domain: second };
    layout.xaxis2.anchor = "y2";
    layout.yaxis2.anchor = "x2";
    if (!beside) layout.height *= 1.8;
  }

  function themedLayout(figure, width) {
    const layout = structuredClone(figure.layout);
    panelled(layout, width);
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis/.test(key)) layout[key] = themedAxis(layout[key]);
    }
    for (const shape of layout.shapes || []) {
      shape.line = { color: colour("quiet"), width: 1, dash: "dash" };
    }
    const clear = "rgba(0,0,0,0)";
    return {
      showlegend: true, ...layout, width, paper_bgcolor: clear, plot_bgcolor: clear, dragmode: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
      hoverlabel: { bgcolor: colour("soft"), bordercolor: colour("rule"), font: { color: colour("ink") } },
      legend: { orientation: "h", x: 0, y: 1.03, yanchor: "bottom", itemclick: false, itemdoubleclick: false },
      margin: { l: 64, r: 16, t: 16, b: 56 },
    };
  }

  function draw(width) {
    for (const { place, figure } of charts) {
      place.querySelector("noscript")?.remove();
      const wide = width || place.clientWidth;
      const layout = themedLayout(figure, wide);
      Plotly.react(place, figure.data.map(themedTrace), layout, { displayModeBar: false });
      place.style.minHeight = `${layout.height}px`;
    }
  }

  let waiting = 0;
  window.addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => draw());
  });
  dark.addEventListener("change", () => draw());
  window.addEventListener("beforeprint", () => { root.classList.add("printing"); draw(PRINTED); });
  window.addEventListener("afterprint", () => { root.classList.remove("printing"); draw(); });
  draw();
})();
