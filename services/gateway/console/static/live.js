// Shows events as they are announced. The number of events in memory and on the page is bounded.

import { api } from "/console/api.js";
import { button, empty, filters, h, link, linked, poll, row, showStatus, table, text, time } from "/console/dom.js";

const MAX_ROWS = 200;
const MAX_CHARACTERS = 100;
const WATCHING = "Watching.";
// The gateway sends at least a pulse every 15 seconds.
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

// The stream clips long texts. A clipped text cannot be used as a filter.
const whole = (value) => (value.length <= MAX_CHARACTERS ? value : null);
const uncut = (event) => ({ id: whole(event.id), event: whole(event.event), userId: whole(event.userId), source: whole(event.source) });
const key = (event) => JSON.stringify([event.source, event.id, event.event, event.userId]);

// Returns why nothing is announced although the stream is open, or null.
function whyQuiet({ components }) {
  if (components.worker.status !== "up") return "Ingest does not answer: nothing is announced at the moment.";
  if (components.database.status !== "up") return "PostgreSQL does not answer: nothing is stored or announced at the moment.";
  return null;
}

export async function live({ params, signal }) {
  const applied = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name) ?? ""]));
  const shown = table("Events as they arrive", COLUMNS, []);
  const body = shown.querySelector("tbody");
  const counts = h("p", { class: "faint" });
  const nothing = empty("No events yet. New ones appear here as soon as they are stored.");
  const waiting = [];
  const seenKeys = new Set();
  let [arrived, skipped, paused, source, receivedAt] = [0, 0, false, null, 0];
  // Whether scrolling down paused the list. Scrolling back to the top then resumes it.
  let byScrolling = false;
  // The stream's status, and the reason why no events can arrive.
  let [status, isWatching, quietReason] = ["", false, null];

  const toggle = button("Pause", () => { pause(!paused); });
  function pause(now, scrolled = false) {
    paused = now;
    byScrolling = scrolled;
    if (!paused) {
      scrollTo(0, 0);
      draw();
    }
    showCounts();
  }

  function showCounts() {
    toggle.textContent = paused ? `Resume (${waiting.length.toLocaleString()} new)` : "Pause";
    counts.textContent = `${arrived.toLocaleString()} arrived${skipped ? `, ${skipped.toLocaleString()} more were too many to be shown` : ""}. The latest ${MAX_ROWS} are kept.`;
  }

  function draw() {
    if (!waiting.length) return;
    nothing.remove();
    body.prepend(...waiting.splice(0).reverse().map((event) => row(COLUMNS, event)));
    while (body.childElementCount > MAX_ROWS) body.lastElementChild.remove();
  }

  function addBatch(batch) {
    skipped += batch.skipped;
    for (const event of batch.events) {
      // An announcement may be repeated.
      if (seenKeys.has(key(event))) continue;
      seenKeys.add(key(event));
      if (seenKeys.size > 10 * MAX_ROWS) seenKeys.delete(seenKeys.values().next().value);
      arrived += 1;
      waiting.push(event);
    }
    if (waiting.length > MAX_ROWS) waiting.splice(0, waiting.length - MAX_ROWS);
    if (!paused) draw();
    showCounts();
  }

  function setStatus(message, watching = false) {
    [status, isWatching] = [message, watching];
    showStatus((watching && quietReason) || message);
  }

  async function checkHealth() {
    try {
      quietReason = whyQuiet(await api("/v1/health", { signal, deadlineMs: HEALTH_MS }));
    } catch {
      // The stream's own error handler reports a gateway that is down.
      return;
    }
    if (isWatching && !signal.aborted) setStatus(status, true);
  }

  function open() {
    // A page in the background does not watch.
    if (source || signal.aborted || document.hidden) return;
    const given = Object.entries(applied).filter(([, value]) => value);
    source = new EventSource(`/console/live?${new URLSearchParams(given)}`);
    receivedAt = Date.now();
    for (const kind of ["open", "message", "pulse", "bus"]) source.addEventListener(kind, () => { receivedAt = Date.now(); });
    source.addEventListener("open", () => setStatus(WATCHING, true));
    source.addEventListener("message", (message) => addBatch(JSON.parse(message.data)));
    source.addEventListener("bus", ({ data }) => (data === "up" ? setStatus(`${WATCHING} Events that were announced meanwhile are among the stored events.`, true) : setStatus("NATS cannot be reached: no event can arrive until it is back.")));
    source.addEventListener("error", async () => {
      if (source?.readyState !== EventSource.CLOSED) {
        setStatus("Connection lost; reconnecting.");
        return;
      }
      source = null;
      // The request was refused. EventSource does not report the status, and does not reconnect.
      try {
        await api("/console/session", { signal });
        setStatus("The gateway cannot stream events now: NATS is unavailable, or too many pages are watching. Trying again.");
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401) {
          dispatchEvent(new Event("signed-out"));
          return;
        }
        setStatus(error.message);
      }
      setTimeout(open, 5000);
    });
  }

  function close() {
    source?.close();
    source = null;
  }

  // A connection may look open although the gateway is no longer at its other end.
  const silenceCheck = setInterval(() => {
    if (!source || Date.now() - receivedAt < SILENT_MS) return;
    setStatus("The gateway has gone silent; reconnecting.");
    close();
    open();
  }, 5000);

  signal.addEventListener("abort", () => {
    clearInterval(silenceCheck);
    close();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()), { signal });
  // Rows must not move while the user reads further down.
  document.addEventListener("scroll", () => {
    if (scrollY > 120 && !paused) pause(true, true);
    else if (scrollY <= 0 && byScrolling) pause(false);
  }, { signal, passive: true });
  // The same for a row that has the keyboard focus, which would otherwise soon be removed.
  body.addEventListener("focusin", () => { if (!paused) pause(true); });
  setStatus("Loading…");
  open();
  poll(HEALTH_MS, checkHealth, signal);
  showCounts();
  return [
    h("p", null, link("events", applied, "Stored events")),
    filters("events/live", FIELDS, params),
    h("div", { class: "actions" }, toggle), counts, nothing, shown,
  ];
}
