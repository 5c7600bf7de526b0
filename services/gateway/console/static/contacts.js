// Contacts: who is who, what is known about them, and merges undone.

import { api, query } from "/console/api.js";
import { ask, button, empty, facts, filters, h, json, linked, plain, say, section, table, text, time } from "/console/dom.js";

const KINDS = { external: "User id", email: "Email", row: "Merged contact" };

export async function view({ params, signal, mayAct, again }) {
  const key = params.get("key");
  const form = filters("contacts", [["key", "User id, contact id or email"]], params);
  if (!key) return [form, empty("Find a person by a user id, a contact's id or an email address.")];
  const { contacts } = await api(query("/v1/admin/contacts", { key }), { signal });
  if (!contacts.length) return [form, empty("Nobody is known by that. A contact is made with the first event of a user id or email address.")];
  return [form, contacts.map((contact) => one(contact, mayAct, again))];
}

function one(contact, mayAct, again) {
  const problem = h("p", { class: "problem", role: "alert" });
  const undo = (merge) => button("Undo", async () => {
    problem.textContent = "";
    if (!(await ask("Make two contacts of this one again? They are kept apart from then on.", "Undo the merge"))) return;
    try {
      await api(`/v1/admin/contacts/merges/${merge.id}/split`, { method: "POST" });
    } catch (error) {
      problem.textContent = error.message;
      return;
    }
    say("The merge is undone.");
    await again();
  }, { "aria-label": `Undo merge ${merge.id}` });
  return section(plain(contact.email ?? contact.contactKey),
    facts([
      ["Id", text(contact.id)], ["Known as", text(contact.contactKey)], ["Email", text(contact.email)], ["Time zone", text(contact.timezone)],
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
      ["Undone", (merge) => (merge.splitAt ? time(merge.splitAt) : mayAct ? undo(merge) : "no")],
    ], contact.merges) : empty("No other contact was merged into this one."),
    problem,
    h("h3", null, "Properties"),
    Object.keys(contact.properties).length ? json(contact.properties, "Properties") : empty("None yet: they come with person properties of events."));
}
