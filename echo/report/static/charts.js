"use strict";
// Draws curves: one colour and dash for each group, a line for each training.
(() => {
  const { HEIGHT, css, plain, axes, legend } = plots;
  const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [4, 2], [12, 4], [1, 2]];

  // All lines over the same x, null where a line has no point.
  const joined = (chart, axis) => uPlot.join(chart.curves.map((curve) => [curve[axis], curve.values]));

  // The point of a line that is nearest to the cursor, since lines do not share their seconds.
  function nearest(plot, series, index, x) {
    const values = plot.data[series];
    if (values[index] != null) return index;
    let [left, right] = [index, index];
    while (left >= 0 && values[left] == null) left--;
    while (right < values.length && values[right] == null) right++;
    if (left < 0) return right < values.length ? right : index;
    if (right >= values.length) return left;
    return x - plot.data[0][left] < plot.data[0][right] - x ? left : right;
  }

  function draw(chart, axis, place) {
    const seriesOf = (curve) => ({
      label: curve.name,
      stroke: () => css(`--m${curve.group % 7}`),
      width: 1.7,
      dash: DASHES[curve.group % DASHES.length],
      spanGaps: true,
      points: { show: curve.values.length < 40, size: 5 },
      value: (_, value) => plain(value ?? curve.values.at(-1)), // the last, if nothing is pointed at
    });
    return new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        scales: { x: { time: false }, y: chart.log ? { distr: 3 } : {} },
        axes,
        series: [
          { label: axis === "steps" ? "step" : "seconds", value: (_, value) => (value == null ? "last" : plain(value)) },
          ...chart.curves.map(seriesOf),
        ],
        cursor: { dataIdx: nearest, focus: { prox: 24 }, points: { size: 7 } },
        focus: { alpha: 0.25 },
        legend,
      },
      joined(chart, axis),
      place,
    );
  }

  for (const group of document.querySelectorAll(".charts[data-charts]")) {
    const charts = JSON.parse(document.getElementById(group.dataset.charts).textContent);
    const places = [...group.querySelectorAll(".plot")];
    const choice = document.querySelector(`[data-axis="${group.id}"]`);
    const axis = () => choice.querySelector("input:checked").value;
    let drawn = [];
    const redraw = plots.keep(group, () => (drawn = charts.map((chart, i) => draw(chart, axis(), places[i]))));
    choice.addEventListener("change", redraw);
    group.querySelectorAll(".chart").forEach((chart, i) => {
      for (const button of chart.querySelectorAll(".save")) {
        button.addEventListener("click", () => pictures.save(drawn[i], chart.querySelector("b").textContent, button.dataset.kind));
      }
    });
  }
})();
