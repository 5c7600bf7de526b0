// The overview: asks GET /v1/health again and again, and shows it as text, never as HTML.

const EVERY_MS = 5000;
const DEADLINE_MS = 10000;

const CREDENTIAL = {
  present: ["up", "connected", null],
  absent: ["unknown", "not connected", "Connect PostHog: run `hogsend connect`."],
  needs_reconnect: ["down", "has to be connected again", "PostHog refuses the credential: run `hogsend connect` again."],
  unreadable: ["down", "credential cannot be read", "The stored credential cannot be read: set the BETTER_AUTH_SECRET it was sealed with, or run `hogsend connect` again."],
};

const byId = (id) => document.getElementById(id);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Only what changed: a screen reader says it each time.
function say(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function known(status) {
  return status === "up" || status === "down" ? status : "unknown";
}

function steps(health) {
  const { components, services } = health;
  const [state, words] = CREDENTIAL[health.credentials.posthog?.state] ?? ["unknown", "unknown"];
  return [
    ["PostHog", state, words],
    ["Gateway", known(services.gateway?.status), null],
    ["JetStream", known(components.bus.status), null],
    ["Ingest", known(components.worker.status), null],
    ["PostgreSQL", known(components.database.status), null],
    ["Analytics", known(services.analytics?.status), null],
  ];
}

function advice(health) {
  const found = [];
  const todo = CREDENTIAL[health.credentials.posthog?.state]?.[2];
  if (todo) found.push(todo);
  for (const part of Object.values(health.components)) found.push(...(part.problems ?? []));
  if (health.components.bus.status === "down") found.push("NATS does not take messages: start it, or look at NATS_URL.");
  if (health.components.database.status === "down") found.push("PostgreSQL does not answer: start it, or look at DATABASE_URL.");
  const limit = health.components.bus.webhookLimitBytes;
  if (limit) found.push(`NATS takes webhooks of ${limit} bytes at most: raise its max_payload.`);
  for (const [name, service] of Object.entries(health.services)) {
    if (service.waitsFor) found.push(`${name} waits for: ${service.waitsFor}.`);
    else if (service.status === "down") found.push(`${name} does not answer: start it, or read its log.`);
    if (service.spoolSetAside) found.push(`${service.spoolSetAside} entries of the spool are set aside: run \`hogsend spool\`.`);
  }
  if (health.status === "migration_pending") found.push("Migrations have not been applied: restart the services of this version.");
  if (!found.length && health.status !== "healthy") found.push("Ask `hogsend doctor`.");
  return [...new Set(found)];
}

function show(health) {
  say(`The whole is ${health.status}. Version ${health.version}.`);
  byId("loop").replaceChildren(...steps(health).map(([name, state, words]) => {
    const step = element("li", null, state);
    step.append(element("strong", name), element("p", words ?? state, `state ${state}`));
    return step;
  }));
  const found = advice(health);
  byId("todo").replaceChildren(...(found.length ? found : ["Nothing."]).map((text) => element("li", text)));
  byId("services").replaceChildren(...Object.entries(health.services).map(([name, service]) => {
    const row = element("tr");
    const title = element("th", name);
    title.scope = "row";
    const took = service.latencyMs === undefined ? "-" : `${service.latencyMs.toFixed(1)} ms`;
    const state = known(service.status);
    row.append(title, element("td", state, `state ${state}`), element("td", took), element("td", service.waitsFor ?? "-"));
    return row;
  }));
  const asked = new Date(health.timestamp);
  const time = element("time", asked.toLocaleString());
  time.dateTime = time.title = asked.toISOString();
  byId("asked").replaceChildren("As of ", time);
}

async function ask() {
  try {
    const answer = await fetch("/v1/health", { cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS) });
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    show(await answer.json());
  } catch (error) {
    say(`The gateway does not answer (${error.message}). What is below is old.`);
  }
}

async function askForEver() {
  // A page that nobody looks at asks nothing.
  if (!document.hidden) await ask();
  setTimeout(askForEver, EVERY_MS);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
askForEver();
