// Creates DOM elements. Data always becomes text, never HTML.

const CLIP = 120;
// The gateway refuses longer filters.
export const MAX_FILTER = 4096;
const JSON_PIECE = 100_000;
// Characters that are invisible, or that change the direction of the text around them.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u;
// Invisible characters that are needed to display emoji, and letters of some scripts, correctly.
const JOINERS = /(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f])\u200d(?=\p{Extended_Pictographic})|(?<=[\p{Extended_Pictographic}#*0-9])\ufe0f|(?<=[\p{Script=Arabic}\p{M}])[\u200c\u200d](?=\p{L})/u;
const JOINERS_OR_INVISIBLE = new RegExp(`${JOINERS.source}|(${INVISIBLE.source})`, "gu");

// Creates an element. A property that is a function becomes an event listener.
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const escaped = (character) => {
  const digits = character.codePointAt(0).toString(16);
  return digits.length > 4 ? `\\u{${digits}}` : `\\u${digits.padStart(4, "0")}`;
};
const visible = (value) => value.replace(JOINERS_OR_INVISIBLE, (match, invisible) => (invisible === undefined ? match : escaped(invisible)));

// Returns a value as text, clipped and with invisible characters escaped.
export function plain(value, limit = CLIP) {
  const whole = String(value);
  // Do not cut a surrogate pair in half.
  const shown = visible(whole.slice(0, limit).replace(/[\ud800-\udbff]$/, ""));
  return whole.length > limit ? `${shown}… (${whole.length.toLocaleString()} characters)` : shown;
}

// Isolated with <bdi>, so that right-to-left text does not reorder the text next to it.
export function text(value, limit) {
  return value === null || value === undefined || value === "" ? h("span", { class: "faint" }, "none") : h("bdi", null, plain(value, limit));
}

// A message of Hogsend's own. Text between backticks is a command.
export function withCode(value, limit = 2000) {
  return plain(value, limit).split("`").map((part, position) => (position % 2 ? code(part) : part));
}

const STYLE = { dateStyle: "medium", timeStyle: "medium" };
const local = new Intl.DateTimeFormat(undefined, STYLE);
const universal = new Intl.DateTimeFormat(undefined, { ...STYLE, timeZone: "UTC" });
let inUtc = false;

const formatted = (iso) => (inUtc ? `${universal.format(new Date(iso))} UTC` : local.format(new Date(iso)));

export function time(iso) {
  if (!iso) return text(null);
  const moment = new Date(iso);
  if (Number.isNaN(moment.getTime())) return text(iso);
  return h("time", { datetime: iso, title: `${moment.toISOString()} (UTC)` }, formatted(iso));
}

// Shows all times, current and future ones, in UTC or in the browser's time zone.
export function timesInUtc(isUtc) {
  inUtc = isUtc;
  for (const element of document.querySelectorAll("time")) element.textContent = formatted(element.dateTime);
}

export function json(value, label) {
  return long(JSON.stringify(value, null, 2), label);
}

// Shows a long text in pieces, each after a click on "Show more".
export function long(value, label) {
  const whole = value.split("\n").map(visible).join("\n");
  const shown = h("pre", { tabindex: "0", role: "region", "aria-label": label, dir: "ltr" });
  const box = h("div", null, shown);
  const more = h("button", { type: "button", click: () => add() });
  let at = 0;
  function add() {
    shown.append(whole.slice(at, at + JSON_PIECE));
    at += JSON_PIECE;
    const remaining = whole.length - at;
    if (remaining <= 0) {
      if (document.activeElement === more) shown.focus();
      more.remove();
    } else {
      more.textContent = `Show more (${remaining.toLocaleString()} characters left)`;
      box.append(more);
    }
  }
  add();
  return box;
}

export function row(columns, entry) {
  return h("tr", null, columns.map(([, cell]) => h("td", null, cell(entry))));
}

export function table(label, columns, rows) {
  const head = h("tr", null, columns.map(([title]) => h("th", { scope: "col" }, title)));
  const body = rows.map((entry) => row(columns, entry));
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

// A link to a view that is filtered by a value. Without a value, or with one too long for a filter, only its text.
export function linked(path, params, value) {
  return value && value.length <= MAX_FILTER ? link(path, params, text(value)) : text(value);
}

export function link(path, params, ...children) {
  return h("a", { href: address(path, params) }, children);
}

export function address(path, params) {
  const given = Object.entries(params ?? {}).filter(([, value]) => value !== null && value !== undefined && value !== "" && String(value).length <= MAX_FILTER);
  const query = new URLSearchParams(given).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

// Navigates to an address of the console. The current address is loaded again.
export function navigate(to) {
  if (location.hash === to) dispatchEvent(new Event("hashchange"));
  else location.hash = to;
}

// Wraps an event handler so that further events are ignored while it runs.
export function exclusive(action) {
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
  const element = h("button", { type: "button", click: exclusive(async (event) => {
    // `aria-disabled`, because a button that becomes `disabled` loses the focus.
    element.setAttribute("aria-disabled", "true");
    try {
      await action(event);
    } finally {
      element.removeAttribute("aria-disabled");
    }
  }), ...props }, label);
  return element;
}

// Identifies an element, so that it can be found again after a redraw.
const identity = (element) => `${element.tagName} ${element.getAttribute("name") ?? element.getAttribute("aria-label") ?? element.getAttribute("href") ?? element.textContent}`;

// Replaces the content of `box`, and keeps the focus and horizontal scroll positions. Returns whether the focus was kept.
export function redraw(box, ...children) {
  const focused = box !== document.activeElement && box.contains(document.activeElement) ? identity(document.activeElement) : null;
  const scrolled = new Map([...box.querySelectorAll("[role=region]")].map((region) => [identity(region), region.scrollLeft]));
  box.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const region of box.querySelectorAll("[role=region]")) region.scrollLeft = scrolled.get(identity(region)) ?? 0;
  if (focused === null) return true;
  const same = [...box.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")].find((element) => !element.disabled && identity(element) === focused);
  same?.focus({ preventScroll: true });
  return Boolean(same);
}

export function field(label, input) {
  return h("label", null, h("span", null, label), input);
}

// A form whose fields become part of the address, so that going back and bookmarks work.
export function filters(path, fields, params) {
  const form = h("form", { class: "filters", role: "search", submit: (event) => {
    event.preventDefault();
    navigate(address(path, Object.fromEntries(new FormData(form))));
  } }, fields.map(([name, label, type]) => field(label, h("input", { name, type: type ?? "text", value: params.get(name) ?? "", maxlength: 4096, autocomplete: "off", spellcheck: "false" }))),
  h("button", { type: "submit" }, "Show"));
  return form;
}

let isForNextView = false;

// Shows a status message. With `forNextView` it is about the view that is opened next, and stays when that is shown.
export function showStatus(message, { forNextView = false } = {}) {
  isForNextView = forNextView;
  const status = document.getElementById("status");
  // Only a changed message is set, because screen readers read each one aloud.
  if (status.textContent !== message) status.textContent = message;
}

// Clears the status message of the previous view.
export function clearStatus() {
  if (isForNextView) isForNextView = false;
  else showStatus("");
}

// Runs an action periodically until the view is left. It does not run while the page is hidden, nor twice at a time.
export function poll(ms, action, signal) {
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
  const runIfVisible = () => { if (!document.hidden) run(); };
  const timer = setInterval(runIfVisible, ms);
  document.addEventListener("visibilitychange", runIfVisible, { signal });
  signal.addEventListener("abort", () => clearInterval(timer));
  return run();
}

// Asks the user to confirm an action. Resolves to whether the user did.
export function confirmAction(question, action) {
  const { promise, resolve } = Promise.withResolvers?.() ?? resolvers();
  const dialog = h("dialog", { "aria-label": action, "aria-describedby": "question", close: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
    h("form", { method: "dialog" }, h("p", { id: "question" }, question),
      h("div", { class: "actions" }, h("button", { value: "no" }, "Cancel"), h("button", { value: "yes", class: "danger" }, action))));
  document.body.append(dialog);
  dialog.showModal();
  return promise;
}

function resolvers() {
  const result = {};
  result.promise = new Promise((resolve) => { result.resolve = resolve; });
  return result;
}
