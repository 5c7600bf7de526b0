"""Every subject name on the bus, and the escaping that makes an event name one subject token.

Who may publish or subscribe to each, and with which message, is in `hogsend.contract.registry`.
"""

from __future__ import annotations

import hashlib
import re

PREFIX = "hogsend"

WEBHOOKS = f"{PREFIX}.webhooks"
EVENTS = f"{PREFIX}.events"
CREDENTIALS = f"{PREFIX}.credentials"
ENGAGEMENT = f"{PREFIX}.engagement"
PERSONS = f"{PREFIX}.persons"
CONTACTS = f"{PREFIX}.contacts"
REPLAYS = f"{PREFIX}.replays"
AUDIT = "hogsend.audit"
DEADLETTER = f"{PREFIX}.deadletter"
RPC = f"{PREFIX}.rpc"

MAX_TOKEN_BYTES = 200
"""Longest event token, in bytes. Longer names keep a readable head and end in a digest."""

_DIGEST_MARK = "~"
_EMPTY = "%"
_REPLAY_DIGITS = 32
_UNSAFE = re.compile(rb"[^A-Za-z0-9_$:@/-]")


WEBHOOK_SLOTS = 64
"""Slots of persons in the queue of webhooks. Never changed: what is queued has one."""


WEBHOOKS_WITH_SLOT = f"{WEBHOOKS}.*.*"
"""Where they are queued; the stream takes the slots that there are, and no others."""


def webhook(source: str, slot: int | None = None) -> str:
    """Subject a webhook of `source` (for example `posthog`) is queued on, with its slot if any.

    Slots are for order; see `hogsend.contract.partitions`.
    """
    return f"{WEBHOOKS}.{source}" if slot is None else f"{WEBHOOKS}.{source}.{slot}"


def webhook_source(subject: str) -> str:
    """The source that `webhook` made `subject` of."""
    return subject.removeprefix(f"{WEBHOOKS}.").partition(".")[0]


def event(name: str) -> str:
    """Subject the normalized event called `name` is published on."""
    return f"{EVENTS}.{escape(name)}"


def credential_changed(provider: str) -> str:
    """Subject that announces a change of `provider`'s credential."""
    return f"{CREDENTIALS}.{escape(provider)}.changed"


def engagement(type: str) -> str:
    """Subject engagement of `type` (for example `email.opened`) is reported on."""
    return f"{ENGAGEMENT}.{type}"


def persons(verb: str) -> str:
    """Subject for what PostHog shall know about a person: `set`, `capture` or `alias`."""
    return f"{PERSONS}.{verb}"


def contact_erased(contact_id: str) -> str:
    """Subject that announces the erasure of a contact, by its id."""
    return f"{CONTACTS}.{contact_id}.erased"


def replay(durable: str) -> str:
    """Subject of the events that are delivered to one durable again; others are kept from it.

    It does not tell the durable's name: others may ask which subjects the stream has, and who knows
    the name of a durable may read from it.
    """
    return f"{REPLAYS}.{hashlib.sha256(durable.encode()).hexdigest()[:_REPLAY_DIGITS]}"


def replays_of(durable: str) -> frozenset[str]:
    """Subjects that may have copies for one durable; replays that began before had its name."""
    return frozenset({replay(durable), f"{REPLAYS}.{durable}"})


def dead_letter(stream: str) -> str:
    """Subject for messages of `stream` that could not be processed."""
    return f"{DEADLETTER}.{stream}"


def rpc(service: str, verb: str) -> str:
    """Request subject of one verb of one service."""
    return f"{RPC}.{service}.{verb}"


def covers(pattern: str, subject: str) -> bool:
    """Whether a subscription to `pattern` gets every message that one to `subject` gets."""
    tokens, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    # No pattern of one length gets what has any length.
    elif tokens[-1] == ">":
        return False
    return len(tokens) == len(wanted) and all(
        theirs in {"*", ours} for theirs, ours in zip(wanted, tokens, strict=True)
    )


def common(one: str, other: str) -> str | None:
    """The pattern of exactly those messages that both patterns get; None without any."""
    ours, theirs = one.split("."), other.split(".")
    found: list[str] = []
    while ours and theirs:
        if ours == [">"]:
            return ".".join([*found, *theirs])
        if theirs == [">"]:
            return ".".join([*found, *ours])
        mine, its = ours.pop(0), theirs.pop(0)
        if mine != its and "*" not in {mine, its}:
            return None
        found.append(its if mine == "*" else mine)
    return None if ours or theirs else ".".join(found)


def is_literal(subject: str) -> bool:
    """Whether a message can lie on `subject`: no wildcard, no empty token, nothing invisible."""
    return all(
        token and token.isprintable() and not set(token) & set(" *>")
        for token in subject.split(".")
    )


def escape(name: str) -> str:
    """Turn any text into exactly one subject token that differs for every different text.

    Letters, digits and `_ $ : @ / -` stay as they are; every other byte of the UTF-8 text becomes
    `%XX`. A token over `MAX_TOKEN_BYTES` is cut and ends in `~` and a SHA-256 digest of the name,
    which `unescape` refuses.
    """
    if not name:
        return _EMPTY
    token = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], name.encode()).decode("ascii")
    if len(token) <= MAX_TOKEN_BYTES:
        return token
    digest = hashlib.sha256(name.encode()).hexdigest()
    head = re.sub(r"%[0-9A-F]?$", "", token[: MAX_TOKEN_BYTES - len(digest) - 1])
    return f"{head}{_DIGEST_MARK}{digest}"


def unescape(token: str) -> str:
    """Give back the text that `escape` made `token` from.

    Raises:
        ValueError: the token was cut for length, or was not made by `escape`.
    """
    if _DIGEST_MARK in token:
        message = "the event name was too long for its subject; read it from the message"
        raise ValueError(message)
    if token == _EMPTY:
        return ""
    raw = re.sub(rb"%([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), token.encode())
    name = raw.decode()
    if escape(name) != token:
        message = f"not an escaped event name: {token!r}"
        raise ValueError(message)
    return name
