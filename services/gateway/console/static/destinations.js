// Destinations: make, change, pause, test, delete, and what became of their events.

import { api, query } from "/console/api.js";
import { address, ask, button, empty, facts, field, go, h, json, once, link, plain, say, section, table, text, time } from "/console/dom.js";

const PATH = "/v1/admin/webhooks";
const PAGE = 50;
const TYPES_SHOWN = 3;
const STATUSES = ["", "delivered", "skipped", "failed", "discarded"];

export async function view(context) {
  const [id, what] = context.rest;
  if (id === "new") return context.mayAct ? edit(null) : empty("Your key may only read.");
  if (!id) return list(context);
  const destination = await api(`${PATH}/${encodeURIComponent(id)}`, { signal: context.signal });
  return what === "edit" && context.mayAct ? edit(destination) : one(destination, context);
}

const title = (destination) => plain(destination.description || destination.url);
const state = (destination) => h("span", { class: `state ${destination.disabled ? "unknown" : "up"}` }, destination.disabled ? "paused" : "active");

const first = (names) => names.length > TYPES_SHOWN + 1 ? `${names.slice(0, TYPES_SHOWN).join(", ")} and ${names.length - TYPES_SHOWN} more` : names.join(", ");

async function list({ params, signal, mayAct }) {
  const offset = Number(params.get("offset")) || 0;
  const page = await api(query(PATH, { limit: PAGE, offset }), { signal });
  const make = mayAct ? h("p", null, link("destinations/new", {}, "Create a destination")) : null;
  if (!page.webhooks.length) return [make, empty("No destination: engagement is sent nowhere. ", h("code", null, "ENABLE_POSTHOG_DESTINATION=true"), " makes one for the connected project.")];
  return [
    make,
    table("Destinations", [
      ["Destination", (row) => link(`destinations/${row.id}`, {}, h("bdi", null, title(row)))],
      ["State", state],
      ["Event types", (row) => text(first(row.eventTypes))],
      ["Last delivery", (row) => time(row.lastDeliveryAt)],
      ["Created", (row) => time(row.createdAt)],
    ], page.webhooks),
    offset + PAGE < page.total ? link("destinations", { offset: offset + PAGE }, "Older") : null,
  ];
}

async function one(destination, { params, signal, mayAct, again }) {
  const status = params.get("status") ?? "";
  const offset = Number(params.get("offset")) || 0;
  const path = `${PATH}/${destination.id}`;
  const history = await api(query(`${path}/deliveries`, { status, limit: PAGE, offset }), { signal });
  const problem = h("p", { class: "problem", role: "alert" });
  const act = (label, way, words, props) => button(label, async () => {
    problem.textContent = "";
    try {
      await way();
    } catch (error) {
      problem.textContent = error.message;
      return;
    }
    say(words);
    await again();
  }, props);
  const toggle = destination.disabled ? ["Resume", "resume", "The destination is active."] : ["Pause", "pause", "The destination is paused."];
  const actions = h("div", { class: "actions" },
    act(toggle[0], () => api(`${path}/${toggle[1]}`, { method: "POST" }), toggle[2], { name: "toggle" }),
    act("Send a test event", () => api(`${path}/test`, { method: "POST" }), "Test event sent: see the history."),
    act("Refresh", async () => {}, "Refreshed."),
    button("Edit", () => { location.hash = address(`destinations/${destination.id}/edit`); }),
    button("Delete", async () => {
      if (!(await ask("Delete this destination, its history and the events that wait for it?", "Delete"))) return;
      try {
        await api(path, { method: "DELETE" });
      } catch (error) {
        problem.textContent = error.message;
        return;
      }
      say("The destination is deleted.", { there: true });
      location.hash = address("destinations");
    }, { class: "danger" }));
  const choose = h("select", { name: "status" },
    STATUSES.map((name) => h("option", { value: name, selected: name === status }, name || "all")));
  return [
    h("p", null, link("destinations", {}, "All destinations")),
    facts([
      ["State", state(destination)], ["URL", text(destination.url)], ["Description", text(destination.description, 500)],
      ["Event types", text(destination.eventTypes.join(", "), 2000)], ["Last delivery", time(destination.lastDeliveryAt)],
      ["Created", time(destination.createdAt)], ["Updated", time(destination.updatedAt)],
    ]),
    mayAct ? actions : h("p", { class: "faint" }, "Your key may only read."), problem,
    section("Settings", json(destination.config, "Settings")),
    history.retrying ? section("Failing", ...failing(history.retrying)) : null,
    section("History", h("form", { class: "filters", role: "search", submit: (event) => {
      event.preventDefault();
      go(address(`destinations/${destination.id}`, { status: choose.value }));
    } }, field("Status", choose), h("button", { type: "submit" }, "Show")),
      history.deliveries.length ? table("Deliveries", [
        ["Finished", (row) => time(row.finishedAt)],
        ["Event type", (row) => text(row.eventType)],
        ["Event id", (row) => text(row.eventId)],
        ["Status", (row) => h("span", { class: `state ${{ delivered: "up", failed: "down" }[row.status] ?? "unknown"}` }, row.status)],
        ["Attempts", (row) => `${row.attempts}`],
        ["PostHog answered", (row) => (row.responseStatus === null ? "-" : `${row.responseStatus}`)],
        ["Error", (row) => text(row.error, 500)],
      ], history.deliveries) : empty(history.retrying ? "No delivery has finished yet." : "Nothing was sent yet. Send a test event to see whether PostHog accepts it.")),
    offset + PAGE < history.total ? link(`destinations/${destination.id}`, { status, offset: offset + PAGE }, "Older") : null,
  ];
}

