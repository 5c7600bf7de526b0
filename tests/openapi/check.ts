// Asks a running gateway through a client made from its OpenAPI document: every answer has the type
// that the document gives it, and what it has is what is answered.
// `node check.js http://127.0.0.1:3002 adminKey ingestKey`

import createClient from "openapi-fetch";

import type { components, paths } from "./gateway.js";

declare const process: { argv: string[] };

type Schemas = components["schemas"];

const [, , baseUrl, adminKey, ingestKey] = process.argv;
const admin = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${adminKey}` } });
const reporter = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${ingestKey}` } });
const nobody = createClient<paths>({ baseUrl });

function need<T>(answer: { data?: T; error?: unknown; response: Response }, status: number): T {
  equal(answer.response.status, status, answer.error);
  if (answer.data === undefined) throw new Error("no data");
  return answer.data;
}

function equal(found: unknown, expected: unknown, why?: unknown): void {
  if (found !== expected) throw new Error(`${found} instead of ${expected}: ${JSON.stringify(why)}`);
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

const made: Schemas["ShownDestination"] = need(
  await admin.POST("/v1/admin/webhooks", {
    body: { url: "posthog://capture", eventTypes: ["email.sent"], config: { apiKey: "phc_ts" } },
  }),
  201,
);
equal(made.config["apiKey"], "***");
const one = { params: { path: { id: made.id } } };
const changed = need(
  await admin.PATCH("/v1/admin/webhooks/{id}", { ...one, body: { disabled: true } }),
  200,
);
equal(changed.status, "disabled");
const listed: Schemas["DestinationList"] = need(await admin.GET("/v1/admin/webhooks"), 200);
equal(listed.endpoints[0]?.id, made.id);
equal(need(await admin.DELETE("/v1/admin/webhooks/{id}", one), 200).deleted, true);

equal(need(await nobody.GET("/v1/health"), 200).version.length > 0, true);
const known = need(await admin.GET("/v1/admin/capabilities"), 200);
equal(known.capabilities.length > 0, true);

const gone = await admin.GET("/v1/admin/webhooks/{id}", one);
equal(gone.response.status, 404);
const missing: string | undefined = gone.error && "code" in gone.error ? gone.error.code : undefined;
equal(missing, undefined);
const refused = await nobody.GET("/v1/admin/events");
equal(refused.response.status, 401);
const wrong = await reporter.POST("/v1/events", { body: { event: "", userId: "ts" } });
equal(wrong.response.status, 400);
equal(wrong.error && "success" in wrong.error && wrong.error.success, false);
console.log("ok");
