"""Signed deliveries: whether this PostHog can sign, and whether it does with the key known here.

PostHog signs where a destination's program and inputs have `signing_secret`
(PostHog/posthog#90307). A destination keeps the program it was created with, so one from before
gets the template's of today, unless the team changed it. The key is a secret input, which PostHog
never shows again: a header of the destination names it (`KEY_ID_HEADER`), so that drift is seen.
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


class Offer(Enum):
    """What a destination offers for signing."""

    NONE = auto()
    """Its PostHog cannot sign."""
    CUSTOM = auto()
    """Its PostHog can; the team changed its program, which does not."""
    UPGRADE = auto()
    """It can, with the program of its template as it is today."""
    READY = auto()
    """It can as it is."""


def offer_of(function: HogFunction) -> Offer:
    """Tell what a destination offers."""
    is_current = has_canonical_schema(function)
    if is_current and _has_input(function.inputs_schema):
        return Offer.READY
    template = function.template
    if template is None or not template.code or not _has_input(template.inputs_schema):
        return Offer.NONE
    # One of the old CLI gets another program anyway (`legacy`).
    return Offer.CUSTOM if is_current and _is_changed(function, template) else Offer.UPGRADE


def find_drift(function: HogFunction, secret: str | None) -> list[str]:
    """Name each difference from a destination that signs with `secret`, in words for an operator.

    Nothing differs where it cannot sign, or where the key is not known.
    """
    if secret is None:
        return []
    match offer_of(function):
        case Offer.UPGRADE:
            return ["its deliveries are not signed, which this PostHog has learnt since"]
        case Offer.READY if not has_key(function):
            return ["its deliveries are not signed"]
        case Offer.READY if _named_keys(function) != {signing.key_id(secret)}:
            return [OTHER_KEY]
    return []


def has_key(function: HogFunction) -> bool:
    """Whether a destination has a signing key, which PostHog does not show."""
    given = mapping(function.inputs.get(SIGNING_INPUT))
    return given.get("secret") is True or bool(given.get("value"))


def why_unsigned(function: HogFunction, secret: str | None) -> Unsigned | None:
    """Tell why deliveries are not signed with a key that is known here; None when they are."""
    match offer_of(function):
        case Offer.NONE:
            return "unsupported"
        case Offer.CUSTOM:
            return "custom_program"
        case Offer.UPGRADE:
            return "no_key" if secret is None else "not_provisioned"
        case Offer.READY:
            if secret is None:
                return "no_key"
            return "not_provisioned" if find_drift(function, secret) else None


def _has_input(schema: list[object]) -> bool:
    return any(mapping(entry).get("key") == SIGNING_INPUT for entry in schema)


def _named_keys(function: HogFunction) -> set[str]:
    return set(map(str, header_values(function, signing.KEY_ID_HEADER)))


def _is_changed(function: HogFunction, template: HogTemplate) -> bool:
    """Whether the template's program would take something away that the team added.

    It does not when each line of the destination's is in it: programs of the template have grown.
    Numbers of statuses in them changed, too, which says nothing.
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
