"""The steps of `hogsend connect posthog`, in order (contract 8.3)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from cli.connect import region
from cli.connect.authorize import obtain_grant
from cli.connect.discovery import Endpoints, discover, same_origin
from cli.connect.secrecy import without
from cli.connect.server import ConnectInfo, Grant, HogsendServer, ServerRefused
from cli.connect.verdicts import (
    Connected,
    NotProvisioned,
    PostHogSide,
    Provisioned,
    Skipped,
    Stopped,
    StoredCredential,
    Verdict,
)
from cli.connect.voice import Voice
from hogsend.posthog import scopes
from hogsend.urls import is_loopback

NO_CREDENTIAL = "no_posthog_credential"


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    client_id: str
    posthog_host: str | None = None
    provision: bool = True
    browser: bool = True
    patience: float = 300.0
    """Seconds to wait for consent."""


def connect(server: HogsendServer, instance: str, options: Options, voice: Voice) -> Connected:
    """Consent, store the credential, provision the webhook destination.

    Raises:
        Stopped: a step failed; once the credential is stored, none does.
        ServerRefused: the server would not even say how it is configured.
        Dismissed: a question was not answered.
    """
    info = _ask_server(server, voice)
    private_host = region.choose(info, options.posthog_host, voice)
    if info.personal_key_configured is True:
        voice.note("the server has a personal API key; once connected, OAuth takes precedence")
    endpoints = _discover(private_host, voice)
    grant = asyncio.run(
        obtain_grant(
            endpoints,
            options.client_id,
            voice,
            browser=options.browser,
            patience=options.patience,
        )
    )
    _store(server, grant, voice)
    _mention_missing(grant, voice)
    verdict, provision = _provision_softly(server, info, options, voice)
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


def provision_only(server: HogsendServer, instance: str, voice: Voice) -> Connected:
    """Provision with the credential the server already has.

    Raises:
        Stopped: the server refused, or PostHog could not reach it anyway.
        ServerRefused: the server would not even say how it is configured.
    """
    info = _ask_server(server, voice)
    if is_loopback(info.api_public_url):
        raise Stopped(
            Verdict.API_PUBLIC_URL_UNREACHABLE,
            f"PostHog cannot deliver to {info.api_public_url}: only its own machine reaches it",
            hint="run it against the deployed server: "
            "`hogsend connect posthog --provision-only --url https://<your host>`, with "
            "API_PUBLIC_URL set there",
        )
    try:
        provisioned = _provision(server, voice)
    except ServerRefused as refused:
        raise _hard(refused) from None
    return Connected(
        verdict=Verdict.CONNECTED,
        instance=instance,
        credential=StoredCredential(stored=False),
        provision=provisioned,
    )


def _ask_server(server: HogsendServer, voice: Voice) -> ConnectInfo:
    with voice.busy("asking the server how it is configured"):
        info, _ = server.connect_info()
    return info


def _discover(private_host: str, voice: Voice) -> Endpoints:
    with voice.busy(f"looking for the OAuth server of {private_host}"):
        endpoints = discover(private_host)
    voice.step(f"found the OAuth server of {private_host}")
    if not same_origin(endpoints.issuer, private_host):
        voice.warn(f"its issuer is {endpoints.issuer}, which is not {private_host}")
    return endpoints


def _store(server: HogsendServer, grant: Grant, voice: Voice) -> None:
    try:
        with voice.busy("storing the credential"):
            server.store(grant)
    except ServerRefused as refused:
        secrets = (grant.access_token, grant.refresh_token)
        raise Stopped(
            Verdict.STORE_FAILED,
            without(f"the credential could not be stored: {refused}", *secrets),
            hint="nothing is kept on this machine; put the server right and run this again",
            detail=without(refused.detail or "", *secrets),
            remediation=without(refused.remediation or "", *secrets),
        ) from None
    voice.step("the server stored the credential, sealed")


def _mention_missing(grant: Grant, voice: Voice) -> None:
    if lacking := scopes.missing(grant.scopes):
        voice.note(
            f"PostHog granted less than was asked for; missing: {', '.join(lacking)}. What needs "
            "these stays off until you connect again and grant them."
        )


def _provision_softly(
    server: HogsendServer, info: ConnectInfo, options: Options, voice: Voice
) -> tuple[Verdict, Provisioned | NotProvisioned | Skipped]:
    if not options.provision:
        return Verdict.CONNECTED_NO_PROVISION, Skipped(skipped="no_provision_flag")
    if is_loopback(info.api_public_url):
        return Verdict.CONNECTED_NO_PROVISION, _placeholder(server, info, voice)
    try:
        return Verdict.CONNECTED, _provision(server, voice)
    except ServerRefused as refused:
        return Verdict.CONNECTED_NO_PROVISION, NotProvisioned(
            error=str(refused),
            detail=refused.detail or UNSET,
            remediation=refused.remediation or UNSET,
        )


def _placeholder(server: HogsendServer, info: ConnectInfo, voice: Voice) -> Provisioned | Skipped:
    voice.note(
        f"PostHog cannot deliver to {info.api_public_url}, which only this machine reaches. Once "
        "the server is deployed, run `hogsend connect posthog --provision-only --url <its URL>`."
    )
    try:
        return _provision(server, voice, placeholder=True)
    except ServerRefused as refused:
        voice.note(f"no disabled placeholder destination was left in PostHog either ({refused})")
        return Skipped(skipped="api_public_url_unreachable")


def _provision(server: HogsendServer, voice: Voice, *, placeholder: bool = False) -> Provisioned:
    with voice.busy("provisioning the webhook destination in PostHog"):
        told = server.provision(placeholder=placeholder)
    named = msgspec.structs.asdict(told)
    return Provisioned(**{key: value for key, value in named.items() if value is not None})


def _hard(refused: ServerRefused) -> Stopped:
    if refused.status == 409 and refused.code == NO_CREDENTIAL:  # noqa: PLR2004 - contract 1.2
        return Stopped(
            Verdict.NO_CREDENTIAL,
            str(refused),
            hint="run `hogsend connect posthog` first, or set POSTHOG_PERSONAL_API_KEY on the "
            "server",
            detail=refused.detail,
            remediation=refused.remediation,
        )
    return Stopped(
        Verdict.PROVISION_FAILED,
        str(refused),
        detail=refused.detail,
        remediation=refused.remediation,
    )
