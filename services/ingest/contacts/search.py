"""What a search for contacts matches: see docs/adr/0030-search-of-contacts.md."""

from __future__ import annotations

from uuid import UUID

from hogsend.service.background_index import BackgroundIndex
from hogsend.service.database import Database

INDEXED_CHARACTERS = 100
"""Of an address or a user id: a btree entry may not be as long as these can be."""
RECENT = 10_000
"""Contacts, those that were made last, of which any part is searched."""
BEGUN = 1_000
"""Contacts that are found by how their address begins, as many by their user id, and by their own
id: so many that a search is to be narrowed."""
_LOWEST = "00000000-0000-0000-0000-000000000000"
_HIGHEST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_ESCAPES = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


def search_indexes(database: Database) -> list[BackgroundIndex]:
    """Describe the indexes as migration 0018 does, which makes them on small tables."""
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
    """Parameters of the query `searched` that say what is searched for."""
    ids = _ids_that_begin_with(search)
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


def _pattern(begin: str) -> str:
    return begin[:INDEXED_CHARACTERS].translate(_ESCAPES) + "%"


def _ids_that_begin_with(text: str) -> tuple[UUID, UUID] | None:
    begin, length = text.lower(), len(text)
    try:
        lowest, highest = UUID(begin + _LOWEST[length:]), UUID(begin + _HIGHEST[length:])
    except ValueError:
        return None
    # UUID takes other forms, too.
    return (lowest, highest) if str(lowest).startswith(begin) else None
