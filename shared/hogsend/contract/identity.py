"""Identities: how emails are compared, and which ids and addresses identify no person."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLANK = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What JavaScript's `trim` takes off: Python's `strip` leaves U+FEFF, and takes more."""

_ADDRESS = re.compile(r"[^\s@<>]+@[^\s@<>]+")

_AROUND = "'\"`\u200b\u200c\u200d\u2060"
"""Quotes, and characters without a width, which come along when a text is copied."""

_PLACEHOLDERS = frozenset(
    {
        "anonymous",
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
        "0",
        "00000000-0000-0000-0000-000000000000",
    }
)

_OPENING = frozenset("[{(<$%")
_WRITTEN_WITHOUT_PERSON = re.compile(
    r"\[object \w+\]"  # an object of JavaScript, such as a promise that was not awaited
    r"|[\[({](?:null|undefined|none)?[\])}]"  # a list, a tuple or an object that is empty
    r"|%(?:[sdv@]|\(\w+\)s)"  # a format of C, Go, Objective-C or Python that got no value
    r"|[(<](?:nil|null|none|undefined|no value|not set|empty|unknown)[)>]"  # Go, Google Analytics
    r"|\{\{.*\}\}|[$%]\{.*\}|<%.*%>",  # a template that nothing was put into
    re.DOTALL,
)


def fold_email(text: str) -> str | None:
    """The form in which emails are stored and compared (correction C6); None for a blank one.

    Trimmed as JavaScript trims, then in lower case, so that every source means the same.
    """
    return text.strip(_BLANK).lower() or None


def contact_email(value: object) -> str | None:
    """An email that may be a contact's key, folded; None for what is no address (correction C5).

    Forms and imports are full of `n/a`, `none`, `-` and `test`, which would make one contact of all
    who wrote them. Of `Ada <ada@example.com>`, as mails are addressed, it is what the brackets hold
    (RFC 5322, 3.4), and of a link what follows `mailto:`.
    """
    email = fold_email(value) if isinstance(value, str) else None
    if email is not None:
        if email.endswith(">") and "<" in email:
            email = email[:-1].rpartition("<")[2]
        if email.startswith("mailto:"):
            # Behind a ? are a subject and the like (RFC 6068, 2).
            email = email.removeprefix("mailto:").partition("?")[0]
    return email if email is not None and _ADDRESS.fullmatch(email) else None


def contact_user_id(distinct_id: str) -> str | None:
    """A distinct id that may be a contact's key, as it is; None for one of no person.

    A blank id names no person, and neither does what programs write when they know none:
    those that PostHog refuses to merge (`isDistinctIdIllegal` in its ingestion), in any case and
    quoted or not, and their like (correction C5): `[object Promise]`, `<nil>`, `{{ user.id }}`,
    `[]`, `Optional(nil)`, `%s`, `user_id`.
    """
    bare, before = distinct_id.strip(_BLANK).lower(), ""
    while bare != before:
        bare, before = bare.strip(_AROUND).strip(_BLANK).strip(), bare
    if not bare or bare in _PLACEHOLDERS:
        return None
    if bare[0] in _OPENING and _WRITTEN_WITHOUT_PERSON.fullmatch(bare):
        return None
    return distinct_id


def first_user_id(distinct_ids: Iterable[str | None]) -> str | None:
    """The first of several distinct ids that may be a contact's key; see `contact_user_id`."""
    return next((id for id in distinct_ids if id and contact_user_id(id) is not None), None)


def is_blank(value: object) -> bool:
    """Whether there is no text at all: not even a placeholder."""
    if isinstance(value, str) and value[:1].isalnum():
        # As nearly all are; taking off what may be blank costs much more.
        return False
    return not (isinstance(value, str) and value.strip(_BLANK).strip())
