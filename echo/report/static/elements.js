"use strict";
// Elements hold texts as texts: nothing of a transcript is ever read as HTML.
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}
