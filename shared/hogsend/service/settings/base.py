"""The base of all settings: read by their names in the environment, or from files of secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from hogsend.service.settings.names import miscased, value_of
from hogsend.service.settings.types import check_written
from hogsend.service.settings.unusable import Unreadable, Unusable

SECRETS_DIRECTORY = Path("/run/secrets")
"""Where Docker and Kubernetes mount secrets. A file there counts when the variable is unset."""


def _given(name: str, secrets: Path) -> str | Unreadable:
    """Value of a variable or, when it is unset or empty, of the file of that name."""
    if given := os.environ.get(name.upper()):
        return given
    file = secrets / name.lower()
    try:
        return file.read_text().strip() if file.is_file() else ""
    except (OSError, UnicodeDecodeError):
        return Unreadable(file)


class _SecretFiles(SecretsSettingsSource):
    """Files with secrets, of which one that cannot be read is named."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        try:
            return super().get_field_value(field, field_name)
        except (OSError, UnicodeDecodeError):
            return Unreadable(Path(str(self.secrets_dir)) / field_name), field_name, False


class Settings(BaseSettings):
    """Base: read from the environment under the field's name in capitals, else from a file.

    The file has the field's name and lies in `/run/secrets`.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        secrets_dir=SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None,
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """Deprecated names of fields, each with the field's name. They are read while it is unset."""
    exact: ClassVar[frozenset[str]] = frozenset()
    """Fields whose value is taken as it is, white space around it included."""

    @model_validator(mode="before")
    @classmethod
    def _trim(cls, values: Any) -> Any:
        # A file, a copied line or a shell adds white space that is not seen. A value of white space
        # alone counts as unset, as an empty one does.
        trimmed = {
            name: value.strip() if isinstance(value, str) and name not in cls.exact else value
            for name, value in values.items()
        }
        return {name: value for name, value in trimmed.items() if value != ""}

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, Unusable):
            raise ValueError(str(value))  # noqa: TRY004 - pydantic takes no TypeError
        if isinstance(value, str) and info.field_name not in cls.exact:
            check_written(value)
        return value

    @classmethod
    def environment_names(cls) -> set[str]:
        """Every name in the environment that is read, deprecated ones included."""
        return {name.upper() for name in (*cls.model_fields, *cls.renamed)}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read names in capitals, and the deprecated ones last, so that the new name wins."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {
                name: value_of(name.upper(), os.environ) for name in cls.model_fields
            }
        fields = {name.upper(): name for name in cls.model_fields}
        fields |= {old.upper(): name for old, name in cls.renamed.items()}
        misread = InitSettingsSource(
            settings_cls, {fields[one.name]: one for one in miscased(fields, os.environ)}
        )
        directory = getattr(file_secret_settings, "secrets_dir", None)
        secrets = Path(directory or SECRETS_DIRECTORY)
        given = {name: _given(old, secrets) for old, name in cls.renamed.items()}
        deprecated = InitSettingsSource(
            settings_cls, {name: value for name, value in given.items() if value}
        )
        return (
            init_settings,
            env_settings,
            misread,
            dotenv_settings,
            _SecretFiles(settings_cls, secrets_dir=directory),
            deprecated,
        )


def deprecations(secrets: Path = SECRETS_DIRECTORY) -> list[str]:
    """Name the deprecated settings in use, and what replaces them: one line a setting.

    Nothing is said of a deprecated name that repeats the value of the new one, as the image does.
    """
    return [
        f"{deprecated.upper()} is deprecated and will not be read by the next version: "
        f"set {name.upper()} instead"
        for group in Settings.__subclasses__()
        for deprecated, name in group.renamed.items()
        if (value := _given(deprecated, secrets)) and value != _given(name, secrets)
    ]
