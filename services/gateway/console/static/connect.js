// Connect: the credential's state, consent in this browser or by the command, the destination in PostHog, disconnect.

import { api, query } from "/console/api.js";
import { ask, button, code, empty, every, facts, field, h, once, plain, say, section, text, time, withCode } from "/console/dom.js";

const EVERY_MS = 5000;
const NAMES_MS = 12_000;
const CREDENTIAL = "/v1/admin/provider-credentials/posthog";
const DIAGNOSIS = "/v1/admin/analytics/diagnosis";
const PROVISION = "/v1/admin/analytics/provision-loop";
const GOOD = new Set(["present", "working", "live", "possible", "signed"]);
const BAD = new Set(["needs_reconnect", "unreadable", "failing", "missing", "disabled", "disabled_by_posthog", "drifted", "refused", "degraded"]);
const REGIONS = [["eu", "PostHog Cloud EU (eu.posthog.com)"], ["us", "PostHog Cloud US (us.posthog.com)"]];

const state = (words) => h("span", { class: `state ${GOOD.has(words) ? "up" : BAD.has(words) ? "down" : "unknown"}` }, words.replaceAll("_", " "));

export async function view({ signal, mayAct, again, takeAnswer }) {
  const answer = takeAnswer();
  if (answer && !mayAct) return problem("Your key may only read, so PostHog's answer was left alone. Nothing was connected.");
  if (answer) return finished(answer, again);
  const asked = await Promise.all([api(DIAGNOSIS, { signal }), api("/console/connect", { signal })]).catch((error) => error);
  if (asked instanceof Error) return withoutDiagnosis(asked, signal, again);
  const [found, way] = asked;
  const connected = found.credential.state === "present";
  const isKnown = found.credential.state !== "unknown";
  if (!connected) wait(signal, found.credential.state, again);
  return [
    mayAct ? null : empty("Your key may only read; connecting needs an admin key."),
    mayAct && isKnown && !connected ? howTo(found.credential, way) : null,
    section("Credential", known(found.credential, [
      ["Expires", time(found.credential.expiresAt)],
      ["Scopes", text(found.credential.scopes.join(", "), 2000)],
      ["Missing scopes", text(found.scopeGap.join(", "), 2000)],
    ]), notes(found.credential), mayAct && connected ? disconnect(again) : null),
    section("Destination in PostHog", known(found.destination, [
      ["Delivers to", text(found.destination.webhookUrl, 2048)],
      ["Hog function", text(found.destination.hogFunctionId)],
      ["In PostHog", dashboard(found.destination.dashboardUrl)],
    ]), notes(found.destination),
    listed(found.destination.duplicates, "Further destinations of this instance are enabled, and repeat what it delivers. Disable or delete all but one in PostHog:"),
    listed(found.destination.others, "Destinations of other instances in the project. If one of them is no more, disable its destination in PostHog, or adopt it:"),
    mayAct ? provision(again) : null),
    section("Other checks", facts([
      ["Person reads", state(found.personReads.state)], ["Webhook secret", state(found.webhookSecret.state)],
      ["Signatures", state(found.signatures.state)],
      ["Public URL", text(found.publicUrl.url, 2048)],
    ]), notes(found.personReads), notes(found.webhookSecret), notes(found.signatures), notes(found.publicUrl)),
    mayAct && connected ? howTo(found.credential, way) : null,
  ];
}

// The service that looks at PostHog is down: what the health knows of the credential is still shown.
async function withoutDiagnosis(error, signal, again) {
  const ask = async () => (await api("/v1/health", { signal, deadlineMs: EVERY_MS }).catch(() => null))?.credentials.posthog?.state;
  const credential = error.againMs ? await ask() : null;
  if (signal.aborted || !credential) throw error;
  const shown = h("div", null, state(credential));
  every(error.againMs, async () => {
    // What is said already is not said again.
    const why = await api(DIAGNOSIS, { signal }).then(() => null, ({ message }) => message);
    if (signal.aborted) return;
    if (why !== error.message) await again();
    else shown.replaceChildren(state((await ask()) ?? "unknown"));
  }, signal);
  return [
    problem(error.message),
    h("p", { class: "faint" }, "Retrying automatically. The ", h("a", { href: "#/" }, "overview"), " shows what is down."),
    section("Credential", facts([["State", shown]])),
    button("Try again", again),
  ];
}

