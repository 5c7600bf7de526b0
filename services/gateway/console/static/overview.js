// The overview: asks GET /v1/health again and again, and, signed in, what was done and what works.

import { api } from "/console/api.js";
import { code, empty, every, h, link, redraw, say, section, table, time, withCode } from "/console/dom.js";
import { amount, plot, rate, seconds } from "/console/plots.js";

const EVERY_MS = 5000;
const CAPABILITIES_EVERY_MS = 60_000;
const ACTIVITY_EVERY_MS = 10_000;
const DEAD_LETTERS_EVERY_MS = 15_000;
// What is older says nothing about now.
const ACTIVITY_OLD_MS = 45_000;
// A gateway that is not heard of for as long is one nothing is known of.
const DEADLINE_MS = 8000;
const STEPS = ["PostHog", "Gateway", "JetStream", "Ingest", "PostgreSQL", "Analytics"];

const CREDENTIAL = {
  present: ["up", "connected", null],
  absent: ["unknown", "not connected", "Connect PostHog: on the page Connect, or with `hogsend connect`."],
  needs_reconnect: ["down", "needs to be reconnected", "PostHog refuses the credential: connect again, on the page Connect or with `hogsend connect`."],
  unreadable: ["down", "credential cannot be read", "The stored credential cannot be read: set the BETTER_AUTH_SECRET it was sealed with, or connect again."],
};

const NAMES = {
  eventCapture: "Capture events", personWrites: "Write persons", personReads: "Read persons",
  eventsIn: "Receive PostHog's events", engagementOut: "Send engagement to PostHog", loopProvisioning: "Set up the destination",
};

const known = (status) => (status === "up" || status === "down" ? status : "unknown");
const state = (status, words) => h("span", { class: `state ${status}` }, words ?? status);

function steps(health) {
  const { components, services } = health;
  const [status, words] = CREDENTIAL[health.credentials.posthog?.state] ?? ["unknown", "unknown"];
  const found = [status, services.gateway?.status, components.bus.status, components.worker.status, components.database.status, services.analytics?.status];
  return STEPS.map((name, position) => [name, known(found[position]), position ? null : words]);
}

// Who tells what.
const TOLD_BY = {
  gateway: ["webhooks", "refused", "spooled"],
  ingest: ["waiting", "waitedSeconds", "stored", "duplicates", "announced", "deadLetters", "p50Seconds", "p99Seconds"],
  analytics: ["delivered", "failed", "undelivered"],
};

// What is known now. Longer ago, not answered for, or told by who does not answer, is unknown and never 0.
function current(activity, health) {
  // Both by the gateway's clock: the browser's may be wrong.
  if (!health || !activity?.at || new Date(health.timestamp) - new Date(activity.at) >= ACTIVITY_OLD_MS) return {};
  const told = Object.entries(TOLD_BY).flatMap(([service, names]) => (service === "gateway" || health.services[service]?.latencyMs !== undefined ? names : []));
  return Object.fromEntries(told.map((name) => [name, activity.latest[name]]));
}

// What goes wrong at the moment although everything runs, and dead letters, which wait for an operator.
function troubles(now, letters) {
  return [
    letters > 0 && `${letters.toLocaleString()} dead letter${letters === 1 ? " waits" : "s wait"}: look at them on the page Dead letters, then replay or purge them.`,
    now.refused > 0 && "Webhooks are refused for their secret or signature: check that PostHog's destination sends the current one; see `hogsend doctor`.",
    now.deadLetters > 0 && "Messages become dead letters at this moment.",
    now.failed > 0 && "A destination refuses events: look at its deliveries.",
  ].filter(Boolean);
}

// Where nothing was queued there is no latency: that is not unknown.
const latency = (announced) => (value) => (Number.isFinite(announced) && !Number.isFinite(value) ? "-" : seconds(value));

