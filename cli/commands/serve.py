"""`hogsend serve <service>`: run one service, for a container or a supervisor."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Never

from cli.stack.service_command import service_command


class Service(StrEnum):
    """Names of the services."""

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
        The service to run. It reads its settings from the environment and `./.env`;
        `.env.example` lists them.
    """
    # Replaces this process, so that the service does not keep the command line's libraries in
    # memory.
    command = service_command(service)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted
