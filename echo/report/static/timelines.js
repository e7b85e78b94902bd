"use strict";
// Long recordings: what of each is kept, rejected and unlabelled, played from where one points.
const timelines = (() => {
  const LEAST = 1 / 400; // of the width: so much of a short part is seen
  const STATES = { kept: "--good", rejected: "--warn" }; // the rest is unlabelled
  const data = document.getElementById("timelines-data");
  if (!data) return [];
  const recordings = JSON.parse(data.textContent);
  const box = document.getElementById("timelines");

  // A length as people say it: "12.3 s", "4.5 min", "1.2 h"
  const said = (seconds) =>
    seconds < 60 ? `${seconds.toFixed(1)} s` : seconds < 3600 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(2)} h`;

  // Spans of time as an image for the background.
  function band(spans, seconds, colour) {
    const at = (time) => `${((100 * time) / seconds).toFixed(2)}%`;
    const stops = spans.flatMap(([start, end]) => {
      const seen = Math.max(end, start + LEAST * seconds);
      return [`transparent ${at(start)}`, `var(${colour}) ${at(start)} ${at(seen)}`, `transparent ${at(seen)}`];
    });
    return `linear-gradient(to right, ${["transparent 0%", ...stops, "transparent 100%"].join(", ")})`;
  }

  recordings.forEach((recording, i) => {
    const row = { ...recording, number: `r${i}` };
    const [made, top] = player.article(row);
    const times = Object.entries(recording.times).map(([state, seconds]) => `${said(seconds)} ${state}`);
    top.append(...[said(recording.seconds), ...times].map((fact) => element("span", "", fact)));
    const find = element("button", "find", "Show its rows");
    find.type = "button";
    Object.assign(find.dataset, { by: "recording", value: i });
    top.append(find);
    const line = made.querySelector(".mel") ?? made.appendChild(element("div", "mel"));
    line.classList.add("timeline");
    line.style.width = "100%";
    // What is rejected is half as high, so that it differs not by colour alone.
    line.style.backgroundImage = Object.entries(STATES).reverse()
      .map(([state, colour]) => band(recording.spans[state], recording.seconds, colour)).join(", ");
    if (player.has(row)) line.addEventListener("click", () => player.play(row));
    box.append(made);
  });
  return recordings;
})();
