// Destinations: creates, edits, pauses, tests and deletes them, and shows their deliveries.

import { api, query } from "/console/api.js";
import { address, button, confirmAction, empty, exclusive, facts, field, h, json, link, navigate, plain, section, showStatus, table, text, time } from "/console/dom.js";

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
  const create = mayAct ? h("p", null, link("destinations/new", {}, "Create a destination")) : null;
  if (!page.webhooks.length) return [create, empty("No destination: engagement is sent nowhere. ", h("code", null, "ENABLE_POSTHOG_DESTINATION=true"), " creates one for the connected project.")];
  return [
    create,
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

async function one(destination, { params, signal, mayAct, reload }) {
  const status = params.get("status") ?? "";
  const offset = Number(params.get("offset")) || 0;
  const path = `${PATH}/${destination.id}`;
  const history = await api(query(`${path}/deliveries`, { status, limit: PAGE, offset }), { signal });
  const problem = h("p", { class: "problem", role: "alert" });
  const actionButton = (label, request, message, props) => button(label, async () => {
    problem.textContent = "";
    try {
      await request();
    } catch (error) {
      problem.textContent = error.message;
      return;
    }
    showStatus(message);
    await reload();
  }, props);
  const toggle = destination.disabled ? ["Resume", "resume", "The destination is active."] : ["Pause", "pause", "The destination is paused."];
  const actions = h("div", { class: "actions" },
    actionButton(toggle[0], () => api(`${path}/${toggle[1]}`, { method: "POST" }), toggle[2], { name: "toggle" }),
    actionButton("Send a test event", () => api(`${path}/test`, { method: "POST" }), "Test event sent: see the history."),
    actionButton("Refresh", async () => {}, "Refreshed."),
    button("Edit", () => { location.hash = address(`destinations/${destination.id}/edit`); }),
    button("Delete", async () => {
      if (!(await confirmAction("Delete this destination, its history and the events that wait for it?", "Delete"))) return;
      try {
        await api(path, { method: "DELETE" });
      } catch (error) {
        problem.textContent = error.message;
        return;
      }
      showStatus("The destination is deleted.", { forNextView: true });
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
      navigate(address(`destinations/${destination.id}`, { status: choose.value }));
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

// The delivery that is being retried. The history contains it only when it has ended.
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
  const form = h("form", { class: "edit", submit: exclusive(async () => {
    problem.textContent = "";
    try {
      const body = {
        url: url.value, description: description.value || null,
        eventTypes: types.value.split(/[\n,]/).map((name) => name.trim()).filter(Boolean),
        config: changes(destination?.config ?? {}, parsed(config.value)),
      };
      const saved = await api(destination ? `${PATH}/${destination.id}` : PATH, { method: destination ? "PATCH" : "POST", body });
      showStatus("Saved.", { forNextView: true });
      location.hash = address(`destinations/${saved.id}`);
    } catch (error) {
      problem.textContent = error.message;
    }
  }) },
  field("Description", description), field("URL", url),
  field("Event types, one a line", types),
  field("Settings (JSON): apiKey, host, eventNames, syncPersons, unsubscribedPropertyKey", config),
  h("p", { class: "faint" }, "A key that is shown as *** is kept. Without a key and a host it captures into the connected project."),
  problem,
  h("div", { class: "actions" }, h("button", { type: "submit" }, "Save"), link(back, {}, "Cancel")));
  return form;
}

function parsed(input) {
  let value;
  try {
    value = JSON.parse(input || "{}");
  } catch {
    throw new Error("The settings are not JSON.");
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("The settings must be a JSON object.");
  return value;
}

// The gateway merges the settings into the stored ones, so removed settings must be sent as null.
function changes(before, after) {
  const removed = Object.keys(before).filter((name) => !(name in after));
  return { ...after, ...Object.fromEntries(removed.map((name) => [name, null])) };
}
