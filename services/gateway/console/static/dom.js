// Elements. Whatever comes from elsewhere becomes text here, never HTML.

const CLIP = 120;
// Longer filters are refused by the gateway.
export const LONGEST_FILTER = 4096;
const JSON_PIECE = 100_000;
// What would be invisible, or turn the text around it.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u;
// Some of that makes what stands around it look right: in emoji, and between letters of scripts that have it.
const JOINED = /(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})|(?<=[\p{Extended_Pictographic}#*0-9])\ufe0f|(?<=[\p{Script=Arabic}\p{M}])[\u200c\u200d](?=\p{L})/u;
const EITHER = new RegExp(`${JOINED.source}|(${UNSEEN.source})`, "gu");

export function h(tag, props, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

const escaped = (character) => {
  const digits = character.codePointAt(0).toString(16);
  return digits.length > 4 ? `\\u{${digits}}` : `\\u${digits.padStart(4, "0")}`;
};
const seen = (words) => words.replace(EITHER, (found, unseen) => (unseen === undefined ? found : escaped(unseen)));

export function plain(value, limit = CLIP) {
  const whole = String(value);
  // Not with half of a character at its end.
  const shown = seen(whole.slice(0, limit).replace(/[\ud800-\udbff]$/, ""));
  return whole.length > limit ? `${shown}… (${whole.length.toLocaleString()} characters)` : shown;
}

// Set apart, so that text from right to left does not move what stands beside it.
export function text(value, limit) {
  return value === null || value === undefined || value === "" ? h("span", { class: "faint" }, "none") : h("bdi", null, plain(value, limit));
}

// What Hogsend itself says: what stands between backticks is a command.
export function withCode(value, limit = 2000) {
  return plain(value, limit).split("`").map((part, position) => (position % 2 ? code(part) : part));
}

const STYLE = { dateStyle: "medium", timeStyle: "medium" };
const local = new Intl.DateTimeFormat(undefined, STYLE);
const universal = new Intl.DateTimeFormat(undefined, { ...STYLE, timeZone: "UTC" });
let inUtc = false;

const written = (iso) => (inUtc ? `${universal.format(new Date(iso))} UTC` : local.format(new Date(iso)));

export function time(iso) {
  if (!iso) return text(null);
  const moment = new Date(iso);
  if (Number.isNaN(moment.getTime())) return text(iso);
  return h("time", { datetime: iso, title: `${moment.toISOString()} (UTC)` }, written(iso));
}

// All times in UTC, or in the browser's zone: those that are shown, and those that will be.
export function timesInUtc(wanted) {
  inUtc = wanted;
  for (const shown of document.querySelectorAll("time")) shown.textContent = written(shown.dateTime);
}

export function json(value, label) {
  return long(JSON.stringify(value, null, 2), label);
}

export function long(value, label) {
  const whole = value.split("\n").map(seen).join("\n");
  const shown = h("pre", { tabindex: "0", role: "region", "aria-label": label, dir: "ltr" });
  const box = h("div", null, shown);
  const more = h("button", { type: "button", click: () => add() });
  let at = 0;
  function add() {
    shown.append(whole.slice(at, at + JSON_PIECE));
    at += JSON_PIECE;
    const left = whole.length - at;
    if (left <= 0) {
      if (document.activeElement === more) shown.focus();
      more.remove();
    } else {
      more.textContent = `Show more (${left.toLocaleString()} characters left)`;
      box.append(more);
    }
  }
  add();
  return box;
}

export function row(columns, one) {
  return h("tr", null, columns.map(([, cell]) => h("td", null, cell(one))));
}

export function table(label, columns, rows) {
  const head = h("tr", null, columns.map(([title]) => h("th", { scope: "col" }, title)));
  const body = rows.map((one) => row(columns, one));
  return h("div", { class: "wide", role: "region", "aria-label": label, tabindex: "0" },
    h("table", null, h("thead", null, head), h("tbody", null, body)));
}

export function facts(pairs) {
  return h("dl", null, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

export function section(title, ...children) {
  return h("section", null, h("h2", null, title), children);
}

export function empty(...children) {
  return h("p", { class: "empty" }, children);
}

export function code(value) {
  return h("code", null, value);
}

// A link to what has a value in one of its filters; only the text where that is none, or too long for one.
export function linked(path, params, value) {
  return value && value.length <= LONGEST_FILTER ? link(path, params, text(value)) : text(value);
}

export function link(path, params, ...children) {
  return h("a", { href: address(path, params) }, children);
}

export function address(path, params) {
  const given = Object.entries(params ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== "" && String(value).length <= LONGEST_FILTER);
  const query = new URLSearchParams(given).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

// Goes to an address of the console, which may be where one is: then that is asked for anew.
export function go(to) {
  if (location.hash === to) dispatchEvent(new Event("hashchange"));
  else location.hash = to;
}

// Does one at a time: a second click meanwhile counts for nothing.
export function once(action) {
  let busy = false;
  return async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    try {
      await action(event);
    } finally {
      busy = false;
    }
  };
}

export function button(label, action, props) {
  const made = h("button", { type: "button", click: once(async (event) => {
    // One that is `disabled` would lose the focus.
    made.setAttribute("aria-disabled", "true");
    try {
      await action(event);
    } finally {
      made.removeAttribute("aria-disabled");
    }
  }), ...props }, label);
  return made;
}

// What a reader takes for the same thing after it was drawn anew.
const called = (one) => `${one.tagName} ${one.getAttribute("name") ?? one.getAttribute("aria-label") ?? one.getAttribute("href") ?? one.textContent}`;

// Draws a part anew, and leaves the focus and what was scrolled sideways where they are. Says whether the focus could stay.
export function redraw(box, ...children) {
  const focused = box !== document.activeElement && box.contains(document.activeElement) ? called(document.activeElement) : null;
  const scrolled = new Map([...box.querySelectorAll("[role=region]")].map((region) => [called(region), region.scrollLeft]));
  box.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const region of box.querySelectorAll("[role=region]")) region.scrollLeft = scrolled.get(called(region)) ?? 0;
  if (focused === null) return true;
  const same = [...box.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")].find((one) => !one.disabled && called(one) === focused);
  same?.focus({ preventScroll: true });
  return Boolean(same);
}

export function field(label, input) {
  return h("label", null, h("span", null, label), input);
}

// A form whose fields are in the page's address, so that going back and bookmarks work.
export function filters(path, fields, params) {
  const form = h("form", { class: "filters", role: "search", submit: (event) => {
    event.preventDefault();
    go(address(path, Object.fromEntries(new FormData(form))));
  } }, fields.map(([name, label, type]) => field(label, h("input", { name, type: type ?? "text", value: params.get(name) ?? "", maxlength: 4096, autocomplete: "off", spellcheck: "false" }))),
  h("button", { type: "submit" }, "Show"));
  return form;
}

let isOfTheNextView = false;

// With `there` it is about the view that is gone to, and stays when that is shown.
export function say(words, { there = false } = {}) {
  isOfTheNextView = there;
  const status = document.getElementById("status");
  // Only what changed: a screen reader says it each time.
  if (status.textContent !== words) status.textContent = words;
}

// Another view is shown: what was said about the one before is over.
export function hush() {
  if (isOfTheNextView) isOfTheNextView = false;
  else say("");
}

// Does something again and again until the view is left: not while the page is hidden, and never twice at a time.
export function every(ms, action, signal) {
  let busy = false;
  async function run() {
    if (busy) return;
    busy = true;
    try {
      await action();
    } finally {
      busy = false;
    }
  }
  const again = () => { if (!document.hidden) run(); };
  const timer = setInterval(again, ms);
  document.addEventListener("visibilitychange", again, { signal });
  signal.addEventListener("abort", () => clearInterval(timer));
  return run();
}

export function ask(question, action) {
  const { promise, resolve } = Promise.withResolvers?.() ?? resolvers();
  const dialog = h("dialog", { "aria-label": action, "aria-describedby": "question", close: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
    h("form", { method: "dialog" }, h("p", { id: "question" }, question),
      h("div", { class: "actions" }, h("button", { value: "no" }, "Cancel"), h("button", { value: "yes", class: "danger" }, action))));
  document.body.append(dialog);
  dialog.showModal();
  return promise;
}

function resolvers() {
  const made = {};
  made.promise = new Promise((resolve) => { made.resolve = resolve; });
  return made;
}
