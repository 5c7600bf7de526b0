// The overview: polls the health, and for signed-in users also activity, dead letters and capabilities.

import { api } from "/console/api.js";
import { code, empty, h, link, poll, redraw, section, showStatus, table, time, withCode } from "/console/dom.js";
import { amount, plot, rate, seconds } from "/console/plots.js";

const EVERY_MS = 5000;
const CAPABILITIES_EVERY_MS = 60_000;
const ACTIVITY_EVERY_MS = 10_000;
const DEAD_LETTERS_EVERY_MS = 15_000;
// Activity older than this is not shown as current.
const ACTIVITY_OLD_MS = 45_000;
// The state of a gateway that does not answer within this time is shown as unknown.
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
const state = (status, label) => h("span", { class: `state ${status}` }, label ?? status);

function steps(health) {
  const { components, services } = health;
  const [status, label] = CREDENTIAL[health.credentials.posthog?.state] ?? ["unknown", "unknown"];
  const states = [status, services.gateway?.status, components.bus.status, components.worker.status, components.database.status, services.analytics?.status];
  return STEPS.map((name, position) => [name, known(states[position]), position ? null : label]);
}

// Which service reports which figures.
const REPORTED_BY = {
  gateway: ["webhooks", "refused", "spooled"],
  ingest: ["waiting", "waitedSeconds", "stored", "duplicates", "announced", "deadLetters", "p50Seconds", "p99Seconds"],
  analytics: ["delivered", "failed", "undelivered"],
};

// The current figures. A figure is unknown, not 0, if it is old or if its service does not answer.
function current(activity, health) {
  // Both times are by the gateway's clock, because the browser's may be wrong.
  if (!health || !activity?.at || new Date(health.timestamp) - new Date(activity.at) >= ACTIVITY_OLD_MS) return {};
  const reported = Object.entries(REPORTED_BY).flatMap(([service, names]) => (service === "gateway" || health.services[service]?.latencyMs !== undefined ? names : []));
  return Object.fromEntries(reported.map((name) => [name, activity.latest[name]]));
}

// Problems that occur although all services run: dead letters, refused webhooks and failed deliveries.
function troubles(now, letters) {
  return [
    letters > 0 && `${letters.toLocaleString()} dead letter${letters === 1 ? " waits" : "s wait"}: look at them on the page Dead letters, then replay or purge them.`,
    now.refused > 0 && "Webhooks are refused for their secret or signature: check that PostHog's destination sends the current one; see `hogsend doctor`.",
    now.deadLetters > 0 && "Messages become dead letters at this moment.",
    now.failed > 0 && "A destination refuses events: look at its deliveries.",
  ].filter(Boolean);
}

// Without announced events there is no latency, which is shown as "-" rather than "unknown".
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

// The capability to receive events, if PostHog is connected but does not deliver here although all services are up.
const stopped = (health, receiving) => (health.credentials.posthog?.state === "present" && receiving?.state === "off" ? receiving : null);

function summary(all, unreceived) {
  const unavailable = all.filter(([, status]) => status !== "up");
  if (!unavailable.length && unreceived) return "All services work, but receiving PostHog's events needs something: see what to do.";
  return unavailable.length ? `Not everything works. Look at ${unavailable.map(([name]) => name).join(", ")}.` : "Everything works: PostHog's events are announced, and what services report reaches PostHog.";
}

function plots({ series, everySeconds }) {
  const drawn = [
    ["Events", [["Webhooks", series.webhooks], ["Stored", series.stored], ["Announced", series.announced]], rate],
    ["Deliveries", [["Delivered", series.delivered], ["Failed", series.failed], ["Retried", series.retried]], rate],
    ["From receipt to announcement", [["p50", series.p50Seconds], ["p99", series.p99Seconds]], latency(series.announced.at(-1))],
    ["Backlog", [["Spooled", series.spooled], ["Waiting for ingest", series.waiting], ["Waiting for destinations", series.undelivered]], amount],
  ];
  return h("div", { class: "plots" }, drawn.map(([title, lines, format]) => plot(title, lines, format, everySeconds)));
}

