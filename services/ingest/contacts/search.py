"""The conditions of a search for contacts; see docs/adr/0030-search-of-contacts.md."""

from __future__ import annotations

from uuid import UUID

from hogsend.service.background_index import BackgroundIndex
from hogsend.service.database import Database

INDEXED_CHARACTERS = 100
"""Prefix of an address or a user id that is indexed: both can be longer than a btree entry."""
RECENT = 10_000
"""Among so many of the newest contacts a search matches any part of the text."""
MAX_BY_PREFIX = 1_000
"""Most contacts that are found by the prefix of each of address, user id and the contact's own id.
With more matches a user narrows the search."""
_LOWEST = "00000000-0000-0000-0000-000000000000"
_HIGHEST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_ESCAPES = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


def search_indexes(database: Database) -> list[BackgroundIndex]:
    """Return the indexes of a search, as in migration 0018, which creates them on small tables."""
    return [
        BackgroundIndex(
            database,
            name=f"contacts_by_{name}_prefix",
            table="contacts",
            columns=f"lower(left({column}, {INDEXED_CHARACTERS})) text_pattern_ops",
        )
        for name, column in (("email", "email"), ("user", "external_id"))
    ]


def conditions(search: str) -> dict[str, object]:
    """Build the parameters of the query `searched` that depend on the text of a search."""
    ids = _ids_with_prefix(search)
    small, capital = search.lower(), search.upper()
    return {
        "search": search,
        "small": small,
        "capital": capital,
        "pattern": _pattern(search),
        "small_pattern": _pattern(small),
        "capital_pattern": _pattern(capital),
        "lowest_id": ids and ids[0],
        "highest_id": ids and ids[1],
    }


def _pattern(prefix: str) -> str:
    return prefix[:INDEXED_CHARACTERS].translate(_ESCAPES) + "%"


def _ids_with_prefix(text: str) -> tuple[UUID, UUID] | None:
    """The lowest and the highest id with a prefix; None if no id has it."""
    prefix, length = text.lower(), len(text)
    try:
        lowest, highest = UUID(prefix + _LOWEST[length:]), UUID(prefix + _HIGHEST[length:])
    except ValueError:
        return None
    # `UUID` also accepts forms with other punctuation.
    return (lowest, highest) if str(lowest).startswith(prefix) else None
