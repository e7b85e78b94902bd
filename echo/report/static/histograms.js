"use strict";
// Draws histograms.
(() => {
  // Steps of an axis of counts, which has no halves.
  const STEPS = Array.from({ length: 24 }, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3));
  const { HEIGHT, css, plain, axes, legend } = plots;

  function draw({ start, width, counts, unit }, place) {
    const middles = counts.map((_, i) => start + (i + 0.5) * width);
    const range = (middle) => (middle == null ? "–" : `${plain(middle - width / 2)} to ${plain(middle + width / 2)}`);
    return new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        scales: { x: { time: false, range: [start, start + counts.length * width] }, y: { range: (_, __, most) => [0, 1.05 * most] } },
        axes: [axes[0], { ...axes[1], incrs: STEPS }],
        series: [
          { label: unit, value: (_, value) => range(value) },
          {
            label: "count",
            stroke: () => css("--m0"),
            fill: () => css("--m0"),
            paths: uPlot.paths.bars({ size: [1, Infinity], gap: 1 }),
            points: { show: false },
            value: (_, value, __, i) => (i == null ? "–" : (value ?? 0).toLocaleString("en")),
          },
        ],
        cursor: { points: { show: false }, y: false, drag: { x: false } },
        legend,
      },
      [middles, counts.map((count) => count || null)], // an empty bin has no bar at all
      place,
    );
  }

  const group = document.getElementById("histograms");
  const all = JSON.parse(document.getElementById("histograms-data").textContent);
  const places = [...group.querySelectorAll(".plot")];
  plots.keep(group, () => all.map((one, i) => draw(one, places[i])));
})();
