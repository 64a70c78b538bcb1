"use strict";
// Traces and layouts of plotly, from the numbers and the colours of the page. The page itself is not touched.
const FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
const pageColor = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
// The worst case is black on white, and must be seen on a dark page too.
const ink = (color) => (color === "#000000" ? pageColor("ink") : color);
const CONFIG = {
  displaylogo: false, responsive: true, showSendToCloud: false, showEditInChartStudio: false, plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};

// A radius or norm, with the sensor's units behind it where the data state a range.
function lengthText(norm, x) {
  const units = norm.per.map((width) => Number((width * x).toPrecision(3))).join(" to ");
  return `${Number(x.toFixed(3))}${norm.unit}${units && ` = ${units}`}`;
}

function layout(xTitle, yTitle, extra) {
  const font = { family: FAMILY, size: 13, color: pageColor("ink") };
  const axis = { gridcolor: pageColor("grid"), linecolor: pageColor("edge"), zeroline: false, automargin: true, fixedrange: true };
  const base = {
    font, height: 400, margin: { l: 52, r: 14, t: 12, b: 48 }, paper_bgcolor: pageColor("page"), plot_bgcolor: pageColor("page"),
    showlegend: false, hovermode: "closest", hoverlabel: { font, bgcolor: pageColor("page"), bordercolor: pageColor("edge") },
    dragmode: false, xaxis: { ...axis, title: { text: xTitle } }, yaxis: { ...axis, title: { text: yTitle }, range: [0, 103] },
  };
  for (const [key, value] of Object.entries(extra || {})) {
    base[key] = typeof value === "object" && !Array.isArray(value) ? { ...base[key], ...value } : value;
  }
  return base;
}

// Text that plotly shows as it is: it reads a few HTML tags in texts otherwise.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const faded = (color) => color + "22";

function scoreTraces(norm, shown, metric, classIndex) {
  const traces = [];
  const curves = norm.curves.filter((c) => shown.has(c.label));
  const banded = curves.some((c) => c.scope === "worst case") ? "worst case" : "attack"; // many bands hide each other
  curves.forEach((c) => {
    const y = metric === "iou" ? c.iou.map((row) => row[classIndex]) : c.values[metric];
    const band = c.bands[metric];
    if (band && c.scope === banded && band.every((b) => b[0] !== null)) {
      traces.push({
        x: c.x.concat(c.x.slice().reverse()), y: band.map((b) => b[1]).concat(band.map((b) => b[0]).reverse()),
        fill: "toself", fillcolor: faded(ink(c.color)), line: { width: 0 }, mode: "lines", hoverinfo: "skip", meta: "band",
      });
    }
    const width = c.scope === "worst case" ? 3.5 : c.scope === "by-product" ? 1.6 : 2.2;
    traces.push({
      x: c.x, y, name: plain(c.label), mode: "lines+markers", line: { color: ink(c.color), dash: c.dash, width },
      marker: { color: ink(c.color), symbol: c.symbol, size: 8 },
      customdata: c.x.map((x, i) => [c.images[i], band && band[i][0] !== null ? `<br>95 % band ${band[i][0].toFixed(1)} to ${band[i][1].toFixed(1)} %` : ""]),
      text: c.x.map((x) => lengthText(norm, x)),
      hovertemplate: `<b>%{fullData.name}</b><br>eps %{text}: %{y:.1f} %%{customdata[1]}<br>%{customdata[0]} images<extra></extra>`,
    });
  });
  return traces;
}

function scoreLayout(norm, title) {
  return layout(norm.axis, plain(title) + ", %", { xaxis: { rangemode: "tozero" } });
}

function normTraces(norm, shown) {
  const all = norm.steps.flatMap((s) => s.x).concat(norm.points.flatMap((p) => p.x)).filter((x) => x > 0);
  const low = Math.min(...all) * 0.7, high = Math.max(...all) * 1.4;
  const lines = norm.steps.filter((s) => shown.has(s.label)).map((s) => {
    const first = s.x.filter((x) => x <= low).length;
    const start = first ? s.y[first - 1] : 0, last = s.y.length ? s.y[s.y.length - 1] : 0;
    return {
      x: [low, ...s.x.slice(first), high], y: [start, ...s.y.slice(first), last], name: plain(s.label), mode: "lines",
      line: { shape: "hv", color: ink(s.color), dash: s.dash, width: s.scope === "worst case" ? 3.5 : 2.4 },
      text: s.x.map((x) => lengthText(norm, x)),
      hovertemplate: `<b>%{fullData.name}</b><br>ASR at eps %{text}: %{y:.1f} %<br>${s.failed} of ${s.num} images not broken<extra></extra>`,
    };
  });
  const dots = norm.points.filter((p) => shown.has(p.label)).map((p) => ({
    x: p.x, y: p.y, name: plain(p.label), mode: "markers", marker: { color: p.color, symbol: p.symbol, size: 10 }, cliponaxis: false,
    text: p.x.map((x) => lengthText(norm, x)),
    hovertemplate: `<b>%{fullData.name}</b><br>ASR at eps %{text}: %{y:.1f} %<extra></extra>`,
  }));
  return lines.concat(dots);
}

function normLayout(norm) {
  const all = norm.steps.flatMap((s) => s.x).concat(norm.points.flatMap((p) => p.x)).filter((x) => x > 0);
  const ticks = [];
  for (let k = -8; k < 14; k += 1) ticks.push(2 ** k);
  return layout(norm.axis, "images broken within eps, %", {
    xaxis: {
      type: "log", tickvals: ticks, ticktext: ticks.map((t) => (t < 1 ? `1/${1 / t}` : String(t))),
      range: [Math.log10(Math.min(...all) * 0.7), Math.log10(Math.max(...all) * 1.4)],
    },
  });
}

// One row per class, from the clean score to the score under attack, the largest drop on top.
function classTraces(norm, curve, epsIndex, classes) {
  const rows = classes.map((name, i) => ({ name: plain(name), clean: curve.iou[0][i], left: curve.iou[epsIndex][i] }))
    .filter((row) => row.clean !== null && row.left !== null).sort((a, b) => (a.clean - a.left) - (b.clean - b.left));
  const names = rows.map((row) => row.name);
  const gaps = { x: [], y: [] };
  rows.forEach((row) => { gaps.x.push(row.clean, row.left, null); gaps.y.push(row.name, row.name, null); });
  const dots = (key, label, color, symbol) => ({
    x: rows.map((row) => row[key]), y: names, name: label, mode: "markers", marker: { color, symbol, size: 11 }, cliponaxis: false,
    hovertemplate: `<b>%{y}</b><br>${label}: %{x:.1f} %<extra></extra>`,
  });
  return [
    { ...gaps, mode: "lines", line: { color: pageColor("edge"), width: 3 }, hoverinfo: "skip", showlegend: false },
    dots("left", `eps ${lengthText(norm, curve.x[epsIndex])}`, "#D55E00", "square"), dots("clean", "clean", "#0072B2", "circle"),
  ];
}

function classLayout(count) {
  return layout("IoU, %", "", {
    height: 110 + 24 * Math.max(count, 3), showlegend: true, legend: { bgcolor: "rgba(0, 0, 0, 0)", orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, margin: { l: 10, r: 14, t: 34, b: 48 },
    xaxis: { range: [-2, 102] }, yaxis: { type: "category", range: [-0.6, count - 0.4], title: { text: "" } },
  });
}
