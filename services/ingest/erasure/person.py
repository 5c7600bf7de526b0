"""Finds out which messages are about an erased person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract import subjects
from hogsend.contract.engagement import ADDRESSES, IDENTITIES
from hogsend.contract.identity import contact_email, contact_user_id, fold_email, is_blank
from hogsend.contract.json_memory import has_too_many_values
from hogsend.contract.json_text import NOT_JSON, repaired_json
from hogsend.service.nul import json_without_nul, text_without_nul
from services.ingest.contacts.contact import EMAIL, EXTERNAL, Key
from services.ingest.sources.engagement import UNRECORDED, person_of

_USER_FIELDS = (*IDENTITIES, "distinct_id", "distinctId", "alias", "contactKey")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
# Characters around an address that is not part of a longer one. A JSON escape (`\n`) ends in a
# letter, which would otherwise look like the first letter of the address.
_BEFORE_ADDRESS = r"(?:(?<![\w.+%-])(?<!\w')|(?<=\\[bfnrt]))"
_AFTER_ADDRESS = r"(?![\w-]|\.\w)"
_PARTS = ("event", "data")
_PEOPLE = ("person", "personProperties")
_ENGAGEMENT = f"{subjects.ENGAGEMENT}."
_EVENTS = (f"{subjects.EVENTS}.", f"{subjects.REPLAYS}.")


class Identities(msgspec.Struct, frozen=True):
    """The identities in a message: of the person, or people, whom it is about."""

    names: frozenset[str] = frozenset()
    """Ids and addresses, as the message has them."""
    addresses: frozenset[str] = frozenset()
    """The names that are addresses, folded."""
    text: str | None = None
    """The body, to be searched for ids; None if `names` and `addresses` count."""
    folded_text: str = ""
    """The body in lower case, to be searched for addresses; only used if `text` is not None."""


class Person(msgspec.Struct, frozen=True):
    """The identities of a person when they were erased."""

    user_ids: frozenset[str]
    """User ids, and ids of contacts."""
    emails: frozenset[str]
    """Folded addresses."""

    @classmethod
    def from_keys(cls, keys: Iterable[Key], contacts: Iterable[UUID]) -> Person:
        """Build a person from the keys of a contact.

        Args:
            keys: all keys of the contact.
            contacts: ids of the contact and of the contacts that were merged into it.
        """
        keys = list(keys)
        return cls(
            user_ids=frozenset(
                [*(key.value for key in keys if key.kind == EXTERNAL), *map(str, contacts)]
            ),
            emails=frozenset(key.value for key in keys if key.kind == EMAIL),
        )

    def is_named_in(self, identities: Identities) -> bool:
        """Whether a message with these identities is about this person."""
        if identities.text is not None:
            return self._is_mentioned_in(identities.text, identities.folded_text)
        return not (
            self.user_ids.isdisjoint(identities.names)
            and self.emails.isdisjoint(identities.addresses)
        )

    def _is_mentioned_in(self, text: str, folded: str) -> bool:
        return any(
            _unescaped(msgspec.json.encode(id).decode()) in text for id in self.user_ids
        ) or any(_is_address_in(folded, email) for email in self.emails)


def _is_address_in(text: str, address: str) -> bool:
    whole = f"{_BEFORE_ADDRESS}{re.escape(address)}{_AFTER_ADDRESS}"
    # The cheap search goes first: few texts contain the address, and texts may be long.
    return address in text and re.search(whole, text) is not None


def identities_in(subject: str, body: bytes) -> Identities:
    """Read the identities of the people whom a message of any of our streams is about.

    A message about another person that only mentions an address belongs to that other person. A
    message is searched as text if it cannot be read, names no person though it should, or would
    take too much memory. A message that need not name a person is searched for addresses only.

    Args:
        subject: what the message was published on; empty if that is not known.
        body: as it was published.
    """
    # Compare with ids and addresses in the form in which PostgreSQL stores them.
    body = json_without_nul(repaired_json(body))
    if has_too_many_values(body):
        return _as_text(body)
    try:
        message = msgspec.json.decode(body)
    except NOT_JSON:
        return _as_text(body)
    names = frozenset(_identity_texts(_identity_values(subject, message)))
    if not names:
        if _is_about_no_person(subject, message):
            return Identities(text="", folded_text=_as_text(body).folded_text)
        # A list of reports, or a field by another name: the message became a dead letter.
        return _as_text(body)
    # An earlier version stored `Ada <ada@example.com>` as a key, with name and brackets.
    folded = (address for name in names for address in (contact_email(name), fold_email(name)))
    return Identities(names, frozenset(filter(None, folded)))


def _is_about_no_person(subject: str, message: Any) -> bool:
    """Whether a message that names no person is complete: by its contract it need not name one.

    The rest of such a message is not searched for ids. An id such as `42` is also a number or a
    name of something else, and the message would be deleted with any person who has this id. An
    address is always a person's.
    """
    if not isinstance(message, dict):
        return False
    if subject.startswith(_ENGAGEMENT):
        type = subject.removeprefix(_ENGAGEMENT)
        return type in UNRECORDED and isinstance(message.get("data"), dict)
    # Ingest alone publishes events. It leaves the user id empty where it stored no contact.
    return subject.startswith(_EVENTS) and isinstance(message.get("userId"), str)


def _identity_texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        # A list in place of an id makes the message a dead letter; each element may be the person.
        for id in value if isinstance(value, list) else [value]:
            # A service with numeric ids may have sent a number: it is the same person.
            text = str(id) if isinstance(id, int) and not isinstance(id, bool) else id
            if not is_blank(text):
                yield text


def _as_text(body: bytes) -> Identities:
    text = text_without_nul(_unescaped(body.decode(errors="replace")))
    return Identities(text=text, folded_text=text.lower())


def _unescaped(text: str) -> str:
    r"""Replace the `\u` escapes of JSON text by their characters."""
    return _ESCAPES.sub(
        lambda run: bytes.fromhex(run[0].replace("\\u", "")).decode("utf-16-be", "replace"), text
    )


def _identity_values(subject: str, message: Any) -> Iterator[Any]:
    """The values of the fields that identify the person whom a message is about."""
    if not isinstance(message, dict):
        return
    data, user_id = message.get("data"), message.get("userId")
    if subject.startswith(_ENGAGEMENT) and isinstance(data, dict):
        yield from _report_values(subject.removeprefix(_ENGAGEMENT), data)
    elif subject.startswith(_EVENTS) and isinstance(user_id, str):
        yield user_id
        yield message.get("email")
        if contact_user_id(user_id) is None:
            # With a user id, the contact key may be another person's by now: contacts are split.
            yield message.get("contactKey")
        yield from _person_addresses(message)
    else:
        yield from _any_values(message)


def _report_values(type: str, data: Mapping[str, Any]) -> Iterator[Any]:
    """The identities by which a report is recorded: of a mail the user, not where it was sent."""
    user_id, email = person_of(type, data)
    yield user_id
    if contact_user_id(user_id) is not None:
        yield email
    else:
        # The report is recorded without a person or by its address. Any of its ids may be theirs.
        yield from (data.get(name) for name in (*IDENTITIES, *ADDRESSES))


def _any_values(message: Mapping[str, Any]) -> Iterator[Any]:
    """The values of every field that may identify a person; the message may be malformed."""
    yield from (message.get(name) for name in (*_USER_FIELDS, *ADDRESSES))
    for name in _PARTS:
        if isinstance(part := message.get(name), dict):
            yield from (part.get(field) for field in (*_USER_FIELDS, *ADDRESSES))
            if name == "data":
                # `data.id` is a contact's id. The id of an event or a message is no person's, and
                # may be a number like their user ids.
                yield part.get("id")
    yield from _person_addresses(message)


def _person_addresses(message: Mapping[str, Any]) -> Iterator[Any]:
    """The addresses among the properties of the person in a message."""
    for name in _PEOPLE:
        if isinstance(person := message.get(name), dict):
            yield person.get("email")
            if isinstance(properties := person.get("properties"), dict):
                yield properties.get("email")
