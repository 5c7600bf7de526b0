"""The response to each error, in the format of the API that raised it."""

from __future__ import annotations

from typing import Any

import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.types import ExceptionHandlersMap

from sandbox.errors import ApiError, ApiErrorBody, method_not_allowed, not_found, server_error
from sandbox.ingestion.errors import BatchError, CaptureError
from sandbox.oauth.errors import OAuthError, Unauthenticated

log = structlog.get_logger(__name__)

AnyRequest = Request[Any, Any, Any]
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Headers of every response of the token endpoint (RFC 6749 5.1)."""


def _oauth_error(_request: AnyRequest, error: OAuthError) -> Response[Any]:
    headers = dict(NO_STORE)
    if error.status == UNAUTHORIZED:
        headers["WWW-Authenticate"] = error.challenge
    return Response(error.body, status_code=error.status, headers=headers)


def _unauthenticated(_request: AnyRequest, _error: Unauthenticated) -> Response[None]:
    return Response(None, status_code=FORBIDDEN, media_type=MediaType.HTML)


def _capture_error(_request: AnyRequest, error: CaptureError) -> Response[str]:
    return Response(str(error), status_code=error.status, media_type=MediaType.TEXT)


def _batch_error(_request: AnyRequest, error: BatchError) -> Response[dict[str, str]]:
    body = {
        "error": error.error,
        "error_description": str(error),
        "error_uri": "https://posthog.com/docs/api",
    }
    return Response(body, status_code=error.status, media_type=MediaType.JSON)


def _api_error(request: AnyRequest, error: ApiError) -> Response[ApiErrorBody]:
    headers = dict(error.headers)
    if error.status == UNAUTHORIZED:
        # Tells a client where to find the authorization server (RFC 9728 5.1).
        document = f"{request.app.state.url}/.well-known/oauth-protected-resource"
        headers["WWW-Authenticate"] = f'Bearer resource_metadata="{document}"'
    return Response(
        error.body,
        status_code=error.status,
        headers=headers,
        media_type=MediaType.JSON,
    )


def _http_error(request: AnyRequest, error: HTTPException) -> Response[ApiErrorBody]:
    if isinstance(error, MethodNotAllowedException):
        return _api_error(request, method_not_allowed(f'Method "{request.method}" not allowed.'))
    body = ApiErrorBody("invalid_request", "error", error.detail)
    if error.status_code == NOT_FOUND:
        return _api_error(request, not_found())
    return _api_error(request, ApiError(error.status_code, body))


def _internal_error(request: AnyRequest, error: Exception) -> Response[ApiErrorBody]:
    log.error("request failed", exc_info=error)
    return _api_error(request, server_error())


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    OAuthError: _oauth_error,
    Unauthenticated: _unauthenticated,
    CaptureError: _capture_error,
    BatchError: _batch_error,
    ApiError: _api_error,
    HTTPException: _http_error,
    Exception: _internal_error,
}
