// Contacts: a list of them, their ids and properties, and merges, which can be undone.

import { api, query } from "/console/api.js";
import { button, confirmAction, empty, facts, filters, h, json, link, linked, plain, section, showStatus, table, text, time } from "/console/dom.js";

// Ids of this length may be clipped, so they are not linked.
const CLIPPED_ID = 200;
const MAX_ROWS = 200;
const KINDS = { external: "User id", email: "Email", row: "Merged contact" };

export async function view({ params, signal, mayAct, reload }) {
  const key = params.get("key");
  const form = filters("contacts", [["key", "User id, contact id or email, or how it begins"]], params);
  if (!key) return [form, await list(params, signal)];
  const { contacts } = await api(query("/v1/admin/contacts", { key }), { signal });
  if (!contacts.length) return [form, await list(params, signal, key)];
  return [form, contacts.map((contact) => one(contact, mayAct, reload))];
}

function one(contact, mayAct, reload) {
  const problem = h("p", { class: "problem", role: "alert" });
  const undoButton = (merge) => button("Undo", async () => {
    problem.textContent = "";
    if (!(await confirmAction("Split this contact into two again? They stay separate from then on.", "Undo the merge"))) return;
    try {
      await api(`/v1/admin/contacts/merges/${merge.id}/split`, { method: "POST" });
    } catch (error) {
      problem.textContent = error.message;
      return;
    }
    showStatus("Merge undone.");
    await reload();
  }, { "aria-label": `Undo merge ${merge.id}` });
  return section(plain(contact.email ?? contact.contactKey),
    facts([
      ["Id", text(contact.id)], ["Known as", text(contact.contactKey)], ["Email", contact.emailOrigin ? [text(contact.email), h("span", { class: "faint" }, " since ", time(contact.emailOrigin.at), ", by the event ", eventOf(contact.emailOrigin))] : text(contact.email)], ["Time zone", text(contact.timezone)],
      ["First seen", time(contact.firstSeenAt)], ["Last seen", time(contact.lastSeenAt)],
      ["Events", linked("events", { userId: contact.contactKey }, contact.contactKey)],
    ]),
    h("h3", null, `Known by (${contact.keyCount.toLocaleString()})`),
    table("Known by", [["Kind", (row) => KINDS[row.kind] ?? row.kind], ["Value", (row) => text(row.value)]], contact.keys),
    h("h3", null, "Merges"),
    contact.merges.length ? table("Merges", [
      ["When", (merge) => time(merge.at)],
      ["Contact merged into this one", (merge) => text(merge.contactId)],
      ["Known by", (merge) => merge.keys.map((row, position) => [position ? ", " : "", text(row.value, 60)])],
      ["Undone", (merge) => (merge.splitAt ? time(merge.splitAt) : mayAct ? undoButton(merge) : "no")],
    ], contact.merges) : empty("No other contact was merged into this one."),
    problem,
    h("h3", null, `Properties (${Object.keys(contact.properties).length.toLocaleString()})`),
    Object.keys(contact.properties).length ? propertyTable(contact) : empty("None yet: they come with person properties of events."));
}

async function list(params, signal, search) {
  const page = await api(query("/v1/admin/contacts", { order: "created", search, before: params.get("before") }), { signal });
  if (!page.contacts.length && search) return empty("No contact has this id or address, and none begins with it. A contact is created with the first event of a user id or email address.");
  if (!page.contacts.length) return empty("No contacts yet. A contact is created with the first event of a user id or email address: ", link("connect", {}, "connect PostHog"), ", or send an event with ", h("code", null, "POST /v1/events"), ".");
  return [
    h("p", null, `${page.totalEstimated ? "About " : ""}${page.total.toLocaleString()} contact${page.total === 1 ? "" : "s"}, newest first${search ? ". No exact match; these begin with it or contain it" : ""}.`),
    table("Contacts", [
      ["Known as", (contact) => linked("contacts", { key: contact.contactKey }, contact.contactKey)],
      ["Email", (contact) => text(contact.email)],
      ["First seen", (contact) => time(contact.firstSeenAt)],
      ["Last seen", (contact) => time(contact.lastSeenAt)],
      ["Properties", (contact) => Object.keys(contact.properties).length.toLocaleString()],
    ], page.contacts),
    page.nextBefore ? link("contacts", { key: search, before: page.nextBefore }, "Older") : null,
  ];
}

function eventOf(origin) {
  if (!origin) return text(null);
  const shown = text(origin.eventId, 60);
  return origin.eventId.length < CLIPPED_ID ? link("events", { id: origin.eventId }, shown) : shown;
}

function propertyTable({ properties, origins }) {
  const names = Object.keys(properties).sort();
  const value = (name) => (typeof properties[name] === "string" ? properties[name] : JSON.stringify(properties[name]));
  return [
    table("Properties", [
      ["Name", (name) => text(name)],
      ["Value", (name) => text(value(name), 300)],
      ["Since", (name) => time(origins?.[name]?.at)],
      ["From the event", (name) => eventOf(origins?.[name])],
    ], names.slice(0, MAX_ROWS)),
    names.length > MAX_ROWS ? h("p", null, `The first ${MAX_ROWS} of them by name.`) : null,
    h("details", null, h("summary", null, "All of them as JSON"), json(properties, "Properties as JSON")),
  ];
}
