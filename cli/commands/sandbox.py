"""`hogsend sandbox`: run the sandbox, a stand-in for PostHog, on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import json as json_text
import signal
from typing import Annotated

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.text import Text

from cli.arguments import Name
from cli.console import err, out, print_hanging, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.stack.ports import require_free
from hogsend.contract.errors import CannotStart
from hogsend.service import logs
from hogsend.service.settings.shared import TelemetrySettings
from sandbox.app import serving
from sandbox.options import Options, Resolve

DEFAULT = Options()

Port = Annotated[int, Parameter(validator=Number(gte=1, lte=65535))]
Seconds = Annotated[int, Parameter(validator=Number(gte=1))]


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """URL and keys of a sandbox, as a JSON document. The keys are valid in this sandbox only."""

    url: str
    project_id: int
    project_api_key: str
    personal_api_key: str
    state: str


def sandbox(
    *,
    host: Name = DEFAULT.host,
    port: Port = DEFAULT.port,
    public_url: str | None = None,
    auto_consent: Flag = False,
    allow_http_clients: Flag = False,
    fetch_documents: Flag = False,
    project_id: int = DEFAULT.project_id,
    project_key: str = DEFAULT.project_key,
    personal_key: str = DEFAULT.personal_key,
    flags_key: str = DEFAULT.flags_key,
    personal_key_scopes: str = "*",
    token_seconds: Seconds = DEFAULT.token_seconds,
    grace_seconds: Annotated[int, Parameter(validator=Number(gte=0))] = DEFAULT.grace_seconds,
    keep_refresh_tokens: Flag = False,
    free_plan: Flag = False,
    without_signing: Flag = False,
    resolve: Annotated[list[str] | None, Parameter(negative="")] = None,
    deliver_anywhere: Flag = False,
    backoff_seconds: Annotated[float, Parameter(validator=Number(gte=0))] = DEFAULT.backoff_seconds,
    json: Flag = False,
) -> int:
    """Run the sandbox, a stand-in for PostHog, until Ctrl-C. See docs/sandbox.md.

    The sandbox keeps everything in memory and forgets it when it stops.

    Parameters
    ----------
    host
        IP address to listen on.
    port
        Port to listen on.
    public_url
        URL in metadata and links, if it differs from the listen address.
    auto_consent
        Grant authorization requests at once, without a consent page.
    allow_http_clients
        Accept OAuth client documents over http on this machine. PostHog refuses them.
    fetch_documents
        Fetch Hogsend's OAuth client document too, instead of using the copy in the library.
    project_id
        Id of the project.
    project_key
        API key of the project.
    personal_key
        Personal API key.
    flags_key
        Secure API key for feature flags, for local evaluation.
    personal_key_scopes
        Scopes of the personal API key, separated by spaces.
    token_seconds
        Lifetime of an access token, in seconds.
    grace_seconds
        How long a rotated refresh token stays valid, in seconds.
    keep_refresh_tokens
        Do not rotate refresh tokens, like current PostHog for clients with a client document.
    free_plan
        Simulate an organization without the data-pipelines add-on.
    without_signing
        Simulate an older PostHog that cannot sign webhooks.
    resolve
        HOST=ADDRESS:PORT: deliver webhooks for HOST to that address. Can be repeated.
    deliver_anywhere
        Deliver webhooks to any host, not only to this machine.
    backoff_seconds
        Base delay between delivery attempts, in seconds.
    json
        Print one JSON document on stdout once the sandbox listens, and nothing else.
    """
    try:
        routes = tuple(Resolve.parse(one) for one in resolve or ())
    except ValueError as error:
        raise CommandError(
            str(error),
            "for example --resolve hogsend.test=127.0.0.1:3002",
            exit_code=ExitCode.USAGE,
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
        flags_key=flags_key,
        personal_key_scopes=tuple(personal_key_scopes.split()),
        token_seconds=token_seconds,
        grace_seconds=grace_seconds,
        rotate_refresh_tokens=not keep_refresh_tokens,
        data_pipelines=not free_plan,
        webhook_signing=not without_signing,
        resolve=routes,
        deliver_anywhere=deliver_anywhere,
        backoff_seconds=backoff_seconds,
    )
    require_free(host, port, "--port", "the sandbox")
    logs.configure("sandbox", TelemetrySettings())
    try:
        asyncio.run(_run(options, json=json))
    except CannotStart as error:
        raise CommandError(str(error), "pass another --host or --port") from error
    return 0


async def _run(options: Options, *, json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with serving(options):
        _show(options, json=json)
        await stop.wait()
    err.print("stopped; nothing was stored", style="dim")


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
        print_hanging(
            err,
            ("warning: ", "yellow"),
            f"the sandbox listens on {options.host}, and its keys are public: anyone who can reach "
            "it can use it",
        )
    if json:
        print_json(summary)
        return
    event = json_text.dumps(
        {"api_key": options.project_key, "event": "signup", "distinct_id": "u_1"}
        | {"properties": {"$is_identified": True, "$set": {"email": "u@example.com"}}}
    )
    out.print(
        Text("PostHog sandbox", "bold"),
        f"on {url}: a stand-in for PostHog; nothing is stored\n\n"
        "Settings for a Hogsend server that uses it\n"
        f"  POSTHOG_HOST={url}\n"
        f"  POSTHOG_API_KEY={options.project_key}\n"
        f"  POSTHOG_PERSONAL_API_KEY={options.personal_key}  (or connect over OAuth)\n\n"
        "Capture an event\n"
        f"  curl {url}/i/v0/e/ -H 'Content-Type: application/json' \\\n"
        f"    -d '{event}'\n\n"
        f"Its state: {summary.state}\n"
        "Ctrl-C stops it.",
        soft_wrap=True,
    )


def _only_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
