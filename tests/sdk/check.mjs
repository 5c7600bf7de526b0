// Uses the published posthog-node against a PostHog: `node check.mjs host projectKey secretKey`.
// Prints what it found as JSON; a request that fails is printed to stderr, and ends it with 1.

import { PostHog } from "posthog-node";

const [, , host, projectKey, secretKey] = process.argv;
const errors = [];

function client(options) {
  const made = new PostHog(projectKey, { host, flushAt: 1, ...options });
  made.on("error", (error) => errors.push(String(error)));
  return made;
}

const remote = client({});
remote.capture({ distinctId: "n_1", event: "signed_up", properties: { plan: "pro", $is_identified: true } });
remote.identify({ distinctId: "n_1", properties: { email: "ada@example.com" } });
remote.alias({ distinctId: "n_1", alias: "anon" });
const asked = await remote.getAllFlagsAndPayloads("n_1", { personProperties: { plan: "pro" } });
await remote.shutdown();

const local = client({ personalApiKey: secretKey });
await local.waitForLocalEvaluationReady(5000);
const alone = { onlyEvaluateLocally: true, sendFeatureFlagEvents: false };
const evaluated = {
  colour: await local.getFeatureFlag("colour", "n_2", alone),
  off: await local.getFeatureFlag("off", "n_2", alone),
  pros: await local.getFeatureFlag("pros", "n_2", { ...alone, personProperties: { plan: "pro" } }),
};
const payload = await local.getRemoteConfigPayload("colour");
await local.shutdown();

if (errors.length > 0) {
  console.error(errors.join("\n"));
  process.exit(1);
}
console.log(JSON.stringify({ asked, evaluated, payload }));
