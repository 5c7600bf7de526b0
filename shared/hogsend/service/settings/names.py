"""Names of settings in the environment, which must be in capitals.

Environment variables are case-sensitive: `nats_url` and `NATS_URL` are two variables. A program
that reads both would use whichever comes last. It might also pass a secret on to a child process,
under the spelling that it does not remove. Only proxies may also have lower-case names, by their
convention.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hogsend.service.settings.unusable import Miscased

PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
"""Settings that may have a lower-case name as well; the name in capitals takes precedence."""


def value_of(name: str, environment: Mapping[str, str]) -> str | None:
    """Return a setting's value in an environment; an empty value counts as unset."""
    lower_case = environment.get(name.lower()) if name in PROXIES else None
    return environment.get(name) or lower_case or None


def miscased(names: Iterable[str], environment: Mapping[str, str]) -> list[Miscased]:
    """Find variables that differ only in case from one of `names` that is unset."""
    unset = {name for name in names if value_of(name, environment) is None}
    return [
        Miscased(written, written.upper())
        for written, value in environment.items()
        if value and written.upper() in unset
    ]
