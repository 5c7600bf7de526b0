"""Templates of hog functions. The sandbox has one, the HTTP webhook.

Follows nodejs/src/cdp/templates/_destinations/webhook/webhook.template.ts.
"""

from __future__ import annotations

import msgspec

from sandbox.functions.model import InputSchema, TemplateSummary

SIGNING_SECRET = "signing_secret"  # noqa: S105 - an input's name
SECRET_HEADERS = "secret_headers"  # noqa: S105 - an input's name
METHODS = ("POST", "PUT", "PATCH", "GET", "DELETE")

_WEBHOOK_HOG = """let request := {
  'method': inputs.method,
  'headers': inputs.headers,
  'body': inputs.body
}
if (inputs.debug) { print('request', inputs.url, request) }
let answer := fetch(inputs.url, request)
if (answer.status >= 300) { throw Error(f'Webhook answered {answer.status}: {answer.body}') }
if (inputs.debug) { print('answer', answer.status, answer.body) }
"""


_SIGNING_HOG = """if (not empty(inputs.signing_secret)) {
  request['standard_webhooks'] := {'secret_input': 'signing_secret'}
}
"""
_SIGNING = InputSchema(SIGNING_SECRET, "string", "Signing secret", secret=True)

_MORE_HEADERS_HOG = """if (not empty(inputs.secret_headers)) {
  for (let name, value in inputs.secret_headers) { request.headers[name] := value }
}
"""
_SECRET_HEADERS = InputSchema(SECRET_HEADERS, "dictionary", "Secret headers", secret=True)


class Template(msgspec.Struct, frozen=True):
    """The initial values of a function."""

    summary: TemplateSummary
    hog: str
    inputs_schema: list[InputSchema]
    icon_url: str


UNSIGNED = Template(
    TemplateSummary("template-webhook", "HTTP Webhook", "destination", "stable", free=False),
    _WEBHOOK_HOG,
    [
        InputSchema("url", "string", "Webhook URL", required=True),
        InputSchema(
            "method",
            "choice",
            "Method",
            default="POST",
            choices=[{"label": method, "value": method} for method in METHODS],
        ),
        InputSchema(
            "body", "json", "JSON Body", default={"event": "{event}", "person": "{person}"}
        ),
        InputSchema(
            "headers",
            "dictionary",
            "Headers",
            default={"Content-Type": "application/json", "Accept": "application/json"},
        ),
        InputSchema("debug", "boolean", "Log responses", default=False),
    ],
    "/static/services/webhook.svg",
)

WEBHOOK = Template(
    UNSIGNED.summary,
    _WEBHOOK_HOG.replace("}\n", "}\n" + _SIGNING_HOG + _MORE_HEADERS_HOG, 1),
    [*UNSIGNED.inputs_schema, _SECRET_HEADERS, _SIGNING],
    UNSIGNED.icon_url,
)


def template_of(id: str | None, *, signing: bool) -> Template | None:
    """Return a template. Without `signing` it is the version that cannot sign webhooks."""
    template = WEBHOOK if signing else UNSIGNED
    return template if id == template.summary.id else None


def signs(hog: str) -> bool:
    """Whether a program makes PostHog sign its requests with the input `signing_secret`."""
    return "standard_webhooks" in hog


def sends_secret_headers(hog: str) -> bool:
    """Whether a program adds the headers of the input `secret_headers` to its requests."""
    return "inputs.secret_headers" in hog
