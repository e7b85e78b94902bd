"use strict";
// Rows that are searched, filtered and sorted, shown in a list.
//   noun: what they are called; rows: numbered in the order of the data
//   text: what can be searched in a row; filters: pairs of a name and a predicate
//   sorts: pairs of a name and a comparison; render: the element that shows a row
function searchedList({ noun, rows, text, filters, sorts, render }) {
  const [search, filter, sort, count, box, section] = [
    "search", "filter", "sort", "count", "list", "utterances",
  ].map((id) => document.getElementById(id));
  const list = windowedList(box, render);
  const shown = [...filters]; // and one more while a button of the page has chosen it

  const haystacks = new Map(); // made when they are first needed
  function haystack(row) {
    if (!haystacks.has(row)) haystacks.set(row, text(row).toLocaleLowerCase());
    return haystacks.get(row);
  }

  function update() {
    const words = search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const [, keeps] = shown[filter.value];
    const [, compare] = sorts[sort.value];
    const found = rows
      .filter((row) => keeps(row) && words.every((word) => haystack(row).includes(word)))
      .sort((a, b) => compare(a, b) || a.number - b.number);
    count.textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} ${noun}`;
    list.show(found);
    if (!found.length) box.append(element("p", "empty", `None of the ${noun} is like that.`));
  }

  // Shows what a button elsewhere on the page asks for, and goes there.
  function find(words, number) {
    search.value = words;
    filter.value = number;
    update();
    section.scrollIntoView();
    search.focus({ preventScroll: true });
  }

  // As `find`, for rows that no filter in the menu keeps; its name is added to the menu.
  function only(name, keeps) {
    const number = filters.length;
    shown[number] = [name, keeps];
    filter.options[number] = new Option(name, number);
    find("", number);
  }

  filter.append(...filters.map(([name], i) => new Option(name, i)));
  sort.append(...sorts.map(([name], i) => new Option(name, i)));
  for (const select of [filter, sort]) select.addEventListener("change", update);
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  update();
  return { update, find, only };
}