function figures(now) {
  const took = latency(now.announced);
  return {
    PostHog: [["Sends", rate(now.webhooks)]],
    Gateway: [["Accepts", rate(now.webhooks)], ["Refuses", rate(now.refused)], ["Spooled", amount(now.spooled)]],
    JetStream: [["Waiting for ingest", amount(now.waiting)], ["Oldest waits", seconds(now.waitedSeconds)]],
    Ingest: [["Announces", rate(now.announced)], ["Latency p50", took(now.p50Seconds)], ["Latency p99", took(now.p99Seconds)], ["Dead letters", rate(now.deadLetters)]],
    PostgreSQL: [["Stores", rate(now.stored)], ["Duplicates", rate(now.duplicates)]],
    Analytics: [["Delivers", rate(now.delivered)], ["Fails", rate(now.failed)], ["Waiting", amount(now.undelivered)]],
  };
}

// Connected, and yet the destination in PostHog does not deliver here: all services are up then.
const stopped = (health, receiving) => (health.credentials.posthog?.state === "present" && receiving?.state === "off" ? receiving : null);

function whole(all, unreceived) {
  const away = all.filter(([, status]) => status !== "up");
  if (!away.length && unreceived) return "All services work, but receiving PostHog's events needs something: see what to do.";
  return away.length ? `Not everything works. Look at ${away.map(([name]) => name).join(", ")}.` : "Everything works: PostHog's events are announced, and what services report reaches PostHog.";
}

function plots({ series, everySeconds }) {
  const drawn = [
    ["Events", [["Webhooks", series.webhooks], ["Stored", series.stored], ["Announced", series.announced]], rate],
    ["Deliveries", [["Delivered", series.delivered], ["Failed", series.failed], ["Retried", series.retried]], rate],
    ["From receipt to announcement", [["p50", series.p50Seconds], ["p99", series.p99Seconds]], latency(series.announced.at(-1))],
    ["Backlog", [["Spooled", series.spooled], ["Waiting for ingest", series.waiting], ["Waiting for destinations", series.undelivered]], amount],
  ];
  return h("div", { class: "plots" }, drawn.map(([title, lines, words]) => plot(title, lines, words, everySeconds)));
}

function advice(health) {
  const found = [];
  const todo = CREDENTIAL[health.credentials.posthog?.state]?.[2];
  if (todo) found.push(todo);
  for (const part of Object.values(health.components)) found.push(...(part.problems ?? []));
  if (health.components.bus.status === "down") found.push("NATS accepts no messages: start it, or look at NATS_URL.");
  if (health.components.database.status === "down") found.push("PostgreSQL does not answer: start it, or look at DATABASE_URL.");
  const limit = health.components.bus.webhookLimitBytes;
  if (limit) found.push(`NATS takes webhooks of ${limit} bytes at most: raise its max_payload.`);
  for (const [name, service] of Object.entries(health.services)) {
    if (service.waitsFor) found.push(`${name} waits for: ${service.waitsFor}.`);
    else if (service.status === "down") found.push(`${name} does not answer: start it, or read its log.`);
    if (service.workers) {
      const missing = service.workers - (service.workersUp ?? 0);
      if (missing > 0) found.push(`${missing} of ${service.workers} workers of the ${name} do not answer: read its log.`);
    }
    if (service.spoolSetAside) found.push(`${service.spoolSetAside} entries of the spool are set aside: run \`hogsend spool\`.`);
  }
  if (health.status === "migration_pending") found.push("Migrations have not been applied: restart the services of this version.");
  if (!found.length && health.status !== "healthy") found.push("Run `hogsend doctor`.");
  return [...new Set(found)];
}

