"use strict";
// Plays one recording at a time, and moves the line over its spectrogram.
const player = (() => {
  const sounds = JSON.parse(document.getElementById("sounds-data").textContent);
  const audio = new Audio();
  let playing = null; // the number of the row that is loaded
  let start = 0; // where it begins in what is loaded, in seconds
  let end = Infinity; // and where it ends

  const has = ({ number, link }) => number in sounds || Boolean(link);

  function address({ number, link }) {
    if (!(number in sounds)) return link;
    const bytes = Uint8Array.from(atob(sounds[number][0]), (letter) => letter.charCodeAt(0));
    return URL.createObjectURL(new Blob([bytes], { type: "audio/mpeg" }));
  }

  function load(row) {
    if (playing === row.number) return;
    mark(playing, "▶");
    if (audio.src.startsWith("blob:")) URL.revokeObjectURL(audio.src);
    playing = row.number;
    audio.src = address(row);
    // A slice's link ends in its times: #t=12.5,17
    [start = 0, end = Infinity] = audio.src.match(/#t=([\d.]+),?([\d.]+)?$/)?.slice(1).map((t) => t && Number(t)) ?? [];
    audio.currentTime = start; // not where one that never finished loading was to start
  }

  function play(row) {
    load(row);
    if (audio.currentTime >= end) audio.currentTime = start;
    audio.play().catch(() => mark(row.number, "✕"));
  }

  function toggle(row) {
    if (playing === row.number && !audio.paused) audio.pause();
    else play(row);
  }

  function seek(row, seconds) {
    load(row);
    audio.currentTime = start + Math.max(0, seconds); // if it still loads, it starts there
  }

  // What a row has of this kind, if it is rendered.
  const part = (number, selector) => document.getElementById(`u${number}`)?.querySelector(selector);

  // Shows on a row's button that it is stopped, plays or cannot be played.
  function mark(number, sign) {
    const button = part(number, ".play");
    if (!button) return;
    button.textContent = sign;
    button.setAttribute("aria-pressed", String(sign === "❚❚"));
    if (sign === "✕") button.title = "The recording cannot be played; it may have moved.";
  }

  // Shows the time of what is loaded.
  function show() {
    const mel = part(playing, ".mel");
    if (!mel || !audio.duration) return;
    const seconds = Math.min(audio.currentTime, end) - start; // it stops a little after the end
    mel.querySelector(".now").style.left = `${(100 * seconds) / (Math.min(end, audio.duration) - start)}%`;
    mel.setAttribute("aria-valuenow", seconds.toFixed(2));
  }

  function frame() {
    show();
    if (!audio.paused) requestAnimationFrame(frame);
  }

  audio.addEventListener("play", () => {
    mark(playing, "❚❚");
    frame();
  });
  for (const name of ["pause", "ended"]) audio.addEventListener(name, () => mark(playing, "▶"));
  for (const name of ["loadedmetadata", "seeked"]) audio.addEventListener(name, show);
  audio.addEventListener("timeupdate", () => {
    if (audio.currentTime >= end) audio.pause();
  });
  audio.addEventListener("error", () => mark(playing, "✕"));

  // The button and the spectrogram of a row.
  function controls(row) {
    const { number, id, seconds } = row;
    const isPlaying = playing === number && !audio.paused; // it may come back while it plays
    const button = element("button", "play", isPlaying ? "❚❚" : "▶");
    button.type = "button";
    button.setAttribute("aria-label", `Play ${id}`);
    button.setAttribute("aria-pressed", String(isPlaying));
    button.addEventListener("click", () => toggle(row));
    const mel = element("div", "mel", element("div", "now"));
    if (number in sounds) {
      const image = new Image();
      image.src = `data:image/jpeg;base64,${sounds[number][1]}`;
      image.alt = "";
      mel.prepend(image);
    } else {
      mel.classList.add("bare");
    }
    mel.style.width = `${Math.round(Math.max(120, 150 * seconds))}px`;
    mel.tabIndex = 0;
    const attributes = { role: "slider", "aria-label": `Time in ${id}`, "aria-valuemin": 0, "aria-valuemax": seconds, "aria-valuenow": 0 };
    for (const [key, value] of Object.entries(attributes)) mel.setAttribute(key, value);
    mel.addEventListener("click", (event) => {
      const { left, width } = mel.getBoundingClientRect();
      seek(row, (seconds * (event.clientX - left)) / width);
    });
    mel.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
      if (step) seek(row, (playing === number ? audio.currentTime - start : 0) + step);
      else if (event.key === " " || event.key === "Enter") toggle(row);
      else return;
      event.preventDefault();
    });
    return [button, mel];
  }

  // A row's element, and the header in it, with its id and what plays it.
  function article(row) {
    const top = element("header", "");
    const made = element("article", "u", top);
    made.id = `u${row.number}`;
    made.setAttribute("aria-label", row.id);
    if (has(row)) {
      const [button, mel] = controls(row);
      top.append(button);
      made.append(mel);
    }
    top.append(element("span", "id", row.id));
    return [made, top];
  }

  // A word that is played from where it was said, or its text where that is unknown.
  function word(text, row, start) {
    if (start === undefined || !has(row)) return text;
    const button = element("button", "at", text);
    button.type = "button";
    button.title = `Play from ${start.toFixed(2)} s`;
    button.tabIndex = -1; // by keyboard, the spectrogram's slider goes there
    button.addEventListener("click", () => {
      seek(row, start);
      play(row);
    });
    return button;
  }

  return { has, play, article, word };
})();
