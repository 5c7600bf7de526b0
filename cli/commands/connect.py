"""`hogsend connect posthog`: connect a Hogsend server to a PostHog project."""

from __future__ import annotations

from collections.abc import Collection

from cli.admin.client import AdminClient, Rotated
from cli.arguments import OptionalName
from cli.connect import flow, report
from cli.connect.region import Dismissed
from cli.connect.results import Connected, ConnectError, failure
from cli.console import err, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import ServerAddress, admin_key_hint, resolve
from cli.server_options import DEFAULT_SERVER, Server
from cli.terminal import Terminal
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.urls import is_absolute_url

DAY_SECONDS = 86_400.0
PROVIDERS = ("posthog",)


def connect(
    provider: OptionalName = None,
    /,
    *,
    posthog_host: str | None = None,
    provision_only: Flag = False,
    no_provision: Flag = False,
    rotate_signing_key: Flag = False,
    rotate_webhook_secret: Flag = False,
    no_browser: Flag = False,
    client_id: str = CLIENT_ID,
    timeout: float = 300.0,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Connect a PostHog project, so that PostHog delivers its events to this server.

    Opens a browser for consent over OAuth, stores the credential on the server, and creates the
    webhook destination in PostHog. Exits with 0 when connected, 1 when not, and 130 after Ctrl-C.
    docs/connect.md lists every verdict.

    Parameters
    ----------
    provider
        What to connect: posthog.
    posthog_host
        URL of PostHog's app, or eu or us. Used only if the server has no PostHog host configured.
    provision_only
        Skip the consent; only create or repair the webhook destination in PostHog.
    no_provision
        Only store the credential; do not create the webhook destination.
    rotate_signing_key
        With --provision-only: sign webhooks with a new key. The previous one stays valid for a day.
    rotate_webhook_secret
        With --provision-only: use a new webhook secret. The previous one stays valid for a day.
    no_browser
        Print the URL to open instead of opening a browser.
    client_id
        URL of the OAuth client document that PostHog fetches.
    timeout
        Seconds to wait for consent.
    server
        The Hogsend server to connect, and the output format.
    """
    terminal = Terminal(json=server.json)
    try:
        _check(provider, client_id, timeout, both=provision_only and no_provision)
        rotations: dict[Rotated, bool] = {
            "rotateSigningKey": rotate_signing_key,
            "rotateWebhookSecret": rotate_webhook_secret,
        }
        if any(rotations.values()) and not provision_only:
            option = "--rotate-signing-key" if rotate_signing_key else "--rotate-webhook-secret"
            raise CommandError(
                f"{option} needs --provision-only", f"add --provision-only to {option}"
            )
        address = _server_address(server.url, server.admin_key)
        options = flow.Options(
            client_id=client_id,
            posthog_host=posthog_host,
            provision=not no_provision,
            browser=not no_browser,
            consent_seconds=timeout,
        )
        rotated = [name for name, is_chosen in rotations.items() if is_chosen]
        result = _run(
            address,
            options,
            terminal,
            provision_only=provision_only,
            rotate=rotated,
        )
    except ConnectError as error:
        failed = failure(error)
        (print_json if server.json else report.show_failure)(failed)
        return ExitCode.FAILED
    except Dismissed:
        err.print("cancelled; nothing was changed")
        return ExitCode.OK
    except KeyboardInterrupt:
        raise CommandError(
            "interrupted",
            "nothing keeps running on this machine; run the command again",
            exit_code=ExitCode.INTERRUPTED,
        ) from None
    if server.json:
        print_json(result)
    else:
        report.show(result, rotated)
    return ExitCode.OK


def _check(provider: str | None, client_id: str, timeout: float, *, both: bool) -> None:
    if provider is None:
        raise CommandError("the provider is missing", "run `hogsend connect posthog`")
    if provider not in PROVIDERS:
        raise CommandError(f"unknown provider {provider}", "run `hogsend connect posthog`")
    if both:
        raise CommandError(
            "--provision-only and --no-provision exclude each other", "pass only one of them"
        )
    if not is_absolute_url(client_id):
        raise CommandError(
            f"--client-id {client_id} is not an absolute URL",
            "pass the URL of the OAuth client document, or leave the option out",
        )
    if not 0 < timeout <= DAY_SECONDS:
        raise CommandError(
            "--timeout must be more than 0 and at most 86400 seconds (a day)",
            "for example --timeout 300",
        )


def _server_address(url: str | None, admin_key: str | None) -> ServerAddress:
    try:
        address = resolve(url, admin_key)
    except CommandError as error:
        raise CommandError(error.problem, error.fix) from error
    if address.admin_key is None:
        raise CommandError(f"no admin key for {address.base_url}", admin_key_hint(address))
    return address


def _run(
    address: ServerAddress,
    options: flow.Options,
    terminal: Terminal,
    *,
    provision_only: bool,
    rotate: Collection[Rotated],
) -> Connected:
    if address.is_plaintext:
        terminal.warn(
            f"{address.base_url} is plain http: the admin key and PostHog's tokens are sent "
            "unencrypted; use https"
        )
    with AdminClient(address) as client:
        if provision_only:
            return flow.provision_only(client, address.base_url, terminal, rotate=rotate)
        return flow.connect(client, address.base_url, options, terminal)
