"use strict";
// The rows of a data set, each with its sound, its text and what is wrong with it.
(() => {
  const { rows, order } = JSON.parse(document.getElementById("utterances-data").textContent);
  rows.forEach((row, number) => { row.number = number; });
  const rank = new Map(order.map((number, i) => [number, i]));
  const wrong = ({ reasons, flaws }) => [...(reasons ?? []), ...flaws]; // pairs of a kind and a sentence
  const isFlawed = (row) => wrong(row).length > 0;
  const some = (key) => rows.some((row) => row[key] != null);

  const text = (row) => [row.id, row.speaker, row.text, row.heard, ...wrong(row).flat()].filter(Boolean).join("\n");

  const filters = [
    ["all rows", () => true],
    ...(rows.some(isFlawed) ? [["with problems", isFlawed], ["without problems", (row) => !isFlawed(row)]] : []),
    ...(some("rejected") ? [["rejected", (row) => row.rejected], ["kept", (row) => !row.rejected]] : []),
    ["corrected", corrections.has],
    ...(rows.some(player.has) ? [["with sound", player.has]] : []),
  ];

  // A comparison that puts rows without the value last.
  const up = (key) => (a, b) => (a[key] ?? Infinity) - (b[key] ?? Infinity);
  const down = (key) => (a, b) => (b[key] ?? -Infinity) - (a[key] ?? -Infinity);
  const first = some("wer") || some("score") ? ["doubtful first"] : [rows.some(isFlawed) && "problems", some("speaker") && "speakers in turn"];
  const sorts = [
    [first.filter(Boolean).join(", then ") || "as read", (a, b) => rank.get(a.number) - rank.get(b.number)],
    ...(some("wer") ? [["highest WER", down("wer")]] : []),
    ...(some("score") ? [["lowest score", up("score")]] : []),
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
      row.wer != null && `WER ${(100 * row.wer).toFixed(0)} %`,
      row.score != null && `score ${row.score.toFixed(2)}`,
    ];
    if (row.rejected) top.append(element("span", "badge", "rejected"));
    top.append(...facts.filter(Boolean).map((fact) => element("span", "", fact)));
    if (row.text != null) made.append(corrections.text(row));
    if (row.heard != null) made.append(element("p", "text", element("small", "", "heard: "), element("bdi", "", row.heard)));
    for (const [kind, what] of wrong(row)) {
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
    rule: (value) => [`rejected by ${value}`, (row) => row.reasons?.some(([rule]) => rule === value)],
    recording: (value) => [short(timelines[value].id), (row) => row.recording === Number(value)],
    text: (value) => [`“${short(value)}”`, (row) => row.text === value],
    character: (value, name) => [`with ${name}`, (row) => row.text?.includes(value)],
  };
  for (const button of document.querySelectorAll("[data-by]")) {
    const { by, value } = button.dataset;
    button.addEventListener("click", () => list.only(...choices[by](value, button.textContent)));
  }
})();
