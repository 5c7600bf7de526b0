// Connect: the credential's state, the command that connects, the destination in PostHog, disconnect.

import { api } from "/console/api.js";
import { ask, button, empty, facts, h, say, section, text, time } from "/console/dom.js";

const EVERY_MS = 5000;
const CREDENTIAL = "/v1/admin/provider-credentials/posthog";
const GOOD = new Set(["present", "working", "live", "possible"]);
const BAD = new Set(["needs_reconnect", "unreadable", "failing", "missing", "disabled", "disabled_by_posthog", "drifted", "refused", "degraded"]);

const state = (words) => h("span", { class: `state ${GOOD.has(words) ? "up" : BAD.has(words) ? "down" : "unknown"}` }, words.replaceAll("_", " "));

export async function view({ signal, mayAct, again }) {
  if (!mayAct) return empty("Your key may only read; connecting needs an admin key.");
  const found = await api("/v1/admin/analytics/diagnosis", { signal });
  const connected = found.credential.state === "present";
  if (!connected) wait(signal, found.credential.state, again);
  return [
    connected ? null : howTo(found.credential),
    section("Credential", facts([
      ["State", state(found.credential.state)], ["Expires", time(found.credential.expiresAt)],
      ["Scopes", text(found.credential.scopes.join(", "), 2000)],
      ["Scopes that are missing", text(found.scopeGap.join(", "), 2000)],
    ]), notes(found.credential), connected ? disconnect(again) : null),
    section("Destination in PostHog", facts([
      ["State", state(found.destination.state)], ["Delivers to", text(found.destination.webhookUrl, 2048)],
      ["Hog function", text(found.destination.hogFunctionId)],
      ["In PostHog", dashboard(found.destination.dashboardUrl)],
    ]), notes(found.destination), provision(again)),
    section("The rest", facts([
      ["Persons are read", state(found.personReads.state)], ["Webhook secret", state(found.webhookSecret.state)],
      ["Public URL", text(found.publicUrl.url, 2048)],
    ]), notes(found.personReads), notes(found.webhookSecret), notes(found.publicUrl)),
  ];
}

function notes({ detail, remediation }) {
  return [detail, remediation].filter(Boolean).map((words) => h("p", null, text(words, 2000)));
}

// Only to where a browser may go: not `javascript:`.
function dashboard(url) {
  if (!url || !/^https?:\/\//.test(url)) return text(null);
  return h("a", { href: url, rel: "noreferrer noopener", target: "_blank" }, "Open its page");
}

function howTo(credential) {
  const again = credential.state === "needs_reconnect";
  return section(again ? "Connect PostHog again" : "Connect PostHog",
    h("p", null, "PostHog sends its consent back to a command on your own machine. Run this where you have a browser:"),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Command" }, `hogsend connect --url ${location.origin}`),
    h("p", { class: "faint" }, "This page waits for it, and shows what came of it."));
}

function wait(signal, before, again) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try {
      const health = await api("/v1/health", { signal });
      const now = health.credentials.posthog?.state;
      if (now && now !== "unknown" && now !== before) {
        say(now === "present" ? "PostHog is connected." : `The credential is ${now}.`);
        await again();
      }
    } catch (error) {
      if (!signal.aborted) say(error.message);
    }
  }, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function disconnect(again) {
  const problem = h("p", { class: "problem", role: "alert" });
  return [h("div", { class: "actions" }, button("Disconnect", async () => {
    problem.textContent = "";
    if (!(await ask("Delete the credential and the minted webhook secret? PostHog's webhooks are refused until it is connected again.", "Disconnect"))) return;
    try {
      await api(CREDENTIAL, { method: "DELETE" });
    } catch (error) {
      problem.textContent = error.message;
      return;
    }
    say("PostHog is disconnected.");
    await again();
  }, { class: "danger" })), problem];
}

function provision(again) {
  const outcome = h("div", { role: "status" });
  const run = button("Set up the destination", async () => {
    run.disabled = true;
    outcome.replaceChildren(h("p", null, "PostHog is asked…"));
    try {
      const done = await api("/v1/admin/analytics/provision-loop", { method: "POST" });
      outcome.replaceChildren(h("p", null, `The destination was ${done.action === "unchanged" ? "right already" : done.action}; it delivers to `, text(done.webhookUrl, 2048), "."), button("Look again", again));
    } catch (error) {
      outcome.replaceChildren(h("p", { class: "problem" }, error.message));
    } finally {
      run.disabled = false;
    }
  });
  return [h("div", { class: "actions" }, run), outcome];
}
