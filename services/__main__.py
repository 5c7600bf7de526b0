"""Runs one service without the libraries of the command line: `python -m services serve ingest`.

`hogsend serve` replaces its process with this program. Exit codes: 0 after a stop, 1 if the service
cannot start, 2 if a setting is wrong, 130 if Ctrl-C interrupts the start.
"""

# ruff: noqa: E402 - some modules are blocked before the imports

from __future__ import annotations

import importlib
import resource
import sys

# structlog and httpx import these modules if they are installed, for formatted tracebacks and for
# httpx's command line. A service uses neither, and without them takes 5 MiB less memory
# (proportional set size).
for unused in ("pygments", "rich"):
    sys.modules[unused] = None  # type: ignore[assignment]

import uvloop
from pydantic import ValidationError

from hogsend.contract.errors import CannotStart
from hogsend.service import garbage_collection
from hogsend.service.process_end import end_process
from hogsend.service.settings.problems import describe_problems

_ENTRY_MODULES = {"gateway": "process"}
"""Modules that run a service, if not `app`."""


def main(service: str) -> int:
    """Run a service until SIGTERM or SIGINT, and return the exit code."""
    # No core dumps: they would contain tokens and keys in clear text.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    app = importlib.import_module(f"services.{service}.{_ENTRY_MODULES.get(service, 'app')}")
    garbage_collection.configure()
    try:
        return uvloop.run(app.run()) or 0
    except ValidationError as error:
        for problem in describe_problems(error):
            _print_error(problem, "see .env.example for every setting")
        return 2
    except CannotStart as error:
        _print_error(f"{service} cannot start: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _print_error(problem: str, fix: str | None = None) -> None:
    sys.stderr.write(f"error: {problem}\n" + (f"  fix: {fix}\n" if fix else ""))


if __name__ == "__main__":
    end_process(main(sys.argv[-1]))
