// Events: stored ones by filter, and one with its payload.

import { api, query } from "/console/api.js";
import { empty, facts, filters, h, json, link, linked, section, table, text, time } from "/console/dom.js";

const FIELDS = [["event", "Name"], ["userId", "User id"], ["source", "Source"], ["id", "Event id"]];

export async function view(context) {
  if (context.rest[0] === "live") return (await import("/console/live.js")).live(context);
  return context.rest[0] === "one" ? one(context) : list(context);
}

const same = (event) => ({ id: event.id, event: event.event, userId: event.userId, source: event.source });

async function list({ params, signal }) {
  const wanted = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name)]));
  const form = [h("p", null, link("events/live", { ...wanted, id: null }, "Watch events as they arrive")), filters("events", FIELDS, params)];
  const page = await api(query("/v1/admin/events", { ...wanted, before: params.get("before") }), { signal });
  if (!page.events.length) {
    const filtered = Object.values(wanted).some(Boolean);
    return [form, empty(filtered ? ["No event matches. ", link("events", {}, "Show all.")]
      : ["No event is stored yet. ", link("connect", {}, "Connect PostHog"), ", or send one with ", h("code", null, "POST /v1/events"), "."])];
  }
  return [
    form,
    h("p", null, `${page.totalEstimated ? "About " : ""}${page.total.toLocaleString()} event${page.total === 1 ? "" : "s"}, the latest that happened first.`),
    table("Events", [
      ["Happened", (event) => time(event.occurredAt)],
      ["Name", (event) => link("events/one", same(event), text(event.event))],
      ["User id", (event) => linked("events", { ...wanted, userId: event.userId }, event.userId)],
      ["Contact", (event) => linked("contacts", { key: event.contactKey }, event.contactKey)],
      ["Source", (event) => linked("events", { ...wanted, source: event.source }, event.source)],
      ["Received", (event) => [time(event.receivedAt), event.backfilled ? " (backfilled)" : ""]],
    ], page.events),
    page.nextBefore ? link("events", { ...wanted, before: page.nextBefore }, "Older") : null,
  ];
}

async function one({ params, signal }) {
  const wanted = Object.fromEntries(FIELDS.map(([name]) => [name, params.get(name)]));
  const { events } = await api(query("/v1/admin/events", { ...wanted, limit: 1 }), { signal });
  const [event] = events;
  if (!event) return empty("There is no such event: it may have been deleted. ", link("events", {}, "Show all events."));
  return [
    h("p", null, link("events", {}, "All events")),
    facts([
      ["Name", text(event.event)], ["Event id", text(event.id)], ["Source", text(event.source)],
      ["User id", text(event.userId)],
      ["Contact", linked("contacts", { key: event.contactKey }, event.contactKey)],
      ["Happened", time(event.occurredAt)], ["Received", [time(event.receivedAt), event.backfilled ? " (brought by a backfill)" : ""]],
    ]),
    section("Properties", Object.keys(event.properties).length ? json(event.properties, "Properties") : empty("It has none.")),
  ];
}
