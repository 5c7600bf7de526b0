"""Splits two people who were merged: computes both contacts as they are afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from uuid import UUID

import msgspec

from hogsend.contract.contacts import ContactKey
from services.ingest.contacts.contact import EMAIL, ROW, Contact, Version, sides


class MergeRecord(msgspec.Struct):
    """A merge that is not undone, with both contacts as they were before it."""

    id: int
    survivor_id: UUID
    loser: Contact
    survivor: Contact | None
    """None in a record of the first version, if the survivor was created with the merge."""
    keys: list[ContactKey]
    """The keys of the loser."""


def undo(current: Contact, merge: MergeRecord, others: Sequence[MergeRecord]) -> list[MergeRecord]:
    """Split one contact into the two that it was before a merge.

    Values that events wrote since the merge stay with `current`, because it is unknown whose they
    are.

    Args:
        current: the contact as it is now; it is changed.
        merge: the merge that is undone; its loser gets a mark and is a contact again.
        others: every other merge into a contact that is part of `current`.

    Returns:
        The records among `others` that contained values of the loser, without them. Otherwise
        undoing one of these merges later would restore the values.
    """
    split = merge.loser
    addresses = {key.value for key in merge.keys if key.kind == EMAIL}
    taken = {(key.kind, key.value) for key in merge.keys} | {(ROW, str(split.id))}
    parts_of: defaultdict[UUID, list[Contact]] = defaultdict(list)
    """The contacts that each contact consisted of at the record's time, without `split`."""
    holders: set[UUID] = set()
    """Contacts that `split` was part of at the record's time."""
    changed = []
    for record in sorted([merge, *others], key=lambda record: record.id):
        before, parts = record.survivor, parts_of[record.survivor_id]
        if record is not merge:
            if before is not None and record.survivor_id in holders:
                _separate(before, split, parts, merge.id, addresses)
            if record.loser.id in holders:
                _separate(record.loser, split, parts_of[record.loser.id], merge.id, addresses)
                record.keys = [key for key in record.keys if (key.kind, key.value) not in taken]
            if not holders.isdisjoint((record.survivor_id, record.loser.id)):
                changed.append(record)
        if before is not None:
            parts.append(before)
        if record is not merge:
            parts.append(record.loser)
        if record is merge or record.loser.id in holders:
            holders.add(record.survivor_id)
    _separate(current, split, parts_of[current.id], merge.id, addresses)
    return changed


def _separate(
    current: Contact,
    split: Contact,
    others: Sequence[Contact],
    merge_id: int,
    addresses: Collection[str],
) -> None:
    """Remove from a contact the values that it has only from `split`.

    Args:
        current: the contact; it is changed.
        split: the contact that is split from it.
        others: the other contacts that it consists of, in the order in which they were merged.
        merge_id: the merge that is undone.
        addresses: the addresses that are keys of `split`.
    """
    for name, version in split.versions.items():
        if current.versions.get(name) == version:
            _restore(current, name, _latest_source(name, version, others))

    def has_split_email(contact: Contact) -> bool:
        # An address is a key of one contact only, whichever contact had it last.
        return contact.email in addresses or contact.email_version == split.email_version

    if current.email_version is not None and has_split_email(current):
        emails = [
            (other.email_version, other.email)
            for other in others
            if other.email_version is not None and not has_split_email(other)
        ]
        current.email_version, current.email = max(emails, default=(None, None))
    if split.timezone is not None and current.timezone == split.timezone:
        current.timezone = next((other.timezone for other in others if other.timezone), None)
    if others and current.first_seen_at == split.first_seen_at:
        current.first_seen_at = min(other.first_seen_at for other in others)
    if others and current.last_seen_at == split.last_seen_at:
        current.last_seen_at = max(other.last_seen_at for other in others)
    current_side, split_side = sides(merge_id)
    marks_of_split = set(split.kept_apart).difference(*(other.kept_apart for other in others))
    current.kept_apart = sorted(set(current.kept_apart) - marks_of_split | {current_side})
    split.kept_apart = sorted({*split.kept_apart, split_side})


def _latest_source(name: str, version: Version, others: Sequence[Contact]) -> Contact | None:
    """The contact among `others` with the latest version of a property, except `version`."""
    sources = [other for other in others if other.versions.get(name, version) != version]
    return max(sources, key=lambda other: other.versions[name], default=None)


def _restore(current: Contact, name: str, source: Contact | None) -> None:
    current.versions.pop(name)
    current.properties.pop(name, None)
    if source is not None:
        current.versions[name] = source.versions[name]
        if name in source.properties:
            current.properties[name] = source.properties[name]
