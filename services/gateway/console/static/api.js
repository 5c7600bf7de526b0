// Requests to the gateway's routes, with the session cookie. They are the same routes that other clients use.

// The gateway answers reads within 20 seconds, and a provisioning run within 60 seconds.
const READ_MS = 25_000;
const DEADLINE_MS = 70_000;
const RETRY_MS = 5000;

export class Refused extends Error {
  constructor(status, message, retrySeconds, body) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
    this.body = body;
  }

  // When to retry automatically: after too many requests, or while the gateway or a service behind it is down. Null if a retry cannot help.
  get retryMs() {
    if (this.status === 429 && this.retrySeconds) return 1000 * this.retrySeconds;
    return this.status === 0 || this.status >= 500 ? RETRY_MS : null;
  }
}

export async function api(path, { method = "GET", body, signal, deadlineMs = method === "GET" ? READ_MS : DEADLINE_MS } = {}) {
  const headers = { "X-Hogsend-Console": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const signals = [AbortSignal.timeout(deadlineMs), ...(signal ? [signal] : [])];
  let response;
  let content;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", signal: AbortSignal.any(signals) });
    const type = response.headers.get("content-type") ?? "";
    // Reading the body fails, too, if the connection is lost.
    content = type.includes("json") ? JSON.parse(await response.text(), exact) : null;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The gateway does not answer: start it, or read its log.", null);
  }
  if (response.ok) return content;
  if (response.status === 401 && path !== "/console/session") dispatchEvent(new Event("signed-out"));
  throw new Refused(response.status, messageOf(response.status, content), Number(response.headers.get("retry-after")) || null, content);
}

// Keeps numbers that JavaScript would round as they were written, if the browser supports JSON.rawJSON.
function exact(name, value, { source } = {}) {
  const isRounded = typeof value === "number" && source !== undefined && !(Number.isFinite(value) && (Number.isSafeInteger(value) || /[.e]/i.test(source)));
  return isRounded && JSON.rawJSON ? JSON.rawJSON(source) : value;
}

export function query(path, params) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

function messageOf(status, content) {
  const error = content?.error;
  if (typeof error === "string") return [error, content.detail, content.remediation].filter(Boolean).join(" - ");
  try {
    return JSON.parse(error.message).map((issue) => [issue.path?.join("."), issue.message].filter(Boolean).join(": ")).join("; ");
  } catch {
    return `The gateway answered ${status}.`;
  }
}
