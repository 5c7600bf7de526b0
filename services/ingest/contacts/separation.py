"""Takes two people apart who were merged: what each of them is afterwards."""

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
    """None in a record of the first version, where the survivor came into being with the merge."""
    keys: list[ContactKey]
    """What led to the loser."""


def undo(current: Contact, merge: MergeRecord, others: Sequence[MergeRecord]) -> list[MergeRecord]:
    """Make of one contact the two that it was before a merge.

    What both were told since the merge stays with `current`: it cannot be known whose it was.

    Args:
        current: the contact as it is now; changed.
        merge: what is undone; its loser gets its mark and is a contact again.
        others: every other merge into a contact that is part of `current`.

    Returns:
        Those of `others` that said something of the loser, changed. Undone later, they must not
        bring it back.
    """
    split = merge.loser
    addresses = {key.value for key in merge.keys if key.kind == EMAIL}
    taken = {(key.kind, key.value) for key in merge.keys} | {(ROW, str(split.id))}
    made_of: defaultdict[UUID, list[Contact]] = defaultdict(list)
    """What each contact was made of at that merge, without `split`."""
    holders: set[UUID] = set()
    """Contacts that `split` was part of at that merge."""
    changed = []
    for one in sorted([merge, *others], key=lambda record: record.id):
        before, known = one.survivor, made_of[one.survivor_id]
        if one is not merge:
            if before is not None and one.survivor_id in holders:
                _separate(before, split, known, merge.id, addresses)
            if one.loser.id in holders:
                _separate(one.loser, split, made_of[one.loser.id], merge.id, addresses)
                one.keys = [key for key in one.keys if (key.kind, key.value) not in taken]
            if not holders.isdisjoint((one.survivor_id, one.loser.id)):
                changed.append(one)
        if before is not None:
            known.append(before)
        if one is not merge:
            known.append(one.loser)
        if one is merge or one.loser.id in holders:
            holders.add(one.survivor_id)
    _separate(current, split, made_of[current.id], merge.id, addresses)
    return changed


def _separate(
    current: Contact,
    split: Contact,
    others: Sequence[Contact],
    merge_id: int,
    addresses: Collection[str],
) -> None:
    """Take back from a contact what only `split`, whom these addresses lead to, told it.

    `others` are the rest of what it is made of, those first that were part of it first.
    """
    for name, version in split.versions.items():
        if current.versions.get(name) == version:
            _restore(current, name, _known_before(name, version, others))

    def is_taken(one: Contact) -> bool:
        # An address leads to one contact only, whichever of them had it last.
        return one.email in addresses or one.email_version == split.email_version

    if current.email_version is not None and is_taken(current):
        emails = [
            (one.email_version, one.email)
            for one in others
            if one.email_version is not None and not is_taken(one)
        ]
        current.email_version, current.email = max(emails, default=(None, None))
    if split.timezone is not None and current.timezone == split.timezone:
        current.timezone = next((one.timezone for one in others if one.timezone), None)
    if others and current.first_seen_at == split.first_seen_at:
        current.first_seen_at = min(one.first_seen_at for one in others)
    if others and current.last_seen_at == split.last_seen_at:
        current.last_seen_at = max(one.last_seen_at for one in others)
    kept, taken = sides(merge_id)
    handed_on = set(split.kept_apart).difference(*(one.kept_apart for one in others))
    current.kept_apart = sorted(set(current.kept_apart) - handed_on | {kept})
    split.kept_apart = sorted({*split.kept_apart, taken})


def _known_before(name: str, than: Version, others: Sequence[Contact]) -> Contact | None:
    """The other contact that knows most recently about a property."""
    known = [one for one in others if one.versions.get(name, than) != than]
    return max(known, key=lambda one: one.versions[name], default=None)


def _restore(current: Contact, name: str, source: Contact | None) -> None:
    current.versions.pop(name)
    current.properties.pop(name, None)
    if source is not None:
        current.versions[name] = source.versions[name]
        if name in source.properties:
            current.properties[name] = source.properties[name]
