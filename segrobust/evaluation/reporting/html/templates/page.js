"use strict";
// Controls of the page. Texts from the data go into the page as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  function element(name, properties, children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...(children || []));
    return made;
  }

  function choice(controls, label, name, options, onchange) {
    const select = element("select", { name }, options.map(([value, text]) => element("option", { value, textContent: text })));
    select.addEventListener("change", onchange);
    const box = element("label", {}, [label, select]);
    controls.append(box);
    return { select, box };
  }

  const SHAPES = {
    circle: "M4 8a4 4 0 1 0 8 0a4 4 0 1 0-8 0", square: "M4 4h8v8h-8z", diamond: "M8 3l5 5-5 5-5-5z",
    "triangle-up": "M8 3l5 9H3z", "triangle-down": "M8 13l5-9H3z", cross: "M6 3h4v3h3v4h-3v3H6v-3H3V6h3z", x: "M4 4l8 8M12 4l-8 8",
  };
  const DASHES = { solid: "", dot: "2 3", longdash: "9 3", dashdot: "6 3 2 3", longdashdot: "9 3 2 3" };

  function swatch(entry) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("width", 28);
    svg.setAttribute("height", 16);
    svg.setAttribute("aria-hidden", "true");
    const draw = (tag, attributes) => {
      const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
      Object.entries(attributes).forEach(([key, value]) => part.setAttribute(key, value));
      svg.append(part);
    };
    if (entry.dash !== undefined) {
      const width = entry.scope === "worst case" ? 3.5 : 2;
      draw("path", { d: "M0 8h28", stroke: ink(entry.color), "stroke-width": width, "stroke-dasharray": DASHES[entry.dash] });
    }
    if (SHAPES[entry.symbol]) draw("path", { d: SHAPES[entry.symbol], transform: "translate(6 0)", fill: ink(entry.color), stroke: ink(entry.color) });
    return svg;
  }

  // Boxes that show or hide curves; they are the legend too. Marks of curves that are gone are forgotten.
  function toggles(controls, onchange) {
    const box = element("div", { className: "attacks" });
    controls.append(box);
    const fill = (entries) => box.replaceChildren(...entries.map((entry) => {
      const input = element("input", { type: "checkbox", checked: !entry.off, value: entry.label });
      input.addEventListener("change", onchange);
      return element("label", {}, [input, swatch(entry), entry.label]);
    }));
    const shown = () => new Set([...box.querySelectorAll("input:checked")].map((input) => input.value));
    return { fill, shown };
  }

  function place(key) {
    const figure = document.getElementById("plot-" + key);
    if (!figure) return null;
    const canvas = figure.querySelector(".canvas");
    canvas.replaceChildren();
    return { controls: figure.querySelector(".controls"), canvas };
  }

  const draw = (canvas, traces, look) => Plotly.react(canvas, traces, look, CONFIG);
  const redraw = []; // each plot, in the colours that the page has by then

  function normChoice(controls, norms, onchange) {
    const { select, box } = choice(controls, "norm", "norm", norms.map((n, i) => [i, n.label]), onchange);
    box.hidden = norms.length < 2;
    return () => norms[Number(select.value)];
  }

  function scores() {
    const at = place("scores");
    if (!at) return;
    const norms = data.norms.filter((n) => n.curves.length);
    const norm = normChoice(at.controls, norms, () => { boxes.fill(norm().curves); show(); });
    const metric = choice(at.controls, "score", "metric", Object.entries(data.metrics), () => show());
    const one = choice(at.controls, "class", "class", data.classes.map((name, i) => [i, name]), () => show());
    const boxes = toggles(at.controls, () => show());
    function show() {
      const name = metric.select.value, index = Number(one.select.value);
      one.box.hidden = name !== "iou";
      const title = name === "iou" ? "IoU of " + data.classes[index] : data.metrics[name];
      draw(at.canvas, scoreTraces(norm(), boxes.shown(), name, index), scoreLayout(norm(), title));
    }
    boxes.fill(norm().curves);
    show();
    redraw.push(show);
  }

  function norms() {
    const at = place("norms");
    if (!at) return;
    const found = data.norms.filter((n) => n.steps.length);
    const norm = normChoice(at.controls, found, () => { fill(); show(); });
    const boxes = toggles(at.controls, () => show());
    const fill = () => boxes.fill([...norm().steps, ...norm().points]);
    const show = () => draw(at.canvas, normTraces(norm(), boxes.shown()), normLayout(norm()));
    fill();
    show();
    redraw.push(show);
  }

  function classes() {
    const at = place("classes");
    if (!at) return;
    const curves = data.norms.flatMap((n) => [...n.best, ...n.curves].map((c) => ({ norm: n, curve: c })));
    const attack = choice(at.controls, "attack", "attack", curves.map((e, i) => [i, e.curve.label]), () => { fill(); show(); });
    const eps = choice(at.controls, "eps", "eps", [], () => show());
    function fill() {
      const { norm, curve } = curves[Number(attack.select.value)];
      eps.select.replaceChildren(...curve.x.map((x, i) => element("option", { value: i, textContent: lengthText(norm, x) })).slice(1));
      const usual = curve.x.findIndex((x) => Math.abs(x - 4) < 1e-3);
      eps.select.value = norm.name === "linf" && usual > 0 ? usual : curve.x.length - 1;
    }
    function show() {
      const { norm, curve } = curves[Number(attack.select.value)];
      const traces = classTraces(norm, curve, Number(eps.select.value), data.classes);
      draw(at.canvas, traces, classLayout(traces[1].y.length));
    }
    fill();
    show();
    redraw.push(show);
  }

  function sortable(table) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = element("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        const key = (row) => row.cells[column].dataset.sort;
        const text = (row) => row.cells[column].textContent;
        const rows = [...body.rows].sort((a, b) => {
          if (!key(a) || !key(b)) return key(a) || key(b) ? (key(a) ? -1 : 1) : (down ? 1 : -1) * text(a).localeCompare(text(b));
          return (down ? -1 : 1) * (number(key(a)) - number(key(b)) || 0);
        });
        [...table.tHead.rows[0].cells].forEach((cell) => cell.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...rows);
      });
    });
  }
  const number = (text) => (text === "inf" ? Infinity : Number(text));

  function panels() {
    const show = (job) => document.querySelectorAll(".panel").forEach((panel) => { panel.hidden = panel.dataset.job !== job; });
    document.querySelectorAll("input[name=job]").forEach((input) => {
      input.addEventListener("change", () => show(input.value));
      if (input.checked) show(input.value);
    });
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
  panels();
  scores();
  norms();
  classes();
  const colors = ["(prefers-color-scheme: dark)", "print"].map((query) => matchMedia(query));
  colors.forEach((query) => query.addEventListener("change", () => redraw.forEach((show) => show())));
})();
