"""Settings of the credentials service."""

from __future__ import annotations

from pydantic import Field, SecretStr

from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import PreviousSecrets


class SealingSettings(Settings):
    """Sealing of stored credentials."""

    # Not trimmed: the key is derived from the exact bytes, and a trimmed secret could not unseal
    # what an earlier version sealed.
    exact = frozenset({"better_auth_secret"})

    better_auth_secret: SecretStr = Field(
        description="Seals stored credentials; rotating it makes them unreadable, unless the old "
        "one is in `BETTER_AUTH_SECRET_PREVIOUS`. Required by the credentials service; `make up` "
        "generates one."
    )
    better_auth_secret_previous: PreviousSecrets = Field(
        (),
        description="Earlier `BETTER_AUTH_SECRET`s, separated by commas, or a JSON list if one "
        "contains a comma. What they sealed is still read, and is sealed with the current one.",
    )
