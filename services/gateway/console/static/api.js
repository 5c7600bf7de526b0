// The same routes that everybody asks, with the cookie of this session.

const DEADLINE_MS = 70_000;

export class Refused extends Error {
  constructor(status, words, retrySeconds, found) {
    super(words);
    this.status = status;
    this.retrySeconds = retrySeconds;
    this.found = found;
  }
}

export async function api(path, { method = "GET", body, signal } = {}) {
  const headers = { "X-Hogsend-Console": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const signals = [AbortSignal.timeout(DEADLINE_MS), ...(signal ? [signal] : [])];
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", signal: AbortSignal.any(signals) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "The gateway does not answer: is it running?", null);
  }
  const type = answer.headers.get("content-type") ?? "";
  const found = type.includes("json") ? await answer.json() : null;
  if (answer.ok) return found;
  if (answer.status === 401 && path !== "/console/session") dispatchEvent(new Event("signed-out"));
  throw new Refused(answer.status, words(answer.status, found), Number(answer.headers.get("retry-after")) || null, found);
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
