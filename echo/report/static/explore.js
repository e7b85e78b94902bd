"use strict";
// The rows of a data set, each with its sound, its text and what is wrong with it.
(() => {
  const { rows, order } = JSON.parse(document.getElementById("utterances-data").textContent);
  rows.forEach((row, number) => { row.number = number; });
  const rank = new Map(order.map((number, i) => [number, i]));
  const isFlawed = (row) => row.flaws.length > 0;

  const text = ({ id, speaker, text, flaws }) => [id, speaker ?? "", text ?? "", ...flaws.flat()].join("\n");

  const filters = [
    ["all rows", () => true],
    ...(rows.some(isFlawed) ? [["with problems", isFlawed], ["without problems", (row) => !isFlawed(row)]] : []),
    ...(rows.some(player.has) ? [["with sound", player.has]] : []),
  ];

  // A comparison that puts rows without the value last.
  const up = (key) => (a, b) => (a[key] ?? Infinity) - (b[key] ?? Infinity);
  const down = (key) => (a, b) => (b[key] ?? -Infinity) - (a[key] ?? -Infinity);
  const first = [rows.some(isFlawed) && "problems", rows.some((row) => row.speaker) && "speakers in turn"];
  const sorts = [
    [first.filter(Boolean).join(", then ") || "as read", (a, b) => rank.get(a.number) - rank.get(b.number)],
    ["longest", down("seconds")],
    ["shortest", up("seconds")],
    ["fastest speech", down("speed")],
    ["slowest speech", up("speed")],
    ["order of the data", (a, b) => a.number - b.number],
  ];

  function render(row) {
    const [made, top] = player.article(row);
    const facts = [
      row.seconds != null && `${row.seconds.toFixed(1)} s`,
      row.speaker,
      row.speed != null && `${row.speed.toFixed(1)} characters/s`,
    ];
    top.append(...facts.filter(Boolean).map((fact) => element("span", "", fact)));
    if (row.text != null) {
      const said = element("p", "text", row.text || element("small", "", "(nobody speaks)"));
      said.dir = "auto";
      made.append(said);
    }
    for (const [kind, what] of row.flaws) {
      made.append(element("p", "flaw", element("b", "", kind), ` ${what}`));
    }
    return made;
  }

  const list = searchedList({ noun: "rows", rows, text, filters, sorts, render });

  // What the buttons of the other sections choose, by `data-by`.
  const short = (value) => (value.length > 40 ? `${value.slice(0, 39)}…` : value);
  const choices = {
    speaker: (value) => [`speaker ${short(value)}`, (row) => row.speaker === value],
    problem: (value) => [value, (row) => row.flaws.some(([kind]) => kind === value)],
    text: (value) => [`“${short(value)}”`, (row) => row.text === value],
    character: (value, name) => [`with ${name}`, (row) => row.text?.includes(value)],
  };
  for (const button of document.querySelectorAll("[data-by]")) {
    const { by, value } = button.dataset;
    button.addEventListener("click", () => list.only(...choices[by](value, button.textContent)));
  }
})();
