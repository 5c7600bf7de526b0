"""`hogsend serve <service>`: one service, for a container or a supervisor."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Never

from cli.stack.service_command import service_command


class Service(StrEnum):
    """The services."""

    GATEWAY = "gateway"
    CREDENTIALS = "credentials"
    INGEST = "ingest"
    PROVISIONER = "provisioner"
    ANALYTICS = "analytics"


def serve(service: Service) -> Never:
    """Run one service in the foreground until SIGTERM or Ctrl-C.

    Parameters
    ----------
    service
        The service. Its settings come from the environment and `./.env`; see `.env.example`.
    """
    # This process becomes the service, which has no use for the command line's libraries.
    command = service_command(service)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted
