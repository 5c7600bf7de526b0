"""Identities: the normal form of emails, and the ids and addresses that identify no person."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLANK = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""The characters that JavaScript's `trim` removes. Python's `strip` keeps U+FEFF, and removes
others."""

_ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+")
_PLAIN_ADDRESS = re.compile(r"[a-z0-9][a-z0-9._+-]*@[a-z0-9.-]*[a-z0-9]")
"""An address in its normal form, as nearly all are."""

_QUOTES, _ZERO_WIDTH = "'\"`", "\u200b\u200c\u200d\u2060"
"""Quotes and zero-width characters, which copied texts often start or end with."""

_AROUND = _QUOTES + _ZERO_WIDTH + _BLANK + "\x1c\x1d\x1e\x1f\x85"
"""Quotes, zero-width characters, and all white space of JavaScript and Python."""

_INVISIBLE = _ZERO_WIDTH + _BLANK

_MAX_QUOTES = 3
"""How many pairs of quotes around an address are removed. A limit, because each takes a copy of a
text that may have megabytes."""

_PLACEHOLDERS = frozenset(
    {
        "anonymous",
        "anonymous-user",
        "anonymous_user",
        "guest",
        "distinctid",
        "distinct_id",
        "userid",
        "user_id",
        "id",
        "not_authenticated",
        "email",
        "undefined",
        "true",
        "false",
        "null",
        "none",
        "nil",
        "nan",
        "optional(nil)",
        "unknown",
        "n/a",
        "#n/a",
        "-",
        "0",
        "-1",
        "00000000-0000-0000-0000-000000000000",
        "00000000000000000000000000000000",
    }
)

_OPENING = frozenset("[{(<$%")
_WRITTEN_WITHOUT_PERSON = re.compile(
    r"\[object \w+\]"  # a JavaScript object, such as a promise that was not awaited
    r"|[\[({](?:null|undefined|none)?[\])}]"  # an empty list, tuple or object
    r"|%(?:[sdv@]|\(\w+\)s)"  # a format directive of C, Go, Objective-C or Python without a value
    r"|[(<](?:nil|null|none|undefined|no value|not set|empty|unknown)[)>]"  # Go, Google Analytics
    r"|\{\{.*\}\}|[$%]\{.*\}|<%.*%>",  # a template placeholder that was not filled in
    re.DOTALL,
)

_MISSING = ("undefined", "null", "none", "nan")
"""What the languages write into a text for a value that is missing."""

_BUILT_WITHOUT_PERSON = re.compile(
    # `user_${user.id}` and `f"user:{user.id}"` without a user
    r"(?:(?:user|usr|u|id|uid|user_?id|account|customer|member|person|contact|client)[\W_])?"
    r"(?:undefined|null|none|nan)(?:[\W_]*(?:undefined|null|none|nan))*"
)
"""An id that was put together from parts, of which each is missing."""


def fold_email(text: str) -> str | None:
    """The normal form in which emails are stored and compared (correction C6); None if blank.

    Trimmed as JavaScript does, then in lower case, so that all sources agree on it.
    """
    return text.strip(_BLANK).lower() or None


def contact_email(value: object) -> str | None:
    """The normal form of an email that may be a contact's key; None if it is no address (C5).

    Forms and imports often contain `n/a`, `none`, `-` or `test`, which would merge all of their
    persons into one contact. Of `Ada <ada@example.com>` the address in the brackets is taken
    (RFC 5322, 3.4), and of a link the address after `mailto:`. Quotes and zero-width characters
    around the text, as copying leaves them, are not part of the address.
    """
    if not isinstance(value, str):
        return None
    if _PLAIN_ADDRESS.fullmatch(value):
        return value
    if (email := fold_email(value)) is not None:
        email = _unquoted(email)
        if email.endswith(">") and "<" in email:
            email = email[:-1].rpartition("<")[2]
        if email.startswith("mailto:"):
            # After a ? come header fields such as the subject (RFC 6068, 2).
            email = email.removeprefix("mailto:").partition("?")[0]
    return email if email is not None and _ADDRESS.fullmatch(email) else None


def contact_user_id(distinct_id: str) -> str | None:
    """The distinct id, unchanged, if it may be a contact's key; None if it identifies no person.

    A blank id identifies no person. Neither do the placeholders that programs send without one:
    those that PostHog refuses to merge (`isDistinctIdIllegal` in its ingestion), in any case,
    quoted or not, and similar ones (correction C5) such as `[object Promise]`, `<nil>`,
    `{{ user.id }}`, `[]`, `Optional(nil)`, `%s`, `user_id`, `n/a` and `user_undefined`.
    """
    bare = distinct_id.lower().strip(_AROUND)
    if not bare or bare in _PLACEHOLDERS:
        return None
    if bare[0] in _OPENING and _WRITTEN_WITHOUT_PERSON.fullmatch(bare):
        return None
    if bare.endswith(_MISSING) and _BUILT_WITHOUT_PERSON.fullmatch(bare):
        return None
    return distinct_id


def first_user_id(distinct_ids: Iterable[str | None]) -> str | None:
    """The first of several distinct ids that may be a contact's key; see `contact_user_id`."""
    return next((id for id in distinct_ids if id and contact_user_id(id) is not None), None)


def _unquoted(text: str) -> str:
    """The text without zero-width characters and pairs of quotes around it."""
    text = text.strip(_INVISIBLE)
    for _ in range(_MAX_QUOTES):
        if len(text) < len("''") or text[0] != text[-1] or text[0] not in _QUOTES:
            break
        text = text[1:-1].strip(_INVISIBLE)
    return text


def is_blank(value: object) -> bool:
    """Whether a value is no text or only white space. A placeholder such as `null` is not blank."""
    if isinstance(value, str) and value[:1].isalnum():
        # True of nearly all values, and much faster than stripping.
        return False
    return not (isinstance(value, str) and value.strip(_BLANK).strip())
