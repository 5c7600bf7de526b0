"""The desired destination, and the request bodies that bring it about (contract 2.3 to 2.5)."""

from __future__ import annotations

from typing import Any

import msgspec

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.api import (
    HogFunction,
    HogFunctionChanges,
    Input,
    KeptInput,
    NewHogFunction,
)
from hogsend.posthog.api.reading import mapping, sequence
from hogsend.posthog.signing import KEY_ID_HEADER, key_id
from services.provisioner.destination import legacy
from services.provisioner.destination.drift import (
    BODY,
    CONTENT_TYPE,
    INPUTS,
    JSON_TYPE,
    METHOD,
    has_canonical_schema,
    is_identified_filter,
)
from services.provisioner.destination.signing import SIGNING_INPUT, Offer, offer_of
from services.provisioner.destination.webhook_url import PLACEHOLDER_URL, webhook_url

NAME = "Hogsend ingest — identified events"
DESCRIPTION = "Delivers the events of identified persons to Hogsend. Kept up to date by Hogsend."
TEMPLATE = "template-webhook"
COMPILED = frozenset({"bytecode", "order", "transpiled"})
"""What PostHog adds to an input when it is saved."""
COMPILED_FILTERS = frozenset({"bytecode", "bytecode_error", "transpiled"})
"""What it adds to filters."""
IDENTIFIED = {"key": "$is_identified", "type": "event", "value": ["true"], "operator": "exact"}


class Desired(msgspec.Struct, frozen=True):
    """Desired state: where PostHog delivers, and which secret its deliveries carry."""

    webhook_url: str
    secret: str
    enabled: bool
    signing_secret: str | None = None
    """Key to sign deliveries with, where PostHog can; None leaves that as it is."""

    def __repr__(self) -> str:
        """Name the URL, never the secret."""
        return f"Desired(webhook_url={self.webhook_url!r}, enabled={self.enabled!r})"


def live(public_url: str, secret: str) -> Desired:
    """A destination that delivers to this instance."""
    return Desired(webhook_url(public_url), secret, enabled=True)


def placeholder(secret: str) -> Desired:
    """A disabled destination whose URL the operator fills in later."""
    return Desired(PLACEHOLDER_URL, secret, enabled=False)


def creation(desired: Desired) -> NewHogFunction:
    """Return the body that creates the destination.

    The webhook secret is an ordinary header: PostHog never shows a secret input again, so drift of
    the secret could not be detected.
    """
    return NewHogFunction(
        type="destination",
        name=NAME,
        description=DESCRIPTION,
        template_id=TEMPLATE,
        enabled=desired.enabled,
        inputs=_inputs(desired, headers={}, debug=False),
        filters={"source": "events", "properties": [IDENTIFIED]},
    )


def changes(function: HogFunction, desired: Desired) -> HogFunctionChanges:
    """Return the body that updates an existing destination and keeps what the operator added."""
    upgrade = not has_canonical_schema(function)
    offer = offer_of(function)
    secret = desired.signing_secret if offer in {Offer.READY, Offer.UPGRADE} else None
    ours = _inputs(
        desired,
        headers=mapping(function.input("headers")),
        debug=function.input("debug") is True,
        signing_secret=secret,
    )
    program, schema = _program(function, upgrade=upgrade, sign=secret is not None)
    return HogFunctionChanges(
        enabled=desired.enabled,
        # An old program has none of the inputs of the new one.
        inputs={**({} if upgrade else _others(function)), **ours},
        filters=_filters(function.filters),
        hog=program,
        inputs_schema=schema,
    )


def _program(
    function: HogFunction, *, upgrade: bool, sign: bool
) -> tuple[str | msgspec.UnsetType, list[Any] | msgspec.UnsetType]:
    """The program to change to, with its inputs; unset when it stays."""
    if sign and offer_of(function) is Offer.UPGRADE and function.template is not None:
        return function.template.code, function.template.inputs_schema
    if upgrade:
        return legacy.HOG, list(legacy.inputs_schema())
    return msgspec.UNSET, msgspec.UNSET


def _inputs(
    desired: Desired,
    *,
    headers: dict[str, Any],
    debug: bool,
    signing_secret: str | None = None,
) -> dict[str, Input]:
    ours = {CONTENT_TYPE: JSON_TYPE, SECRET_HEADER: desired.secret}
    if signing_secret is not None:
        ours[KEY_ID_HEADER] = key_id(signing_secret)
    # Header names ignore case: a second spelling of ours would be sent too, and could win.
    taken = {name.lower() for name in ours}
    kept = {name: value for name, value in headers.items() if name.lower() not in taken}
    return {
        "url": Input(desired.webhook_url),
        "method": Input(METHOD),
        "body": Input(BODY),
        "headers": Input({**kept, **ours}),
        "debug": Input(debug),
        **({} if signing_secret is None else {SIGNING_INPUT: Input(signing_secret)}),
    }


def _others(function: HogFunction) -> dict[str, KeptInput]:
    """Give the inputs that are not ours, for example a signing secret: PostHog replaces all."""
    return {
        key: {name: part for name, part in mapping(one).items() if name not in COMPILED}
        for key, one in function.inputs.items()
        if key not in INPUTS and mapping(one)
    }


def _filters(existing: dict[str, Any]) -> dict[str, Any]:
    # PostHog compiles them from the other keys.
    kept = {key: value for key, value in existing.items() if key not in COMPILED_FILTERS}
    properties = sequence(existing.get("properties"))
    if not any(map(is_identified_filter, properties)):
        properties = [*properties, IDENTIFIED]
    return {**kept, "source": "events", "properties": properties}
