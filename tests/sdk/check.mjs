// Runs the published posthog-node against a PostHog: `node check.mjs host projectKey secretKey`.
// Prints the evaluated flags as JSON. Errors are printed to stderr, and the exit code is then 1.

import { PostHog } from "posthog-node";

const [, , host, projectKey, secretKey] = process.argv;
const errors = [];

function client(options) {
  const posthog = new PostHog(projectKey, { host, flushAt: 1, ...options });
  posthog.on("error", (error) => errors.push(String(error)));
  return posthog;
}

const remote = client({});
remote.capture({ distinctId: "n_1", event: "signed_up", properties: { plan: "pro", $is_identified: true } });
remote.identify({ distinctId: "n_1", properties: { email: "ada@example.com" } });
remote.alias({ distinctId: "n_1", alias: "anon" });
const remoteFlags = await remote.getAllFlagsAndPayloads("n_1", { personProperties: { plan: "pro" } });
await remote.shutdown();

process.env.POSTHOG_CAPTURE_MODE = "v1";
const v1 = client({});
v1.capture({ distinctId: "n_1", event: "paid", properties: { amount: 12 } });
await v1.shutdown();

const local = client({ personalApiKey: secretKey });
await local.waitForLocalEvaluationReady(5000);
const localOnly = { onlyEvaluateLocally: true, sendFeatureFlagEvents: false };
const evaluated = {
  colour: await local.getFeatureFlag("colour", "n_2", localOnly),
  off: await local.getFeatureFlag("off", "n_2", localOnly),
  pros: await local.getFeatureFlag("pros", "n_2", { ...localOnly, personProperties: { plan: "pro" } }),
};
const payload = await local.getRemoteConfigPayload("colour");
await local.shutdown();

if (errors.length > 0) {
  console.error(errors.join("\n"));
  process.exit(1);
}
console.log(JSON.stringify({ remote: remoteFlags, evaluated, payload }));