// A state, and what belongs to it: of what is unknown nothing is told, not that there is none.
function known(finding, pairs) {
  return facts([["State", state(finding.state)], ...(finding.state === "unknown" ? [] : pairs)]);
}

function notes({ detail, remediation }) {
  return [detail, remediation].filter(Boolean).map((words) => h("p", null, withCode(words)));
}

function problem(words) {
  return h("p", { class: "problem", role: "alert" }, text(words, 2000));
}

// The sentences of a refusal, without its code.
function why(error) {
  return [error.found?.detail, error.found?.remediation].filter(Boolean).join(" ") || error.message;
}

// Only to where a browser may go: not `javascript:`.
const isWeb = (url) => /^https?:\/\//.test(url ?? "");

function dashboard(url) {
  if (!isWeb(url)) return text(null);
  return h("a", { href: url, rel: "noreferrer noopener", target: "_blank" }, "Open its page");
}

// Destinations in PostHog beside the one of this instance.
function listed(destinations, words) {
  if (!destinations.length) return null;
  return [h("p", null, words), h("ul", null, destinations.map(({ webhookUrl, dashboardUrl }) => h("li", null, text(webhookUrl, 2048), ". ", dashboard(dashboardUrl))))];
}

function howTo(credential, way) {
  const title = credential.state === "absent" ? "Connect PostHog" : "Connect PostHog again";
  return section(title, way.origin ? inBrowser(way, title) : h("p", null, withCode(way.reason)), byCommand(way));
}

function byCommand(way) {
  return [
    h("p", null, way.origin ? "Or run this where you have a browser; PostHog redirects back to a command on your own machine:" : "A command works everywhere: PostHog redirects back to your own machine. Run this where you have a browser:"),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Command" }, `hogsend connect posthog --url ${location.origin}`),
    h("p", { class: "faint" }, "This page waits for it and shows the result."),
  ];
}

function inBrowser(way, title) {
  if (way.origin !== location.origin) {
    return h("p", null, "PostHog redirects back to ", h("a", { href: `${way.origin}/console#/connect` }, `the console at ${way.origin}`), ": connect there.");
  }
  const outcome = h("p", { class: "problem", role: "alert" });
  const select = h("select", { name: "region" }, REGIONS.map(([value, label]) => h("option", { value }, label)));
  const run = button(title, async () => {
    outcome.textContent = "";
    try {
      const begun = await api("/console/connect/begin", { method: "POST", body: way.privateHost ? {} : { region: select.value } });
      if (!isWeb(begun.authorizeUrl)) throw new Error("PostHog's consent page has no address a browser can open.");
      location.assign(begun.authorizeUrl);
    } catch (error) {
      outcome.textContent = why(error);
    }
  });
  return [
    way.privateHost
      ? h("p", null, "You are asked for consent at ", text(way.privateHost, 2048), ", and come back here.", way.hostExplicit ? null : [" It is assumed, because the server names none: set ", code("POSTHOG_HOST"), " to change it."])
      : [field("Which PostHog", select), h("p", { class: "faint" }, "A PostHog of your own has to be named on the server: set ", code("POSTHOG_HOST"), " or ", code("POSTHOG_PRIVATE_HOST"), ". The destination is set up once one of them is set.")],
    h("p", { class: "faint" }, "If PostHog says that it does not know this client, it could not fetch ", code("/.well-known/oauth-client.json"), " from this server."),
    h("div", { class: "actions" }, run), outcome,
  ];
}

