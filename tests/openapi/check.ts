// Sends requests to a running gateway with a client generated from its OpenAPI document. Each
// response must have the type that the document describes, and the expected values.
// `node check.js http://127.0.0.1:3002 adminKey ingestKey`

import createClient from "openapi-fetch";

import type { components, paths } from "./gateway.js";

declare const process: { argv: string[] };

type Schemas = components["schemas"];

const [, , baseUrl, adminKey, ingestKey] = process.argv;
const admin = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${adminKey}` } });
const reporter = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${ingestKey}` } });
const withoutKey = createClient<paths>({ baseUrl });

function need<T>(result: { data?: T; error?: unknown; response: Response }, status: number): T {
  equal(result.response.status, status, result.error);
  if (result.data === undefined) throw new Error("no data");
  return result.data;
}

function equal(actual: unknown, expected: unknown, why?: unknown): void {
  if (actual !== expected) throw new Error(`${actual} instead of ${expected}: ${JSON.stringify(why)}`);
}

const recorded: Schemas["RecordedEvent"] = need(
  await reporter.POST("/v1/events", {
    body: { event: "signed_up", userId: "ts", properties: { plan: "pro" } },
  }),
  202,
);
equal(recorded.stored, true);

const page: Schemas["EventPage"] = need(
  await admin.GET("/v1/admin/events", { params: { query: { userId: "ts", limit: 1 } } }),
  200,
);
equal(page.events[0]?.contactKey, recorded.contactKey);

const created: Schemas["ShownDestination"] = need(
  await admin.POST("/v1/admin/webhooks", {
    body: { url: "posthog://capture", eventTypes: ["email.sent"], config: { apiKey: "phc_ts" } },
  }),
  201,
);
equal(created.config["apiKey"], "***");
const byId = { params: { path: { id: created.id } } };
const changed = need(
  await admin.PATCH("/v1/admin/webhooks/{id}", { ...byId, body: { disabled: true } }),
  200,
);
equal(changed.status, "disabled");
const listed: Schemas["DestinationList"] = need(await admin.GET("/v1/admin/webhooks"), 200);
equal(listed.endpoints[0]?.id, created.id);
equal(need(await admin.DELETE("/v1/admin/webhooks/{id}", byId), 200).deleted, true);

equal(need(await withoutKey.GET("/v1/health"), 200).version.length > 0, true);
const report = need(await admin.GET("/v1/admin/capabilities"), 200);
equal(report.capabilities.length > 0, true);

const deleted = await admin.GET("/v1/admin/webhooks/{id}", byId);
equal(deleted.response.status, 404);
const code: string | undefined = deleted.error && "code" in deleted.error ? deleted.error.code : undefined;
equal(code, undefined);
const refused = await withoutKey.GET("/v1/admin/events");
equal(refused.response.status, 401);
const invalid = await reporter.POST("/v1/events", { body: { event: "", userId: "ts" } });
equal(invalid.response.status, 400);
equal(invalid.error && "success" in invalid.error && invalid.error.success, false);
console.log("ok");
