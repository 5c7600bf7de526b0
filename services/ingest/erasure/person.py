"""Which messages are about an erased person."""

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
from hogsend.contract.json_text import NOT_JSON, mended_json
from hogsend.service.nul import json_without_nul, text_without_nul
from services.ingest.contacts.contact import EMAIL, EXTERNAL, Key
from services.ingest.sources.engagement import UNRECORDED, who

_USER_FIELDS = (*IDENTITIES, "distinct_id", "distinctId", "alias", "contactKey")
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
# Between these an address is no part of a longer one. An escape of JSON ends in a letter.
_BEFORE_ADDRESS = r"(?:(?<![\w.+%-])(?<!\w')|(?<=\\[bfnrt]))"
_AFTER_ADDRESS = r"(?![\w-]|\.\w)"
_PARTS = ("event", "data")
_PEOPLE = ("person", "personProperties")
_ENGAGEMENT = f"{subjects.ENGAGEMENT}."
_EVENTS = (f"{subjects.EVENTS}.", f"{subjects.REPLAYS}.")


class Named(msgspec.Struct, frozen=True):
    """Whom a message says that it is about."""

    names: frozenset[str] = frozenset()
    """As they are written: ids, and addresses."""
    addresses: frozenset[str] = frozenset()
    """The same as addresses, folded."""
    unread: str | None = None
    """The whole body as text, where it is not read."""
    unread_folded: str = ""


class Person(msgspec.Struct, frozen=True):
    """The identities of a person when they were erased."""

    user_ids: frozenset[str]
    """User ids, and ids of contacts."""
    emails: frozenset[str]
    """Folded addresses."""

    @classmethod
    def known_by(cls, keys: Iterable[Key], contacts: Iterable[UUID]) -> Person:
        """The person whom these keys lead to.

        Args:
            keys: all that lead to the contact.
            contacts: ids of the contact and of those merged into it.
        """
        keys = list(keys)
        return cls(
            user_ids=frozenset(
                [*(key.value for key in keys if key.kind == EXTERNAL), *map(str, contacts)]
            ),
            emails=frozenset(key.value for key in keys if key.kind == EMAIL),
        )

    def is_among(self, named: Named) -> bool:
        """Whether this person is one of those whom a message names."""
        if named.unread is not None:
            return self._is_written_in(named.unread, named.unread_folded)
        return not (
            self.user_ids.isdisjoint(named.names) and self.emails.isdisjoint(named.addresses)
        )

    def _is_written_in(self, text: str, folded: str) -> bool:
        return any(
            _unescaped(msgspec.json.encode(id).decode()) in text for id in self.user_ids
        ) or any(_is_address_in(folded, email) for email in self.emails)


def _is_address_in(text: str, address: str) -> bool:
    whole = f"{_BEFORE_ADDRESS}{re.escape(address)}{_AFTER_ADDRESS}"
    # Nearly no text has it at all, and some are long.
    return address in text and re.search(whole, text) is not None


def named_in(subject: str, body: bytes) -> Named:
    """Read whom a message of any of our streams is about.

    A message about another person that happens to mention the address is that person's. What cannot
    be read, names no person, or would take too much memory, is searched as text.

    Args:
        subject: what the message was published on; empty if that is not known.
        body: as it was published.
    """
    # Ids and addresses are known as they are stored.
    body = json_without_nul(mended_json(body))
    if has_too_many_values(body):
        return _unread(body)
    try:
        message = msgspec.json.decode(body)
    except NOT_JSON:
        return _unread(body)
    names = frozenset(_texts(_named(subject, message)))
    if not names:
        if _is_about_no_person(subject, message):
            return Named()
        # A list of reports, or a field by another name: the message became a dead letter.
        return _unread(body)
    # A key of an earlier version may be what is written, brackets and all.
    folded = (address for one in names for address in (contact_email(one), fold_email(one)))
    return Named(names, frozenset(filter(None, folded)))


def _is_about_no_person(subject: str, message: Any) -> bool:
    """Whether a message that names no person is complete: by its contract it need not name one.

    The rest of such a message is not searched. An id such as `42` is also a number or a name of
    something else, and the message would be deleted with any person who has this id.
    """
    if not isinstance(message, dict):
        return False
    if subject.startswith(_ENGAGEMENT):
        type = subject.removeprefix(_ENGAGEMENT)
        return type in UNRECORDED and isinstance(message.get("data"), dict)
    # Ingest alone publishes events. It leaves the user id empty where it stored no contact.
    return subject.startswith(_EVENTS) and isinstance(message.get("userId"), str)


def _texts(named: Iterable[Any]) -> Iterator[str]:
    for value in named:
        # Of a list each is meant, though what has one becomes a dead letter.
        for one in value if isinstance(value, list) else [value]:
            # Where ids are numbers, who forgets to write them as text means the same person.
            text = str(one) if isinstance(one, int) and not isinstance(one, bool) else one
            if not is_blank(text):
                yield text


def _unread(body: bytes) -> Named:
    text = text_without_nul(_unescaped(body.decode(errors="replace")))
    return Named(unread=text, unread_folded=text.lower())


def _unescaped(text: str) -> str:
    """JSON text in which characters stand for themselves, whatever the encoder escaped."""
    return _ESCAPES.sub(
        lambda run: bytes.fromhex(run[0].replace("\\u", "")).decode("utf-16-be", "replace"), text
    )


def _named(subject: str, message: Any) -> Iterator[Any]:
    """Whom a message says that it is about."""
    if not isinstance(message, dict):
        return
    data, user_id = message.get("data"), message.get("userId")
    if subject.startswith(_ENGAGEMENT) and isinstance(data, dict):
        yield from _reported(subject.removeprefix(_ENGAGEMENT), data)
    elif subject.startswith(_EVENTS) and isinstance(user_id, str):
        yield user_id
        yield message.get("email")
        if contact_user_id(user_id) is None:
            # Otherwise the one who was the contact then, and may have been split off since.
            yield message.get("contactKey")
        yield from _addresses(message)
    else:
        yield from _anywhere(message)


def _reported(type: str, data: Mapping[str, Any]) -> Iterator[Any]:
    """As it is recorded: of a mail, who got it as a user, wherever it was sent."""
    user_id, email = who(type, data)
    yield user_id
    if contact_user_id(user_id) is not None:
        yield email
    else:
        # It is stored without a person, or as that of an address; each id it names may be meant.
        yield from (data.get(name) for name in (*IDENTITIES, *ADDRESSES))


def _anywhere(message: Mapping[str, Any]) -> Iterator[Any]:
    """Every field that may say whom it is about, of a message that need not be a proper one."""
    yield from (message.get(name) for name in (*_USER_FIELDS, *ADDRESSES))
    for name in _PARTS:
        if isinstance(part := message.get(name), dict):
            yield from (part.get(field) for field in (*_USER_FIELDS, *ADDRESSES))
            if name == "data":
                # A contact's. That of an event or a message is no person's, and may be a number.
                yield part.get("id")
    yield from _addresses(message)


def _addresses(message: Mapping[str, Any]) -> Iterator[Any]:
    """The addresses that a person's properties have."""
    for name in _PEOPLE:
        if isinstance(person := message.get(name), dict):
            properties = person.get("properties")
            for bag in (person, properties if isinstance(properties, dict) else {}):
                yield bag.get("email")
