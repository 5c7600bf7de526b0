"""The imports between modules and folders: no circles, and in the library no upward arrow."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = {
    "hogsend": ROOT / "shared" / "hogsend",
    "services": ROOT / "services",
    "cli": ROOT / "cli",
    "sandbox": ROOT / "sandbox",
}
LIBRARY_FLOORS = (
    {"_version", "contract", "urls"},
    {"posthog", "transport"},
    {"client"},
    {"faststream"},
    {"service"},
)
"""Rooms of the library, from the ground up. A room imports only those on floors below it.

`hogsend/__init__.py` stands above all of them: it re-exports what is public.
"""

Graph = Mapping[str, set[str]]

_DECODES = re.compile(r"json\.decode\(|\b_?decode\(")


@cache
def _modules() -> Mapping[str, Path]:
    """Files of the repository, by module."""
    files = {
        ".".join((package, *file.relative_to(root).with_suffix("").parts)): file
        for package, root in PACKAGES.items()
        for file in root.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): file for name, file in files.items()}


@cache
def _imports() -> Graph:
    """Modules of the repository, each with those it imports anywhere in its text."""
    modules = _modules()
    return {
        module: {target for target in _targets(file, modules.keys()) if target != module}
        for module, file in modules.items()
    }


def _targets(file: Path, modules: Collection[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules else str(node.module)


def _rooms(package: str) -> Graph:
    """Folders and modules directly in `package`, each with those it imports."""

    def room(module: str) -> str | None:
        inside = module.removeprefix(f"{package}.")
        return inside.partition(".")[0] if inside != module else None

    graph: dict[str, set[str]] = {}
    for module, targets in _imports().items():
        if (own := room(module)) is not None:
            others = {room(target) for target in targets} - {own, None}
            graph.setdefault(own, set()).update(filter(None, others))
    return graph


def _circle(graph: Graph) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _folders() -> list[str]:
    # Without reading the files: every worker asks this before the first test.
    parents = {module.rpartition(".")[0] for module in _modules()}
    return sorted(parent for parent in parents if parent)


def test_every_module_is_read() -> None:
    assert len(_imports()) > 200
    assert "hogsend.contract.errors" in _imports()["sandbox.app"]


def test_a_circle_is_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not _circle({"a": {"b", "c"}, "b": {"c"}})


def test_no_modules_import_each_other() -> None:
    assert _circle(_imports()) == []


@pytest.mark.parametrize("folder", _folders())
def test_no_folders_import_each_other(folder: str) -> None:
    assert _circle(_rooms(folder)) == []


def test_the_library_imports_downward_only() -> None:
    floors = {room: floor for floor, rooms in enumerate(LIBRARY_FLOORS) for room in rooms}
    upward = [
        f"{room} -> {target}"
        for room, targets in _rooms("hogsend").items()
        for target in targets
        if floors[target] >= floors[room]
    ]
    assert upward == []


def test_one_place_makes_connections_to_nats() -> None:
    """nats-py's own client hangs, or gives its password away, where ours does not."""
    makers = {module for module, file in _modules().items() if _makes_client(file.read_text())}
    assert makers == set()
    own = ("benchmarks/" + file.name for file in (ROOT / "benchmarks").glob("*.py"))
    assert [name for name in own if _makes_client((ROOT / name).read_text())] == []


def test_a_connection_of_nats_py_is_found() -> None:
    assert _makes_client("import nats\nasync def f(): await nats.connect()")
    assert _makes_client("from nats.aio.client import Client\nclient = Client()")
    assert _makes_client("import nats.aio.client\nclient = nats.aio.client.Client()")
    assert not _makes_client("import hogsend\nclient = hogsend.connect()")


def _makes_client(code: str) -> bool:
    tree = ast.parse(code)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "nats"
        for alias in node.names
        if alias.name in {"connect", "Client", "NATS"}
    }
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return bool(called & (imported | {"nats.connect", "nats.NATS", "nats.aio.client.Client"}))


def test_one_constant_says_what_is_not_json() -> None:
    """A shorter list of errors lets one through, and with it whoever sent such text."""
    own = {
        f"{module}:{line}"
        for module, file in _modules().items()
        for line in _own_guards(file.read_text())
    }
    assert own == set()


def test_a_guard_of_its_own_is_found() -> None:
    guard = "try: msgspec.json.decode(b'')\nexcept {}: pass"
    assert list(_own_guards(guard.format("msgspec.DecodeError"))) == [2]
    assert list(_own_guards(guard.format("(OSError, msgspec.MsgspecError)"))) == [2]
    assert not list(_own_guards(guard.format("NOT_JSON")))
    assert not list(_own_guards("try: msgspec.convert(1, str)\nexcept msgspec.MsgspecError: pass"))


def _own_guards(code: str) -> Iterator[int]:
    """Lines that name msgspec's errors around decoding of JSON, in place of `NOT_JSON`."""
    if "DecodeError" not in code and "MsgspecError" not in code:
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Try) and _DECODES.search("".join(map(ast.unparse, node.body))):
            for handler in node.handlers:
                named = ast.unparse(handler.type) if handler.type is not None else ""
                if "msgspec.MsgspecError" in named or "msgspec.DecodeError" in named:
                    yield handler.lineno


def test_no_service_imports_another() -> None:
    assert {name: targets for name, targets in _rooms("services").items() if targets} == {}


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("hogsend", {"hogsend"}),
        ("services", {"hogsend", "services"}),
        ("sandbox", {"hogsend", "sandbox"}),
    ],
)
def test_nothing_imports_what_stands_above_it(package: str, allowed: set[str]) -> None:
    imported = {
        target.partition(".")[0]
        for module, targets in _imports().items()
        if module.partition(".")[0] == package
        for target in targets
    }
    assert imported <= allowed
