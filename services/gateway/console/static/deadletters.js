// Dead letters: lists them with their reasons, shows their messages, and replays or purges them.

import { Refused, api, query } from "/console/api.js";
import { address, button, confirmAction, empty, facts, filters, h, link, long, plain, section, showStatus, table, text, time } from "/console/dom.js";

const PAGE = 50;
const PATH = "/v1/admin/deadletters";
const sleep = (seconds) => new Promise((done) => { setTimeout(done, seconds * 1000); });

export async function view(context) {
  const { rest, params, signal } = context;
  return rest[0] ? one(rest[0], context) : list(params, signal, context);
}

const count = (number, what) => `${number.toLocaleString()} ${what}${number === 1 ? "" : "s"}`;

// Returns a function that replays or purges: it sends `requests` one after the other, and shows the progress.
function runner(box, signal, reload) {
  let isRunning = false;
  return async function run(verb, requests) {
    if (isRunning) {
      showStatus("An action is already running: stop it, or wait until it ends.");
      return;
    }
    isRunning = true;
    const bar = h("progress", { max: requests.length, value: 0, "aria-label": "Progress" });
    const message = h("p");
    let stopped = signal.aborted;
    const stop = button("Stop", () => { stopped = true; });
    // Stop when the user leaves the view, because the stop button is then gone.
    signal.addEventListener("abort", () => { stopped = true; });
    box.replaceChildren(bar, message, stop);
    const kept = [];
    let done = 0;
    const showProgress = (suffix) => { message.textContent = `${count(done, "dead letter")} ${verb.done}${suffix}`; };
    let problem = null;
    for (const [position, request] of requests.entries()) {
      let more = true;
      while (more && !stopped) {
        try {
          const outcome = await api(request.path, { method: request.method, body: request.body });
          done += outcome.count;
          kept.push(...outcome.kept);
          // Letters that are kept would be tried again without end.
          more = outcome.more && outcome.count > 0;
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          if (error.status === 404) more = false;
          else if (error.status === 429) {
            showProgress(`; waiting for the rate limit`);
            await sleep(5);
          } else {
            problem = error.message;
            stopped = true;
          }
        }
        showProgress("…");
      }
      bar.value = position + 1;
      if (stopped) break;
    }
    showProgress(".");
    showStatus(message.textContent);
    isRunning = false;
    const refresh = button("Refresh", reload);
    // Move the focus before the stop button is removed.
    box.append(refresh);
    if (document.activeElement === stop) refresh.focus();
    stop.remove();
    bar.remove();
    if (problem) refresh.before(h("p", { class: "problem", role: "alert" }, problem));
    if (kept.length) {
      refresh.before(table("Dead letters that were kept", [
        ["Kept", (row) => count(row.count, "letter")],
        ["Reason", (row) => text(row.reason)],
        ["Explanation", (row) => text(row.detail, 500)],
        ["First", (row) => link(`deadletters/${row.firstSequence}`, {}, `${row.firstSequence}`)],
      ], kept));
    }
  };
}

const REPLAY = { name: "Replay", done: "replayed", path: "replay" };
const PURGE = { name: "Purge", done: "purged", path: "purge" };

