"""`hogsend connect posthog`: give a Hogsend server access to a PostHog project."""

from __future__ import annotations

from collections.abc import Collection

from cli.admin.client import AdminClient, Rotated
from cli.arguments import NameIfAny
from cli.connect import flow, report
from cli.connect.region import Dismissed
from cli.connect.results import Connected, ConnectError, failure
from cli.console import err, print_json
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.flags import Flag
from cli.server_address import ServerAddress, admin_key_hint, resolve
from cli.terminal import Terminal
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.urls import is_absolute_url

DAY = 86_400.0
PROVIDERS = ("posthog",)


def connect(
    provider: NameIfAny = None,
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
    url: NameIfAny = None,
    admin_key: str | None = None,
    json: Flag = False,
) -> int:
    """Connect a PostHog project: consent in the browser, then its events are delivered here.

    Exits with 0 when connected, 1 when not, 130 after Ctrl-C. docs/connect.md lists every verdict.

    Parameters
    ----------
    provider
        What to connect: posthog.
    posthog_host
        Address of PostHog's app, or eu or us; used when the server does not know it.
    provision_only
        Do not ask for consent; only create or repair the webhook destination.
    no_provision
        Stop once the credential is stored.
    rotate_signing_key
        With --provision-only: make PostHog sign with a new key; the old one is valid for a day.
    rotate_webhook_secret
        With --provision-only: make PostHog send a new secret; the old one is valid for a day.
    no_browser
        Print the address to open instead of opening a browser.
    client_id
        Address of the OAuth client document PostHog fetches.
    timeout
        Seconds to wait for consent.
    url
        Address of the Hogsend server; HOGSEND_API_URL, else the one `hogsend up` runs here.
    admin_key
        Its admin key; HOGSEND_ADMIN_KEY or ADMIN_API_KEY, in the environment or ./.env, else
        the one that `hogsend up` made here.
    json
        Print one JSON document on stdout and nothing else.
    """
    terminal = Terminal(json=json)
    try:
        _check(provider, client_id, timeout, both=provision_only and no_provision)
        chosen: dict[Rotated, bool] = {
            "rotateSigningKey": rotate_signing_key,
            "rotateWebhookSecret": rotate_webhook_secret,
        }
        if any(chosen.values()) and not provision_only:
            option = "--rotate-signing-key" if rotate_signing_key else "--rotate-webhook-secret"
            raise CommandError(
                f"{option} needs --provision-only", "pass both: nothing else is changed"
            )
        address = _server_address(url, admin_key)
        options = flow.Options(
            client_id=client_id,
            posthog_host=posthog_host,
            provision=not no_provision,
            browser=not no_browser,
            consent_seconds=timeout,
        )
        rotated = [name for name, wanted in chosen.items() if wanted]
        result = _run(
            address,
            options,
            terminal,
            provision_only=provision_only,
            rotate=rotated,
        )
    except ConnectError as error:
        failed = failure(error)
        (print_json if json else report.show_failure)(failed)
        return ExitCode.FAILED
    except Dismissed:
        err.print("cancelled; nothing was changed")
        return ExitCode.OK
    except KeyboardInterrupt:
        raise CommandError(
            "interrupted",
            "nothing is left running here; run it again",
            exit_code=ExitCode.INTERRUPTED,
        ) from None
    if json:
        print_json(result)
    else:
        report.show(result, rotated)
    return ExitCode.OK


def _check(provider: str | None, client_id: str, timeout: float, *, both: bool) -> None:
    if provider is None:
        raise CommandError("nothing to connect was named", "hogsend connect posthog")
    if provider not in PROVIDERS:
        raise CommandError(f"{provider} cannot be connected", "hogsend connect posthog")
    if both:
        raise CommandError("--provision-only and --no-provision exclude each other", "pass one")
    if not is_absolute_url(client_id):
        raise CommandError(
            f"--client-id {client_id} is not an absolute URL", "give the document's address"
        )
    if not 0 < timeout <= DAY:
        raise CommandError(
            "--timeout must be more than 0 seconds, and at most a day", "for example --timeout 300"
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
            f"{address.base_url} is plain http: the admin key and PostHog's tokens would travel "
            "unencrypted; use https"
        )
    with AdminClient(address) as client:
        if provision_only:
            return flow.provision_only(client, address.base_url, terminal, rotate=rotate)
        return flow.connect(client, address.base_url, options, terminal)
