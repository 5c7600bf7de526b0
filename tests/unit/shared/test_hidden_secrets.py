"""Classes that hold a secret hide it in their representation, which errors and logs may quote."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

import cli
import hogsend
import services
from hogsend.contract.authorizations import AuthorizationBegun, FinishAuthorization
from hogsend.contract.credentials import SigningSecretReply
from hogsend.contract.destinations import ChangeDestination, CreateDestination
from hogsend.posthog.api.hog_functions import HogFunction, Input
from services.analytics.destinations.model import Destination
from services.gateway.console.connecting import Begun, Finish
from services.gateway.console.pages import SignIn
from services.gateway.routes.destinations import DestinationChanges, NewDestination

SECRET = "the-secret"
SECRET_FIELDS = {
    *("access_token", "refresh_token", "token", "api_token", "api_key", "project_api_key"),
    *("admin_key", "password", "passphrase", "identity", "verifier", "secret", "webhook_secret"),
    *("webhook_secret_previous", "signing_secret", "signing_secret_previous", "personal_api_key"),
}
TEXT = re.compile(r"\b(str|NonEmpty)\b")
PRINTED = {"cli.commands.sandbox.Summary"}
"""Classes whose purpose is to be printed: the keys of a sandbox are valid only there."""
SECRET_IN_ANOTHER_FIELD = [
    (AuthorizationBegun, "authorize_url"),
    (Begun, "authorize_url"),
    (SigningSecretReply, "previous"),
    (FinishAuthorization, "code"),
    (Finish, "code"),
    (SignIn, "key"),
    (CreateDestination, "config"),
    (ChangeDestination, "config"),
    (NewDestination, "config"),
    (DestinationChanges, "config"),
    (Destination, "given"),
    (HogFunction, "inputs"),
    (Input, "value"),
]
"""Classes and fields that may hold a secret although the field's name does not say so."""


def classes() -> Iterator[type]:
    """Return each Struct and dataclass of our packages."""
    for package in (services, cli, hogsend):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if (
                    isinstance(value, type)
                    and value.__module__ == module.name
                    and (issubclass(value, msgspec.Struct) or dataclasses.is_dataclass(value))
                ):
                    yield value


def secret_fields(cls: type) -> list[str]:
    """Return the fields of a class that hold a secret as text, by their names."""
    return [
        name
        for base in cls.__mro__
        for name, annotation in vars(base).get("__annotations__", {}).items()
        if name in SECRET_FIELDS and TEXT.search(str(annotation))
    ]


def representation(cls: Any, secret: list[str]) -> str:
    """Create an instance with `SECRET` in these fields, and return its representation."""
    fields = (
        cls.__struct_fields__
        if issubclass(cls, msgspec.Struct)
        else [field.name for field in dataclasses.fields(cls)]
    )
    values: dict[str, Any] = {name: UUID(int=7) for name in fields}
    return repr(cls(**values | dict.fromkeys(secret, SECRET)))


HOLDERS = {f"{cls.__module__}.{cls.__name__}": cls for cls in classes() if secret_fields(cls)}


def test_the_classes_with_a_secret_are_found() -> None:
    assert HOLDERS.keys() >= {
        "hogsend.contract.credentials.OAuthPayload",
        "services.gateway.routes.credentials.OAuthGrant",
        "services.provisioner.destination.desired.Desired",
        "cli.server_options.Server",
    }


@pytest.mark.parametrize("name", sorted(HOLDERS.keys() - PRINTED))
def test_the_representation_of_a_class_does_not_contain_its_secret(name: str) -> None:
    cls = HOLDERS[name]
    assert SECRET not in representation(cls, secret_fields(cls))


@pytest.mark.parametrize(
    ("cls", "field"), SECRET_IN_ANOTHER_FIELD, ids=lambda value: getattr(value, "__name__", value)
)
def test_the_representation_of_a_class_does_not_contain_a_field_that_may_hold_a_secret(
    cls: type, field: str
) -> None:
    assert SECRET not in representation(cls, [field])
