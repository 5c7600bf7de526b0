"""What can be set for the credentials service."""

from __future__ import annotations

from pydantic import Field, SecretStr

from hogsend.service.settings import PreviousKeys, Settings


class SealingSettings(Settings):
    """Sealing of stored credentials."""

    better_auth_secret: SecretStr = Field(
        description="Seals stored credentials; rotating it makes them unreadable, unless the old "
        "one is in `BETTER_AUTH_SECRET_PREVIOUS`. Required by the credentials service; `make up` "
        "generates one."
    )
    better_auth_secret_previous: PreviousKeys = Field(
        (),
        description="Earlier sealing secrets, separated by commas: still unseal, and what they "
        "sealed is sealed anew.",
    )
