"use strict";
// Plays one recording at a time, and moves the line over its spectrogram.
const player = (() => {
  const sounds = JSON.parse(document.getElementById("sounds-data").textContent);
  const audio = new Audio();
  let playing = null; // the number of the row that is loaded

  const has = (number, link) => number in sounds || Boolean(link);
  const picture = (number) =>
    number in sounds ? `data:image/jpeg;base64,${sounds[number][1]}` : null;

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
    const go = () => {
      audio.currentTime = Math.max(0, seconds);
      show();
    };
    if (audio.readyState > 0) go();
    else audio.addEventListener("loadedmetadata", go, { once: true });
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
  audio.addEventListener("error", () => failed(playing));

  const isPlaying = (number) => playing === number && !audio.paused;
  const time = (number) => (playing === number ? audio.currentTime : 0);
  return { has, picture, toggle, seek, isPlaying, time };
})();
