"use strict";
// Texts of users and models reach the page as text nodes only: `make` is the one way in which it is changed.
(async () => {
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const data = read("t2s-data"), f = data.features, n = f.id.length, PAGE = 20;
  await Bokeh.embed.embed_item(read("t2s-map"), "map");
  const plot = Bokeh.documents[0].get_model_by_name("map");
  const layer = (name) => plot.renderers.find((r) => r.name === name);
  data.shapes.forEach((columns, i) => { layer(`query-${i}`).data_source.data = columns; });
  if (data.truth) layer("truth").data_source.data = data.truth;
  const holder = byId("map"), detail = byId("detail"), tip = byId("tip");

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") element.addEventListener(...value);
      else if (name === "style") Object.assign(element.style, value);
      else element.setAttribute(name, value);
    }
    element.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
    return element;
  }
  const swatch = (colour, dash) => make("span", { class: "swatch", "aria-hidden": "true",
    style: { background: colour + "66", border: `2px ${dash === "dotdash" ? "dashed" : dash || "solid"} ${colour}` } });
  const queryOf = (row) => data.queries[f.query[row]];
  const area = (m2) => m2 >= 1e6 ? `${Number((m2 / 1e6).toPrecision(3)).toLocaleString("en")} km²`
    : m2 >= 10 ? `${Math.round(m2).toLocaleString("en")} m²` : `${Number(m2.toPrecision(2))} m²`;

  // The view: one unit is as long to the right as it is up, whatever the shape of the map on the page.
  let view = data.view, asShown = [];
  // Scenes that are too small to be seen are dots.
  const widest = Math.max(...data.scenes.map((s) => Math.max(s.box[2] - s.box[0], s.box[3] - s.box[1])));
  const dots = () => { layer("middles").visible = widest / (plot.x_range.end - plot.x_range.start) * holder.clientWidth < 20; };
  plot.connect(plot.x_range.change, dots);
  function show(box) {
    view = box;
    const width = holder.clientWidth || 1, height = holder.clientHeight || 1;
    const x = (box[0] + box[2]) / 2, y = (box[1] + box[3]) / 2;
    const unit = Math.max((box[2] - box[0]) / width, (box[3] - box[1]) / height, 1e-9) / 2;
    plot.x_range.setv({ start: x - unit * width, end: x + unit * width });
    plot.y_range.setv({ start: y - unit * height, end: y + unit * height });
    asShown = current();
    dots();
  }
  const current = () => [plot.x_range.start, plot.y_range.start, plot.x_range.end, plot.y_range.end];
  function change(factor, right = 0, up = 0) {
    const [x0, y0, x1, y1] = current(), w = x1 - x0, h = y1 - y0;
    const x = (x0 + x1) / 2 + right * w, y = (y0 + y1) / 2 + up * h;
    show([x - w * factor / 2, y - h * factor / 2, x + w * factor / 2, y + h * factor / 2]);
  }
  const grown = (box, share, least) => {
    const more = Math.max((box[2] - box[0]) * share, (box[3] - box[1]) * share, least);
    return [box[0] - more, box[1] - more, box[2] + more, box[3] + more];
  };
  // Paper cannot wait for a map that is drawn anew, so there it keeps its pixels and is shrunk to 17 cm.
  const PAPER_PX = 17 / 2.54 * 96, onPaper = window.matchMedia("print");
  function measure() {
    const width = holder.clientWidth, height = holder.clientHeight;
    for (const [name, value] of [["width", `${width}px`], ["height", `${height}px`], ["shrink", Math.min(1, PAPER_PX / width)]])
      holder.parentElement.style.setProperty(`--${name}`, value);
  }
  new ResizeObserver(() => { // a map of another shape shows the same middle at the same scale up and down
    if (onPaper.matches) return;
    measure();
    const now = current(), x = (now[0] + now[2]) / 2;
    show(now.every((edge, i) => edge === asShown[i]) ? view : [x, now[1], x, now[3]]);
  }).observe(holder);
  const steps = { ArrowLeft: [1, -.2, 0], ArrowRight: [1, .2, 0], ArrowUp: [1, 0, .2], ArrowDown: [1, 0, -.2],
    "+": [.6], "=": [.6], "-": [1 / .6] };
  holder.addEventListener("keydown", (event) => {
    if (event.key === "Home") show(data.all);
    else if (event.key === "Escape") select(null);
    else if (steps[event.key] && !event.ctrlKey && !event.metaKey) change(...steps[event.key]);
    else return;
    event.preventDefault();
  });
  const zooms = { in: () => change(.6), out: () => change(1 / .6), all: () => show(data.all) };
  for (const button of document.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", zooms[button.dataset.zoom]);
  const scene = byId("scene");
  scene.append(make("option", { value: "" }, `choose one of ${data.scenes.length}`));
  data.scenes.forEach((s, i) => scene.append(make("option", { value: i }, `${s.id} (${s.n})`)));
  scene.addEventListener("change", () => { if (scene.value) show(grown(data.scenes[scene.value].box, .03, 0)); });

  // Layers: the legend is the switch.
  const legend = byId("layers");
  function addLayer(names, swatches, text, count, checked) {
    const box = make("input", { type: "checkbox", "data-layer": names[0] });
    box.checked = checked;
    box.addEventListener("change", () => names.map(layer).forEach((l) => { if (l) l.visible = box.checked; }));
    legend.append(make("label", {}, box, ...swatches, make("b", { title: text }, text), make("span", {}, count)));
  }
  if (!data.preview) data.queries.forEach((q, i) => addLayer([`query-${i}`], [swatch(q.colour, q.dash)], q.text, q.n.toLocaleString("en"), true));
  if (data.queries.length > 1 && !data.preview) {
    const boxes = () => legend.querySelectorAll("[data-layer^=query-]");
    const all = (on) => () => boxes().forEach((b) => { if (b.checked !== on) b.click(); });
    legend.append(make("div", { class: "tools" }, make("button", { type: "button", on: ["click", all(true)] }, "All queries"),
      make("button", { type: "button", on: ["click", all(false)] }, "None")));
  }
  if (!data.preview) legend.append(make("hr", {}));
  if (data.truth) addLayer(["truth", "truth_under"], [swatch("#000000", "dashed")], "truth, as drawn", "", true);
  if (!data.preview) addLayer(["failed"], [swatch("#d55e00")], "failed tiles", data.tiles.n_failed.toLocaleString("en"), true);
  addLayer(["tiles"], [swatch(data.preview ? "#56b4e9" : "#009e73")], data.preview ? "tiles" : "all other tiles, by what came of them", "", Boolean(data.preview));
  layer("tiles").visible = Boolean(data.preview);
  const colours = new Map();
  for (const name of ["tiles", "failed"]) {
    const source = layer(name).data_source;
    Array.from(source.get("row")).forEach((row, i) => colours.set(data.tiles.status[row], source.get("colour")[i]));
  }
  if (!data.preview) legend.append(make("div", { class: "key" }, ...[...colours].map(([status, colour]) =>
    make("span", {}, swatch(colour), status.replace("_", " ")))));
  addLayer(["pictures"], [swatch("#888888")], "pictures of the scenes", "", true);

  // What is selected.
  const fill = (name, columns) => { layer(name).data_source.data = columns; };
  const clear = () => { ["selected", "selected_under", "boxes"].forEach((name) => fill(name, { xs: [], ys: [] }));
    ["points", "points_under"].forEach((name) => fill(name, { x: [], y: [] })); };
  let selected = null;
  function select(row, move) {
    selected = row;
    clear();
    document.querySelectorAll(".card[aria-current]").forEach((card) => card.removeAttribute("aria-current"));
    if (row === null) { detail.replaceChildren(make("p", { class: "soft" }, "Nothing is selected.")); rows(); return; }
    const source = layer(`query-${f.query[row]}`).data_source;
    const place = Array.from(source.get("row")).indexOf(row);
    const shape = { xs: [source.get("xs")[place]], ys: [source.get("ys")[place]] };
    fill("selected_under", shape); fill("selected", shape);
    const boxes = f.prompts[row].map((i) => data.prompts.boxes[i]), points = f.prompts[row].flatMap((i) => data.prompts.points[i]);
    const even = (list) => list.filter((_, i) => i % 2 === 0), odd = (list) => list.filter((_, i) => i % 2 === 1);
    fill("boxes", { xs: boxes.map(even), ys: boxes.map(odd) });
    ["points_under", "points"].forEach((name) => fill(name, { x: even(points), y: odd(points) }));
    describe(row, boxes.length, points.length / 2);
    if (move) show(grown(f.box[row], 1.5, 12 * unitOf(row)));
    document.querySelectorAll(`.card[data-row="${row}"]`).forEach((card) => card.setAttribute("aria-current", "true"));
    turnTo(row);
  }
  const unitOf = (row) => { const b = data.scenes[f.scene[row]].box; return Math.max(b[2] - b[0], b[3] - b[1]) / 800; };
  function describe(row, nBoxes, nPoints) {
    const q = queryOf(row), why = f.texts[f.why[row]], [lon, lat] = f.at[row];
    const facts = [["score", f.score[row].toFixed(2)], ["area", area(f.area[row])], ["scene", data.scenes[f.scene[row]].id],
      ["seen by", `${f.tiles[row]} tile${f.tiles[row] === 1 ? "" : "s"}${f.edge[row] ? ", touches the scene's edge" : ""}`],
      ["at", `${lon}, ${lat}`], ["feature", f.id[row]],
      ["prompts", nBoxes ? `${nBoxes} box${nBoxes === 1 ? "" : "es"}, ${nPoints} point${nPoints === 1 ? "" : "s"} that touch it or lie nearest (dashed, and crosses)` : "not in this page"]];
    detail.replaceChildren(
      make("h3", {}, swatch(q.colour, q.dash), q.text),
      make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
      make("blockquote", {}, why || "The model gave no reasoning."),
      make("p", { class: "soft" }, "More: ", make("code", {}, `t2s explain ${data.out} --feature ${f.id[row]}`)),
      make("div", { class: "tools" }, make("button", { type: "button", on: ["click", () => step(-1)] }, "Previous"),
        make("button", { type: "button", on: ["click", () => step(1)] }, "Next"),
        make("button", { type: "button", on: ["click", () => select(null)] }, "Close")));
  }
  function describeTile(row) {
    const why = data.tiles.why[row];
    detail.replaceChildren(make("h3", {}, `Tile ${data.tiles.tile[row]}`), make("p", {}, data.tiles.status[row].replace("_", " ")),
      ...(why.length ? [make("blockquote", {}, why.join("\n"))] : []));
  }
  const tappable = [...data.queries.map((_, i) => `query-${i}`), "tiles", "failed"];
  let hovered = null;
  for (const name of tappable) {
    const source = layer(name).data_source, isTile = !name.startsWith("query-");
    source.connect(source.selected.change, () => {
      if (!source.selected.indices.length) return;
      const row = source.get("row")[source.selected.indices.at(-1)];
      if (!isTile) select(row, false);
      else if (!tappable.some((t) => t.startsWith("query-") && layer(t).data_source.selected.indices.length)) describeTile(row);
    });
    source.connect(source.inspect, () => {
      const at = source.inspected.indices.at(-1);
      if (at === undefined) { if (hovered === name) { hovered = null; tip.hidden = true; } return; }
      if (isTile && hovered && hovered.startsWith("query-")) return;
      hovered = name;
      const row = source.get("row")[at];
      tip.replaceChildren(...(isTile
        ? [make("b", {}, data.tiles.status[row].replace("_", " ")), make("div", {}, data.tiles.tile[row])]
        : [make("b", {}, queryOf(row).text), make("div", {}, `score ${f.score[row].toFixed(2)}, ${area(f.area[row])}`)]));
      tip.hidden = false;
    });
  }
  holder.addEventListener("mousemove", (event) => {
    const box = holder.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    Object.assign(tip.style, x > box.width / 2 ? { left: "", right: `${box.width - x + 14}px` } : { left: `${x + 14}px`, right: "" },
      { top: `${y + 12}px` });
  });
  holder.addEventListener("mouseleave", () => { tip.hidden = true; hovered = null; });

  // The table: everything on the map, without a mouse.
  const filter = byId("filter"), order = byId("order"), body = document.querySelector("#rows tbody");
  filter.append(make("option", { value: "" }, "all"));
  data.queries.forEach((q, i) => filter.append(make("option", { value: i }, `${q.text} (${q.n})`)));
  let listed = [], first = 0;
  function list() {
    const name = order.value.replace("-", ""), sign = order.value.startsWith("-") ? -1 : 1;
    listed = [...Array(n).keys()].filter((row) => filter.value === "" || f.query[row] === Number(filter.value))
      .sort((a, b) => sign * (f[name][a] - f[name][b]) || a - b);
    first = 0;
    rows();
  }
  function rows() {
    body.replaceChildren(...listed.slice(first, first + PAGE).map((row) => make("tr", { "aria-selected": String(row === selected) },
      make("td", {}, make("button", { type: "button", "data-row": row, on: ["click", () => { select(row, true); byId("where").scrollIntoView(); }] }, f.id[row].slice(0, 8))),
      make("td", {}, swatch(queryOf(row).colour, queryOf(row).dash), make("span", { class: "asked", title: queryOf(row).text }, queryOf(row).text)), make("td", {}, data.scenes[f.scene[row]].id),
      make("td", { class: "n" }, f.score[row].toFixed(2)), make("td", { class: "n" }, area(f.area[row])),
      make("td", {}, f.texts[f.why[row]].slice(0, 160)))));
    byId("range").replaceChildren(listed.length ? `${first + 1} to ${Math.min(first + PAGE, listed.length)} of ${listed.length}` : "none");
    byId("previous").disabled = first === 0;
    byId("next").disabled = first + PAGE >= listed.length;
  }
  function turnTo(row) {
    const place = listed.indexOf(row);
    if (place >= 0) first = place - place % PAGE;
    rows();
  }
  function step(by) {
    const place = listed.indexOf(selected);
    if (listed.length) select(listed[(Math.max(place, by > 0 ? -1 : 0) + by + listed.length) % listed.length], true);
  }
  filter.addEventListener("change", list);
  order.addEventListener("change", list);
  byId("previous").addEventListener("click", () => { first -= PAGE; rows(); });
  byId("next").addEventListener("click", () => { first += PAGE; rows(); });
  for (const card of document.querySelectorAll(".card"))
    card.addEventListener("click", () => { select(Number(card.dataset.row), true); byId("where").scrollIntoView(); });
  const copy = byId("copy");
  if (copy) copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId("command").textContent);
    copy.replaceChildren("Copied");
  });
  list();
  if (data.preview) { // nothing was found yet, so there is nothing to choose from
    byId("features").remove();
    document.querySelector(".skip").remove();
    detail.replaceChildren(make("p", { class: "soft" }, "Each tile is asked every query. Point at one to read its name: scene, level, row, column."));
  }
  show(data.view);
  document.documentElement.dataset.ready = "yes";
})();