async function list(params, signal, { reload, mayAct }) {
  const stream = params.get("stream");
  const reason = params.get("reason");
  const page = await api(query(PATH, { stream, reason, limit: PAGE, before: params.get("before") }), { signal });
  const letters = page.deadLetters;
  const form = filters("deadletters", [["stream", "Stream"], ["reason", "Reason"]], params);
  const outcome = h("div", { class: "outcome" });
  if (!letters.length) {
    const filtered = stream || reason || params.get("before");
    return [form, empty(filtered ? ["No dead letter matches. ", link("deadletters", {}, "Show all.")]
      : "No dead letters: every message was processed. One that cannot be is kept here with its reason, until it is replayed or purged.")];
  }
  const run = runner(outcome, signal, reload);
  const reasons = new Map();
  for (const letter of letters) reasons.set(letter.reason, (reasons.get(letter.reason) ?? 0) + 1);
  const boxes = letters.map((letter) => h("input", { type: "checkbox", value: letter.sequence, "aria-label": `Select ${letter.sequence}`, change: () => update() }));
  const selectAll = h("input", { type: "checkbox", "aria-label": "Select all on this page", change: () => {
    for (const box of boxes) box.checked = selectAll.checked;
    update();
  } });
  const selected = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const requestOf = { [REPLAY.name]: (sequence) => ({ path: `${PATH}/${sequence}/replay`, method: "POST" }), [PURGE.name]: (sequence) => ({ path: `${PATH}/${sequence}`, method: "DELETE" }) };
  const selection = { ...(stream ? { stream } : {}), ...(reason ? { reason } : {}) };
  const body = stream || reason ? selection : { all: true };
  const matching = stream || reason ? " that match" : "";
  const confirmAndRun = async (verb, requests, number, which) => {
    const consequence = verb === PURGE ? "This cannot be undone." : "Each returns to the stream it came from.";
    if (await confirmAction(`${verb.name} ${count(number, "dead letter")}${which}? ${consequence}`, verb.name)) await run(verb, requests);
  };
  const forSelected = [REPLAY, PURGE].map((verb) => button("", () => confirmAndRun(verb, selected().map(requestOf[verb.name]), selected().length, ""), { class: verb === PURGE ? "danger" : null }));
  const forAll = [REPLAY, PURGE].map((verb) => button(`${verb.name} all ${page.total.toLocaleString()}${matching}`,
    () => confirmAndRun(verb, [{ path: `${PATH}/${verb.path}`, method: "POST", body }], page.total, matching), { class: verb === PURGE ? "danger" : null }));
  function update() {
    const number = selected().length;
    selectAll.checked = number === boxes.length;
    selectAll.indeterminate = number > 0 && number < boxes.length;
    for (const [position, verb] of [REPLAY, PURGE].entries()) {
      forSelected[position].textContent = `${verb.name} ${number} selected`;
      forSelected[position].disabled = number === 0;
    }
  }
  update();
  const shown = table("Dead letters", [
    ...(mayAct ? [[selectAll, (letter) => boxes[letters.indexOf(letter)]]] : []),
    ["Number", (letter) => link(`deadletters/${letter.sequence}`, {}, `${letter.sequence}`)],
    ["Failed", (letter) => time(letter.failedAt)],
    ["Reason", (letter) => link("deadletters", { stream, reason: letter.reason }, plain(letter.reason))],
    ["Detail", (letter) => text(letter.detail)],
    ["Stream", (letter) => link("deadletters", { stream: letter.stream, reason }, plain(letter.stream))],
    ["Attempts", (letter) => `${letter.attempts}`],
    ["Bytes", (letter) => letter.size.toLocaleString()],
  ], letters);
  return [
    form,
    h("p", null, `${count(page.total, "dead letter")}${matching}. On this page: `, [...reasons].map(([name, number], position) =>
      [position ? ", " : "", link("deadletters", { stream, reason: name }, plain(name)), ` (${number})`])),
    mayAct ? h("div", { class: "actions" }, forSelected, forAll) : h("p", { class: "faint" }, "Your key may only read."),
    outcome, shown,
    page.nextBefore ? link("deadletters", { stream, reason, before: page.nextBefore }, "Older") : null,
  ];
}

async function one(sequence, { signal, mayAct }) {
  const letter = await api(`${PATH}/${encodeURIComponent(sequence)}`, { signal });
  const outcome = h("div", { class: "outcome" });
  const run = runner(outcome, signal, () => { location.hash = address("deadletters"); });
  const actions = h("div", { class: "actions" },
    button("Replay", () => run(REPLAY, [{ path: `${PATH}/${letter.sequence}/replay`, method: "POST" }])),
    button("Purge", async () => {
      if (await confirmAction("Purge this dead letter? It is deleted for good.", "Purge")) await run(PURGE, [{ path: `${PATH}/${letter.sequence}`, method: "DELETE" }]);
    }, { class: "danger" }));
  return [
    h("p", null, link("deadletters", {}, "All dead letters")),
    facts([
      ["Number", `${letter.sequence}`], ["Failed", time(letter.failedAt)], ["Reason", text(letter.reason)],
      ["Detail", text(letter.detail, 2000)], ["Stream", text(letter.stream)], ["Subject", text(letter.subject)],
      ["Attempts", `${letter.attempts}`], ["Bytes", letter.size.toLocaleString()],
    ]),
    mayAct ? actions : null, outcome,
    section("Message", letter.cut ? h("p", { class: "faint" }, "Only the beginning: the message is too large to show in full.") : null,
      letter.body ? long(pretty(letter.body), "Message") : empty("No message.")),
  ];
}

function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}
