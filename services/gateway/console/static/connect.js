// Connect: shows the credential and the destination in PostHog, and connects or disconnects PostHog.

import { api, query } from "/console/api.js";
import { button, code, confirmAction, empty, exclusive, facts, field, h, plain, poll, section, showStatus, text, time, withCode } from "/console/dom.js";

const EVERY_MS = 5000;
const NAMES_MS = 12_000;
const CREDENTIAL = "/v1/admin/provider-credentials/posthog";
const DIAGNOSIS = "/v1/admin/analytics/diagnosis";
const PROVISION = "/v1/admin/analytics/provision-loop";
const GOOD = new Set(["present", "working", "live", "possible", "signed"]);
const BAD = new Set(["needs_reconnect", "unreadable", "failing", "missing", "disabled", "disabled_by_posthog", "drifted", "refused", "degraded"]);
const REGIONS = [["eu", "PostHog Cloud EU (eu.posthog.com)"], ["us", "PostHog Cloud US (us.posthog.com)"]];

const state = (name) => h("span", { class: `state ${GOOD.has(name) ? "up" : BAD.has(name) ? "down" : "unknown"}` }, name.replaceAll("_", " "));

export async function view({ signal, mayAct, reload, takeCallback }) {
  const callback = takeCallback();
  if (callback && !mayAct) return problem("Your key may only read, so PostHog's answer was ignored. Nothing was connected.");
  if (callback) return finish(callback, reload);
  const replies = await Promise.all([api(DIAGNOSIS, { signal }), api("/console/connect", { signal })]).catch((error) => error);
  if (replies instanceof Error) return withoutDiagnosis(replies, signal, reload);
  const [diagnosis, options] = replies;
  const connected = diagnosis.credential.state === "present";
  const isKnown = diagnosis.credential.state !== "unknown";
  if (!connected) waitForChange(signal, diagnosis.credential.state, reload);
  return [
    mayAct ? null : empty("Your key may only read; connecting needs an admin key."),
    mayAct && isKnown && !connected ? howTo(diagnosis.credential, options) : null,
    section("Credential", findingFacts(diagnosis.credential, [
      ["Expires", time(diagnosis.credential.expiresAt)],
      ["Scopes", text(diagnosis.credential.scopes.join(", "), 2000)],
      ["Missing scopes", text(diagnosis.scopeGap.join(", "), 2000)],
    ]), notes(diagnosis.credential), mayAct && connected ? disconnect(reload) : null),
    section("Destination in PostHog", findingFacts(diagnosis.destination, [
      ["Delivers to", text(diagnosis.destination.webhookUrl, 2048)],
      ["Hog function", text(diagnosis.destination.hogFunctionId)],
      ["In PostHog", dashboard(diagnosis.destination.dashboardUrl)],
    ]), notes(diagnosis.destination),
    listed(diagnosis.destination.duplicates, "Further destinations of this instance are enabled, and repeat what it delivers. Disable or delete all but one in PostHog:"),
    listed(diagnosis.destination.others, "Destinations of other instances in the project. If one of them no longer exists, disable its destination in PostHog, or adopt it:"),
    mayAct ? provision(reload) : null),
    section("Other checks", facts([
      ["Person reads", state(diagnosis.personReads.state)], ["Webhook secret", state(diagnosis.webhookSecret.state)],
      ["Signatures", state(diagnosis.signatures.state)],
      ["Public URL", text(diagnosis.publicUrl.url, 2048)],
    ]), notes(diagnosis.personReads), notes(diagnosis.webhookSecret), notes(diagnosis.signatures), notes(diagnosis.publicUrl)),
    mayAct && connected ? howTo(diagnosis.credential, options) : null,
  ];
}

// Without the provisioner there is no diagnosis. The credential's state is then read from the health.
async function withoutDiagnosis(error, signal, reload) {
  const credentialState = async () => (await api("/v1/health", { signal, deadlineMs: EVERY_MS }).catch(() => null))?.credentials.posthog?.state;
  const credential = error.retryMs ? await credentialState() : null;
  if (signal.aborted || !credential) throw error;
  const shown = h("div", null, state(credential));
  poll(error.retryMs, async () => {
    // The page is reloaded only if the error changed, so that screen readers do not repeat it.
    const message = await api(DIAGNOSIS, { signal }).then(() => null, (failure) => failure.message);
    if (signal.aborted) return;
    if (message !== error.message) await reload();
    else shown.replaceChildren(state((await credentialState()) ?? "unknown"));
  }, signal);
  return [
    problem(error.message),
    h("p", { class: "faint" }, "Retrying automatically. The ", h("a", { href: "#/" }, "overview"), " shows what is down."),
    section("Credential", facts([["State", shown]])),
    button("Try again", reload),
  ];
}

