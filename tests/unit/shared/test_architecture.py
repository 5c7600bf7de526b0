"""Imports between modules and folders: none are circular, and the library's layers are kept."""

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
LIBRARY_LAYERS = (
    {"_version", "contract", "urls"},
    {"posthog", "transport"},
    {"client"},
    {"faststream"},
    {"service"},
)
"""Packages and modules of the library, lowest layer first. Each imports only lower layers.

`hogsend/__init__.py` is above all layers: it re-exports the public names.
"""

Graph = Mapping[str, set[str]]

_DECODES = re.compile(r"json\.decode\(|\b_?decode\(")


@cache
def _modules() -> Mapping[str, Path]:
    """The files of the repository, by module name."""
    files = {
        ".".join((package, *file.relative_to(root).with_suffix("").parts)): file
        for package, root in PACKAGES.items()
        for file in root.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): file for name, file in files.items()}


@cache
def _imports() -> Graph:
    """The modules that each module imports, at its top or inside a function."""
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


def _child_imports(package: str) -> Graph:
    """The folders and modules directly in `package`, each with the siblings that it imports."""

    def child_of(module: str) -> str | None:
        path = module.removeprefix(f"{package}.")
        return path.partition(".")[0] if path != module else None

    graph: dict[str, set[str]] = {}
    for module, targets in _imports().items():
        if (child := child_of(module)) is not None:
            siblings = {child_of(target) for target in targets} - {child, None}
            graph.setdefault(child, set()).update(filter(None, siblings))
    return graph


def _find_cycle(graph: Graph) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _folders() -> list[str]:
    # Uses file names only: every pytest worker calls this during collection.
    parents = {module.rpartition(".")[0] for module in _modules()}
    return sorted(parent for parent in parents if parent)


def test_the_import_graph_contains_every_module() -> None:
    assert len(_imports()) > 200
    assert "hogsend.contract.errors" in _imports()["sandbox.app"]


def test_an_import_cycle_is_detected() -> None:
    assert _find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not _find_cycle({"a": {"b", "c"}, "b": {"c"}})


def test_no_module_imports_are_circular() -> None:
    assert _find_cycle(_imports()) == []


@pytest.mark.parametrize("folder", _folders())
def test_no_imports_between_the_children_of_a_folder_are_circular(folder: str) -> None:
    assert _find_cycle(_child_imports(folder)) == []


def test_a_layer_of_the_library_imports_lower_layers_only() -> None:
    layers = {name: layer for layer, names in enumerate(LIBRARY_LAYERS) for name in names}
    upward = [
        f"{name} -> {target}"
        for name, targets in _child_imports("hogsend").items()
        for target in targets
        if layers[target] >= layers[name]
    ]
    assert upward == []


def test_no_module_creates_a_client_of_nats_py_itself() -> None:
    """A client of nats-py can hang or reveal its password. `hogsend.transport` prevents both."""
    modules = {module for module, file in _modules().items() if _makes_client(file.read_text())}
    assert modules == set()
    benchmarks = ("benchmarks/" + file.name for file in (ROOT / "benchmarks").glob("*.py"))
    assert [name for name in benchmarks if _makes_client((ROOT / name).read_text())] == []


def test_a_client_of_nats_py_is_detected() -> None:
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


def test_json_decoding_errors_are_caught_with_the_constant_not_json() -> None:
    """A shorter list of errors misses some: invalid text from outside would then raise."""
    places = {
        f"{module}:{line}"
        for module, file in _modules().items()
        for line in _handlers_without_constant(file.read_text())
    }
    assert places == set()


def test_a_handler_that_names_errors_of_msgspec_is_detected() -> None:
    code = "try: msgspec.json.decode(b'')\nexcept {}: pass"
    assert list(_handlers_without_constant(code.format("msgspec.DecodeError"))) == [2]
    assert list(_handlers_without_constant(code.format("(OSError, msgspec.MsgspecError)"))) == [2]
    assert not list(_handlers_without_constant(code.format("NOT_JSON")))
    assert not list(
        _handlers_without_constant(
            "try: msgspec.convert(1, str)\nexcept msgspec.MsgspecError: pass"
        )
    )


def _handlers_without_constant(code: str) -> Iterator[int]:
    """Lines that catch errors of msgspec by name, not with `NOT_JSON`, where JSON is decoded."""
    if "DecodeError" not in code and "MsgspecError" not in code:
        return
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Try) and _DECODES.search("".join(map(ast.unparse, node.body))):
            for handler in node.handlers:
                errors = ast.unparse(handler.type) if handler.type is not None else ""
                if "msgspec.MsgspecError" in errors or "msgspec.DecodeError" in errors:
                    yield handler.lineno


def test_no_service_imports_another() -> None:
    assert {name: targets for name, targets in _child_imports("services").items() if targets} == {}


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("hogsend", {"hogsend"}),
        ("services", {"hogsend", "services"}),
        ("sandbox", {"hogsend", "sandbox"}),
    ],
)
def test_a_package_imports_only_the_packages_allowed_to_it(package: str, allowed: set[str]) -> None:
    imported = {
        target.partition(".")[0]
        for module, targets in _imports().items()
        if module.partition(".")[0] == package
        for target in targets
    }
    assert imported <= allowed