// What is in the history only at its end.
function failing({ since, attempts, responseStatus, error, triedAt, nextAttemptAt }) {
  return [
    facts([
      ["Since", time(since)], ["Last attempt", time(triedAt)], ["Attempts", text(attempts)],
      ["PostHog answered", responseStatus === null ? "nothing" : `${responseStatus}`], ["Error", text(error, 500)],
      ["Next attempt", nextAttemptAt ? time(nextAttemptAt) : "none: these events are dead letters"],
    ]),
    h("p", null, "Events wait until PostHog accepts them. One that fails for good becomes a ", link("deadletters", {}, "dead letter"), "."),
  ];
}

function edit(destination) {
  const url = h("input", { type: "text", value: destination?.url ?? "posthog://capture", required: true, maxlength: 2048 });
  const types = h("textarea", { rows: "6", required: true, spellcheck: "false" });
  types.value = (destination?.eventTypes ?? []).join("\n");
  const description = h("input", { type: "text", value: destination?.description ?? "", maxlength: 500 });
  const config = h("textarea", { rows: "8", spellcheck: "false" });
  config.value = JSON.stringify(destination?.config ?? {}, null, 2);
  const problem = h("p", { class: "problem", role: "alert" });
  const back = destination ? `destinations/${destination.id}` : "destinations";
  const form = h("form", { class: "edit", submit: once(async () => {
    problem.textContent = "";
    try {
      const body = {
        url: url.value, description: description.value || null,
        eventTypes: types.value.split(/[\n,]/).map((name) => name.trim()).filter(Boolean),
        config: changes(destination?.config ?? {}, parsed(config.value)),
      };
      const saved = await api(destination ? `${PATH}/${destination.id}` : PATH, { method: destination ? "PATCH" : "POST", body });
      say("Saved.", { there: true });
      location.hash = address(`destinations/${saved.id}`);
    } catch (error) {
      problem.textContent = error.message;
    }
  }) },
  field("Description", description), field("URL", url),
  field("Event types, one a line", types),
  field("Settings (JSON): apiKey, host, eventNames, syncPersons, unsubscribedPropertyKey", config),
  h("p", { class: "faint" }, "A key that is shown as *** stays as it is. Without a key and a host it captures into the connected project."),
  problem,
  h("div", { class: "actions" }, h("button", { type: "submit" }, "Save"), link(back, {}, "Cancel")));
  return form;
}

function parsed(written) {
  let found;
  try {
    found = JSON.parse(written || "{}");
  } catch {
    throw new Error("The settings are not JSON.");
  }
  if (found === null || typeof found !== "object" || Array.isArray(found)) throw new Error("The settings must be a JSON object.");
  return found;
}

// They are merged into the stored ones: what was taken out has to be named.
function changes(before, after) {
  const gone = Object.keys(before).filter((name) => !(name in after));
  return { ...after, ...Object.fromEntries(gone.map((name) => [name, null])) };
}