// A finding's state and facts. If the state is unknown, facts are omitted: they would be shown as "none".
function findingFacts(finding, pairs) {
  return facts([["State", state(finding.state)], ...(finding.state === "unknown" ? [] : pairs)]);
}

function notes({ detail, remediation }) {
  return [detail, remediation].filter(Boolean).map((sentence) => h("p", null, withCode(sentence)));
}

function problem(message) {
  return h("p", { class: "problem", role: "alert" }, text(message, 2000));
}

// The sentences of a refusal, without its code.
function reasonOf(error) {
  return [error.body?.detail, error.body?.remediation].filter(Boolean).join(" ") || error.message;
}

// Only web addresses may be linked, not `javascript:`.
const isWeb = (url) => /^https?:\/\//.test(url ?? "");

function dashboard(url) {
  if (!isWeb(url)) return text(null);
  return h("a", { href: url, rel: "noreferrer noopener", target: "_blank" }, "Open its page");
}

// A list of further destinations in PostHog.
function listed(destinations, explanation) {
  if (!destinations.length) return null;
  return [h("p", null, explanation), h("ul", null, destinations.map(({ webhookUrl, dashboardUrl }) => h("li", null, text(webhookUrl, 2048), ". ", dashboard(dashboardUrl))))];
}

function howTo(credential, options) {
  const title = credential.state === "absent" ? "Connect PostHog" : "Connect PostHog again";
  return section(title, options.origin ? inBrowser(options, title) : h("p", null, withCode(options.reason)), byCommand(options));
}

function byCommand(options) {
  return [
    h("p", null, options.origin ? "Or run this where you have a browser; PostHog redirects back to a command on your own machine:" : "A command works everywhere: PostHog redirects back to your own machine. Run this where you have a browser:"),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Command" }, `hogsend connect posthog --url ${location.origin}`),
    h("p", { class: "faint" }, "This page waits for it and shows the result."),
  ];
}

function inBrowser(options, title) {
  if (options.origin !== location.origin) {
    return h("p", null, "PostHog redirects back to ", h("a", { href: `${options.origin}/console#/connect` }, `the console at ${options.origin}`), ": connect there.");
  }
  const outcome = h("p", { class: "problem", role: "alert" });
  const select = h("select", { name: "region" }, REGIONS.map(([value, label]) => h("option", { value }, label)));
  const run = button(title, async () => {
    outcome.textContent = "";
    try {
      const { authorizeUrl } = await api("/console/connect/begin", { method: "POST", body: options.privateHost ? {} : { region: select.value } });
      if (!isWeb(authorizeUrl)) throw new Error("PostHog's consent page has no address a browser can open.");
      location.assign(authorizeUrl);
    } catch (error) {
      outcome.textContent = reasonOf(error);
    }
  });
  return [
    options.privateHost
      ? h("p", null, "You are asked for consent at ", text(options.privateHost, 2048), ", and come back here.", options.hostExplicit ? null : [" This host is the default, because none is configured: set ", code("POSTHOG_HOST"), " to change it."])
      : [field("Which PostHog", select), h("p", { class: "faint" }, "A self-hosted PostHog must be configured on the server: set ", code("POSTHOG_HOST"), " or ", code("POSTHOG_PRIVATE_HOST"), ". The destination is set up once one of them is set.")],
    h("p", { class: "faint" }, "If PostHog says that it does not know this client, it could not fetch ", code("/.well-known/oauth-client.json"), " from this server."),
    h("div", { class: "actions" }, run), outcome,
  ];
}

