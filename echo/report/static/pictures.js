"use strict";
// Saves a chart as a picture: as SVG, drawn from what the plot shows, or as PNG made of that.
const pictures = (() => {
  const NAMESPACE = "http://www.w3.org/2000/svg";
  const [ROW, COLUMN, SHARPNESS] = [20, 260, 2]; // of the legend in px; PNG's pixels per px

  function svg(plot, title) {
    const { css } = plots;
    const make = (name, attributes, text = "") => {
      const made = document.createElementNS(NAMESPACE, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      made.textContent = text;
      return made;
    };
    const { offsetLeft: left, offsetTop, clientWidth: wide, clientHeight: high } = plot.over;
    const top = offsetTop + ROW;
    const curves = plot.series.slice(1).map((series, i) => ({ ...series, values: plot.data[i + 1], color: series.stroke(plot, i + 1) }));
    const columns = Math.max(1, Math.floor(plot.width / COLUMN));
    const height = plot.height + ROW * (1.5 + Math.ceil(curves.length / columns));
    const picture = make("svg", { xmlns: NAMESPACE, width: plot.width, height, viewBox: `0 0 ${plot.width} ${height}`, "font-family": "sans-serif", "font-size": 12, fill: css("--text") });
    const add = (...details) => picture.append(make(...details));
    add("rect", { width: "100%", height: "100%", fill: css("--card") });
    add("text", { x: left, y: ROW, "font-weight": "bold" }, title);
    add("text", { x: left + wide, y: top + high + 2 * ROW, "text-anchor": "end" }, plot.series[0].label);

    const [x, y] = [(value) => left + plot.valToPos(value, "x"), (value) => top + plot.valToPos(value, "y")];
    const ticks = ({ _splits, _values }) => _splits.map((split, i) => [split, _values[i]]).filter(([, label]) => label);
    for (const [value, label] of ticks(plot.axes[0])) {
      add("path", { d: `M${x(value)} ${top}v${high}`, stroke: css("--line") });
      add("text", { x: x(value), y: top + high + ROW, "text-anchor": "middle" }, label);
    }
    for (const [value, label] of ticks(plot.axes[1])) {
      add("path", { d: `M${left} ${y(value)}h${wide}`, stroke: css("--line") });
      add("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, label);
    }
    curves.forEach(({ label, values, color, dash, show }, i) => {
      const line = { fill: "none", stroke: color, "stroke-width": 1.7, "stroke-dasharray": dash.join(" ") };
      const [low, high] = [plot.scales.x.min, plot.scales.x.max];
      const points = [...values.keys()].filter((j) => values[j] != null && plot.data[0][j] >= low && plot.data[0][j] <= high);
      if (show && points.length) add("path", { ...line, d: `M${points.map((j) => `${x(plot.data[0][j])} ${y(values[j])}`).join("L")}` });
      const [across, down] = [left + (i % columns) * COLUMN, plot.height + ROW * (1.5 + Math.floor(i / columns))];
      add("path", { ...line, d: `M${across} ${down - 4}h24` });
      add("text", { x: across + 30, y: down }, label);
    });
    return picture;
  }

  // kind: "svg" or "png"
  async function save(plot, title, kind) {
    const picture = svg(plot, title);
    const name = `${title.split(",")[0].toLowerCase().replace(/[^a-z0-9]+/g, "-")}.${kind}`;
    const text = new XMLSerializer().serializeToString(picture);
    if (kind === "svg") return download(new Blob([text], { type: "image/svg+xml" }), name);
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [SHARPNESS * image.width, SHARPNESS * image.height];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => download(blob, name));
  }

  return { save };
})();
