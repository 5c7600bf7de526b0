"""Which messages are about an erased person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import msgspec

from hogsend.contract.engagement import ADDRESSES, IDENTITIES
from hogsend.contract.identity import contact_email, fold_email
from hogsend.contract.json_text import NOT_JSON, replace_lone_surrogates
from hogsend.service.nul import json_without_nul, text_without_nul
from services.ingest.contacts.contact import EMAIL, EXTERNAL, Key

_USER_FIELDS = (*IDENTITIES, "distinct_id", "distinctId", "alias", "contactKey", "id")
_REPLACEMENT = "\ufffd".encode()
_PARTS = ("event", "data")
_PEOPLE = ("person", "personProperties")


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

    def is_subject_of(self, body: bytes) -> bool:
        """Whether a message of any of our streams is about this person.

        It is where the person is named as the one it is about. A message about somebody else that
        happens to mention the address is theirs. What cannot be read is searched as text.
        """
        # Ids and addresses are known as they are stored.
        body = json_without_nul(replace_lone_surrogates(body))
        try:
            message = msgspec.json.decode(body)
        except NOT_JSON:
            return self._is_written_in(body)
        return any(
            isinstance(value, str)
            and (
                value in self.user_ids
                # A key of an earlier version may be what is written, brackets and all.
                or not self.emails.isdisjoint((contact_email(value), fold_email(value)))
            )
            for value in _named(message)
        )

    def _is_written_in(self, body: bytes) -> bool:
        text = text_without_nul(body.replace(b"\\ufffd", _REPLACEMENT).decode(errors="replace"))
        folded = text.lower()
        return any(msgspec.json.encode(id).decode() in text for id in self.user_ids) or any(
            email in folded for email in self.emails
        )


def _named(message: Any) -> Iterator[Any]:
    if not isinstance(message, dict):
        return
    for part in (message, *(message.get(name) for name in _PARTS)):
        if isinstance(part, dict):
            yield from (part.get(name) for name in (*_USER_FIELDS, *ADDRESSES))
    for name in _PEOPLE:
        if isinstance(person := message.get(name), dict):
            properties = person.get("properties")
            for bag in (person, properties if isinstance(properties, dict) else {}):
                yield bag.get("email")
