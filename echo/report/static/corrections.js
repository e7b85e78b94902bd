"use strict";
// Texts that are corrected in the page, and saved as a file that `echo-asr data apply` takes.
const corrections = (() => {
  const made = new Map(); // rows -> their new texts
  const [saving, save] = ["saving", "save"].map((id) => document.getElementById(id));
  let unsaved = false;

  const has = (row) => made.has(row);
  const plain = (text) => text.replace(/\r\n?/g, "\n").trim(); // as a field gives it

  function set(row, after) {
    if (plain(after) === plain(row.text)) made.delete(row);
    else made.set(row, after.trim());
    unsaved = made.size > 0;
    saving.hidden = !unsaved;
    save.textContent = `Save ${made.size} correction${made.size === 1 ? "" : "s"}`;
  }

  save.addEventListener("click", () => {
    const lines = [...made].map(([row, after]) => JSON.stringify({ ...row.place, before: row.text, after }));
    download(new Blob([`${lines.join("\n")}\n`], { type: "application/jsonl" }), "corrections.jsonl");
    unsaved = false;
  });
  addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });

  const paragraph = (name, ...children) => {
    const shown = element("p", name, ...children);
    shown.dir = "auto";
    return shown;
  };

  // A row's text, with a button that makes it one to type in.
  function text(row) {
    const box = element("div", "said");
    const button = element("button", "edit", "Correct");
    button.type = "button";
    button.setAttribute("aria-label", `Correct the text of ${row.id}`);

    function show() {
      const now = made.get(row) ?? row.text;
      box.replaceChildren(paragraph("text", now || element("small", "", "(nobody speaks)")));
      if (has(row)) box.append(paragraph("was", element("del", "", row.text || "(nobody speaks)")));
      if (row.place) box.append(button);
    }

    button.addEventListener("click", () => {
      const field = element("textarea", "");
      const begun = made.get(row) ?? row.text;
      field.value = begun;
      field.dir = "auto";
      field.rows = 2;
      field.setAttribute("aria-label", `Text of ${row.id}`);
      field.addEventListener("input", () => set(row, field.value));
      field.addEventListener("blur", show);
      field.addEventListener("keydown", (event) => {
        // Enter also ends the composition of a character.
        if (event.isComposing || (event.key !== "Escape" && event.key !== "Enter")) return;
        if (event.key === "Escape") set(row, begun);
        event.preventDefault(); // Enter would press the button that gets the focus
        show();
        button.focus();
      });
      box.replaceChildren(field);
      field.focus();
    });
    show();
    return box;
  }

  return { has, text };
})();
