"""Every subject name on the bus, and the escaping that turns an event name into one subject token.

The message of each subject, and the users that may publish or subscribe, are declared as channels
and endpoints; see `hogsend.contract.registry`.
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
"""Maximum length of an event's token, in bytes. A longer one is cut and ends in a digest."""

_DIGEST_MARK = "~"
_EMPTY = "%"
_REPLAY_DIGITS = 32
_UNSAFE = re.compile(rb"[^A-Za-z0-9_$:@/-]")


WEBHOOK_SLOTS = 64
"""Number of slots that persons hash to in the webhook queue.

It must never change: webhooks that are already queued carry slots of this range.
"""


WEBHOOKS_WITH_SLOT = f"{WEBHOOKS}.*.*"
"""Pattern of the webhooks that carry a slot. The stream stores only slots that exist."""


def webhook(source: str, slot: int | None = None) -> str:
    """Subject on which webhooks of `source` (for example `posthog`) are queued.

    Webhooks that have to stay in order carry a slot; see `hogsend.contract.partitions`.
    """
    return f"{WEBHOOKS}.{source}" if slot is None else f"{WEBHOOKS}.{source}.{slot}"


def webhook_source(subject: str) -> str:
    """Source of a webhook, read from its subject."""
    return subject.removeprefix(f"{WEBHOOKS}.").partition(".")[0]


def event(name: str) -> str:
    """Subject on which the normalized event called `name` is published."""
    return f"{EVENTS}.{escape(name)}"


def credential_changed(provider: str) -> str:
    """Subject that announces a change of `provider`'s credential."""
    return f"{CREDENTIALS}.{escape(provider)}.changed"


def engagement(type: str) -> str:
    """Subject on which engagement of `type` (for example `email.opened`) is reported."""
    return f"{ENGAGEMENT}.{type}"


def persons(verb: str) -> str:
    """Subject of writes to PostHog persons; `verb` is `set`, `capture` or `alias`."""
    return f"{PERSONS}.{verb}"


def contact_erased(contact_id: str) -> str:
    """Subject that announces the erasure of the contact with this id."""
    return f"{CONTACTS}.{contact_id}.erased"


def replay(durable: str) -> str:
    """Subject of the events that are replayed to one durable consumer and to no other.

    It carries a digest instead of the durable's name. External services may list the subjects of
    the stream, and a client that knows the name of a durable may read from it.
    """
    return f"{REPLAYS}.{hashlib.sha256(durable.encode()).hexdigest()[:_REPLAY_DIGITS]}"


def replays_of(durable: str) -> frozenset[str]:
    """Subjects that may hold replayed events of one durable.

    The second one has the durable's name in clear: earlier versions published replays there.
    """
    return frozenset({replay(durable), f"{REPLAYS}.{durable}"})


def dead_letter(stream: str) -> str:
    """Subject of the dead letters of `stream`: its messages that could not be processed."""
    return f"{DEADLETTER}.{stream}"


def rpc(service: str, verb: str) -> str:
    """Request subject of the endpoint `verb` of `service`."""
    return f"{RPC}.{service}.{verb}"


def covers(pattern: str, subject: str) -> bool:
    """Whether a subscription to `pattern` receives all messages of a subscription to `subject`.

    Both may contain wildcards.
    """
    tokens, pattern_tokens = subject.split("."), pattern.split(".")
    if pattern_tokens[-1] == ">":
        pattern_tokens.pop()
        if len(tokens) <= len(pattern_tokens):
            return False
        tokens = tokens[: len(pattern_tokens)]
    # A pattern without `>` matches one length only, `subject` with `>` matches many.
    elif tokens[-1] == ">":
        return False
    return len(tokens) == len(pattern_tokens) and all(
        pattern_token in {"*", token}
        for pattern_token, token in zip(pattern_tokens, tokens, strict=True)
    )


def intersection(first: str, second: str) -> str | None:
    """The pattern that matches exactly the subjects that both patterns match; None if none do."""
    first_tokens, second_tokens = first.split("."), second.split(".")
    matched: list[str] = []
    while first_tokens and second_tokens:
        if first_tokens == [">"]:
            return ".".join([*matched, *second_tokens])
        if second_tokens == [">"]:
            return ".".join([*matched, *first_tokens])
        left, right = first_tokens.pop(0), second_tokens.pop(0)
        if left != right and "*" not in {left, right}:
            return None
        matched.append(right if left == "*" else left)
    return None if first_tokens or second_tokens else ".".join(matched)


def is_literal(subject: str) -> bool:
    """Whether a message can be published on `subject`.

    It must have no wildcard, no empty token and no unprintable character.
    """
    return all(
        token and token.isprintable() and not set(token) & set(" *>")
        for token in subject.split(".")
    )


def escape(name: str) -> str:
    """Encode any text as one subject token. Different texts have different tokens.

    Letters, digits and `_ $ : @ / -` stay as they are. Every other byte of the UTF-8 text becomes
    `%XX`. A token over `MAX_TOKEN_BYTES` is cut and ends in `~` and a SHA-256 digest of the name;
    `unescape` refuses such a token.
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
    """Decode a token that `escape` made.

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
