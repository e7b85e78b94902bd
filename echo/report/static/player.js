"use strict";
// Plays one recording at a time, and moves the line over its spectrogram.
const player = (() => {
  const sounds = JSON.parse(document.getElementById("sounds-data").textContent);
  const audio = new Audio();
  let playing = null; // the number of the row that is loaded

  const has = (number, link) => number in sounds || Boolean(link);

  function address(number, link) {
    if (!(number in sounds)) return link;
    const bytes = Uint8Array.from(atob(sounds[number][0]), (letter) => letter.charCodeAt(0));
    return URL.createObjectURL(new Blob([bytes], { type: "audio/mpeg" }));
  }

  function load(number, link) {
    if (playing === number) return;
    stopped(playing);
    if (audio.src.startsWith("blob:")) URL.revokeObjectURL(audio.src);
    playing = number;
    audio.src = address(number, link);
    audio.currentTime = 0; // not where one that never finished loading was to start
  }

  function toggle(number, link) {
    if (playing === number && !audio.paused) {
      audio.pause();
      return;
    }
    load(number, link);
    audio.play().catch(() => failed(number));
  }

  function seek(number, link, seconds) {
    load(number, link);
    audio.currentTime = Math.max(0, seconds); // if it still loads, it starts there
  }

  const row = (number) => document.getElementById(`u${number}`);

  function stopped(number) {
    const button = number === null ? null : row(number)?.querySelector(".play");
    if (!button) return;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "▶";
  }

  function failed(number) {
    stopped(number);
    const button = row(number)?.querySelector(".play");
    if (button) {
      button.textContent = "✕";
      button.title = "The recording cannot be played; it may have moved.";
    }
  }

  // Shows the time of what is loaded, in its row if that is rendered.
  function show() {
    const mel = playing === null ? null : row(playing)?.querySelector(".mel");
    if (!mel || !audio.duration) return;
    mel.querySelector(".now").style.left = `${(100 * audio.currentTime) / audio.duration}%`;
    mel.setAttribute("aria-valuenow", audio.currentTime.toFixed(2));
  }

  function frame() {
    show();
    if (!audio.paused) requestAnimationFrame(frame);
  }

  audio.addEventListener("play", () => {
    const button = row(playing)?.querySelector(".play");
    if (button) {
      button.setAttribute("aria-pressed", "true");
      button.textContent = "❚❚";
    }
    frame();
  });
  for (const name of ["pause", "ended"]) audio.addEventListener(name, () => stopped(playing));
  for (const name of ["loadedmetadata", "seeked"]) audio.addEventListener(name, show);
  audio.addEventListener("error", () => failed(playing));

  // The button and the spectrogram of a row: {number, id, seconds, link}.
  function controls({ number, id, seconds, link }) {
    const isPlaying = playing === number && !audio.paused; // it may come back while it plays
    const button = element("button", "play", isPlaying ? "❚❚" : "▶");
    button.type = "button";
    button.setAttribute("aria-label", `Play ${id}`);
    button.setAttribute("aria-pressed", String(isPlaying));
    button.addEventListener("click", () => toggle(number, link));
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
      seek(number, link, (seconds * (event.clientX - left)) / width);
    });
    mel.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key];
      if (step) seek(number, link, (playing === number ? audio.currentTime : 0) + step);
      else if (event.key === " " || event.key === "Enter") toggle(number, link);
      else return;
      event.preventDefault();
    });
    return [button, mel];
  }

  // A word that is played from where it was said, or its text where that is unknown.
  function word(text, { number, link }, start) {
    if (start === undefined || !has(number, link)) return text;
    const button = element("button", "at", text);
    button.type = "button";
    button.title = `Play from ${start.toFixed(2)} s`;
    button.tabIndex = -1; // by keyboard, the spectrogram's slider goes there
    button.addEventListener("click", () => {
      seek(number, link, start);
      audio.play().catch(() => failed(number));
    });
    return button;
  }

  return { has, controls, word };
})();
