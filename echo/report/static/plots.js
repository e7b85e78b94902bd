"use strict";
// What all plots share: how they are drawn in the page's colours, and when they are drawn anew.
const plots = (() => {
  const HEIGHT = 260;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = (value) => (value == null ? "–" : Number(value.toPrecision(3)).toLocaleString("en"));

  const line = { stroke: () => css("--soft"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { stroke: () => css("--line"), width: 1 } };
  const axes = [
    { ...line, values: (_, ticks) => ticks.map(plain) },
    { ...line, size: 56, values: (_, ticks) => ticks.map((tick) => (tick == null ? null : plain(tick))) },
  ];
  const legend = { live: true, markers: { width: 0, fill: (plot, i) => plot.series[i].stroke(plot, i) } };

  // Keeps a group's plots as wide as their places, and in the colours of screen or paper.
  //   drawAll: draws them, and returns them in the order of their places
  // Returns what draws them anew.
  function keep(group, drawAll) {
    let drawn = [];
    const redraw = () => {
      drawn.forEach((plot) => plot.destroy());
      drawn = drawAll();
    };
    for (const query of ["(prefers-color-scheme: dark)", "print"]) {
      matchMedia(query).addEventListener("change", redraw);
    }
    new ResizeObserver(() => {
      for (const plot of drawn) {
        const width = plot.root.parentElement.clientWidth;
        if (width && width !== plot.width) plot.setSize({ width, height: HEIGHT });
      }
    }).observe(group);
    redraw();
    return redraw;
  }

  return { HEIGHT, css, plain, axes, legend, keep };
})();
