"use strict";
// A long list whose rows exist only while they are near the visible part.
function windowedList(box, render) {
  const BLOCK = 10; // rows that come and go together
  const GUESS = 150; // pixels of a row that was never shown

  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) (isIntersecting ? fill : empty)(target);
    },
    { root: box, rootMargin: "800px 0px" },
  );

  function fill(block) {
    if (block.childElementCount) return;
    block.style.minHeight = "";
    block.classList.remove("far");
    block.append(...block.rows.map(render));
  }

  function empty(block) {
    // What has the keyboard in it stays.
    if (!block.childElementCount || block.contains(document.activeElement)) return;
    block.style.minHeight = `${block.offsetHeight}px`; // so that nothing moves
    block.classList.add("far");
    block.replaceChildren();
  }

  return {
    show(rows) {
      observer.disconnect();
      const blocks = [];
      for (let i = 0; i < rows.length; i += BLOCK) {
        const block = element("div", "block far");
        block.rows = rows.slice(i, i + BLOCK);
        block.style.minHeight = `${GUESS * block.rows.length}px`;
        blocks.push(block);
      }
      box.replaceChildren(...blocks);
      box.scrollTop = 0;
      if (blocks.length) fill(blocks[0]);
      for (const block of blocks) observer.observe(block);
    },
  };
}
