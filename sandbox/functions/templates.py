"""Templates of hog functions; the sandbox has one, the HTTP webhook.

Follows nodejs/src/cdp/templates/_destinations/webhook/webhook.template.ts.
"""

from __future__ import annotations

import msgspec

from sandbox.functions.model import InputSchema, TemplateSummary

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


class Template(msgspec.Struct, frozen=True):
    """The initial values of a function."""

    summary: TemplateSummary
    hog: str
    inputs_schema: list[InputSchema]
    icon_url: str


WEBHOOK = Template(
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

TEMPLATES = {WEBHOOK.summary.id: WEBHOOK}
