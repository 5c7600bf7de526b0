// The page: who is signed in, and which view is shown. A view is a function that gives elements.

import { Refused, api } from "/console/api.js";
// All of them at once: a gateway that is down gives none later, and a browser remembers that.
import { view as audit } from "/console/audit.js";
import { view as connect } from "/console/connect.js";
import { view as contacts } from "/console/contacts.js";
import { view as deadLetters } from "/console/deadletters.js";
import { view as destinations } from "/console/destinations.js";
import { button, field, go, h, hush, once, redraw, say, timesInUtc } from "/console/dom.js";
import { view as events } from "/console/events.js";
import { view as overview } from "/console/overview.js";

const VIEWS = {
  "": ["Overview", overview],
  events: ["Events", events],
  contacts: ["Contacts", contacts],
  deadletters: ["Dead letters", deadLetters],
  destinations: ["Destinations", destinations],
  connect: ["Connect", connect],
  audit: ["Audit", audit],
};
// What needs no key.
const OPEN = new Set([overview]);

// What PostHog sent this browser back with. It is taken out of the address before anything is asked.
const CALLBACK = "/console/connect/callback";
let answer = null;
if (location.pathname === CALLBACK) {
  answer = new URLSearchParams(location.search);
  history.replaceState(null, "", "/console#/connect");
}
function takeAnswer() {
  const taken = answer;
  answer = null;
  return taken;
}

// A view that takes longer shows that it loads.
const SLOW_MS = 1000;

const main = document.getElementById("main");
let session = null;
// Whether the session ended by itself, until the user signs in or goes elsewhere.
let ended = false;
// What was being written when the session ended, and where: it is there again once the user has signed in.
let unsent = null;
let leaving = new AbortController();
// Of the address that the page shows; null while it loads.
let hashShown = null;

function place() {
  const [path, ...search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name, rest: rest.map(decoded), params: new URLSearchParams(search.join("?")) };
}

