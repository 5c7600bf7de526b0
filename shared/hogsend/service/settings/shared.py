"""The settings that several services share.

Each setting is declared once, with its name, default and description. The settings of one service
are in its `settings.py`. `make generate` writes `.env.example`, docs/settings.md and the table in
the README from all of them, and a test fails when these are not up to date. An empty value counts
as unset. Secrets are `SecretStr`, whose `repr` hides their value.
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
"""The upper limit of sizes: NATS' integers overflow at eight of them."""


class PostHogSettings(Settings):
    """PostHog: hosts, keys and webhook secrets; all are optional."""

    posthog_api_key: ProjectKey | None = Field(
        None,
        description="Project API key (`phc_…`): captures events, writes persons and evaluates "
        "feature flags. A connection that was provisioned has its own.",
    )
    posthog_host: PostHogUrl | None = Field(
        None,
        description=f"Ingestion host. Default: `{US_INGESTION_HOST}`. EU cloud: "
        "`https://eu.i.posthog.com`; self-hosted: the URL of the instance.",
    )
    posthog_private_host: PostHogUrl | None = Field(
        None,
        description="App host, for person reads, OAuth and provisioning. Default: derived from "
        "`POSTHOG_HOST`.",
    )
    posthog_project_id: ProjectId | None = Field(
        None,
        description="Id of the PostHog project. Default: the project of the OAuth grant, else that "
        "of the provisioned destination, else PostHog's current project.",
    )
    posthog_personal_api_key: PersonalKey | None = Field(
        None,
        description="Personal API key (`phx_…`) for person reads, used only without an OAuth "
        "credential that works.",
    )
    posthog_webhook_secret: HeaderSecret | None = Field(
        None,
        description="Secret that PostHog sends with each webhook in `x-posthog-webhook-secret`; "
        "must not contain `{` or a backslash. Replaces the one that provisioning generates. If "
        "there is neither, see `WEBHOOK_OPEN`.",
    )
    posthog_signing_secret: SigningSecret | None = Field(
        None,
        description="Key with which PostHog signs its webhooks (Standard Webhooks): base64, with "
        "or without `whsec_`. Replaces the one that provisioning generates.",
    )

    @property
    def host_explicit(self) -> bool:
        """Whether the operator has set a PostHog host."""
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
    """Outbound HTTP requests: allowed private addresses, and proxies."""

    outbound_allow: CommaSeparated = Field(
        (),
        description="Hosts (`posthog.internal`, `10.0.0.5:8000`) and networks (`10.0.0.0/8`) that "
        "services may call although their addresses are not public, separated by commas. The hosts "
        "in `POSTHOG_HOST`, `POSTHOG_PRIVATE_HOST`, `API_PUBLIC_URL` and `OPERATOR_WEBHOOK_URL` "
        "are always allowed.",
    )

    http_proxy: ProxyUrl | None = Field(
        None,
        description="Proxy for `http://` URLs, for example `http://proxy.example.com:3128`. Used "
        "by the services that call PostHog, and by the gateway for `OPERATOR_WEBHOOK_URL`.",
    )
    https_proxy: ProxyUrl | None = Field(None, description="Proxy for `https://` URLs.")
    all_proxy: ProxyUrl | None = Field(
        None, description="Proxy for URLs for which neither of the two above is set."
    )
    no_proxy: CommaSeparated = Field(
        (),
        description="Hosts (`.example.com`, `host:8000`, `*`), IP addresses and networks that are "
        "called without a proxy, separated by commas. Loopback addresses never use a proxy.",
    )

    @property
    def proxies(self) -> Proxies:
        """The proxies of the four variables, with their passwords."""
        http, https, all_schemes = (
            secret.get_secret_value() if secret else None
            for secret in (self.http_proxy, self.https_proxy, self.all_proxy)
        )
        return Proxies.of(http=http, https=https, all_schemes=all_schemes, without=self.no_proxy)

    @field_validator("outbound_allow")
    @classmethod
    def _must_be_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            AllowedHost.parse(entry)
        return value


