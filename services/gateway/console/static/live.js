// Events as they are announced. What is kept and what is drawn is bounded, whatever arrives.

import { api } from "/console/api.js";
import { button, empty, every, filters, h, link, linked, row, say, table, text, time } from "/console/dom.js";

const MOST_ROWS = 200;
const MOST_CHARACTERS = 100;
const WATCHING = "Watching.";
// The gateway says something at least every 15 seconds.
const SILENT_MS = 40_000;
const HEALTH_MS = 5000;
const FIELDS = [["event", "Name"], ["userId", "User id"], ["source", "Source"]];
const COLUMNS = [
  ["Happened", (event) => time(event.occurredAt)],
  ["Name", (event) => link("events/one", uncut(event), text(event.event))],
  ["User id", (event) => text(event.userId)],
  ["Contact", (event) => (whole(event.contactKey) ? linked("contacts", { key: event.contactKey }, event.contactKey) : text(event.contactKey))],
  ["Source", (event) => text(event.source)],
  ["Received", (event) => time(event.receivedAt)],
];

// The stream cuts long texts, and what is cut finds nothing.
const whole = (value) => (value.length <= MOST_CHARACTERS ? value : null);
const uncut = (event) => ({ id: whole(event.id), event: whole(event.event), userId: whole(event.userId), source: whole(event.source) });
const key = (event) => JSON.stringify([event.source, event.id, event.event, event.userId]);

// Why nothing is announced although the stream is open, as far as the gateway knows.
function quiet({ components }) {
  if (components.worker.status !== "up") return "Ingest does not answer: nothing is announced at the moment.";
  if (components.database.status !== "up") return "PostgreSQL does not answer: nothing is stored or announced at the moment.";
  return null;
}

export async function live({ params, signal }) {
  const wanted = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name) ?? ""]));
  const shown = table("Events as they arrive", COLUMNS, []);
  const body = shown.querySelector("tbody");
  const counts = h("p", { class: "faint" });
  const nothing = empty("No events yet. New ones appear here as soon as they are stored.");
  const waiting = [];
  const known = new Set();
  let [arrived, skipped, paused, source, heardAt] = [0, 0, false, null, 0];
  // A reader who scrolled down goes on by scrolling back to the top.
  let byScrolling = false;
  // What the stream says of itself, and why it can bring nothing.
  let [heard, isWatching, held] = ["", false, null];

  const toggle = button("Pause", () => { pause(!paused); });
  function pause(now, scrolled = false) {
    paused = now;
    byScrolling = scrolled;
    if (!paused) {
      scrollTo(0, 0);
      draw();
    }
    tell();
  }

  function tell() {
    toggle.textContent = paused ? `Resume (${waiting.length.toLocaleString()} new)` : "Pause";
    counts.textContent = `${arrived.toLocaleString()} arrived${skipped ? `, ${skipped.toLocaleString()} more were too many to be shown` : ""}. The latest ${MOST_ROWS} are kept.`;
  }

  function draw() {
    if (!waiting.length) return;
    nothing.remove();
    body.prepend(...waiting.splice(0).reverse().map((event) => row(COLUMNS, event)));
    while (body.childElementCount > MOST_ROWS) body.lastElementChild.remove();
  }

  function take(batch) {
    skipped += batch.skipped;
    for (const event of batch.events) {
      // An announcement may be repeated.
      if (known.has(key(event))) continue;
      known.add(key(event));
      if (known.size > 10 * MOST_ROWS) known.delete(known.values().next().value);
      arrived += 1;
      waiting.push(event);
    }
    if (waiting.length > MOST_ROWS) waiting.splice(0, waiting.length - MOST_ROWS);
    if (!paused) draw();
    tell();
  }

  function hear(words, watching = false) {
    [heard, isWatching] = [words, watching];
    say((watching && held) || words);
  }

  async function askHealth() {
    try {
      held = quiet(await api("/v1/health", { signal, deadlineMs: HEALTH_MS }));
    } catch {
      // The stream itself tells of a gateway that is down.
      return;
    }
    if (isWatching && !signal.aborted) hear(heard, true);
  }

  function open() {
    // A page in the background watches nothing.
    if (source || signal.aborted || document.hidden) return;
    const given = Object.entries(wanted).filter(([, value]) => value);
    source = new EventSource(`/console/live?${new URLSearchParams(given)}`);
    heardAt = Date.now();
    for (const kind of ["open", "message", "pulse", "bus"]) source.addEventListener(kind, () => { heardAt = Date.now(); });
    source.addEventListener("open", () => hear(WATCHING, true));
    source.addEventListener("message", (message) => take(JSON.parse(message.data)));
    source.addEventListener("bus", ({ data }) => (data === "up" ? hear(`${WATCHING} What was announced meanwhile is among the stored events.`, true) : hear("NATS cannot be reached: no event can arrive until it is back.")));
    source.addEventListener("error", async () => {
      if (source?.readyState !== EventSource.CLOSED) {
        hear("Connection lost; reconnecting.");
        return;
      }
      source = null;
      // A refusal: the stream does not say which, and the browser does not try again.
      try {
        await api("/console/session", { signal });
        hear("The gateway cannot stream events now: NATS is unavailable, or too many pages are watching. Trying again.");
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401) {
          dispatchEvent(new Event("signed-out"));
          return;
        }
        hear(error.message);
      }
      setTimeout(open, 5000);
    });
  }

  function close() {
    source?.close();
    source = null;
  }

  // A connection that is open may lead to no gateway any more.
  const looking = setInterval(() => {
    if (!source || Date.now() - heardAt < SILENT_MS) return;
    hear("The gateway has gone silent; reconnecting.");
    close();
    open();
  }, 5000);

  signal.addEventListener("abort", () => {
    clearInterval(looking);
    close();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()), { signal });
  // A reader further down is not disturbed.
  document.addEventListener("scroll", () => {
    if (scrollY > 120 && !paused) pause(true, true);
    else if (scrollY <= 0 && byScrolling) pause(false);
  }, { signal, passive: true });
  // Nor is one who is at a row by the keyboard: it would be gone in a moment.
  body.addEventListener("focusin", () => { if (!paused) pause(true); });
  hear("Loading…");
  open();
  every(HEALTH_MS, askHealth, signal);
  tell();
  return [
    h("p", null, link("events", wanted, "Stored events")),
    filters("events/live", FIELDS, params),
    h("div", { class: "actions" }, toggle), counts, nothing, shown,
  ];
}
