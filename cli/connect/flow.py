"""The steps of `hogsend connect posthog`, in order (contract 8.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from cli import environment
from cli.admin.client import AdminClient, Rotated
from cli.admin.errors import AdminError
from cli.admin.messages import ConnectInfo, Grant
from cli.connect import region
from cli.connect.authorize import obtain_grant
from cli.connect.discovery import HINT_FOR_OPTION, HINT_FOR_SERVER, discover
from cli.connect.refusals import as_failure, fix_for
from cli.connect.results import (
    Connected,
    ConnectError,
    NotProvisioned,
    PostHogSide,
    Provisioned,
    Skipped,
    StoredCredential,
    Verdict,
)
from cli.errors import CommandError
from cli.redaction import redact
from cli.terminal import Terminal
from hogsend.posthog import scopes
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.oauth_discovery import Endpoints, same_origin
from hogsend.service.ssrf import AllowedHost
from hogsend.urls import is_loopback


@dataclass(frozen=True)
class Options:
    """Options of `hogsend connect`."""

    client_id: str
    posthog_host: str | None = None
    provision: bool = True
    browser: bool = True
    consent_seconds: float = 300.0
    """Seconds to wait for consent."""


def connect(client: AdminClient, instance: str, options: Options, terminal: Terminal) -> Connected:
    """Obtain consent, store the credential, provision the webhook destination.

    The command succeeds once the credential is stored. A failure to provision is part of the
    result.

    Raises:
        ConnectError: a step failed before the credential was stored.
        AdminError: the server did not return its configuration.
        Dismissed: the user dismissed a question.
    """
    info = _fetch_connect_info(client, terminal)
    private_host = region.choose(info, options.posthog_host, terminal)
    if info.personal_key_configured is True:
        terminal.note(
            "the server has a personal API key; once connected, it uses the OAuth credential "
            "instead"
        )
    hint = HINT_FOR_OPTION if info.private_host is None else HINT_FOR_SERVER
    endpoints = _discover(private_host, options.client_id, terminal, hint)
    grant = asyncio.run(
        obtain_grant(
            endpoints,
            options.client_id,
            terminal,
            browser=options.browser,
            consent_seconds=options.consent_seconds,
        )
    )
    _require_a_scope(grant)
    _store(client, grant, terminal)
    _note_missing_scopes(grant, terminal)
    verdict, provision = _try_to_provision(client, info, options, terminal)
    return Connected(
        verdict=verdict,
        instance=instance,
        posthog=PostHogSide(
            private_host=private_host,
            issuer=endpoints.issuer,
            scopes=" ".join(grant.scopes),
            scoped_teams=grant.scoped_teams,
            scoped_organizations=grant.scoped_organizations,
        ),
        credential=StoredCredential(stored=True, expires_at=grant.expires_at),
        provision=provision,
    )


def provision_only(
    client: AdminClient,
    instance: str,
    terminal: Terminal,
    *,
    rotate: Collection[Rotated] = (),
) -> Connected:
    """Provision the webhook destination with the credential that the server already has.

    Raises:
        ConnectError: provisioning failed, or PostHog cannot reach the server's public URL.
        AdminError: the server did not return its configuration.
    """
    info = _fetch_connect_info(client, terminal)
    if is_loopback(info.api_public_url):
        raise ConnectError(
            Verdict.API_PUBLIC_URL_UNREACHABLE,
            f"PostHog cannot deliver to {info.api_public_url}, a loopback address",
            hint="set API_PUBLIC_URL on the deployed server, and run "
            "`hogsend connect posthog --provision-only --url https://<your host>`",
        )
    try:
        provisioned = _provision(client, terminal, rotate=rotate)
    except AdminError as refused:
        raise as_failure(client, refused) from None
    return Connected(
        verdict=Verdict.CONNECTED,
        instance=instance,
        credential=StoredCredential(stored=False),
        provision=provisioned,
    )


def _fetch_connect_info(client: AdminClient, terminal: Terminal) -> ConnectInfo:
    with terminal.busy("reading the configuration of the server"):
        info, _ = client.connect_info()
    return info


def _discover(private_host: str, client_id: str, terminal: Terminal, hint: str) -> Endpoints:
    with terminal.busy(f"looking for the OAuth server of {private_host}"):
        endpoints = discover(
            private_host, _allowed_hosts(), is_registered=client_id != CLIENT_ID, hint=hint
        )
    terminal.step(f"found the OAuth server of {private_host}")
    if not same_origin(endpoints.issuer, private_host):
        terminal.warn(f"its issuer is another host: {endpoints.issuer}")
    if endpoints.token_endpoint.startswith("http://") and not is_loopback(endpoints.token_endpoint):
        terminal.warn(f"{endpoints.token_endpoint} is plain http: tokens are sent unencrypted")
    return endpoints


def _allowed_hosts() -> list[str]:
    value = environment.first("OUTBOUND_ALLOW") or ""
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    for entry in entries:
        try:
            AllowedHost.parse(entry)
        except ValueError as error:
            raise CommandError(
                f"OUTBOUND_ALLOW: {error}", "write hosts and networks, separated by commas"
            ) from None
    return entries


def _require_a_scope(grant: Grant) -> None:
    # A grant without scopes is useless, and storing it would replace a credential that works.
    if len(scopes.missing(grant.scopes)) == len(scopes.SCOPES):
        raise ConnectError(
            Verdict.EXCHANGE_FAILED,
            "PostHog granted none of the scopes that Hogsend requests; nothing was stored",
            hint="run `hogsend connect posthog` again as an administrator of the project, and "
            "leave every scope ticked",
        )


def _store(client: AdminClient, grant: Grant, terminal: Terminal) -> None:
    try:
        with terminal.busy("storing the credential"):
            client.store(grant)
    except AdminError as refused:
        secrets = (grant.access_token, grant.refresh_token)
        hints = [fix_for(refused), "then run this command again; nothing is kept on this machine"]
        raise ConnectError(
            Verdict.STORE_FAILED,
            redact(f"the credential could not be stored: {refused}", *secrets),
            hint="\n".join(filter(None, hints)),
            detail=redact(refused.detail or "", *secrets),
            remediation=redact(refused.remediation or "", *secrets),
        ) from None
    terminal.step("the server stored the credential, encrypted")


def _note_missing_scopes(grant: Grant, terminal: Terminal) -> None:
    if missing := scopes.missing(grant.scopes):
        terminal.note(
            f"PostHog granted fewer scopes than requested; missing: {', '.join(missing)}. Features "
            "that need them stay off until you connect again and grant them."
        )


def _try_to_provision(
    client: AdminClient, info: ConnectInfo, options: Options, terminal: Terminal
) -> tuple[Verdict, Provisioned | NotProvisioned | Skipped]:
    if not options.provision:
        return Verdict.CONNECTED_NO_PROVISION, Skipped(skipped="no_provision_flag")
    if is_loopback(info.api_public_url):
        return Verdict.CONNECTED_NO_PROVISION, _provision_placeholder(client, info, terminal)
    try:
        return Verdict.CONNECTED, _provision(client, terminal)
    except AdminError as refused:
        return Verdict.CONNECTED_NO_PROVISION, NotProvisioned(
            error=str(refused),
            detail=refused.detail or UNSET,
            remediation=refused.remediation or UNSET,
            hint=fix_for(refused) or UNSET,
        )


def _provision_placeholder(
    client: AdminClient, info: ConnectInfo, terminal: Terminal
) -> Provisioned | Skipped:
    terminal.note(
        f"PostHog cannot deliver to {info.api_public_url}, a loopback address. Once the server is "
        "deployed, run `hogsend connect posthog --provision-only --url <its URL>`."
    )
    try:
        return _provision(client, terminal, placeholder=True)
    except AdminError as refused:
        terminal.note(f"a disabled destination could not be prepared in PostHog either ({refused})")
        return Skipped(skipped="api_public_url_unreachable")


def _provision(
    client: AdminClient,
    terminal: Terminal,
    *,
    placeholder: bool = False,
    rotate: Collection[Rotated] = (),
) -> Provisioned:
    with terminal.busy("provisioning the webhook destination in PostHog"):
        provisioning = client.provision(placeholder=placeholder, rotate=rotate)
    fields = msgspec.structs.asdict(provisioning)
    return Provisioned(**{key: value for key, value in fields.items() if value is not None})
