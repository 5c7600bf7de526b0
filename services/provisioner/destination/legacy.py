"""Upgrades destinations that Hogsend's old Go CLI created (contract 2.5).

They have an input called `payload`. The upgrade replaces their program, and gives them the inputs
of the current webhook template.
"""

from __future__ import annotations

from typing import Any

import msgspec

from services.provisioner.destination.drift import BODY, CONTENT_TYPE, JSON_TYPE, METHOD

# The debug log omits the headers, because one of them is the webhook secret.
HOG = """\
let payload := {
  'method': inputs.method,
  'headers': inputs.headers,
  'body': inputs.body
}

if (inputs.debug) {
  print('Delivering to', inputs.url, inputs.body)
}

let answer := fetch(inputs.url, payload)

if (inputs.debug) {
  print('Delivered', answer.status, answer.body)
}

if (answer.status >= 400) {
  throw Error(f'Hogsend answered {answer.status}: {answer.body}')
}
"""


class Choice(msgspec.Struct, frozen=True):
    """An option of a choice input."""

    label: str
    value: str


class SchemaEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a destination, as PostHog describes it."""

    key: str
    type: str
    label: str
    description: str
    required: bool = False
    secret: bool = False
    hidden: bool = False
    default: Any = msgspec.UNSET
    choices: list[Choice] | msgspec.UnsetType = msgspec.UNSET


def inputs_schema() -> list[SchemaEntry]:
    """Return the five inputs of the webhook template, in its order."""
    return [
        SchemaEntry(
            key="url",
            type="string",
            label="URL",
            description="Where events are delivered.",
            required=True,
        ),
        SchemaEntry(
            key="method",
            type="choice",
            label="Method",
            description="How events are delivered.",
            default=METHOD,
            choices=[Choice(name, name) for name in ("POST", "PUT", "PATCH", "GET", "DELETE")],
        ),
        SchemaEntry(
            key="body",
            type="json",
            label="Body",
            description="What is delivered for each event.",
            default=BODY,
        ),
        SchemaEntry(
            key="headers",
            type="dictionary",
            label="Headers",
            description="Headers of each delivery; one carries Hogsend's webhook secret.",
            default={CONTENT_TYPE: JSON_TYPE},
        ),
        SchemaEntry(
            key="debug",
            type="boolean",
            label="Log deliveries",
            description="Writes each delivery and its answer into this function's log.",
            default=False,
        ),
    ]
