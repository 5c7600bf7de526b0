"""Writes the documents that are generated from the code: `python -m docs.generate [--check]`.

Settings come from the `settings.py` of all services; `docs/bus.md` and the configuration of NATS
from `hogsend.contract`; `docs/asyncapi.json` from the services' routers; `docs/http.md` and
`docs/openapi.json` from the gateway; `docs/command.md` from the command line; `docs/metrics.md`
from the registered metrics; the tables of `docs/scale.md` from `benchmarks.plan`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs.generators import (
    asyncapi,
    bus,
    command,
    examples,
    http,
    metrics,
    nats_server,
    scale,
    settings,
)

ROOT = Path(__file__).parents[1]


def readme() -> str:
    """The README with current examples and the current table of settings."""
    return settings.with_table(_with_examples(ROOT / "README.md"))


def _with_examples(page: Path) -> str:
    return examples.with_examples(page.read_text())


DOCUMENTS: dict[Path, Callable[[], str]] = {
    **{page: partial(_with_examples, page) for page in examples.pages()},
    ROOT / ".env.example": settings.env_example,
    ROOT / "README.md": readme,
    ROOT / "docs" / "settings.md": settings.page,
    ROOT / "docs" / "command.md": command.page,
    ROOT / "docs" / "metrics.md": metrics.page,
    ROOT / "docs" / "scale.md": scale.page,
    ROOT / "docs" / "http.md": http.page,
    ROOT / "docs" / "openapi.json": http.openapi,
    ROOT / "docs" / "bus.md": bus.page,
    ROOT / "docs" / "asyncapi.json": asyncapi.document,
    ROOT / "deploy" / "nats" / "single.conf": partial(nats_server.configuration, clustered=False),
    ROOT / "deploy" / "nats" / "cluster-accounts.conf": partial(
        nats_server.configuration, clustered=True
    ),
    ROOT / "deploy" / "nats" / "cluster.conf": partial(
        nats_server.configuration, clustered=True, accounts=False
    ),
}


def stale() -> list[Path]:
    """Documents that differ from their generated contents."""
    return [
        path for path, make in DOCUMENTS.items() if not path.exists() or path.read_text() != make()
    ]


def main() -> int:
    """Write the documents, or with `--check` only list those that are out of date."""
    if "--check" in sys.argv:
        outdated = stale()
        for path in outdated:
            print(f"out of date: {path.relative_to(ROOT)} (run `make generate`)")
        return 1 if outdated else 0
    for path, make in DOCUMENTS.items():
        path.write_text(make())
    return 0


if __name__ == "__main__":
    sys.exit(main())
