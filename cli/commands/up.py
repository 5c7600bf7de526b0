"""`hogsend up`: run the whole stack on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

from cli.console import err, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.stack import local
from cli.stack.data_directory import DataDirectory
from cli.stack.settings import StackSettings
from cli.stack.stack import Stack
from cli.summary import Summary, show
from hogsend.service.settings import deprecations, describe_problems
from services.gateway.settings import GatewaySettings


def up(*, json: Annotated[bool, Parameter(negative="", show_default=False)] = False) -> int:
    """Start everything on this machine and keep it running until Ctrl-C.

    Starts NATS and PostgreSQL unless NATS_URL and DATABASE_URL are set, then the services. Data,
    generated secrets and logs are kept in HOGSEND_HOME (./.hogsend).

    Parameters
    ----------
    json
        Print one JSON document when everything is ready, and nothing else on stdout.
    """
    try:
        gateway, settings = GatewaySettings(), StackSettings()
    except ValidationError as error:
        raise CommandError(
            "\n       ".join(describe_problems(error)),
            "see .env.example for every setting",
            exit_code=ExitCode.USAGE,
        ) from None
    for deprecation in deprecations():
        err.print(f"[yellow]warning:[/] {deprecation}", soft_wrap=True)
    home = DataDirectory(settings.hogsend_home)
    with home.locked():
        local.require_ports(gateway, settings)

        async def on_ready(stack: Stack, summary: Summary) -> bool:
            if json:
                print_json(summary)
            else:
                show(summary, stack.admin_key if summary.admin_key_file else None)
            return True

        asyncio.run(local.run(home, gateway, settings, on_ready))
    err.print("[dim]stopped; data is kept in[/] " + str(home.path))
    return 0
