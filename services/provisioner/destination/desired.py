"""The desired destination, and the bodies that create or update it (contract 2.3 to 2.5)."""

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
from services.provisioner.destination.signing import SIGNING_INPUT, SigningSupport, signing_support
from services.provisioner.destination.webhook_url import PLACEHOLDER_URL, webhook_url

NAME = "Hogsend ingest — identified events"
DESCRIPTION = "Delivers the events of identified persons to Hogsend. Kept up to date by Hogsend."
TEMPLATE = "template-webhook"
COMPILED = frozenset({"bytecode", "order", "transpiled"})
"""Fields that PostHog adds to an input when it is saved."""
COMPILED_FILTERS = frozenset({"bytecode", "bytecode_error", "transpiled"})
"""Fields that PostHog adds to the filters when they are saved."""
IDENTIFIED = {"key": "$is_identified", "type": "event", "value": ["true"], "operator": "exact"}


class Desired(msgspec.Struct, frozen=True):
    """The desired state: the URL that PostHog delivers to, and the secrets of its deliveries."""

    webhook_url: str
    secret: str
    enabled: bool
    signing_secret: str | None = None
    """Key to sign deliveries with, if PostHog supports it; None keeps the destination's."""

    def __repr__(self) -> str:
        """Show the URL, never the secrets."""
        return f"Desired(webhook_url={self.webhook_url!r}, enabled={self.enabled!r})"


def live(public_url: str, secret: str) -> Desired:
    """Return the desired state of a destination that delivers to this instance."""
    return Desired(webhook_url(public_url), secret, enabled=True)


def placeholder(secret: str) -> Desired:
    """Return the desired state of a disabled destination whose URL the operator fills in later."""
    return Desired(PLACEHOLDER_URL, secret, enabled=False)


def creation(desired: Desired) -> NewHogFunction:
    """Return the body that creates the destination.

    The webhook secret is an ordinary header, not a secret input: PostHog never returns the value of
    a secret input, so drift could not be detected.
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
    """Return the body of an update, which keeps inputs and filters that an operator added."""
    upgrade = not has_canonical_schema(function)
    can_sign = signing_support(function) in {SigningSupport.READY, SigningSupport.UPGRADE}
    secret = desired.signing_secret if can_sign else None
    inputs = _inputs(
        desired,
        headers=mapping(function.input("headers")),
        debug=function.input("debug") is True,
        signing_secret=secret,
    )
    program, schema = _program(function, upgrade=upgrade, sign=secret is not None)
    return HogFunctionChanges(
        enabled=desired.enabled,
        # The program of an old destination is replaced, so its other inputs are of no use.
        inputs={**({} if upgrade else _other_inputs(function)), **inputs},
        filters=_filters(function.filters),
        hog=program,
        inputs_schema=schema,
    )


def _program(
    function: HogFunction, *, upgrade: bool, sign: bool
) -> tuple[str | msgspec.UnsetType, list[Any] | msgspec.UnsetType]:
    """Return the new program and its inputs' schema; unset when the program stays."""
    if (
        sign
        and signing_support(function) is SigningSupport.UPGRADE
        and function.template is not None
    ):
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
    own = {CONTENT_TYPE: JSON_TYPE, SECRET_HEADER: desired.secret}
    if signing_secret is not None:
        own[KEY_ID_HEADER] = key_id(signing_secret)
    # Header names are case-insensitive. Another spelling of an own header would be sent as well,
    # and its value could be used instead.
    own_names = {name.lower() for name in own}
    kept = {name: value for name, value in headers.items() if name.lower() not in own_names}
    return {
        "url": Input(desired.webhook_url),
        "method": Input(METHOD),
        "body": Input(BODY),
        "headers": Input({**kept, **own}),
        "debug": Input(debug),
        **({} if signing_secret is None else {SIGNING_INPUT: Input(signing_secret)}),
    }


def _other_inputs(function: HogFunction) -> dict[str, KeptInput]:
    """Return the inputs that Hogsend does not set, such as a signing secret.

    PostHog replaces all inputs in an update, so these have to be sent as well.
    """
    return {
        key: {name: part for name, part in mapping(value).items() if name not in COMPILED}
        for key, value in function.inputs.items()
        if key not in INPUTS and mapping(value)
    }


def _filters(existing: dict[str, Any]) -> dict[str, Any]:
    # PostHog derives the compiled fields from the other fields.
    kept = {key: value for key, value in existing.items() if key not in COMPILED_FILTERS}
    properties = sequence(existing.get("properties"))
    if not any(map(is_identified_filter, properties)):
        properties = [*properties, IDENTIFIED]
    return {**kept, "source": "events", "properties": properties}
