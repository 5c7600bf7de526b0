// Elements. Whatever comes from elsewhere becomes text here, never HTML.

const CLIP = 120;
// Longer filters are refused by the gateway.
export const LONGEST_FILTER = 4096;
const JSON_PIECE = 100_000;
// What would be invisible, or turn the text around it.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]/g;

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

const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;

export function plain(value, limit = CLIP) {
  const whole = String(value);
  const shown = whole.slice(0, limit).replace(UNPRINTABLE, escaped);
  return whole.length > limit ? `${shown}… (${whole.length.toLocaleString()} characters)` : shown;
}

// Set apart, so that text from right to left does not move what stands beside it.
export function text(value, limit) {
  return value === null || value === undefined || value === "" ? h("span", { class: "faint" }, "none") : h("bdi", null, plain(value, limit));
}

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function time(iso) {
  if (!iso) return text(null);
  const moment = new Date(iso);
  if (Number.isNaN(moment.getTime())) return text(iso);
  return h("time", { datetime: iso, title: `${moment.toISOString()} (UTC)` }, local.format(moment));
}

export function json(value, label) {
  return long(JSON.stringify(value, null, 2), label);
}

export function long(value, label) {
  const whole = value.replace(UNPRINTABLE, (character) => (character === "\n" ? character : escaped(character)));
  const shown = h("pre", { tabindex: "0", role: "region", "aria-label": label, dir: "ltr" });
  const box = h("div", null, shown);
  const more = h("button", { type: "button", click: () => add() });
  let at = 0;
  function add() {
    shown.append(whole.slice(at, at + JSON_PIECE));
    at += JSON_PIECE;
    const left = whole.length - at;
    if (left <= 0) more.remove();
    else {
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

export function button(label, action, props) {
  return h("button", { type: "button", click: action, ...props }, label);
}

export function field(label, input) {
  return h("label", null, h("span", null, label), input);
}

// A form whose fields are in the page's address, so that going back and bookmarks work.
export function filters(path, fields, params) {
  const form = h("form", { class: "filters", role: "search", submit: (event) => {
    event.preventDefault();
    location.hash = address(path, Object.fromEntries(new FormData(form)));
  } }, fields.map(([name, label, type]) => field(label, h("input", { name, type: type ?? "text", value: params.get(name) ?? "", maxlength: 4096, autocomplete: "off", spellcheck: "false" }))),
  h("button", { type: "submit" }, "Show"));
  return form;
}

export function say(words) {
  const status = document.getElementById("status");
  // Only what changed: a screen reader says it each time.
  if (status.textContent !== words) status.textContent = words;
}

// Does something again and again until the view is left: not while nobody looks, and never twice at a time.
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
  const dialog = h("dialog", { "aria-label": action, close: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
    h("form", { method: "dialog" }, h("p", null, question),
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
