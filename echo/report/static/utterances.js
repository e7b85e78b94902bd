"use strict";
// The utterances of a result, each with its sound and its aligned transcripts.
(() => {
  const data = JSON.parse(document.getElementById("utterances-data").textContent);
  const { models, seeds, rows, views, baseline } = data;
  const viewChoice = document.getElementById("view");

  const view = () => Number(viewChoice?.value ?? 0);
  const errorsOf = (kinds) => kinds.length - kinds.split("=").length + 1;

  rows.forEach((row, number) => {
    row.number = number;
    // For each view and model, the mean number of errors over its trainings.
    row.errors = row.texts.map(({ kinds }) =>
      models.map(({ runs }) => runs.reduce((sum, run) => sum + errorsOf(kinds[run]), 0) / runs.length),
    );
  });
  const errors = (row) => row.errors[view()];
  const total = (row) => errors(row).reduce((sum, one) => sum + one, 0);
  const change = (row) => Math.max(...errors(row).map((one) => Math.abs(one - errors(row)[baseline])));
  const [changed, worst] = [data.changed, data.worst].map((list) => new Set(list));

  const text = (row) => [row.id, row.speaker ?? "", ...row.texts.flatMap(({ said, heard }) => [said, ...heard])].join("\n");

  const filters = [
    ["all utterances", () => true],
    ["with errors", (row) => total(row) > 0],
    ["without errors", (row) => total(row) === 0],
    ...models.flatMap(({ name }, i) => i === baseline ? [] : [
      [`${name} better than ${models[baseline].name}`, (row) => errors(row)[i] < errors(row)[baseline]],
      [`${name} worse than ${models[baseline].name}`, (row) => errors(row)[i] > errors(row)[baseline]],
    ]),
    ...(rows.some(player.has) ? [["with sound", player.has]] : []),
  ];

  const rank = new Map([...new Set([...data.changed, ...data.worst])].map((number, i) => [number, i]));
  const telling = (row) => rank.get(row.number) ?? rank.size + row.number;
  const sorts = [
    [models.length > 1 ? "changed most, then worst" : "worst first", (a, b) => telling(a) - telling(b)],
    ["most errors", (a, b) => total(b) - total(a)],
    ...(models.length > 1 ? [["largest change", (a, b) => change(b) - change(a)]] : []),
    ["longest", (a, b) => b.seconds - a.seconds],
    ["shortest", (a, b) => a.seconds - b.seconds],
    ["order of the data", (a, b) => a.number - b.number],
  ];

  // One transcript, its words beside those said, played from their `starts` where these are known.
  function aligned(row, said, heard, kinds, starts) {
    const [reference, hypothesis] = [said, heard].map((text) => text.split(" ").filter(Boolean));
    let [i, j] = [0, 0];
    const made = element("dd", "");
    made.dir = "auto";
    const written = () => player.word(hypothesis[j], row, starts?.[j++] ?? undefined);
    for (const kind of kinds) {
      if (kind === "=") {
        made.append(written());
        i++;
      } else if (kind === "s") {
        const pair = element(
          "span", "w sub",
          element("span", "said", reference[i++]),
          element("span", "unseen", " heard as "),
          element("span", "got", written()),
        );
        made.append(pair);
      } else if (kind === "d") {
        made.append(element("del", "w del", reference[i++]));
      } else {
        made.append(element("ins", "w ins", written()));
      }
      made.append(" ");
    }
    if (!heard) made.append(element("small", "", "(nothing written)"));
    return made;
  }

  // The trainings of a model that wrote the same, together.
  function transcripts(row, model, number) {
    const { said, heard, kinds, starts } = row.texts[view()];
    const groups = new Map();
    for (const run of model.runs) {
      if (!groups.has(heard[run])) groups.set(heard[run], []);
      groups.get(heard[run]).push(run);
    }
    return [...groups].flatMap(([text, runs]) => {
      const own = element("span", `model m${number % 7}`, element("span", "mark"), model.name);
      const name = element("dt", "", own);
      if (model.runs.length > 1) {
        const all = runs.length === model.runs.length;
        name.append(` ${all ? "all seeds" : `seed ${runs.map((run) => seeds[run]).join(", ")}`}`);
      }
      const right = errorsOf(kinds[runs[0]]) === 0;
      return [name, right ? element("dd", "right", "✓ as said") : aligned(row, said, text, kinds[runs[0]], starts?.[runs[0]])];
    });
  }

  // What was said. Its words were heard where a transcript that is right has them.
  function spoken(row) {
    const { said, kinds, starts } = row.texts[view()];
    if (!said) return element("dd", "", element("small", "", "(nobody speaks)"));
    const right = kinds.findIndex((kind, run) => errorsOf(kind) === 0 && starts?.[run]);
    return right < 0 ? element("dd", "", said) : aligned(row, said, said, kinds[right], starts[right]);
  }

  function render(row) {
    const [made, top] = player.article(row);
    top.append(`${row.seconds.toFixed(1)} s`);
    if (row.speaker) top.append(element("span", "", row.speaker));
    models.forEach((model, i) => {
      const mistakes = Number(errors(row)[i].toFixed(1));
      const own = element("span", `model m${i % 7}`, element("span", "mark"), model.name);
      top.append(element("span", "score", own, " ", element("b", "", String(mistakes)), mistakes === 1 ? " error" : " errors"));
    });
    if (changed.has(row.number)) top.append(element("span", "badge", "changed most"));
    if (worst.has(row.number)) top.append(element("span", "badge", "among the worst"));
    const said = spoken(row);
    said.dir = "auto";
    const texts = element("dl", "texts", element("dt", "", "said"), said);
    texts.append(...models.flatMap((model, i) => transcripts(row, model, i)));
    made.append(texts);
    return made;
  }

  const list = searchedList({ noun: "utterances", rows, text, filters, sorts, render });
  viewChoice?.append(...views.map((name, i) => new Option(name, i)));
  viewChoice?.addEventListener("change", list.update);
  for (const button of document.querySelectorAll(".find")) {
    button.addEventListener("click", () => list.find(button.dataset.find, 1)); // with errors
  }
})();
