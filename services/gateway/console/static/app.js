// The page: who is signed in, and which view is shown. A view is a function that gives elements.

import { Refused, api } from "/console/api.js";
import { button, field, h, say } from "/console/dom.js";

const VIEWS = {
  "": ["Overview", "overview"],
  events: ["Events", "events"],
  contacts: ["Contacts", "contacts"],
  deadletters: ["Dead letters", "deadletters"],
  destinations: ["Destinations", "destinations"],
  connect: ["Connect", "connect"],
  audit: ["Audit", "audit"],
};
// What needs no key.
const OPEN = new Set(["overview"]);

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

const main = document.getElementById("main");
let session = null;
let leaving = new AbortController();

function place() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name, rest: rest.map(decodeURIComponent), params: new URLSearchParams(search) };
}

async function show({ focus = true } = {}) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { name, rest, params } = place();
  const [title, module] = VIEWS[name] ?? [null, null];
  for (const anchor of document.querySelectorAll("#nav a")) {
    if (anchor.hash === `#/${name}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  document.title = `${title ?? "Not found"} - Hogsend`;
  const heading = h("h1", { tabindex: "-1" }, title ?? "Not found");
  if (module && (session || OPEN.has(module))) main.setAttribute("aria-busy", "true");
  let shown;
  try {
    shown = await content(module, { rest, params, signal });
  } catch (error) {
    if (signal.aborted) return;
    shown = failure(error);
  }
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  main.replaceChildren(heading, ...[shown].flat(Infinity).filter(Boolean));
  if (focus) heading.focus({ preventScroll: true });
  scrollTo(0, 0);
}

async function content(module, context) {
  if (!module) return h("p", null, "There is no such page. ", h("a", { href: "#/" }, "Go to the overview."));
  if (!session && !OPEN.has(module)) return signIn();
  const { view } = await import(`/console/${module}.js`);
  return view({ ...context, session, mayAct: session?.scope === "full-admin", again: () => show({ focus: false }), takeAnswer });
}

function failure(error) {
  const known = error instanceof Refused;
  if (!known) console.error(error);
  const why = error.status === 403 ? "Your key may only read; this needs an admin key." : known ? error.message : "This page failed; the browser's log says why.";
  return [h("p", { class: "problem", role: "alert" }, why), button("Try again", () => show())];
}

function signIn() {
  const key = h("input", { type: "password", name: "key", required: true, autocomplete: "current-password", maxlength: 4096 });
  const problem = h("p", { class: "problem", role: "alert" });
  const form = h("form", { class: "sign-in", submit: async (event) => {
    event.preventDefault();
    problem.textContent = "";
    try {
      session = await api("/console/session", { method: "POST", body: { key: key.value } });
      showSession();
      await show();
    } catch (error) {
      problem.textContent = error.retrySeconds ? `${error.message}: try again in ${error.retrySeconds} seconds.` : error.message;
      key.select();
    }
  } },
  h("p", null, "Sign in with the admin key, or with the read key to look only. With ", h("code", null, "hogsend up"), " the admin key is in ", h("code", null, ".hogsend/secrets/admin-api-key"), "."),
  field("Key", key), h("button", { type: "submit" }, "Sign in"), problem);
  return form;
}

function showSession() {
  const box = document.getElementById("session");
  if (!session) {
    box.replaceChildren();
    return;
  }
  const may = session.scope === "read" ? "Signed in to look" : "Signed in";
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

addEventListener("hashchange", async () => {
  say("");
  await show();
});
addEventListener("signed-out", () => {
  if (!session) return;
  session = null;
  showSession();
  say("The session has ended. Sign in again.");
  show();
});
// A link to the content changes no address: the address says which view is shown.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

document.getElementById("nav").replaceChildren(...Object.entries(VIEWS).map(([name, [title]]) => h("li", null, h("a", { href: `#/${name}` }, title))));
try {
  session = await api("/console/session");
} catch (error) {
  if (error.status !== 401) say(error.message);
}
showSession();
await show({ focus: false });