class PublicUrlSettings(Settings):
    """The public address of the gateway."""

    api_public_url: PublicUrl = Field(
        "http://localhost:3002",
        description="URL at which PostHog reaches the gateway. Provisioning configures PostHog to "
        "send its webhooks there.",
    )


class DatabaseSettings(Settings):
    """PostgreSQL, for every service but the gateway."""

    database_url: DatabaseUrl = Field(
        description="Address of PostgreSQL. If unset, `make up` starts its own server. For TLS add "
        "`?sslmode=verify-full&sslrootcert=/path/to/ca.pem`."
    )
    database_pool_size: Annotated[int, Field(ge=1, le=200)] = Field(
        8, description="Maximum number of PostgreSQL connections of each service process."
    )


class BusSettings(Settings):
    """NATS, for every service."""

    nats_url: NatsUrl = Field(
        "nats://127.0.0.1:4222",
        description="Address of the NATS server, or several separated by commas. If set, `make up` "
        "uses it instead of starting its own server.",
    )
    nats_user: str | None = Field(
        None, description="NATS user. Default: the service's own name, if a password is set."
    )
    nats_password: SecretStr | None = Field(
        None, description="NATS password, unless the address contains one."
    )
    nats_tls_ca: FilePath | None = Field(
        None,
        description="PEM file of the certificate authority that signed NATS' certificate. If it is "
        "set, or if `NATS_URL` starts with `tls://`, nothing is sent to NATS without TLS.",
    )
    nats_tls_cert: FilePath | None = Field(
        None,
        description="PEM file of the client certificate, for a NATS server that requires one.",
    )
    nats_tls_key: FilePath | None = Field(
        None,
        description="PEM file of the client certificate's key, unless both are in one file.",
    )
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        1,
        description="Number of copies that JetStream keeps of every stream, each on another "
        "server.",
    )
    nats_stream_max_bytes: Annotated[int, Field(ge=64 * MIB, le=_EXBIBYTE)] = Field(
        STREAM_MAX_BYTES,
        description="Maximum size on disk, in bytes, of each of the streams WEBHOOKS, EVENTS, "
        "ENGAGEMENT and PERSONS. The stream of dead letters gets a quarter of it, the stream of "
        "the audit trail a sixteenth.",
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
        # A certificate that was refused is not in `data`, and its key is not checked.
        if "nats_tls_cert" in info.data:
            check_key(value, info.data["nats_tls_cert"])
        return value

    @property
    def stream_limits(self) -> Limits:
        """The limits of streams that the operator has set."""
        return Limits(self.nats_replicas, self.nats_stream_max_bytes)


class PartitionSettings(Settings):
    """Partitions of the webhook queue: the same value for the gateway and ingest."""

    ingest_partitions: Annotated[int, Field(ge=1, le=SLOTS)] = Field(
        1,
        description="Number of partitions of the webhook queue. Above 1, the events of each "
        "distinct id are published in the order in which their webhooks were accepted, with any "
        "number of ingest replicas: one replica at a time consumes each partition. Use at least as "
        "many partitions as replicas; 32 suits most deployments.",
    )


class TelemetrySettings(Settings):
    """Logs, metrics and the health file of every service."""

    renamed: ClassVar = {"alive_file": "health_file"}

    log_level: LevelName[Literal["debug", "info", "warning", "error"]] = Field(
        "info",
        description="Lowest level that is logged: `debug`, `info`, `warning` or `error`.",
    )
    log_format: AnyCase[Literal["auto", "json", "console"]] = Field(
        "auto",
        description="`json`, `console`, or `auto`: `console` on a terminal, otherwise `json`.",
    )
    metrics_port: OptionalPort = Field(
        0,
        description="Port on which a service serves `/metrics`; 0 turns it off. Containers use "
        "9464. `hogsend up` gives its services consecutive ports from this one, or from 9464.",
    )
    metrics_host: ListeningHost = Field(
        "127.0.0.1", description="Address on which `/metrics` is served."
    )
    health_file: FilePath | None = Field(
        None,
        description="File that a running service touches every five seconds, for health checks of "
        "containers. The container image sets it.",
    )
