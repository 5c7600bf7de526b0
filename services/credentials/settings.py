"""Settings of the credentials service."""

from __future__ import annotations

from pydantic import Field, SecretStr

from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import PreviousSecrets


class SealingSettings(Settings):
    """Sealing: the encryption of stored credentials."""

    # Not trimmed: the key is derived from the exact bytes, and a trimmed secret could not unseal
    # what an earlier version sealed.
    exact = frozenset({"better_auth_secret"})

    better_auth_secret: SecretStr = Field(
        description="Secret that encrypts stored credentials. The credentials service requires it; "
        "`make up` generates one. When you change it, move the old one to "
        "`BETTER_AUTH_SECRET_PREVIOUS`: without it, stored credentials cannot be read any more."
    )
    better_auth_secret_previous: PreviousSecrets = Field(
        (),
        description="Earlier `BETTER_AUTH_SECRET`s, separated by commas, or a JSON list if one "
        "contains a comma. Credentials that they encrypted can still be read, and are encrypted "
        "again with the current one.",
    )
