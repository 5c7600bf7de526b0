"""The settings that several services share.

A setting is written down once: its name in the environment, default and meaning. A service's own
settings are in its `settings.py`; `.env.example` and the table in the README are made from all of
them (`make generate`), and a test fails when they differ. An empty value counts as unset. Secrets
are `SecretStr`: they never print.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from hogsend.contract.partitions import SLOTS
from hogsend.contract.streams import MIB, STREAM_MAX_BYTES, Limits
from hogsend.posthog.hosts import US_INGESTION_HOST, private_host
from hogsend.service.proxies import Proxies
from hogsend.service.settings.base import Settings
from hogsend.service.settings.types import (
    AnyCase,
    CommaSeparated,
    DatabaseUrl,
    FilePath,
    HeaderSecret,
    LevelName,
    ListeningHost,
    NatsUrl,
    OptionalPort,
    PersonalKey,
    PostHogUrl,
    ProjectId,
    ProjectKey,
    ProxyUrl,
    PublicUrl,
    SigningSecret,
)
from hogsend.service.ssrf import AllowedHost
from hogsend.transport.tls import check_authority, check_certificate, check_key

_EXBIBYTE = 1024**6
"""NATS reads no number from eight of them on."""


class PostHogSettings(Settings):
    """PostHog: all optional, each capability needs only its own."""

    posthog_api_key: ProjectKey | None = Field(
        None, description="Project API key (`phc_…`): event capture and person writes."
    )
    posthog_host: PostHogUrl | None = Field(
        None,
        description=f"Ingestion host; `{US_INGESTION_HOST}` when unset. "
        "EU: `https://eu.i.posthog.com`; self-hosted: the instance's URL.",
    )
    posthog_private_host: PostHogUrl | None = Field(
        None,
        description="App host for reads, OAuth and provisioning; derived from `POSTHOG_HOST` "
        "when unset.",
    )
    posthog_project_id: ProjectId | None = Field(
        None,
        description="Project id; when unset the grant's, the provisioned or PostHog's current one.",
    )
    posthog_personal_api_key: PersonalKey | None = Field(
        None, description="Fallback read credential, used when no OAuth credential is stored."
    )
    posthog_webhook_secret: HeaderSecret | None = Field(
        None,
        description="Shared secret PostHog's webhooks must carry, without `{` and backslashes; "
        "wins over a minted one. With neither, see `WEBHOOK_OPEN`.",
    )
    posthog_signing_secret: SigningSecret | None = Field(
        None,
        description="Key that PostHog signs its webhooks with (Standard Webhooks): base64, with or "
        "without `whsec_`; wins over a minted one.",
    )

    @property
    def host_explicit(self) -> bool:
        """Whether the operator named a PostHog host."""
        return bool(self.posthog_private_host or self.posthog_host)

    @property
    def private_host(self) -> str | None:
        """App host without trailing slashes; None without any PostHog setting (contract 1.1)."""
        if self.posthog_private_host:
            return private_host(self.posthog_private_host)
        if self.posthog_host:
            return private_host(self.posthog_host)
        return private_host(US_INGESTION_HOST) if self.posthog_api_key else None


class OutboundSettings(Settings):
    """What the services that call PostHog may reach."""

    outbound_allow: CommaSeparated = Field(
        (),
        description="Hosts (`posthog.internal`, `10.0.0.5:8000`) and networks (`10.0.0.0/8`) that "
        "services may call although they are not public, separated by commas. Hosts in "
        "`POSTHOG_HOST`, `POSTHOG_PRIVATE_HOST`, `API_PUBLIC_URL` and `OPERATOR_WEBHOOK_URL` may "
        "be called anyway.",
    )

    http_proxy: ProxyUrl | None = Field(
        None,
        description="Proxy for calls by plain http, for example `http://proxy.example.com:3128`. "
        "The services that call PostHog use it, and the gateway for `OPERATOR_WEBHOOK_URL`.",
    )
    https_proxy: ProxyUrl | None = Field(None, description="Proxy for calls by https.")
    all_proxy: ProxyUrl | None = Field(
        None, description="Proxy for calls that neither of the two above is for."
    )
    no_proxy: CommaSeparated = Field(
        (),
        description="Hosts (`.example.com`, `host:8000`, `*`), addresses and networks that are "
        "called without a proxy, separated by commas. This machine is never called through one.",
    )

    @property
    def proxies(self) -> Proxies:
        """The proxies, with their passwords."""
        http, https, every = (
            given.get_secret_value() if given else None
            for given in (self.http_proxy, self.https_proxy, self.all_proxy)
        )
        return Proxies.of(http=http, https=https, all_schemes=every, without=self.no_proxy)

    @field_validator("outbound_allow")
    @classmethod
    def _must_be_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            AllowedHost.parse(entry)
        return value


class PublicUrlSettings(Settings):
    """Where PostHog reaches the gateway; the provisioner tells PostHog so."""

    api_public_url: PublicUrl = Field(
        "http://localhost:3002", description="URL PostHog reaches this gateway at."
    )


class DatabaseSettings(Settings):
    """PostgreSQL, for every service but the gateway."""

    database_url: DatabaseUrl = Field(
        description="PostgreSQL address. Unset, `make up` starts its own server. For TLS add "
        "`?sslmode=verify-full&sslrootcert=/path/to/ca.pem`."
    )
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = Field(
        8, description="Connections each service process keeps open at most."
    )


class BusSettings(Settings):
    """NATS, for every service."""

    nats_url: NatsUrl = Field(
        "nats://127.0.0.1:4222",
        description="NATS address, several separated by commas. Set, `make up` uses it instead of "
        "starting its own server.",
    )
    nats_user: str | None = Field(
        None, description="NATS user; the service's own name when a password is set."
    )
    nats_password: SecretStr | None = Field(
        None, description="NATS password, when the address does not carry one."
    )
    nats_tls_ca: FilePath | None = Field(
        None,
        description="PEM file of the authority that signed NATS' certificate. Set, or with "
        "`tls://` in `NATS_URL`, nothing is sent without TLS.",
    )
    nats_tls_cert: FilePath | None = Field(
        None, description="PEM file with the certificate to show NATS, if it asks for one."
    )
    nats_tls_key: FilePath | None = Field(
        None,
        description="PEM file with that certificate's key, unless it is in the same file.",
    )
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        1, description="Copies JetStream keeps of every stream."
    )
    nats_stream_max_bytes: Annotated[int, Field(ge=64 * MIB, le=_EXBIBYTE)] = Field(
        STREAM_MAX_BYTES,
        description="How large each of the streams WEBHOOKS, EVENTS, ENGAGEMENT and PERSONS may "
        "become on disk, in bytes; dead letters take a quarter of it, the audit trail a sixteenth.",
    )

    @field_validator("nats_tls_ca")
    @classmethod
    def _must_be_an_authority(cls, value: Path | None) -> Path | None:
        if value is not None:
            check_authority(value)
        return value

    @field_validator("nats_tls_cert")
    @classmethod
    def _must_be_a_certificate(cls, value: Path | None) -> Path | None:
        if value is not None:
            check_certificate(value)
        return value

    @field_validator("nats_tls_key")
    @classmethod
    def _must_be_its_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        # A certificate that was refused is not looked at a second time.
        if "nats_tls_cert" in info.data:
            check_key(value, info.data["nats_tls_cert"])
        return value

    @property
    def stream_limits(self) -> Limits:
        """What they say about streams."""
        return Limits(self.nats_replicas, self.nats_stream_max_bytes)


class PartitionSettings(Settings):
    """The queue of webhooks, for the gateway and ingest: the same for both."""

    ingest_partitions: Annotated[int, Field(ge=1, le=SLOTS)] = Field(
        1,
        description="Above 1, events of one distinct id are published in the order in which their "
        "webhooks were accepted, however many replicas of ingest there are: webhooks are consumed "
        "in so many partitions, each by one replica at a time. At least as many as replicas; 32 "
        "suits most.",
    )


class TelemetrySettings(Settings):
    """Logs and metrics of every service."""

    renamed: ClassVar = {"alive_file": "health_file"}

    log_level: LevelName[Literal["debug", "info", "warning", "error"]] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: AnyCase[Literal["auto", "json", "console"]] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )
    metrics_port: OptionalPort = Field(
        0,
        description="Port where a service serves `/metrics`; 0 is off. Containers have 9464; "
        "`hogsend up` counts up from this or 9464, a port a service.",
    )
    metrics_host: ListeningHost = Field("127.0.0.1", description="Address that port is on.")
    health_file: FilePath | None = Field(
        None,
        description="File touched every five seconds while a service runs, for health checks of "
        "containers; the image sets it.",
    )
