"""A Hogsend server and a PostHog, as the command line sees them."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from hogsend.posthog.scopes import SCOPES
from tests.cli.recording import Asked, Fake, Told

ADMIN_KEY = "k-admin-never-shown"
CONNECT_INFO = "GET /v1/admin/analytics/connect-info"
DIAGNOSIS = "GET /v1/admin/analytics/diagnosis"
STORE = "PUT /v1/admin/provider-credentials/posthog"
PROVISION = "POST /v1/admin/analytics/provision-loop"
PLACEHOLDER = f"{PROVISION}?placeholder=true"
HEALTH = "GET /v1/health"

PROVISIONED = {
    "provisioned": True,
    "created": True,
    "action": "created",
    "hogFunctionId": "fn-1",
    "webhookUrl": "https://t.example.com/v1/webhooks/posthog",
    "dashboardUrl": "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-1/configuration",
    "enabled": True,
}
MISSING_SCOPE = {
    "error": "missing-scope",
    "detail": "PostHog answered 403: the key lacks hog_function:write.",
    "remediation": "Run hogsend connect posthog again, and grant hog_function:write.",
}
UPSTREAM_HEALTH: dict[str, Any] = {
    "status": "healthy",
    "uptime": 12.5,
    "timestamp": "2026-11-23T10:00:00.000Z",
    "version": "0.0.1",
    "components": {
        "database": {"status": "up", "latencyMs": 1},
        "redis": {"status": "up"},
        "worker": {"status": "up", "lastSeenAt": "2026-11-23T10:00:00.000Z"},
    },
    "schema": {
        "engine": {"applied": "0042", "required": "0042", "inSync": True, "pending": []},
        "client": {"applied": None, "required": None, "inSync": True, "pending": []},
    },
    "activity": {"windowHours": 24, "journeys": {"failed": 0}, "emails": {"failed": 0}},
}
OUR_HEALTH: dict[str, Any] = {
    **UPSTREAM_HEALTH,
    "components": {**UPSTREAM_HEALTH["components"], "bus": {"status": "up", "latencyMs": 0.4}},
    "services": {
        "credentials": {"status": "up", "latencyMs": 2.1, "uptime": 90, "database": "up"},
        "ingest": {"status": "up", "latencyMs": 1.9, "uptime": 9000, "database": "up"},
    },
}
HEALTHY_DIAGNOSIS: dict[str, Any] = {
    "privateHost": "https://eu.posthog.com",
    "credential": {
        "state": "present",
        "scopes": list(SCOPES),
        "expiresAt": "2026-11-30T10:00:00.000Z",
        "refreshFailing": False,
        "detail": None,
        "remediation": None,
    },
    "personReads": {"state": "working", "through": "oauth", "detail": None, "remediation": None},
    "webhookSecret": {"state": "present", "source": "minted", "detail": None, "remediation": None},
    "destination": {
        "state": "live",
        "hogFunctionId": "fn-1",
        "webhookUrl": "https://t.example.com/v1/webhooks/posthog",
        "dashboardUrl": "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-1",
        "detail": None,
        "remediation": None,
    },
    "scopeGap": [],
    "publicUrl": {
        "url": "https://t.example.com",
        "loopback": False,
        "detail": None,
        "remediation": None,
    },
}


class FakeHogsend(Fake):
    """Answers as told; knows one admin key."""

    def __init__(self) -> None:
        super().__init__()
        self.info: dict[str, Any] = {
            "providerId": "posthog",
            "analyticsConfigured": True,
            "privateHost": None,
            "hostExplicit": True,
            "projectIdHint": None,
            "personalKeyConfigured": False,
            "webhookSecretConfigured": True,
            "apiPublicUrl": "https://t.example.com",
            "scopeGap": [],
        }
        self.provision = Told(200, PROVISIONED)
        self.placeholder = Told(200, {**PROVISIONED, "enabled": False})
        self.stored = Told(200, {"providerId": "posthog"})
        self.health = Told(200, OUR_HEALTH)
        self.diagnosis = Told(200, HEALTHY_DIAGNOSIS)
        self.key = ADMIN_KEY
        self.more: dict[str, Told] = {}
        """Answers to further requests, by method and target."""

    def answer(self, asked: Asked) -> Told:
        if asked.line == HEALTH:
            return self.health
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            return Told(401, {"error": "Unauthorized"})
        routes = {
            CONNECT_INFO: Told(200, self.info),
            DIAGNOSIS: self.diagnosis,
            STORE: self.stored,
            PROVISION: self.provision,
            PLACEHOLDER: self.placeholder,
            **self.more,
        }
        return routes.get(asked.line, Told(404, {"error": "Not Found"}))

    @property
    def payload(self) -> dict[str, Any]:
        """The stored credential."""
        (put,) = [asked for asked in self.asked if asked.line == STORE]
        assert put.json["kind"] == "oauth"
        payload: dict[str, Any] = put.json["payload"]
        return payload


class FakePostHog(Fake):
    """An OAuth server that consents at once, or as `consent` says."""

    def __init__(self) -> None:
        super().__init__()
        self.access_token = f"pha_{secrets.token_hex(16)}"
        self.refresh_token = f"phr_{secrets.token_hex(16)}"
        self.code = secrets.token_hex(16)
        self.consent: dict[str, str] = {}
        """Overrides of the callback's parameters; an empty value leaves one out."""
        self.discovery: Told | None = None
        self.issuer: str | None = None
        self.tokens: dict[str, Any] = {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "expires_in": 36000,
            "scope": " ".join(SCOPES),
            "scoped_teams": [199032],
            "scoped_organizations": ["0190c5b7-0000-0000-0000-000000000001"],
            "token_type": "Bearer",
        }
        self.exchange: Told | None = None
        self.challenge = ""
        self.during_exchange: Callable[[Asked], object] = str

    def answer(self, asked: Asked) -> Told:
        match asked.path:
            case "/.well-known/oauth-authorization-server":
                return self.discovery or Told(200, self.document)
            case "/oauth/authorize/":
                return self._authorize(asked)
            case "/oauth/token/":
                return self._token(asked)
        return Told(404, {})

    @property
    def document(self) -> dict[str, str]:
        return {
            "issuer": self.issuer or self.url,
            "authorization_endpoint": f"{self.url}/oauth/authorize/",
            "token_endpoint": f"{self.url}/oauth/token/",
        }

    @property
    def exchanges(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == "/oauth/token/"]

    @property
    def secrets(self) -> list[str]:
        """All that must never be seen, as far as it came about."""
        verifiers = [value for one in self.exchanges for value in one.form["code_verifier"]]
        return [self.access_token, self.refresh_token, self.code, *verifiers]

    def _authorize(self, asked: Asked) -> Told:
        self.challenge = asked.query["code_challenge"]
        answer = {"code": self.code, "state": asked.query["state"], **self.consent}
        query = urlencode({key: value for key, value in answer.items() if value})
        return Told(302, location=f"{asked.query['redirect_uri']}?{query}")

    def _token(self, asked: Asked) -> Told:
        self.during_exchange(asked)
        verifier = asked.form["code_verifier"][0]
        digest = hashlib.sha256(verifier.encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != self.challenge:
            return Told(400, {"error": "invalid_grant"})
        return self.exchange or Told(200, self.tokens)