export async function view({ session, signal }) {
  const loop = h("ol", { id: "loop" });
  const closed = h("p");
  const hour = h("div");
  let health = null;
  // Why there is none.
  let lost = "";
  let activity = null;
  let letters = 0;
  // The capability, as it was told last.
  let receiving = null;
  const todo = h("ul", { id: "todo" });
  const services = h("div");
  const asked = h("p", { class: "faint" });
  const capabilities = h("div");

  function showLoop() {
    if (!health && !lost) return;
    const all = health ? steps(health) : STEPS.map((name) => [name, "unknown", null]);
    const now = current(activity, health);
    const known = session ? figures(now) : {};
    const unreceived = health && stopped(health, receiving);
    closed.textContent = health ? whole(all, unreceived) : `State unknown. ${lost}`;
    const advised = health ? [...advice(health), ...(unreceived ? [`${unreceived.reason} ${unreceived.remediation ?? ""}`.trim()] : []), ...troubles(now, letters)] : [lost];
    todo.replaceChildren(...(advised.length ? advised : ["Nothing."]).map((words) => h("li", null, withCode(words))));
    loop.replaceChildren(...all.map(([name, status, words]) => h("li", { class: status },
      h("strong", null, name), h("p", null, state(status, words)),
      known[name] ? h("dl", null, known[name].map(([what, value]) => h("div", null, h("dt", null, what), h("dd", null, value)))) : null)));
  }

  function show(found) {
    health = found;
    lost = "";
    showLoop();
    say(`Hogsend is ${health.status}. Version ${health.version}.`);
    redraw(services, table("Services", [
      ["Service", ([name]) => name],
      ["State", ([, service]) => [state(known(service.status)), service.workers ? `, ${service.workersUp ?? 0} of ${service.workers} workers` : ""]],
      ["Response time", ([, service]) => (service.latencyMs === undefined ? "-" : `${service.latencyMs.toFixed(1)} ms`)],
      ["Waits for", ([, service]) => service.waitsFor ?? "-"],
    ], Object.entries(health.services)));
    asked.replaceChildren("Last answer: ", time(health.timestamp));
  }

  async function askHealth() {
    try {
      show(await api("/v1/health", { signal, deadlineMs: DEADLINE_MS }));
    } catch (error) {
      if (signal.aborted) return;
      health = null;
      lost = error.message;
      showLoop();
      say(lost);
      services.replaceChildren(empty("Unknown."));
    }
  }

  async function askActivity() {
    try {
      activity = await api("/v1/admin/activity", { signal, deadlineMs: DEADLINE_MS });
    } catch (error) {
      if (signal.aborted) return;
      activity = null;
      hour.replaceChildren(h("p", { class: "problem" }, error.message));
      showLoop();
      return;
    }
    showLoop();
    redraw(hour, activity.at ? plots(activity) : empty("No data yet: services report every ten seconds."));
  }

  async function askDeadLetters() {
    try {
      letters = (await api("/v1/admin/deadletters?limit=1", { signal })).total;
    } catch {
      // Who does not answer is named above; how many wait is not known then.
      letters = 0;
    }
    if (!signal.aborted) showLoop();
  }

  async function askCapabilities() {
    try {
      const { capabilities: rows } = await api("/v1/admin/capabilities", { signal });
      receiving = rows.find((row) => row.name === "eventsIn") ?? null;
      showLoop();
      redraw(capabilities, table("Capabilities", [
        ["Capability", (row) => NAMES[row.name] ?? row.name],
        ["State", (row) => state({ on: "up", off: "down" }[row.state] ?? "unknown", row.state)],
        ["Reason", (row) => withCode(row.reason)],
        ["Fix", (row) => (row.remediation ? withCode(row.remediation) : "-")],
      ], rows), h("p", { class: "faint" }, "As of ", time(new Date().toISOString())));
    } catch (error) {
      if (signal.aborted) return;
      receiving = null;
      showLoop();
      capabilities.replaceChildren(h("p", { class: "problem" }, error.message));
    }
  }

  const asking = [every(EVERY_MS, askHealth, signal)];
  if (session) {
    every(CAPABILITIES_EVERY_MS, askCapabilities, signal);
    asking.push(every(ACTIVITY_EVERY_MS, askActivity, signal));
    every(DEAD_LETTERS_EVERY_MS, askDeadLetters, signal);
  }
  await Promise.all(asking);
  return [
    section("Event flow", closed, loop),
    section("What to do", todo),
    section("The last hour", session ? hour : empty(link("events", {}, "Sign in"), " to see how many events came and went.")),
    section("Capabilities", session ? capabilities : empty(link("events", {}, "Sign in"), " to see what works, and what to set for it. ", code("hogsend doctor"), " says it, too.")),
    section("Services", services),
    asked,
  ];
}
