"""The command reads whatever the server of this version may send, nulls included."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import inspect

from cli.admin import messages
from cli.doctor import diagnosis
from cli.health import Health
from services.gateway.health import documents
from services.gateway.routes import connect_info
from services.gateway.routes.diagnosis import DiagnosisBody
from services.gateway.routes.provisioning import ProvisionedBody


def _without_null(described: inspect.Type) -> tuple[Any, bool]:
    """Return the type without `null`, and whether it may be null."""
    if not isinstance(described, inspect.UnionType):
        return described, isinstance(described, inspect.NoneType)
    rest = [part for part in described.types if not isinstance(part, inspect.NoneType)]
    return rest[0] if len(rest) == 1 else inspect.UnionType(tuple(rest)), described.includes_none


def unreadable(sent: inspect.Type, read: inspect.Type, path: str = "$") -> list[str]:
    """Return the fields that the server may send and the command cannot read."""
    sent, may_be_null = _without_null(sent)
    read, reads_null = _without_null(read)
    problems = [f"{path} may be null"] if may_be_null and not reads_null else []
    if isinstance(read, inspect.StructType) and isinstance(sent, inspect.StructType):
        fields = {field.encode_name: field for field in sent.fields}
        for field in read.fields:
            name = f"{path}.{field.encode_name}"
            if field.encode_name not in fields:
                problems += [f"{name} is not sent"] if field.required else []
                continue
            problems += unreadable(fields[field.encode_name].type, field.type, name)
    elif isinstance(read, inspect.DictType) and isinstance(sent, inspect.DictType):
        problems += unreadable(sent.value_type, read.value_type, f"{path}.*")
    elif isinstance(read, (inspect.ListType, inspect.VarTupleType)) and isinstance(
        sent, (inspect.ListType, inspect.VarTupleType)
    ):
        problems += unreadable(sent.item_type, read.item_type, f"{path}[]")
    return problems


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (DiagnosisBody, diagnosis.Diagnosis),
        (documents.Health, Health),
        (connect_info.ConnectInfo, messages.ConnectInfo),
        (ProvisionedBody, messages.Provisioning),
    ],
)
def test_every_field_that_may_be_null_can_be_read(sent: Any, read: Any) -> None:
    assert unreadable(inspect.type_info(sent), inspect.type_info(read)) == []


def test_a_null_that_cannot_be_read_is_found() -> None:
    class Sent(msgspec.Struct):
        parts: list[str | None]

    class Read(msgspec.Struct):
        parts: tuple[str, ...]
        missing: int

    assert unreadable(inspect.type_info(Sent), inspect.type_info(Read)) == [
        "$.parts[] may be null",
        "$.missing is not sent",
    ]
