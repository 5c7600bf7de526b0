// The audit trail: admin requests that may have changed something.

import { api, query } from "/console/api.js";
import { empty, filters, h, link, plain, table, text, time } from "/console/dom.js";

export async function view({ params, signal }) {
  const applied = { action: params.get("action"), actor: params.get("actor") };
  const page = await api(query("/v1/admin/audit", { ...applied, before: params.get("before") }), { signal });
  const form = filters("audit", [["action", "Action"], ["actor", "Actor"]], params);
  if (!page.entries.length) {
    return [form, empty(applied.action || applied.actor ? ["No entry matches. ", link("audit", {}, "Show all.")] : "Nothing was changed yet. Whatever an admin key or this console changes is recorded here.")];
  }
  return [
    form,
    h("p", null, `${page.totalEstimated ? "About " : ""}${page.total.toLocaleString()} ${page.total === 1 ? "entry" : "entries"}, latest first.`),
    table("Audit trail", [
      ["When", (entry) => time(entry.at)],
      ["Actor", (entry) => link("audit", { ...applied, actor: entry.actor }, plain(entry.actor))],
      ["Action", (entry) => link("audit", { ...applied, action: entry.action }, plain(entry.action))],
      ["Resource", (entry) => text(entry.resource)],
      ["Status", (entry) => `${entry.status}`],
      ["From", (entry) => text(entry.address)],
      ["Request", (entry) => text(entry.requestId)],
    ], page.entries),
    page.nextBefore ? link("audit", { ...applied, before: page.nextBefore }, "Older") : null,
  ];
}