// What PostHog sent this browser back with, which is no longer in the address.
async function finished(answer, again) {
  const given = Object.fromEntries(["state", "code", "error"].filter((name) => answer.has(name)).map((name) => [name, answer.get(name)]));
  let done;
  try {
    done = await api("/console/connect/finish", { method: "POST", body: given });
  } catch (error) {
    return [problem(why(error)), h("div", { class: "actions" }, button("Back", again))];
  }
  say("PostHog is connected.");
  const outcome = h("div", { role: "status" });
  const back = button("Show the connection", again);
  // Connected is connected, whatever becomes of this question.
  const { projectId } = await api("/console/connect").catch(() => ({}));
  const several = done.scopedTeams.length !== 1 && !projectId;
  // It goes on while the page is shown; nothing is lost when the user leaves it.
  if (!several) setUp(outcome);
  return [
    section("Connected", facts([
      ["Project", text(done.scopedTeams.join(", ") || "not limited to one")], ["Expires", time(done.expiresAt)],
      ["Scopes", text(done.scopes.join(", "), 2000)],
    ]), done.missingScopes.length ? h("p", null, "PostHog granted fewer scopes than were asked for. What needs ", text(done.missingScopes.join(", "), 2000), " stays off until you connect again and grant them.") : null),
    section("Destination in PostHog", several ? choice(await projectsOf(done.scopedTeams), outcome) : null, outcome, h("div", { class: "actions" }, back)),
  ];
}

// By name as well as PostHog says it; without an answer a number has to do.
async function projectsOf(teams) {
  const { projects } = await api("/console/connect/projects", { deadlineMs: NAMES_MS }).catch(() => ({ projects: [] }));
  return projects.length ? projects : teams.map((team) => ({ id: String(team), name: null }));
}

// Which project: PostHog's own idea of the current one is the one last opened there.
function choice(projects, outcome) {
  const input = projects.length
    ? h("select", { name: "project" }, projects.map(({ id, name }) => h("option", { value: id }, name ? `${plain(name, 100)} (${id})` : id)))
    : h("input", { name: "project", required: true, pattern: "[A-Za-z0-9\\-]{1,64}", maxlength: 64, autocomplete: "off", inputmode: "numeric" });
  const run = h("button", { type: "submit" }, "Set up the destination");
  return h("form", { class: "filters", submit: once(() => setUp(outcome, input.value)) }, h("p", null, "You granted access to more than one project. Events come from one of them, and persons are read there. Its number is in the addresses of its pages in PostHog, after ", code("/project/"), "."),
  field("Project", input), run);
}

function wait(signal, before, again) {
  every(EVERY_MS, async () => {
    try {
      const health = await api("/v1/health", { signal, deadlineMs: EVERY_MS });
      const now = health.credentials.posthog?.state;
      if (now && now !== "unknown" && now !== before) {
        say(now === "present" ? "PostHog is connected." : `The credential is ${now}.`);
        await again();
      }
    } catch (error) {
      if (!signal.aborted) say(error.message);
    }
  }, signal);
}

function disconnect(again) {
  const failed = h("p", { class: "problem", role: "alert" });
  return [h("div", { class: "actions" }, button("Disconnect", async () => {
    failed.textContent = "";
    if (!(await ask("Delete the credential and the minted webhook secret? Webhooks are refused until PostHog is connected again, unless POSTHOG_WEBHOOK_SECRET is set.", "Disconnect"))) return;
    try {
      await api(CREDENTIAL, { method: "DELETE" });
    } catch (error) {
      failed.textContent = error.message;
      return;
    }
    say("PostHog is disconnected.");
    await again();
  }, { class: "danger" })), failed];
}

function provision(again) {
  const outcome = h("div", { role: "status" });
  const run = button("Set up the destination", async () => {
    if (await setUp(outcome)) outcome.append(button("Refresh", again));
  });
  return [h("div", { class: "actions" }, run), outcome];
}

async function setUp(outcome, projectId) {
  outcome.replaceChildren(h("p", null, "Asking PostHog…"));
  try {
    const { isLocal } = await api("/console/connect");
    const done = await api(query(PROVISION, { placeholder: isLocal ? "true" : null, projectId }), { method: "POST" });
    outcome.replaceChildren(h("p", null, `The destination was ${done.action === "unchanged" ? "already right" : done.action}; it delivers to `, text(done.webhookUrl, 2048), done.enabled ? "." : ", once PostHog can reach that: until then it is disabled."));
    return true;
  } catch (error) {
    outcome.replaceChildren(h("p", { class: "problem" }, text(why(error), 2000)));
    return false;
  }
}
