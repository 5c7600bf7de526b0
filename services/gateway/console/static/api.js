// The same routes that everybody asks, with the cookie of this session.

// What only reads is answered within 20 seconds, a run in PostHog within 60.
const READ_MS = 25_000;
const DEADLINE_MS = 70_000;
const RETRY_MS = 5000;

export class Refused extends Error {
  constructor(status, words, retrySeconds, found) {
    super(words);
    this.status = status;
    this.retrySeconds = retrySeconds;
    this.found = found;
  }

  // When to ask again by oneself: the gateway or what it asks is down, or there were too many requests. Null when no time mends it.
  get againMs() {
    if (this.status === 429 && this.retrySeconds) return 1000 * this.retrySeconds;
    return this.status === 0 || this.status >= 500 ? RETRY_MS : null;
  }
}

export async function api(path, { method = "GET", body, signal, deadlineMs = method === "GET" ? READ_MS : DEADLINE_MS } = {}) {
  const headers = { "X-Hogsend-Console": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const signals = [AbortSignal.timeout(deadlineMs), ...(signal ? [signal] : [])];
  let answer;
  let found;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", signal: AbortSignal.any(signals) });
    const type = answer.headers.get("content-type") ?? "";
    // It may end in the middle, too.
    found = type.includes("json") ? JSON.parse(await answer.text(), exact) : null;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The gateway does not answer: start it, or read its log.", null);
  }
  if (answer.ok) return found;
  if (answer.status === 401 && path !== "/console/session") dispatchEvent(new Event("signed-out"));
  throw new Refused(answer.status, words(answer.status, found), Number(answer.headers.get("retry-after")) || null, found);
}

// Numbers that this language would round are shown as they were written, where the browser can.
function exact(name, value, { source } = {}) {
  const isRounded = typeof value === "number" && source !== undefined && !(Number.isFinite(value) && (Number.isSafeInteger(value) || /[.e]/i.test(source)));
  return isRounded && JSON.rawJSON ? JSON.rawJSON(source) : value;
}

export function query(path, params) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

function words(status, found) {
  const error = found?.error;
  if (typeof error === "string") return [error, found.detail, found.remediation].filter(Boolean).join(" - ");
  try {
    return JSON.parse(error.message).map((issue) => [issue.path?.join("."), issue.message].filter(Boolean).join(": ")).join("; ");
  } catch {
    return `The gateway answered ${status}.`;
  }
}
