"""A fake Hogsend server and a fake PostHog."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from hogsend.posthog.scopes import SCOPES
from tests.cli.recording_server import CannedResponse, Fake, RecordedRequest

ADMIN_KEY = "k-admin-never-shown"
CONNECT_INFO = "GET /v1/admin/analytics/connect-info"
DIAGNOSIS = "GET /v1/admin/analytics/diagnosis"
STORE = "PUT /v1/admin/provider-credentials/posthog"
PROVISION = "POST /v1/admin/analytics/provision-loop"
PLACEHOLDER = f"{PROVISION}?placeholder=true"
DEAD_LETTERS = "GET /v1/admin/deadletters?limit=1"
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
GATEWAY_HEALTH: dict[str, Any] = {
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
    """A Hogsend server with one admin key. Tests set its responses."""

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
        self.provision = CannedResponse(200, PROVISIONED)
        self.placeholder = CannedResponse(200, {**PROVISIONED, "enabled": False})
        self.stored = CannedResponse(200, {"providerId": "posthog"})
        self.health = CannedResponse(200, GATEWAY_HEALTH)
        self.diagnosis = CannedResponse(200, HEALTHY_DIAGNOSIS)
        self.dead_letters = CannedResponse(200, {"deadLetters": [], "total": 0})
        self.key = ADMIN_KEY
        self.responses: dict[str, CannedResponse] = {}
        """Responses to other requests, by method and target."""
        self.series: dict[str, list[CannedResponse]] = {}
        """Successive responses to the same request."""

    def respond(self, request: RecordedRequest) -> CannedResponse:
        if request.line == HEALTH:
            return self.health
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return CannedResponse(401, {"error": "Unauthorized"})
        if series := self.series.get(request.line):
            return series.pop(0)
        routes = {
            CONNECT_INFO: CannedResponse(200, self.info),
            DIAGNOSIS: self.diagnosis,
            DEAD_LETTERS: self.dead_letters,
            STORE: self.stored,
            PROVISION: self.provision,
            PLACEHOLDER: self.placeholder,
            **self.responses,
        }
        return routes.get(request.line, CannedResponse(404, {"error": "Not Found"}))

    @property
    def payload(self) -> dict[str, Any]:
        """The stored credential."""
        (put,) = [request for request in self.requests if request.line == STORE]
        assert put.json["kind"] == "oauth"
        payload: dict[str, Any] = put.json["payload"]
        return payload


class FakePostHog(Fake):
    """An OAuth server that consents at once, or behaves as `consent` sets."""

    def __init__(self) -> None:
        super().__init__()
        self.access_token = f"pha_{secrets.token_hex(16)}"
        self.refresh_token = f"phr_{secrets.token_hex(16)}"
        self.code = secrets.token_hex(16)
        self.consent: dict[str, str] = {}
        """Overrides of the callback's parameters. An empty value omits a parameter."""
        self.discovery: CannedResponse | None = None
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
        self.exchange: CannedResponse | None = None
        self.challenge = ""
        self.during_exchange: Callable[[RecordedRequest], object] = str

    def respond(self, request: RecordedRequest) -> CannedResponse:
        match request.path:
            case "/.well-known/oauth-authorization-server":
                return self.discovery or CannedResponse(200, self.document)
            case "/oauth/authorize/":
                return self._authorize(request)
            case "/oauth/token/":
                return self._token(request)
            case "/oauth/token":
                return CannedResponse(308, location="/oauth/token/")
            case "/oauth/token/endless":
                return CannedResponse(307, location=request.path)
        return CannedResponse(404, {})

    @property
    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer or self.url,
            "authorization_endpoint": f"{self.url}/oauth/authorize/",
            "token_endpoint": f"{self.url}/oauth/token/",
            "registration_endpoint": f"{self.url}/oauth/register/",
            "client_id_metadata_document_supported": True,
        }

    @property
    def exchanges(self) -> list[RecordedRequest]:
        return [request for request in self.requests if request.path == "/oauth/token/"]

    @property
    def secrets(self) -> list[str]:
        """Every secret of the run so far."""
        verifiers = [
            value for exchange in self.exchanges for value in exchange.form["code_verifier"]
        ]
        return [self.access_token, self.refresh_token, self.code, *verifiers]

    def _authorize(self, request: RecordedRequest) -> CannedResponse:
        self.challenge = request.query["code_challenge"]
        parameters = {"code": self.code, "state": request.query["state"], **self.consent}
        query = urlencode({key: value for key, value in parameters.items() if value})
        return CannedResponse(302, location=f"{request.query['redirect_uri']}?{query}")

    def _token(self, request: RecordedRequest) -> CannedResponse:
        self.during_exchange(request)
        verifier = request.form["code_verifier"][0]
        digest = hashlib.sha256(verifier.encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != self.challenge:
            return CannedResponse(400, {"error": "invalid_grant"})
        return self.exchange or CannedResponse(200, self.tokens)
