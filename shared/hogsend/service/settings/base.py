"""The base class of all settings, which reads them from the environment and from secret files."""

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
"""Where Docker and Kubernetes mount secrets. A file there is read if the variable is unset."""


def _raw_value(name: str, secrets: Path) -> str | Unreadable:
    """Return the value of a variable or, if it is unset or empty, of the secret file."""
    if value := os.environ.get(name.upper()):
        return value
    file = secrets / name.lower()
    try:
        return file.read_text().strip() if file.is_file() else ""
    except (OSError, UnicodeDecodeError):
        return Unreadable(file)


class _SecretFiles(SecretsSettingsSource):
    """Reads secret files, and reports one that cannot be read as a problem of its setting."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        try:
            return super().get_field_value(field, field_name)
        except (OSError, UnicodeDecodeError):
            return Unreadable(Path(str(self.secrets_dir)) / field_name), field_name, False


class Settings(BaseSettings):
    """Base class: each field is read from the variable of its name in capitals, or from a file.

    The file has the field's name, and is in `/run/secrets`.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        secrets_dir=SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None,
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """Field names by their deprecated names, which are read while the new name is unset."""
    exact: ClassVar[frozenset[str]] = frozenset()
    """Fields whose value keeps leading and trailing white space."""

    @model_validator(mode="before")
    @classmethod
    def _trim(cls, values: Any) -> Any:
        # Files, copied lines and shells add white space that operators do not see. A value of
        # nothing but white space counts as unset, like an empty one.
        trimmed = {
            name: value.strip() if isinstance(value, str) and name not in cls.exact else value
            for name, value in values.items()
        }
        return {name: value for name, value in trimmed.items() if value != ""}

    @field_validator("*", mode="before")
    @classmethod
    def _check_usable(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, Unusable):
            raise ValueError(str(value))  # noqa: TRY004 - pydantic does not handle TypeError
        if isinstance(value, str) and info.field_name not in cls.exact:
            check_written(value)
        return value

    @classmethod
    def environment_names(cls) -> set[str]:
        """Return the names of all variables that are read, including deprecated ones."""
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
        """Read variables with capital names only, and deprecated names after all others."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {
                name: value_of(name.upper(), os.environ) for name in cls.model_fields
            }
        fields = {name.upper(): name for name in cls.model_fields}
        fields |= {old.upper(): name for old, name in cls.renamed.items()}
        wrong_case = InitSettingsSource(
            settings_cls,
            {fields[variable.name]: variable for variable in miscased(fields, os.environ)},
        )
        directory = getattr(file_secret_settings, "secrets_dir", None)
        secrets = Path(directory or SECRETS_DIRECTORY)
        values = {name: _raw_value(old, secrets) for old, name in cls.renamed.items()}
        deprecated = InitSettingsSource(
            settings_cls, {name: value for name, value in values.items() if value}
        )
        return (
            init_settings,
            env_settings,
            wrong_case,
            dotenv_settings,
            _SecretFiles(settings_cls, secrets_dir=directory),
            deprecated,
        )


def deprecations(secrets: Path = SECRETS_DIRECTORY) -> list[str]:
    """Return a warning for each deprecated setting in use, which names its replacement.

    There is no warning if the deprecated and the new name have the same value: the container image
    sets both.
    """
    return [
        f"{deprecated.upper()} is deprecated and will not be read by the next version: "
        f"set {name.upper()} instead"
        for group in Settings.__subclasses__()
        for deprecated, name in group.renamed.items()
        if (value := _raw_value(deprecated, secrets)) and value != _raw_value(name, secrets)
    ]
