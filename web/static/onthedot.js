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

// A browser opens six connections to a host, and the stream of a page is one of them: a page that
// nobody sees lets go of it, or the seventh tab would wait for ever.
class Stream {
  #source = null;
  #listeners = [];

  constructor(url) {
    this.url = url;
    this.look = () => (document.hidden ? this.#letGo() : this.#open());
    document.addEventListener("visibilitychange", this.look);
    this.look();
  }

  get readyState() {
    return this.#source ? this.#source.readyState : EventSource.CONNECTING;
  }

  addEventListener(name, listener) {
    this.#listeners.push([name, listener]);
    this.#source?.addEventListener(name, listener);
  }

  removeEventListener(name, listener) {
    this.#listeners = this.#listeners.filter((one) => one[0] !== name || one[1] !== listener);
    this.#source?.removeEventListener(name, listener);
  }

  close() {
    document.removeEventListener("visibilitychange", this.look);
    this.#letGo();
  }

  #open() {
    if (this.#source) return;
    const source = new EventSource(this.url, { withCredentials: true });
    this.#source = source;
    source.onopen = (event) => this.onopen?.(event);
    source.onerror = (event) => {
      this.onerror?.(event);
      if (source.readyState === EventSource.CLOSED) this.close(); // htmx makes another
    };
    this.#listeners.forEach(([name, listener]) => source.addEventListener(name, listener));
  }

  #letGo() {
    this.#source?.close();
    this.#source = null;
  }
}
htmx.createEventSource = (url) => new Stream(url);

// What somebody has opened stays open when its block is fetched again.
Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) => name !== "open" || node.localName !== "details";

let openedBefore = document.hidden; // what happened before somebody looked at the page is not on it

// Whether the stream is open (null: not known yet), and whether a block could be fetched the last time.
let isOpen = null, isFetched = true;

function showLive() {
  const live = document.querySelector("[data-live]");
  if (!live || (isOpen === null && isFetched)) return;
  const text = !isFetched ? "Not up to date" : isOpen ? "Live" : "Reconnecting";
  live.dataset.state = text === "Live" ? "on" : "off";
  if (live.textContent !== text) live.textContent = text;
}

function fetched(isDone) {
  isFetched = isDone;
  showLive();
}

document.addEventListener("htmx:sseOpen", () => {
  isOpen = true;
  showLive();
  // What happened while the stream was down was not told: fetch it.
  if (openedBefore) document.querySelectorAll("[hx-trigger*=catch-up]").forEach((block) => htmx.trigger(block, "catch-up"));
  openedBefore = true;
});
document.addEventListener("htmx:sseError", () => {
  isOpen = false;
  showLive();
});
document.addEventListener("htmx:sendError", () => fetched(false));
document.addEventListener("htmx:afterOnLoad", (event) => fetched(event.detail.xhr.status < 500));
document.addEventListener("htmx:historyRestore", showLive); // the mark is a new one

// A filter changes the address without loading the page anew: come back to it from the zone.
document.addEventListener("htmx:pushedIntoHistory", (event) => {
  const zone = document.querySelector("a[href^='/zone?']");
  if (zone) zone.href = `/zone?back=${encodeURIComponent(event.detail.path)}`;
});

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

// A second click of a double click does not do it a second time.
const sentAt = new WeakMap();
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (Date.now() - (sentAt.get(form) ?? 0) < 2000) event.preventDefault();
  else sentAt.set(form, Date.now());
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
