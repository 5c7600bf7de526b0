"""Resolves events to contacts: finds, creates and merges the contacts of a batch, in memory."""

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
    """Return every key by which the contact of `event` may be found."""
    keys = keys_of_user(event.user_id)
    if event.email is not None:
        keys.append(Key(EMAIL, event.email))
    return keys


def keys_of_user(user_id: str) -> list[Key]:
    """Return the keys for a user id, in order of precedence; none if it identifies no person."""
    if contact_user_id(user_id) is None:
        return []
    keys = [Key(EXTERNAL, user_id)]
    if _ROW_ID.fullmatch(user_id):
        keys.append(Key(ROW, user_id.lower()))
    return keys


class Merged(NamedTuple):
    """Two contacts, as they were when they were merged."""

    loser: Contact
    survivor: Contact
    parts: Sequence[UUID]
    """The loser, and the contacts that the batch had merged into it; their stored keys are its."""
    new_keys: Sequence[Key]
    """Keys that the batch had added to any of these."""


class IdentityResolver:
    """The contacts of a batch, and what the batch changes about them."""

    def __init__(self, contacts: Iterable[Contact], owners: Mapping[Key, UUID]) -> None:
        """Start from the stored contacts.

        Args:
            contacts: every contact in `owners`.
            owners: the contact of each key in the batch; keys without a contact are absent.
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
            The contact's id, to be passed to `survivor`: a later event may merge the contact into
            another. None for an event without a person: neither its user id nor its email may be a
            key.
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
                # The user id identifies the person. The address stays with the contact that got it
                # when the merge was undone.
                contact, email_is_own = external, False
            else:
                contact = self._merge(external, addressed)
        else:
            contact = external or addressed or self._create(event)
        if by_user_id is not None:
            self._add_key(by_user_id, contact)
            if contact.external_id is None:
                contact.external_id = user_id
                self._record_change(contact, Change.VALUES)
        if by_email is not None:
            self._add_key(by_email, contact)
        self._record_change(contact, contact.apply(event, email=email_is_own))
        return contact.id

    def survivor(self, id: UUID) -> Contact:
        """The contact that `id` names after all merges so far."""
        while id in self._merged:
            id = self._merged[id]
        return self._contacts[id]

    def changed(self) -> tuple[list[Contact], list[tuple[Contact, Version | None]]]:
        """Return the contacts that the batch changed, each list in order of their ids.

        Returns:
            Contacts to be written in full, and contacts that were only seen again. The latter have
            the version that all their registers have now, or None if no version changed.
        """
        full: list[Contact] = []
        seen: list[tuple[Contact, Version | None]] = []
        for id in sorted(self._changes.keys() - self._merged.keys()):
            contact, change = self._contacts[id], self._changes[id]
            version = contact.common_version() if change is Change.VERSIONS else None
            if change is Change.NOTHING or version is not None:
                seen.append((contact, version))
            else:
                full.append(contact)
        return full, seen

    def new_keys(self) -> dict[Key, UUID]:
        """Return the keys that are not stored yet, with their contacts."""
        return {key: self.survivor(self._owners[key]).id for key in self._new_keys}

    def merged(self) -> dict[UUID, UUID]:
        """Return the contacts that were merged into another, with the contacts that survive."""
        return {id: self.survivor(id).id for id in self._merged}

    def merges(self) -> Sequence[Merged]:
        """Return every merge of the batch, in order, as if each had been a batch of its own.

        So an operator can also undo a merge of contacts that the same batch created.
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

    def _record_change(self, contact: Contact, change: Change) -> None:
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
        self._record_change(contact, Change.VALUES)
        return contact

    def _merge(self, first: Contact, second: Contact) -> Contact:
        if first.takes_precedence_over(second):
            survivor, loser = first, second
        else:
            survivor, loser = second, first
        parts, gained = [loser.id, *self._parts[loser.id]], self._gained[loser.id]
        # The loser need not be copied: no key leads to it any more, so it does not change.
        self._merges.append(Merged(loser, survivor.copy(), parts, gained))
        survivor.merge(loser)
        self._record_change(survivor, Change.VALUES)
        self._merged[loser.id] = survivor.id
        row = Key(ROW, str(loser.id))
        self._owners[row] = survivor.id
        self._new_keys.add(row)
        self._parts[survivor.id] += parts
        self._gained[survivor.id] += [*gained, row]
        return survivor
