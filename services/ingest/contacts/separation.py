"""Takes two people apart who were merged: what each of them is afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from services.ingest.contacts.contact import Contact, Version, sides


def separate(current: Contact, split: Contact, others: Sequence[Contact], merge_id: int) -> None:
    """Take back from a contact what only the one that was merged into it told.

    What both were told since the merge stays with `current`: it cannot be known whose it was.

    Args:
        current: the contact as it is now; changed.
        split: the contact as it was before the merge; it only gets its mark.
        others: every other contact that is part of `current`, as it was before its merge. One that
            was merged later may hold what `split` told, too; its versions say so.
        merge_id: the merge that is undone.
    """
    for name, version in split.versions.items():
        if current.versions.get(name) == version:
            _restore(current, name, _known_before(name, version, others))
    if split.email_version is not None and current.email_version == split.email_version:
        emails = [
            (one.email_version, one.email)
            for one in others
            if one.email_version is not None and one.email_version != split.email_version
        ]
        current.email_version, current.email = max(emails, default=(None, None))
    if split.timezone is not None and current.timezone == split.timezone:
        current.timezone = next((one.timezone for one in others if one.timezone), None)
    if others and current.first_seen_at == split.first_seen_at:
        current.first_seen_at = min(one.first_seen_at for one in others)
    if others and current.last_seen_at == split.last_seen_at:
        current.last_seen_at = max(one.last_seen_at for one in others)
    kept, taken = sides(merge_id)
    current.kept_apart = sorted({*current.kept_apart, kept})
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