// An address written by hand may be wrong.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function show({ focus = true, retry = null } = {}) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const top = history.state?.top ?? 0;
  hashShown = null;
  const { name, rest, params } = place();
  const [title, view] = Object.hasOwn(VIEWS, name) ? VIEWS[name] : [null, null];
  // A question about what is no longer shown.
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  for (const anchor of document.querySelectorAll("#nav a")) {
    if (anchor.hash === `#/${name}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = `${title ?? "Not found"} - Hogsend`;
  const heading = h("h1", { tabindex: "-1" }, title ?? "Not found");
  if (view && !retry && (session || OPEN.has(view))) main.setAttribute("aria-busy", "true");
  // Not what the view before showed, as if it were this one's.
  const slow = setTimeout(() => {
    if (!focus) return;
    main.replaceChildren(heading, h("p", { class: "empty" }, "Loading…"));
    heading.focus({ preventScroll: true });
  }, SLOW_MS);
  signal.addEventListener("abort", () => clearTimeout(slow));
  let shown;
  try {
    shown = await content(view, { rest, params, signal });
  } catch (error) {
    if (signal.aborted) return;
    shown = failure(error, signal);
    // What is said already is not said again.
    if (retry === error.message) return;
  } finally {
    clearTimeout(slow);
  }
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  const notice = ended ? h("p", { class: "problem", role: "alert" }, "Your session has ended. Sign in again.") : null;
  const isKept = redraw(main, heading, notice, shown);
  if (focus || !isKept) heading.focus({ preventScroll: true });
  if (!retry) scrollTo(0, top);
  hashShown = location.hash;
}

async function content(view, context) {
  if (!view) return h("p", null, "This page does not exist. ", h("a", { href: "#/" }, "Go to the overview."));
  if (!session && !OPEN.has(view)) return signIn();
  if (unsent?.hash === location.hash && session?.scope === "full-admin") return writtenBefore();
  return view({ ...context, session, mayAct: session?.scope === "full-admin", again: () => (context.signal.aborted ? null : show({ focus: false })), takeAnswer });
}

function writtenBefore() {
  const { form } = unsent;
  unsent = null;
  // Why it was not saved is over.
  for (const problem of form.querySelectorAll("[role=alert]")) problem.textContent = "";
  return form;
}

function failure(error, signal) {
  const known = error instanceof Refused;
  if (!known) console.error(error);
  const why = error.status === 403 ? "Your key may only read; this needs an admin key." : known ? error.message : "This page failed; the browser's log says why.";
  const ms = known ? error.againMs : null;
  if (ms) {
    const timer = setTimeout(() => show({ focus: false, retry: error.message }), ms);
    signal.addEventListener("abort", () => clearTimeout(timer));
  }
  return [h("p", { class: "problem", role: "alert" }, why), ms ? h("p", { class: "faint" }, "Retrying automatically. The ", h("a", { href: "#/" }, "overview"), " shows what is down.") : null, button("Try again", () => show())];
}

function signIn() {
  const key = h("input", { type: "password", name: "key", required: true, autocomplete: "current-password", maxlength: 4096 });
  const problem = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "sign-in", submit: once(async () => {
    problem.textContent = "";
    try {
      session = await api("/console/session", { method: "POST", body: { key: key.value.trim() } });
      ended = false;
      showSession();
      await show();
    } catch (error) {
      problem.textContent = error.retrySeconds ? `${error.message}: try again in ${error.retrySeconds} seconds.` : error.message;
      key.select();
    }
  }) },
  h("p", null, "Sign in with the admin key, or with the read key, which can only read. With ", h("code", null, "hogsend up"), " the admin key is in ", h("code", null, ".hogsend/secrets/admin-api-key"), "."),
  field("Key", key), h("button", { type: "submit" }, "Sign in"), problem);
  return form;
}

function showSession() {
  const box = document.getElementById("session");
  if (!session) {
    box.replaceChildren(h("a", { href: "#/events" }, "Sign in"));
    return;
  }
  const may = session.scope === "read" ? "Signed in (read only)" : "Signed in";
  box.replaceChildren(h("span", null, may), button("Sign out", async () => {
    try {
      await api("/console/session", { method: "DELETE" });
    } catch (error) {
      say(error.message);
      return;
    }
    session = null;
    showSession();
    location.hash = "#/";
    await show();
  }));
}

// Back goes to where one was on the page. The browser goes there before the page is.
history.scrollRestoration = "manual";
function rememberTop() {
  // A scroll may end when the address is the next one's already.
  if (hashShown === location.hash) history.replaceState({ top: scrollY }, "");
}
addEventListener("scrollend", rememberTop);
// A link that is clicked while the page still scrolls leaves before the scroll has ended.
addEventListener("click", rememberTop, { capture: true });
addEventListener("hashchange", async () => {
  ended = false;
  unsent = null;
  hush();
  await show();
});
addEventListener("signed-out", () => {
  if (!session) return;
  session = null;
  ended = true;
  const form = main.querySelector("form.edit");
  unsent = form && { form, hash: location.hash };
  say("");
  showSession();
  show();
});
// A link to the content changes no address: the address says which view is shown.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

// A link to where one is asks for it anew.
document.addEventListener("click", (event) => {
  const to = event.target.closest?.("a[href^='#/']")?.hash;
  if (to && to === location.hash && !event.ctrlKey && !event.metaKey && !event.shiftKey) go(to);
});
const zone = document.getElementById("zone");
zone.addEventListener("click", () => {
  const wanted = zone.getAttribute("aria-pressed") !== "true";
  zone.setAttribute("aria-pressed", wanted);
  timesInUtc(wanted);
});

document.getElementById("nav").replaceChildren(...Object.entries(VIEWS).map(([name, [title]]) => h("li", null, h("a", { href: `#/${name}` }, title))));
async function start(retry = null) {
  try {
    session = await api("/console/session");
  } catch (error) {
    // Without an answer the user stays signed in.
    if (error.againMs) {
      if (retry !== error.message) main.replaceChildren(h("h1", null, "Hogsend"), h("p", { class: "problem", role: "alert" }, error.message), h("p", { class: "faint" }, "Retrying automatically."));
      setTimeout(() => start(error.message), error.againMs);
      return;
    }
    if (error.status !== 401) say(error.message);
  }
  showSession();
  await show({ focus: false });
}
await start();
