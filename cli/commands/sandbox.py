"""`hogsend sandbox`: a PostHog that runs on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import json as json_text
import signal
from typing import Annotated

import msgspec
from cyclopts import Parameter

from cli.console import err, out, print_json
from cli.errors import CommandError
from cli.stack.ports import require_free
from hogsend.service import logs
from hogsend.service.settings import TelemetrySettings
from sandbox.app import serving
from sandbox.options import Options, Resolve

DEFAULT = Options()

Flag = Annotated[bool, Parameter(negative="")]


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """What a sandbox is reached with. Its keys open nothing but itself."""

    url: str
    project_id: int
    project_api_key: str
    personal_api_key: str
    state: str


def sandbox(
    *,
    host: str = DEFAULT.host,
    port: int = DEFAULT.port,
    public_url: str | None = None,
    auto_consent: Flag = False,
    allow_http_clients: Flag = False,
    fetch_documents: Flag = False,
    project_id: int = DEFAULT.project_id,
    project_key: str = DEFAULT.project_key,
    personal_key: str = DEFAULT.personal_key,
    personal_key_scopes: str = "*",
    token_seconds: int = DEFAULT.token_seconds,
    grace_seconds: int = DEFAULT.grace_seconds,
    keep_refresh_tokens: Flag = False,
    free_plan: Flag = False,
    resolve: list[str] | None = None,
    deliver_anywhere: Flag = False,
    backoff_seconds: float = DEFAULT.backoff_seconds,
    json: Flag = False,
) -> int:
    """Run a PostHog stand-in until Ctrl-C; nothing is kept. See docs/sandbox.md.

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on.
    public_url
        Address in metadata and links, when it is not the one listened on.
    auto_consent
        Answer authorization requests at once, without a consent page.
    allow_http_clients
        Accept OAuth client documents over http on this machine. PostHog would not.
    fetch_documents
        Fetch Hogsend's client document too, instead of taking it from the library.
    project_id
        Id of the one project.
    project_key
        Its API key.
    personal_key
        The one personal API key.
    personal_key_scopes
        What the personal key may do, separated by spaces.
    token_seconds
        How long an access token works.
    grace_seconds
        How long a rotated refresh token still works.
    keep_refresh_tokens
        Do not rotate refresh tokens, as current PostHog for clients with a document.
    free_plan
        The organization has no data-pipelines add-on.
    resolve
        HOST=ADDR:PORT: deliver webhooks for HOST there. May be given again.
    deliver_anywhere
        Deliver webhooks to any host, not only to this machine.
    backoff_seconds
        Step of the back-off between attempts to deliver.
    json
        Print one JSON document when it listens, and nothing else on stdout.
    """
    try:
        routes = tuple(Resolve.parse(one) for one in resolve or ())
    except ValueError as error:
        raise CommandError(
            str(error), "for example --resolve hogsend.test=127.0.0.1:3002"
        ) from error
    options = Options(
        host=host,
        port=port,
        public_url=public_url,
        auto_consent=auto_consent,
        allow_http_clients=allow_http_clients,
        offline_documents=not fetch_documents,
        project_id=project_id,
        project_key=project_key,
        personal_key=personal_key,
        personal_key_scopes=tuple(personal_key_scopes.split()),
        token_seconds=token_seconds,
        grace_seconds=grace_seconds,
        rotate_refresh_tokens=not keep_refresh_tokens,
        data_pipelines=not free_plan,
        resolve=routes,
        deliver_anywhere=deliver_anywhere,
        backoff_seconds=backoff_seconds,
    )
    require_free(host, port, "--port", "the sandbox")
    logs.configure("sandbox", TelemetrySettings())
    asyncio.run(_run(options, json=json))
    return 0


async def _run(options: Options, *, json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with serving(options):
        _show(options, json=json)
        await stop.wait()
    err.print("[dim]stopped; nothing was kept[/]")


def _show(options: Options, *, json: bool) -> None:
    url = options.url
    summary = Summary(
        url=url,
        project_id=options.project_id,
        project_api_key=options.project_key,
        personal_api_key=options.personal_key,
        state=f"{url}/_sandbox/state",
    )
    if not _only_this_machine(options.host):
        err.print("[yellow]warning:[/] its keys are known, so whoever can reach it can use it")
    if json:
        print_json(summary)
        return
    event = json_text.dumps(
        {"api_key": options.project_key, "event": "signup", "distinct_id": "u_1"}
        | {"properties": {"$is_identified": True, "$set": {"email": "u@example.com"}}}
    )
    out.print(
        f"[bold]PostHog sandbox[/] on {url}: a stand-in, not PostHog; nothing is kept\n\n"
        "Set\n"
        f"  POSTHOG_HOST={url}\n"
        f"  POSTHOG_API_KEY={options.project_key}\n"
        f"  POSTHOG_PERSONAL_API_KEY={options.personal_key}  [dim](or connect over OAuth)[/]\n\n"
        "Capture an event\n"
        f"  curl {url}/i/v0/e/ -H 'Content-Type: application/json' \\\n"
        f"    -d '{event}'\n\n"
        f"Look inside: {summary.state}\n"
        "Ctrl-C stops it.",
        soft_wrap=True,
    )


def _only_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
