// Shows new values as they come. Without it the page has the values of when it was loaded.
"use strict";
const live = document.getElementById("live");
const pause = document.getElementById("pause");
const parser = new DOMParser();
let paused = false;

// show replaces the sections that have changed, except one in use.
function show(html) {
  const fresh = parser.parseFromString(html, "text/html");
  for (const section of fresh.querySelectorAll("section")) {
    const old = document.getElementById(section.id);
    const selected = document.getSelection();
    const inUse = old && (old.contains(document.activeElement) || (selected.type === "Range" && selected.containsNode(old, true)));
    if (!old) document.querySelector("main").append(section);
    else if (!inUse && old.innerHTML !== section.innerHTML) replace(old, section);
  }
}

// replace replaces a section, and keeps how far its tables are scrolled.
function replace(old, section) {
  const scrolled = [...old.querySelectorAll(".table")].map((table) => table.scrollLeft);
  old.replaceWith(section);
  section.querySelectorAll(".table").forEach((table, i) => { table.scrollLeft = scrolled[i] || 0; });
}

const source = new EventSource("events");
source.onmessage = (event) => {
  document.documentElement.dataset.live = "yes";
  if (paused) return;
  live.textContent = "Live: new values every 2 s.";
  show(event.data);
};
source.onerror = () => {
  document.documentElement.dataset.live = "no";
  live.textContent = "The program does not answer. Trying again.";
};
pause.hidden = false;
pause.onclick = () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  if (paused) live.textContent = "Paused.";
};
