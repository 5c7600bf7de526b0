"""`hogsend serve <service>`: one service, for a container or a supervisor."""

from __future__ import annotations

import importlib
import resource
from enum import StrEnum

import uvloop
from pydantic import ValidationError

from cli.console import print_error
from hogsend.contract.errors import CannotStart
from hogsend.service.settings import describe_problems


class Service(StrEnum):
    """The services."""

    GATEWAY = "gateway"
    CREDENTIALS = "credentials"
    INGEST = "ingest"
    PROVISIONER = "provisioner"
    ANALYTICS = "analytics"


def serve(service: Service) -> int:
    """Run one service in the foreground until SIGTERM or Ctrl-C.

    Parameters
    ----------
    service
        The service. Its settings come from the environment and `./.env`; see `.env.example`.
    """
    # A core dump would contain tokens and keys in clear text.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    app = importlib.import_module(f"services.{service}.app")
    try:
        uvloop.run(app.run())
    except ValidationError as error:
        for problem in describe_problems(error):
            print_error(problem, "see .env.example for every setting")
        return 2
    except CannotStart as error:
        print_error(f"{service} cannot start: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
