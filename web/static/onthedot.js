// What the pages do beyond their HTML: relative times count on, the live mark says whether the
// stream is open, presets fill their field in place. Without this file all of it still works.

const STEPS = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];

// The server's clock decides, since due times are its: the page says what it was.
const pageTime = document.querySelector("meta[name=server-time]");
const ahead = pageTime ? Date.parse(pageTime.content) - Date.now() : 0;
// The page took a moment to arrive, so a small difference means nothing.
const skew = Math.abs(ahead) < 2000 ? 0 : ahead;

function relative(moment) {
  const seconds = (moment - (Date.now() + skew)) / 1000;
  const away = Math.abs(seconds);
  if (away < 1) return "now";
  const place = STEPS.findIndex(([size]) => away >= size);
  const [size, unit] = STEPS[place];
  const count = Math.floor(away / size);
  let text = `${count} ${unit}`;
  if (count < 10 && size > 1) {
    const [smaller, smallerUnit] = STEPS[place + 1];
    text += ` ${Math.floor((away % size) / smaller)} ${smallerUnit}`;
  }
  return seconds > 0 ? `in ${text}` : `${text} ago`;
}

function tick() {
  for (const cell of document.querySelectorAll("time[data-relative]")) {
    const text = relative(Date.parse(cell.dateTime));
    if (cell.textContent !== text) cell.textContent = text;
  }
}

setInterval(tick, 1000);
document.addEventListener("htmx:afterSettle", tick);

const live = document.querySelector("[data-live]");
let openedBefore = false;

function show(state, text) {
  if (live && live.dataset.state !== state) {
    live.dataset.state = state;
    live.textContent = text;
  }
}

document.addEventListener("htmx:sseOpen", () => {
  show("on", "Live");
  // What happened while the stream was down was not told: fetch it.
  if (openedBefore) document.querySelectorAll("[hx-trigger*=catch-up]").forEach((block) => htmx.trigger(block, "catch-up"));
  openedBefore = true;
});
document.addEventListener("htmx:sseError", () => show("off", "Reconnecting"));

document.addEventListener("click", (event) => {
  const preset = event.target.closest("button[data-fills]");
  if (!preset) return;
  const field = document.getElementById(preset.dataset.fills);
  if (!field) return;
  event.preventDefault();
  field.value = preset.value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.focus();
});

const ownZone = document.querySelector("button[data-own-zone]");
if (ownZone) {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const choice = document.getElementById("zone");
  if (choice && [...choice.options].some((option) => option.value === name)) {
    ownZone.hidden = false;
    ownZone.textContent = `Use ${name}, as this browser`;
    ownZone.addEventListener("click", () => { choice.value = name; });
  }
}