// Finishes the connection with the query of PostHog's redirect.
async function finish(callback, reload) {
  const body = Object.fromEntries(["state", "code", "error"].filter((name) => callback.has(name)).map((name) => [name, callback.get(name)]));
  let credential;
  try {
    credential = await api("/console/connect/finish", { method: "POST", body });
  } catch (error) {
    return [problem(reasonOf(error)), h("div", { class: "actions" }, button("Back", reload))];
  }
  showStatus("PostHog is connected.");
  const outcome = h("div", { role: "status" });
  const back = button("Show the connection", reload);
  // PostHog is connected even if this request fails.
  const { projectId } = await api("/console/connect").catch(() => ({}));
  const several = credential.scopedTeams.length !== 1 && !projectId;
  // Not awaited: the page is shown meanwhile, and the run continues if the user leaves it.
  if (!several) setUp(outcome);
  return [
    section("Connected", facts([
      ["Project", text(credential.scopedTeams.join(", ") || "not limited to one")], ["Expires", time(credential.expiresAt)],
      ["Scopes", text(credential.scopes.join(", "), 2000)],
    ]), credential.missingScopes.length ? h("p", null, "PostHog granted fewer scopes than requested. Features that need ", text(credential.missingScopes.join(", "), 2000), " stay off until you connect again and grant them.") : null),
    section("Destination in PostHog", several ? choice(await projectsOf(credential.scopedTeams), outcome) : null, outcome, h("div", { class: "actions" }, back)),
  ];
}

// The projects with their names, or only their numbers if the names cannot be read.
async function projectsOf(teams) {
  const { projects } = await api("/console/connect/projects", { deadlineMs: NAMES_MS }).catch(() => ({ projects: [] }));
  return projects.length ? projects : teams.map((team) => ({ id: String(team), name: null }));
}

// Lets the user choose a project. PostHog's "current" project is only the one opened last there.
function choice(projects, outcome) {
  const input = projects.length
    ? h("select", { name: "project" }, projects.map(({ id, name }) => h("option", { value: id }, name ? `${plain(name, 100)} (${id})` : id)))
    : h("input", { name: "project", required: true, pattern: "[A-Za-z0-9\\-]{1,64}", maxlength: 64, autocomplete: "off", inputmode: "numeric" });
  const run = h("button", { type: "submit" }, "Set up the destination");
  return h("form", { class: "filters", submit: exclusive(() => setUp(outcome, input.value)) }, h("p", null, "You granted access to more than one project. Events come from one of them, and persons are read there. Its number is in the addresses of its pages in PostHog, after ", code("/project/"), "."),
  field("Project", input), run);
}

function waitForChange(signal, before, reload) {
  poll(EVERY_MS, async () => {
    try {
      const health = await api("/v1/health", { signal, deadlineMs: EVERY_MS });
      const now = health.credentials.posthog?.state;
      if (now && now !== "unknown" && now !== before) {
        showStatus(now === "present" ? "PostHog is connected." : `The credential is ${now}.`);
        await reload();
      }
    } catch (error) {
      if (!signal.aborted) showStatus(error.message);
    }
  }, signal);
}

function disconnect(reload) {
  const failed = h("p", { class: "problem", role: "alert" });
  return [h("div", { class: "actions" }, button("Disconnect", async () => {
    failed.textContent = "";
    if (!(await confirmAction("Delete the credential and the generated webhook secret? Webhooks are refused until PostHog is connected again, unless POSTHOG_WEBHOOK_SECRET is set.", "Disconnect"))) return;
    try {
      await api(CREDENTIAL, { method: "DELETE" });
    } catch (error) {
      failed.textContent = error.message;
      return;
    }
    showStatus("PostHog is disconnected.");
    await reload();
  }, { class: "danger" })), failed];
}

function provision(reload) {
  const outcome = h("div", { role: "status" });
  const run = button("Set up the destination", async () => {
    if (await setUp(outcome)) outcome.append(button("Refresh", reload));
  });
  return [h("div", { class: "actions" }, run), outcome];
}

async function setUp(outcome, projectId) {
  outcome.replaceChildren(h("p", null, "Asking PostHog…"));
  try {
    const { isLocal } = await api("/console/connect");
    const run = await api(query(PROVISION, { placeholder: isLocal ? "true" : null, projectId }), { method: "POST" });
    outcome.replaceChildren(h("p", null, `The destination was ${run.action === "unchanged" ? "already right" : run.action}; it delivers to `, text(run.webhookUrl, 2048), run.enabled ? "." : ", once PostHog can reach that: until then it is disabled."));
    return true;
  } catch (error) {
    outcome.replaceChildren(h("p", { class: "problem" }, text(reasonOf(error), 2000)));
    return false;
  }
}
