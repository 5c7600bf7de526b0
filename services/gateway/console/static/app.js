// The page: handles the session, and shows the view of the current address. A view is a function that returns elements.

import { Refused, api } from "/console/api.js";
// All views are loaded at start: later the gateway may be down, and browsers remember a failed import.
import { view as audit } from "/console/audit.js";
import { view as connect } from "/console/connect.js";
import { view as contacts } from "/console/contacts.js";
import { view as deadLetters } from "/console/deadletters.js";
import { view as destinations } from "/console/destinations.js";
import { button, clearStatus, exclusive, field, h, navigate, redraw, showStatus, timesInUtc } from "/console/dom.js";
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
// Views that are shown without signing in.
const PUBLIC = new Set([overview]);

// The query with which PostHog redirected this browser. It is removed from the address before the first request.
const CALLBACK = "/console/connect/callback";
let callback = null;
if (location.pathname === CALLBACK) {
  callback = new URLSearchParams(location.search);
  history.replaceState(null, "", "/console#/connect");
}
function takeCallback() {
  const taken = callback;
  callback = null;
  return taken;
}

// Time after which a view that is not ready shows "Loading".
const SLOW_MS = 1000;

const main = document.getElementById("main");
let session = null;
// Whether the session expired. Reset when the user signs in or opens another view.
let expired = false;
// The form that the user was editing when the session expired, and its address. It is shown again after signing in.
let unsaved = null;
// Aborted when the user leaves the view.
let leaving = new AbortController();
// The address of the view that is shown; null while it loads.
let hashShown = null;

function route() {
  const [path, ...search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name, rest: rest.map(decoded), params: new URLSearchParams(search.join("?")) };
}

// Returns the part unchanged if it is not valid URL encoding.
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
  const { name, rest, params } = route();
  const [title, view] = Object.hasOwn(VIEWS, name) ? VIEWS[name] : [null, null];
  // Close dialogs of the previous view.
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  for (const anchor of document.querySelectorAll("#nav a")) {
    if (anchor.hash === `#/${name}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = `${title ?? "Not found"} - Hogsend`;
  const heading = h("h1", { tabindex: "-1" }, title ?? "Not found");
  if (view && !retry && (session || PUBLIC.has(view))) main.setAttribute("aria-busy", "true");
  // Do not leave the previous view's content below the new view's title.
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
    // A retry with the same error leaves the page as it is, so that screen readers do not repeat it.
    if (retry === error.message) return;
  } finally {
    clearTimeout(slow);
  }
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  const notice = expired ? h("p", { class: "problem", role: "alert" }, "Your session has ended. Sign in again.") : null;
  const keptFocus = redraw(main, heading, notice, shown);
  if (focus || !keptFocus) heading.focus({ preventScroll: true });
  if (!retry) scrollTo(0, top);
  hashShown = location.hash;
}

async function content(view, context) {
  if (!view) return h("p", null, "This page does not exist. ", h("a", { href: "#/" }, "Go to the overview."));
  if (!session && !PUBLIC.has(view)) return signIn();
  if (unsaved?.hash === location.hash && session?.scope === "full-admin") return unsavedForm();
  return view({ ...context, session, mayAct: session?.scope === "full-admin", reload: () => (context.signal.aborted ? null : show({ focus: false })), takeCallback });
}

function unsavedForm() {
  const { form } = unsaved;
  unsaved = null;
  // Clear the error of the attempt before.
  for (const problem of form.querySelectorAll("[role=alert]")) problem.textContent = "";
  return form;
}

function failure(error, signal) {
  const isRefused = error instanceof Refused;
  if (!isRefused) console.error(error);
  const reason = error.status === 403 ? "Your key may only read; this needs an admin key." : isRefused ? error.message : "This page failed; the browser's log says why.";
  const ms = isRefused ? error.retryMs : null;
  if (ms) {
    const timer = setTimeout(() => show({ focus: false, retry: error.message }), ms);
    signal.addEventListener("abort", () => clearTimeout(timer));
  }
  return [h("p", { class: "problem", role: "alert" }, reason), ms ? h("p", { class: "faint" }, "Retrying automatically. The ", h("a", { href: "#/" }, "overview"), " shows what is down.") : null, button("Try again", () => show())];
}

function signIn() {
  const key = h("input", { type: "password", name: "key", required: true, autocomplete: "current-password", maxlength: 4096 });
  const problem = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "sign-in", submit: exclusive(async () => {
    problem.textContent = "";
    try {
      session = await api("/console/session", { method: "POST", body: { key: key.value.trim() } });
      expired = false;
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
  const label = session.scope === "read" ? "Signed in (read only)" : "Signed in";
  box.replaceChildren(h("span", null, label), button("Sign out", async () => {
    try {
      await api("/console/session", { method: "DELETE" });
    } catch (error) {
      showStatus(error.message);
      return;
    }
    session = null;
    showSession();
    location.hash = "#/";
    await show();
  }));
}

// Going back restores the scroll position. The browser would do so before the view is loaded.
history.scrollRestoration = "manual";
function rememberTop() {
  // A scroll may end after the address has changed.
  if (hashShown === location.hash) history.replaceState({ top: scrollY }, "");
}
addEventListener("scrollend", rememberTop);
// A click on a link while the page still scrolls leaves the view before `scrollend`.
addEventListener("click", rememberTop, { capture: true });
addEventListener("hashchange", async () => {
  expired = false;
  unsaved = null;
  clearStatus();
  await show();
});
addEventListener("signed-out", () => {
  if (!session) return;
  session = null;
  expired = true;
  const form = main.querySelector("form.edit");
  unsaved = form && { form, hash: location.hash };
  showStatus("");
  showSession();
  show();
});
// The skip link must not change the address, because the address selects the view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

// A link to the current address reloads the view.
document.addEventListener("click", (event) => {
  const to = event.target.closest?.("a[href^='#/']")?.hash;
  if (to && to === location.hash && !event.ctrlKey && !event.metaKey && !event.shiftKey) navigate(to);
});
const zone = document.getElementById("zone");
zone.addEventListener("click", () => {
  const isUtc = zone.getAttribute("aria-pressed") !== "true";
  zone.setAttribute("aria-pressed", isUtc);
  timesInUtc(isUtc);
});

document.getElementById("nav").replaceChildren(...Object.entries(VIEWS).map(([name, [title]]) => h("li", null, h("a", { href: `#/${name}` }, title))));
async function start(retry = null) {
  try {
    session = await api("/console/session");
  } catch (error) {
    // While the gateway does not answer, it is unknown whether the user is signed in.
    if (error.retryMs) {
      if (retry !== error.message) main.replaceChildren(h("h1", null, "Hogsend"), h("p", { class: "problem", role: "alert" }, error.message), h("p", { class: "faint" }, "Retrying automatically."));
      setTimeout(() => start(error.message), error.retryMs);
      return;
    }
    if (error.status !== 401) showStatus(error.message);
  }
  showSession();
  await show({ focus: false });
}
await start();
