"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Tables: a click on a header sorts by its column; cells say their value in data-v, those without one stay last.
for (const button of all(".sortable thead button")) {
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const table = header.closest("table");
    const numeric = header.matches(".num, .heat");
    const now = header.getAttribute("aria-sort");
    const descending = now ? now === "ascending" : numeric;
    for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const value = (row) => row.cells[header.cellIndex].dataset.v ?? "";
    const order = (a, b) => (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    for (const body of table.tBodies) {
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return descending ? order(y, x) : order(x, y);
      });
      body.append(...rows);
    }
  });
}

for (const choice of all("input[name=rows]")) {
  choice.addEventListener("change", () => {
    for (const body of all("#by-task tbody")) body.hidden = body.dataset.rows !== choice.value;
  });
}

// Films are given to the browser only near the window: it refuses to hold more than a few dozen.
const near = new Map();
const nearby = new IntersectionObserver(
  (changes) => {
    for (const { target, isIntersecting } of changes) {
      for (const video of all("video", target)) {
        if (isIntersecting && !video.hasAttribute("src")) video.src = video.dataset.src;
        if (!isIntersecting && video.hasAttribute("src")) {
          video.removeAttribute("src");
          video.load();
        }
      }
      near.get(target)?.(isIntersecting);
    }
  },
  { rootMargin: "300px 0px" },
);

// The films of one scene start together; a shorter one waits at its last frame.
const speed = document.querySelector("#film-speed");
speed?.addEventListener("change", () => {
  for (const video of all(".scene video")) video.playbackRate = Number(speed.value);
});
for (const scene of all(".scene")) {
  const button = scene.querySelector(".play");
  const slider = scene.querySelector("input[type=range]");
  const time = scene.querySelector(".time");
  const videos = () => all("figure:not([hidden]) video", scene);
  const length = () => Math.max(0, ...videos().map((video) => video.duration || 0));
  const position = () => Math.max(0, ...videos().map((video) => video.currentTime));
  let playing = false;

  const show = () => {
    const [at, end] = [position(), length()];
    slider.max = end || 1;
    slider.value = at;
    time.textContent = end ? `${at.toFixed(1)} / ${end.toFixed(1)} s` : "";
    button.textContent = playing ? "Pause" : end && at >= end - 0.05 ? "Play again" : "Play";
  };
  const seek = (to) => {
    for (const video of videos()) video.currentTime = Math.min(to, video.duration || 0);
  };
  const pause = () => {
    playing = false;
    for (const video of videos()) video.pause();
    show();
  };
  const play = () => {
    const from = position() >= length() - 0.05 ? 0 : position();
    seek(from);
    for (const video of videos()) video.playbackRate = Number(speed.value);
    playing = true;
    for (const video of videos()) if (from < video.duration) video.play().catch(() => {});
    show();
  };
  button.addEventListener("click", () => (playing ? pause() : play()));
  slider.addEventListener("input", () => {
    const to = Number(slider.value);
    pause();
    seek(to);
  });
  for (const video of all("video", scene)) {
    for (const event of ["timeupdate", "seeked", "loadedmetadata"]) video.addEventListener(event, show);
    video.addEventListener("ended", () => {
      if (videos().every((other) => other.ended || other.paused)) pause();
    });
  }
  near.set(scene, (visible) => visible || pause());
  nearby.observe(scene);
}

// Which scenes and which methods are shown.
const task = document.querySelector("#film-task");
const outcome = document.querySelector("#film-outcome");
const chosen = () => {
  const [kind, value] = outcome.value.split(":");
  const shown = all(".scene").filter((scene) => {
    const fits =
      !kind || (kind === "pattern" ? scene.dataset.pattern === value : scene.dataset[kind].split(" ").includes(value));
    scene.hidden = !fits || (task.value !== "" && scene.dataset.task !== task.value);
    return !scene.hidden;
  });
  for (const box of all("input[name=film-method]")) {
    for (const figure of all(`.scene figure[data-method="${box.value}"]`)) {
      figure.hidden = !box.checked;
      if (!box.checked) figure.querySelector("video")?.pause();
    }
  }
  document.querySelector("#film-count").textContent = `${shown.length} of ${all(".scene").length} episodes`;
  document.querySelector("#film-none").hidden = shown.length > 0;
};
if (task) {
  for (const control of all("#films select, #films .chips input")) control.addEventListener("change", chosen);
  chosen();
}

// Predicted futures: one task at a time, playing while in sight unless the reader wants less motion.
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
for (const group of all(".forecasts")) {
  for (const video of all("video", group)) video.controls = still;
  near.set(group, (visible) => visible && !still && all("video", group).forEach((video) => video.play().catch(() => {})));
  nearby.observe(group);
}
const forecast = document.querySelector("#forecast-task");
if (forecast) {
  const choose = () => {
    for (const group of all(".forecasts")) group.hidden = forecast.value !== "" && group.dataset.task !== forecast.value;
  };
  forecast.addEventListener("change", choose);
  choose();
}