function advice(health) {
  const items = [];
  const todo = CREDENTIAL[health.credentials.posthog?.state]?.[2];
  if (todo) items.push(todo);
  for (const part of Object.values(health.components)) items.push(...(part.problems ?? []));
  if (health.components.bus.status === "down") items.push("NATS accepts no messages: start it, or look at NATS_URL.");
  if (health.components.database.status === "down") items.push("PostgreSQL does not answer: start it, or look at DATABASE_URL.");
  const limit = health.components.bus.webhookLimitBytes;
  if (limit) items.push(`NATS takes webhooks of ${limit} bytes at most: raise its max_payload.`);
  for (const [name, service] of Object.entries(health.services)) {
    if (service.waitsFor) items.push(`${name} waits for: ${service.waitsFor}.`);
    else if (service.status === "down") items.push(`${name} does not answer: start it, or read its log.`);
    if (service.workers) {
      const missing = service.workers - (service.workersUp ?? 0);
      if (missing > 0) items.push(`${missing} of ${service.workers} workers of the ${name} do not answer: read its log.`);
    }
    if (service.spoolSetAside) items.push(`${service.spoolSetAside} entries of the spool are set aside: run \`hogsend spool\`.`);
  }
  if (health.status === "migration_pending") items.push("Migrations have not been applied: restart the services of this version.");
  if (!items.length && health.status !== "healthy") items.push("Run `hogsend doctor`.");
  return [...new Set(items)];
}

export async function view({ session, signal }) {
  const loop = h("ol", { id: "loop" });
  const summaryLine = h("p");
  const hour = h("div");
  let health = null;
  // Why there is no health.
  let lost = "";
  let activity = null;
  let letters = 0;
  // The capability to receive PostHog's events, as last reported.
  let receiving = null;
  const todo = h("ul", { id: "todo" });
  const services = h("div");
  const lastAnswer = h("p", { class: "faint" });
  const capabilities = h("div");

  function showLoop() {
    if (!health && !lost) return;
    const all = health ? steps(health) : STEPS.map((name) => [name, "unknown", null]);
    const now = current(activity, health);
    const shownFigures = session ? figures(now) : {};
    const unreceived = health && stopped(health, receiving);
    summaryLine.textContent = health ? summary(all, unreceived) : `State unknown. ${lost}`;
    const advised = health ? [...advice(health), ...(unreceived ? [`${unreceived.reason} ${unreceived.remediation ?? ""}`.trim()] : []), ...troubles(now, letters)] : [lost];
    todo.replaceChildren(...(advised.length ? advised : ["Nothing."]).map((sentence) => h("li", null, withCode(sentence))));
    loop.replaceChildren(...all.map(([name, status, label]) => h("li", { class: status },
      h("strong", null, name), h("p", null, state(status, label)),
      shownFigures[name] ? h("dl", null, shownFigures[name].map(([what, value]) => h("div", null, h("dt", null, what), h("dd", null, value)))) : null)));
  }

  function show(report) {
    health = report;
    lost = "";
    showLoop();
    showStatus(`Hogsend is ${health.status}. Version ${health.version}.`);
    redraw(services, table("Services", [
      ["Service", ([name]) => name],
      ["State", ([, service]) => [state(known(service.status)), service.workers ? `, ${service.workersUp ?? 0} of ${service.workers} workers` : ""]],
      ["Response time", ([, service]) => (service.latencyMs === undefined ? "-" : `${service.latencyMs.toFixed(1)} ms`)],
      ["Waits for", ([, service]) => service.waitsFor ?? "-"],
    ], Object.entries(health.services)));
    lastAnswer.replaceChildren("Last response: ", time(health.timestamp));
  }

  async function loadHealth() {
    try {
      show(await api("/v1/health", { signal, deadlineMs: DEADLINE_MS }));
    } catch (error) {
      if (signal.aborted) return;
      health = null;
      lost = error.message;
      showLoop();
      showStatus(lost);
      services.replaceChildren(empty("Unknown."));
    }
  }

  async function loadActivity() {
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

  async function loadDeadLetters() {
    try {
      letters = (await api("/v1/admin/deadletters?limit=1", { signal })).total;
    } catch {
      // The number is not known. The service that does not answer is already shown above.
      letters = 0;
    }
    if (!signal.aborted) showLoop();
  }

  async function loadCapabilities() {
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

  const pending = [poll(EVERY_MS, loadHealth, signal)];
  if (session) {
    poll(CAPABILITIES_EVERY_MS, loadCapabilities, signal);
    pending.push(poll(ACTIVITY_EVERY_MS, loadActivity, signal));
    poll(DEAD_LETTERS_EVERY_MS, loadDeadLetters, signal);
  }
  await Promise.all(pending);
  return [
    section("Event flow", summaryLine, loop),
    section("What to do", todo),
    section("The last hour", session ? hour : empty(link("events", {}, "Sign in"), " to see how many events came and went.")),
    section("Capabilities", session ? capabilities : empty(link("events", {}, "Sign in"), " to see what works, and what to set for it. ", code("hogsend doctor"), " says it, too.")),
    section("Services", services),
    lastAnswer,
  ];
}
