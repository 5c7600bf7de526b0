"""Whose event is it? Finds, creates and merges the contacts of a batch, in memory."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

from hogsend.contract.identity import contact_user_id
from services.ingest.contacts.contact import EMAIL, EXTERNAL, ROW, Change, Contact, Key, Version
from services.ingest.incoming_event import IncomingEvent

_ROW_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def keys_of(event: IncomingEvent) -> list[Key]:
    """Every key that may lead to the contact of `event`."""
    keys = keys_of_user(event.user_id)
    if event.email is not None:
        keys.append(Key(EMAIL, event.email))
    return keys


def keys_of_user(user_id: str) -> list[Key]:
    """Every key that a user id may be, in order of precedence; empty for an id of no person."""
    if contact_user_id(user_id) is None:
        return []
    keys = [Key(EXTERNAL, user_id)]
    if _ROW_ID.fullmatch(user_id):
        keys.append(Key(ROW, user_id.lower()))
    return keys


class Merged(NamedTuple):
    """Two contacts at the moment at which they became one."""

    loser: Contact
    survivor: Contact
    parts: Sequence[UUID]
    """The loser, and whom the batch had merged into it; their stored keys are the loser's."""
    new_keys: Sequence[Key]
    """Keys that the batch had given to any of them."""


class IdentityResolver:
    """The contacts of a batch, and what the batch changes about them."""

    def __init__(self, contacts: Iterable[Contact], owners: Mapping[Key, UUID]) -> None:
        """Start from what is stored.

        Args:
            contacts: every contact that `owners` names.
            owners: the contact each key of the batch leads to; keys without a contact are absent.
        """
        self._contacts = {contact.id: contact for contact in contacts}
        self._owners = dict(owners)
        self._new_keys: set[Key] = set()
        self._changes: dict[UUID, Change] = {}
        self._merged: dict[UUID, UUID] = {}
        self._merges: list[Merged] = []
        self._parts: defaultdict[UUID, list[UUID]] = defaultdict(list)
        self._gained: defaultdict[UUID, list[Key]] = defaultdict(list)

    def resolve(self, event: IncomingEvent) -> UUID | None:
        """Apply `event` to its contact, which is created or merged as needed.

        Returns:
            An id for `survivor`: a later event may merge the contact into another. None for an
            event without a person: neither its user id nor its email may be a key.
        """
        user_id, email = event.contact_user_id, event.email
        if user_id is None and email is None:
            return None
        by_user_id = None if user_id is None else Key(EXTERNAL, user_id)
        by_email = None if email is None else Key(EMAIL, email)
        external = None if by_user_id is None else self._by_external_id(by_user_id)
        addressed = None if by_email is None else self._owner(by_email)
        email_is_own = True
        if external is not None and addressed is not None and external is not addressed:
            if external.is_kept_apart_from(addressed):
                # The user id says who did it; the address stays with the one it was left to.
                contact, email_is_own = external, False
            else:
                contact = self._merge(external, addressed)
        else:
            contact = external or addressed or self._create(event)
        if by_user_id is not None:
            self._add_key(by_user_id, contact)
            if contact.external_id is None:
                contact.external_id = user_id
                self._note(contact, Change.VALUES)
        if by_email is not None:
            self._add_key(by_email, contact)
        self._note(contact, contact.apply(event, email=email_is_own))
        return contact.id

    def survivor(self, id: UUID) -> Contact:
        """The contact that `id` names after all merges so far."""
        while id in self._merged:
            id = self._merged[id]
        return self._contacts[id]

    def written(self) -> tuple[list[Contact], list[tuple[Contact, Version | None]]]:
        """Contacts to write, each list in order of their ids.

        Returns:
            Those to write whole, and those that were only seen again, each with the version that
            all of it has now, or None where versions are what they were.
        """
        whole: list[Contact] = []
        seen: list[tuple[Contact, Version | None]] = []
        for id in sorted(self._changes.keys() - self._merged.keys()):
            contact, change = self._contacts[id], self._changes[id]
            version = contact.restated() if change is Change.VERSIONS else None
            if change is Change.NOTHING or version is not None:
                seen.append((contact, version))
            else:
                whole.append(contact)
        return whole, seen

    def new_keys(self) -> dict[Key, UUID]:
        """Keys that are not stored yet, and their contacts."""
        return {key: self.survivor(self._owners[key]).id for key in self._new_keys}

    def merged(self) -> dict[UUID, UUID]:
        """Contacts that were merged into another, and the contact that survives."""
        return {id: self.survivor(id).id for id in self._merged}

    def merges(self) -> Sequence[Merged]:
        """Every merge of the batch, in order, as if each had been a batch of its own.

        So an operator can take apart whom one batch made and merged, too.
        """
        return self._merges

    def _by_external_id(self, key: Key) -> Contact | None:
        contact = self._owner(key)
        if contact is None and _ROW_ID.fullmatch(key.value):
            contact = self._owner(Key(ROW, key.value.lower()))
        return contact

    def _owner(self, key: Key) -> Contact | None:
        id = self._owners.get(key)
        return None if id is None else self.survivor(id)

    def _add_key(self, key: Key, contact: Contact) -> None:
        if key not in self._owners:
            self._owners[key] = contact.id
            self._new_keys.add(key)
            self._gained[contact.id].append(key)

    def _note(self, contact: Contact, change: Change) -> None:
        if change >= self._changes.get(contact.id, Change.NOTHING):
            self._changes[contact.id] = change

    def _create(self, event: IncomingEvent) -> Contact:
        contact = Contact(
            id=uuid4(),
            source=event.ref.source,
            created_at=event.received_at,
            first_seen_at=event.effective_at,
            last_seen_at=event.effective_at,
        )
        self._contacts[contact.id] = contact
        self._note(contact, Change.VALUES)
        return contact

    def _merge(self, one: Contact, other: Contact) -> Contact:
        if one.takes_precedence_over(other):
            survivor, loser = one, other
        else:
            survivor, loser = other, one
        parts, gained = [loser.id, *self._parts[loser.id]], self._gained[loser.id]
        # The loser stays as it is: nothing leads to it any more.
        self._merges.append(Merged(loser, survivor.copy(), parts, gained))
        survivor.merge(loser)
        self._note(survivor, Change.VALUES)
        self._merged[loser.id] = survivor.id
        row = Key(ROW, str(loser.id))
        self._owners[row] = survivor.id
        self._new_keys.add(row)
        self._parts[survivor.id] += parts
        self._gained[survivor.id] += [*gained, row]
        return survivor
