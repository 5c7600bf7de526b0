// Events: a filtered list of stored events, and one event with its properties and timeline.

import { api, query } from "/console/api.js";
import { MAX_FILTER, empty, facts, filters, h, json, link, linked, plain, section, table, text, time } from "/console/dom.js";
import { live } from "/console/live.js";

// Parts of a search without results, after which the user decides whether to continue.
const MAX_PARTS = 10;
const FIELDS = [["event", "Name"], ["userId", "User id"], ["source", "Source"], ["id", "Event id"]];

export async function view(context) {
  if (context.rest[0] === "live") return live(context);
  return context.rest[0] === "one" ? one(context) : list(context);
}

// Where an event may be that is not stored.
const elsewhere = () => ["It may still wait to be stored (the ", link("", {}, "overview"), " shows how many do), it may be a ", link("deadletters", {}, "dead letter"), ", or it was deleted when its person was erased. "];

const identity = (event) => ({ id: event.id, event: event.event, userId: event.userId, source: event.source });

async function list({ params, signal }) {
  const applied = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name)]));
  const form = [h("p", null, link("events/live", { ...applied, id: null }, "Watch events as they arrive")), filters("events", FIELDS, params)];
  let page = await api(query("/v1/admin/events", { ...applied, before: params.get("before") }), { signal });
  for (let part = 1; part < MAX_PARTS && page.searchedTo && !page.events.length; part += 1) {
    page = await api(query("/v1/admin/events", { ...applied, before: page.nextBefore }), { signal });
  }
  const further = page.nextBefore ? link("events", { ...applied, before: page.nextBefore }, page.searchedTo ? "Search further back" : "Older") : null;
  if (!page.events.length && page.searchedTo) {
    return [form, empty("No event matches back to ", time(page.searchedTo), ". A search with several filters runs in parts: ", further, ".")];
  }
  if (!page.events.length) {
    const filtered = Object.values(applied).some(Boolean);
    return [form, empty(filtered ? ["No event matches. ", applied.id ? elsewhere() : null, link("events", {}, "Show all.")].filter(Boolean)
      : ["No event is stored yet. ", link("connect", {}, "Connect PostHog"), ", or send one with ", h("code", null, "POST /v1/events"), "."])];
  }
  return [
    form,
    h("p", null, `${page.totalEstimated ? "About " : ""}${page.total.toLocaleString()} event${page.total === 1 ? "" : "s"}, latest first.`),
    table("Events", [
      ["Happened", (event) => time(event.occurredAt)],
      ["Name", (event) => link("events/one", identity(event), text(event.event))],
      ["User id", (event) => linked("events", { ...applied, userId: event.userId }, event.userId)],
      ["Contact", (event) => linked("contacts", { key: event.contactKey }, event.contactKey)],
      ["Source", (event) => linked("events", { ...applied, source: event.source }, event.source)],
      ["Received", (event) => [time(event.receivedAt), event.backfilled ? " (backfilled)" : ""]],
    ], page.events),
    page.searchedTo ? h("p", null, "Searched back to ", time(page.searchedTo), ". ", further) : further,
  ];
}

const ANNOUNCED = {
  absent: "No: the stream has no message of it. An event of a backfill is announced only if the backfill was started with that option. Any event waits while NATS accepts none.",
  expired: "Unknown: the stream no longer has messages that old.",
  unknown: "Unknown: NATS does not answer, or there were very many events of this name at the time.",
};

// The delay between two times as text, or null if it is negative because the clocks of two machines differ.
function after(from, to) {
  const seconds = (new Date(to) - new Date(from)) / 1000;
  if (!(seconds >= 0)) return null;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms later` : `${seconds.toLocaleString(undefined, { maximumFractionDigits: 1 })} s later`;
}

function step(name, at, from, ...more) {
  const delay = at && from ? after(from, at) : null;
  return h("li", null, h("strong", null, name), " ", at ? time(at) : null, delay ? h("span", { class: "faint" }, ` ${delay}`) : null, more.length ? h("p", null, more) : null);
}

function timeline({ event, queuedAt, storedAt, announcement, deliveries, correlationId }) {
  const announced = announcement.state === "announced";
  const sent = deliveries?.map((delivery) => step(`Sent to ${plain(delivery.description ?? delivery.destinationId)}`, delivery.finishedAt, event.receivedAt,
    link(`destinations/${delivery.destinationId}`, {}, delivery.status), ` after ${delivery.attempts} attempt${delivery.attempts === 1 ? "" : "s"}`,
    delivery.responseStatus ? `, PostHog answered ${delivery.responseStatus}` : "", delivery.error ? [": ", text(delivery.error, 500)] : ""));
  return [
    h("ol", { class: "way" },
      step("Happened", event.occurredAt, null, "By the reporter's clock."),
      step("Received", event.receivedAt, null, correlationId ? ["Request id in the logs: ", text(correlationId), "."] : null, event.backfilled ? " Imported by a backfill, which started then." : null),
      queuedAt ? step("Queued", queuedAt, event.receivedAt) : step("Queued", null, null, storedAt ? "No time: events of POST /v1/events and of backfills are stored without a queue." : "The time was not recorded then."),
      storedAt ? step("Stored", storedAt, event.receivedAt) : step("Stored", null, null, "Yes, between receipt and announcement. The time was not recorded then."),
      announced ? step("Announced", announcement.at, event.receivedAt, `As message ${announcement.sequence} of the stream EVENTS`, announcement.traceId ? [", trace ", text(announcement.traceId)] : "", ".")
        : step("Announced", null, null, ANNOUNCED[announcement.state]),
      sent?.length ? sent : step("Delivered", null, null, deliveries === null ? "Unknown: analytics does not answer."
        : "No destination has it in its history. Destinations receive what services report, and keep the latest 1,000 deliveries. Events from PostHog are not sent back.")),
  ];
}

async function one({ params, signal }) {
  // Values too long for an address are omitted from links, so the event may not be fully identified.
  const applied = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name)]));
  const { events: [event], searchedTo } = await api(query("/v1/admin/events", { ...applied, limit: 1 }), { signal });
  if (!event && searchedTo) return empty("The id of this event is too long for an address. ", link("events", applied, "Search for it among similar events."));
  if (!event) return empty("There is no such event. ", elsewhere(), link("events", {}, "Show all events."));
  return [
    h("p", null, link("events", {}, "All events")),
    facts([
      ["Name", text(event.event)], ["Event id", text(event.id)], ["Source", text(event.source)],
      ["User id", text(event.userId)],
      ["Contact", linked("contacts", { key: event.contactKey }, event.contactKey)],
    ]),
    section("Timeline", await trace(event, signal)),
    section("Properties", Object.keys(event.properties).length ? json(event.properties, "Properties") : empty("None.")),
  ];
}

async function trace(event, signal) {
  const applied = identity(event);
  if (Object.values(applied).some((value) => value.length > MAX_FILTER)) return empty("Its name is too long to trace it. It was received ", time(event.receivedAt), ".");
  try {
    return timeline(await api(`/v1/admin/events/trace?${new URLSearchParams(applied)}`, { signal }));
  } catch (error) {
    if (signal.aborted) throw error;
    return h("p", { class: "problem", role: "alert" }, error.message);
  }
}
