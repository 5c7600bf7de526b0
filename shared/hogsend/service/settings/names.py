"""Names of settings in the environment: in capitals, and in no other way.

Shells, Compose and everything else that hands an environment on tell `nats_url` from `NATS_URL`.
A program that read both would take the last of two, and pass on a secret under the name that is
not withheld. Only proxies have names in small letters, too, by a convention of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hogsend.service.settings.unusable import Miscased

PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
"""Settings that may be written in small letters as well; capitals win."""


def value_of(name: str, environment: Mapping[str, str]) -> str | None:
    """Look a setting up; an empty value counts as unset."""
    small = environment.get(name.lower()) if name in PROXIES else None
    return environment.get(name) or small or None


def miscased(names: Iterable[str], environment: Mapping[str, str]) -> list[Miscased]:
    """Find variables that are meant for one of `names` which is not set."""
    unset = {name for name in names if value_of(name, environment) is None}
    return [
        Miscased(written, written.upper())
        for written, value in environment.items()
        if value and written.upper() in unset
    ]
