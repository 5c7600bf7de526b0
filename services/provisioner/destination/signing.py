"""Signed deliveries: whether a destination can sign, and whether it signs with the known key.

A destination signs if its program and inputs have `signing_secret` (PostHog/posthog#90307). A
destination keeps the program that it was created with, so an older one is upgraded to the current
program of its template, unless the team changed the program. The key is a secret input, which
PostHog never returns. So a header of the destination carries the key's id (`KEY_ID_HEADER`), by
which drift is detected.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from hogsend.contract.provisioning import Unsigned
from hogsend.posthog import signing
from hogsend.posthog.api import HogFunction
from hogsend.posthog.api.hog_functions import HogTemplate
from hogsend.posthog.api.reading import mapping
from services.provisioner.destination import legacy
from services.provisioner.destination.drift import OTHER_KEY, has_canonical_schema, header_values

SIGNING_INPUT = "signing_secret"


class SigningSupport(Enum):
    """Whether a destination can sign its deliveries."""

    NONE = auto()
    """This version of PostHog cannot sign."""
    CUSTOM = auto()
    """PostHog can sign, but the team changed the destination's program, which does not."""
    UPGRADE = auto()
    """The destination can sign after an upgrade to the current program of its template."""
    READY = auto()
    """The destination's program can sign."""


def signing_support(function: HogFunction) -> SigningSupport:
    """Determine whether a destination can sign."""
    is_current = has_canonical_schema(function)
    if is_current and _has_input(function.inputs_schema):
        return SigningSupport.READY
    template = function.template
    if template is None or not template.code or not _has_input(template.inputs_schema):
        return SigningSupport.NONE
    # The program of a destination of the old CLI is replaced anyway (`legacy`).
    return (
        SigningSupport.CUSTOM
        if is_current and _is_changed(function, template)
        else SigningSupport.UPGRADE
    )


def find_drift(function: HogFunction, secret: str | None) -> list[str]:
    """Describe each difference from a destination that signs with `secret`, for an operator.

    Empty if the destination cannot sign, or `secret` is None.
    """
    if secret is None:
        return []
    match signing_support(function):
        case SigningSupport.UPGRADE:
            return ["its deliveries are not signed, which this PostHog has learnt since"]
        case SigningSupport.READY if not has_key(function):
            return ["its deliveries are not signed"]
        case SigningSupport.READY if _named_keys(function) != {signing.key_id(secret)}:
            return [OTHER_KEY]
    return []


def has_key(function: HogFunction) -> bool:
    """Whether a destination has a signing key, whose value PostHog does not return."""
    key = mapping(function.inputs.get(SIGNING_INPUT))
    return key.get("secret") is True or bool(key.get("value"))


def unsigned_reason(function: HogFunction, secret: str | None) -> Unsigned | None:
    """Return why deliveries are not signed with `secret`; None if they are."""
    match signing_support(function):
        case SigningSupport.NONE:
            return "unsupported"
        case SigningSupport.CUSTOM:
            return "custom_program"
        case SigningSupport.UPGRADE:
            return "no_key" if secret is None else "not_provisioned"
        case SigningSupport.READY:
            if secret is None:
                return "no_key"
            return "not_provisioned" if find_drift(function, secret) else None


def _has_input(schema: list[object]) -> bool:
    return any(mapping(entry).get("key") == SIGNING_INPUT for entry in schema)


def _named_keys(function: HogFunction) -> set[str]:
    return set(map(str, header_values(function, signing.KEY_ID_HEADER)))


def _is_changed(function: HogFunction, template: HogTemplate) -> bool:
    """Whether the template's program would remove something that the team added.

    It would not if it contains each line of the destination's program: PostHog's changes to the
    template only added lines. Numbers are ignored, because PostHog changed HTTP statuses in it.
    """
    if not _keys(function.inputs_schema) <= _keys(template.inputs_schema):
        return True
    if function.hog.strip() == legacy.HOG.strip():
        return False
    return not function.hog or not _lines(function.hog) <= _lines(template.code)


def _keys(schema: list[object]) -> set[object]:
    return {str(mapping(entry).get("key")) for entry in schema}


def _lines(program: str) -> set[str]:
    stripped = (re.sub(r"\d+", "0", line.strip()) for line in program.splitlines())
    return {line for line in stripped if line and not line.startswith("//")}
