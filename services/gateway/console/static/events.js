// Events: stored ones by filter, and one with its payload.

import { api, query } from "/console/api.js";
import { LONGEST_FILTER, empty, facts, filters, h, json, link, linked, plain, section, table, text, time } from "/console/dom.js";
import { live } from "/console/live.js";

// Of a search that finds nothing, before the user is asked whether to go on.
const MOST_PARTS = 10;
const FIELDS = [["event", "Name"], ["userId", "User id"], ["source", "Source"], ["id", "Event id"]];

export async function view(context) {
  if (context.rest[0] === "live") return live(context);
  return context.rest[0] === "one" ? one(context) : list(context);
}

// What is known of an event that is not stored: nothing of its own.
const elsewhere = () => ["One that came may still wait, which the ", link("", {}, "overview"), " counts, or be a ", link("deadletters", {}, "dead letter"), "; one of a person who was erased is gone. "];

const same = (event) => ({ id: event.id, event: event.event, userId: event.userId, source: event.source });

async function list({ params, signal }) {
  const wanted = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name)]));
  const form = [h("p", null, link("events/live", { ...wanted, id: null }, "Watch events as they arrive")), filters("events", FIELDS, params)];
  let page = await api(query("/v1/admin/events", { ...wanted, before: params.get("before") }), { signal });
  for (let part = 1; part < MOST_PARTS && page.searchedTo && !page.events.length; part += 1) {
    page = await api(query("/v1/admin/events", { ...wanted, before: page.nextBefore }), { signal });
  }
  const further = page.nextBefore ? link("events", { ...wanted, before: page.nextBefore }, page.searchedTo ? "Search further back" : "Older") : null;
  if (!page.events.length && page.searchedTo) {
    return [form, empty("No event matches back to ", time(page.searchedTo), ". Filters that rarely meet are searched a part at a time: ", further, ".")];
  }
  if (!page.events.length) {
    const filtered = Object.values(wanted).some(Boolean);
    return [form, empty(filtered ? ["No event matches. ", wanted.id ? elsewhere() : null, link("events", {}, "Show all.")].filter(Boolean)
      : ["No event is stored yet. ", link("connect", {}, "Connect PostHog"), ", or send one with ", h("code", null, "POST /v1/events"), "."])];
  }
  return [
    form,
    h("p", null, `${page.totalEstimated ? "About " : ""}${page.total.toLocaleString()} event${page.total === 1 ? "" : "s"}, latest first.`),
    table("Events", [
      ["Happened", (event) => time(event.occurredAt)],
      ["Name", (event) => link("events/one", same(event), text(event.event))],
      ["User id", (event) => linked("events", { ...wanted, userId: event.userId }, event.userId)],
      ["Contact", (event) => linked("contacts", { key: event.contactKey }, event.contactKey)],
      ["Source", (event) => linked("events", { ...wanted, source: event.source }, event.source)],
      ["Received", (event) => [time(event.receivedAt), event.backfilled ? " (backfilled)" : ""]],
    ], page.events),
    page.searchedTo ? h("p", null, "Searched back to ", time(page.searchedTo), ". ", further) : further,
  ];
}

const ANNOUNCED = {
  absent: "No: the stream has no message of it. An event that a backfill brought is announced only when that was asked for, and one may wait while NATS takes none.",
  expired: "Unknown: the stream no longer holds messages that old.",
  unknown: "Unknown: NATS does not answer, or very many events of this name came at the time.",
};

// Seconds from one time to a later one; nothing where the clocks of two machines say otherwise.
function after(from, to) {
  const seconds = (new Date(to) - new Date(from)) / 1000;
  if (!(seconds >= 0)) return null;
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms later` : `${seconds.toLocaleString(undefined, { maximumFractionDigits: 1 })} s later`;
}

function step(name, at, from, ...more) {
  const delay = at && from ? after(from, at) : null;
  return h("li", null, h("strong", null, name), " ", at ? time(at) : null, delay ? h("span", { class: "faint" }, ` ${delay}`) : null, more.length ? h("p", null, more) : null);
}

function way({ event, queuedAt, storedAt, announcement, deliveries, correlationId }) {
  const announced = announcement.state === "announced";
  const sent = deliveries?.map((one) => step(`Sent to ${plain(one.description ?? one.destinationId)}`, one.finishedAt, event.receivedAt,
    link(`destinations/${one.destinationId}`, {}, one.status), ` after ${one.attempts} attempt${one.attempts === 1 ? "" : "s"}`,
    one.responseStatus ? `, PostHog answered ${one.responseStatus}` : "", one.error ? [": ", text(one.error, 500)] : ""));
  return [
    h("ol", { class: "way" },
      step("Happened", event.occurredAt, null, "By the reporter's clock."),
      step("Received", event.receivedAt, null, correlationId ? ["Request id in the logs: ", text(correlationId), "."] : null, event.backfilled ? " Brought by a backfill, which started then." : null),
      queuedAt ? step("Queued", queuedAt, event.receivedAt) : step("Queued", null, null, storedAt ? "No time: events sent with POST /v1/events or brought by a backfill are stored without a queue." : "The time was not recorded then."),
      storedAt ? step("Stored", storedAt, event.receivedAt) : step("Stored", null, null, "Yes, between receipt and announcement. The time was not recorded then."),
      announced ? step("Announced", announcement.at, event.receivedAt, `As message ${announcement.sequence} of the stream EVENTS`, announcement.traceId ? [", trace ", text(announcement.traceId)] : "", ".")
        : step("Announced", null, null, ANNOUNCED[announcement.state]),
      sent?.length ? sent : step("Delivered", null, null, deliveries === null ? "Unknown: analytics does not answer."
        : "To no destination that keeps it in its history: they take what services report, and keep the latest 1,000. What came from PostHog is not sent back.")),
  ];
}

async function one({ params, signal }) {
  // An address has no room for very long names: what it says of an event may be less than all of it.
  const wanted = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name)]));
  const { events: [event], searchedTo } = await api(query("/v1/admin/events", { ...wanted, limit: 1 }), { signal });
  if (!event && searchedTo) return empty("The address has no room for the id of this event. ", link("events", wanted, "Look for it among those like it."));
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
  const wanted = same(event);
  if (Object.values(wanted).some((value) => value.length > LONGEST_FILTER)) return empty("Its name is too long to look for what became of it. It was received ", time(event.receivedAt), ".");
  try {
    return way(await api(`/v1/admin/events/trace?${new URLSearchParams(wanted)}`, { signal }));
  } catch (error) {
    if (signal.aborted) throw error;
    return h("p", { class: "problem", role: "alert" }, error.message);
  }
}
