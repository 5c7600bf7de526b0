"""Descriptions of Structs and their fields, which generated documents read from docstrings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from hogsend.contract.field_docs import describe, describe_fields


class Base(msgspec.Struct, rename="camel"):
    """Reads `first_seen` and None."""

    first_seen: str
    """When it was seen; None if `last_seen`
    is not known."""
    last_seen: str
    plain: str


class Derived(Base, rename="camel"):
    """A Struct with inherited fields."""

    last_seen: str
    """When it was seen last, `at_least` once. See `seen_from`."""

    class Inner(msgspec.Struct):
        """A Struct inside a class."""

        value: int
        """Milliseconds."""


class Other(msgspec.Struct, rename="camel"):
    """Another Struct of the module."""

    seen_from: str


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    module = ModuleType("hogsend_test_without_source")
    module.__file__ = str(tmp_path / "module.py")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_a_field_is_described_under_its_name_in_json() -> None:
    assert describe_fields(Base) == {
        "firstSeen": "When it was seen; null if `lastSeen` is not known."
    }


def test_inherited_fields_are_described() -> None:
    assert describe_fields(Derived).keys() == {"firstSeen", "lastSeen"}


def test_a_field_of_another_struct_of_the_module_is_named_as_in_json() -> None:
    assert describe_fields(Derived)["lastSeen"].endswith("See `seenFrom`.")


def test_a_value_in_snake_case_is_kept() -> None:
    assert "`at_least`" in describe_fields(Derived)["lastSeen"]


def test_a_nested_struct_is_described() -> None:
    assert describe_fields(Derived.Inner) == {"value": "Milliseconds."}


def test_a_struct_is_described_by_its_docstring() -> None:
    assert describe(Base) == "Reads `firstSeen` and null."


@pytest.mark.parametrize("source", [None, b"\x00compiled", b"class Base(:", b"\xff"])
def test_a_struct_has_no_described_fields_if_its_source_cannot_be_read(
    module: ModuleType, source: bytes | None
) -> None:
    if source is not None:
        Path(str(module.__file__)).write_bytes(source)
    kind = msgspec.defstruct("Base", [("value", int)], module=module.__name__)
    assert describe_fields(kind) == {}
