"""Routes of products that the sandbox lacks: surveys, early access, tours, replay, logs and others.

SDKs request them anyway. The responses are those of PostHog for a project that does not use these
products. A 404 would be logged by all SDKs and retried by some.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency

from sandbox.errors import ApiError, ApiErrorBody
from sandbox.http.capture import CaptureResponse
from sandbox.instance import Instance

AnyRequest = Request[Any, Any, Any]


class Surveys(msgspec.Struct, frozen=True):
    """Response to posthog-js's `getSurveys` (posthog/api/survey.py)."""

    surveys: tuple[()] = ()
    survey_config: None = None


class EarlyAccessFeatures(msgspec.Struct, frozen=True, rename="camel"):
    """Response to `getEarlyAccessFeatures` (posthog/api/early_access_feature.py)."""

    early_access_features: tuple[()] = ()


class WebExperiments(msgspec.Struct, frozen=True):
    """Response to no-code experiments (posthog/api/web_experiment.py)."""

    experiments: tuple[()] = ()


class ProductTours(msgspec.Struct, frozen=True):
    """Response to product tours."""

    product_tours: tuple[()] = ()


@get("/api/surveys", sync_to_thread=False)
def get_surveys(request: AnyRequest, instance: NamedDependency[Instance]) -> Surveys:
    """Return an empty list of surveys."""
    _check_project(request, instance)
    return Surveys()


@get("/api/early_access_features", sync_to_thread=False)
def get_early_access_features(
    request: AnyRequest, instance: NamedDependency[Instance]
) -> EarlyAccessFeatures:
    """Return an empty list of features."""
    _check_project(request, instance)
    return EarlyAccessFeatures()


@get("/api/web_experiments", sync_to_thread=False)
def get_web_experiments(request: AnyRequest, instance: NamedDependency[Instance]) -> WebExperiments:
    """Return an empty list of experiments."""
    _check_project(request, instance)
    return WebExperiments()


@get("/api/product_tours", sync_to_thread=False)
def get_product_tours(request: AnyRequest, instance: NamedDependency[Instance]) -> ProductTours:
    """Return an empty list of tours."""
    _check_project(request, instance)
    return ProductTours()


@post("/s", status_code=200, sync_to_thread=False)
def capture_replay() -> CaptureResponse:
    """Accept a session recording and drop it, as for a project that records no sessions."""
    return CaptureResponse()


@post(["/i/v1/logs", "/i/v1/metrics", "/i/v1/traces"], status_code=200, sync_to_thread=False)
def capture_telemetry(request: AnyRequest, instance: NamedDependency[Instance]) -> dict[str, str]:
    """Accept OpenTelemetry's logs, metrics or traces, and drop them (rust/capture-logs/).

    The project key is in the query or a bearer token.
    """
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if (request.query_params.get("token") or bearer) != instance.options.project_key:
        raise _refused("invalid_api_key", "Project API key invalid.")
    return {}


EMPTY_PRODUCTS = [
    get_surveys,
    get_early_access_features,
    get_web_experiments,
    get_product_tours,
    capture_replay,
    capture_telemetry,
]


def _check_project(request: AnyRequest, instance: Instance) -> None:
    token = request.query_params.get("token")
    if not token:
        raise _refused("missing_api_key", "API key not provided.")
    if token != instance.options.project_key:
        raise _refused("invalid_api_key", "Project API key invalid.")


def _refused(code: str, detail: str) -> ApiError:
    return ApiError(401, ApiErrorBody("authentication_error", code, detail))
