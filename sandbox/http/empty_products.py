"""Products that are not used here: surveys, early access, experiments, tours, replay.

SDKs and pages ask for them all the same. They get what PostHog answers a project without any, and
not 404, which SDKs log and some of them try again.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency

from sandbox.errors import ApiError, ApiErrorBody
from sandbox.http.capture import CaptureAnswer
from sandbox.instance import Instance

AnyRequest = Request[Any, Any, Any]


class Surveys(msgspec.Struct, frozen=True):
    """What posthog-js's `getSurveys` reads (posthog/api/survey.py)."""

    surveys: tuple[()] = ()
    survey_config: None = None


class EarlyAccessFeatures(msgspec.Struct, frozen=True, rename="camel"):
    """What `getEarlyAccessFeatures` reads (posthog/api/early_access_feature.py)."""

    early_access_features: tuple[()] = ()


class WebExperiments(msgspec.Struct, frozen=True):
    """What experiments without code read (posthog/api/web_experiment.py)."""

    experiments: tuple[()] = ()


class ProductTours(msgspec.Struct, frozen=True):
    """What tours read."""

    product_tours: tuple[()] = ()


@get("/api/surveys", sync_to_thread=False)
def get_surveys(request: AnyRequest, instance: NamedDependency[Instance]) -> Surveys:
    """List no surveys."""
    _check_project(request, instance)
    return Surveys()


@get("/api/early_access_features", sync_to_thread=False)
def get_early_access_features(
    request: AnyRequest, instance: NamedDependency[Instance]
) -> EarlyAccessFeatures:
    """List no features."""
    _check_project(request, instance)
    return EarlyAccessFeatures()


@get("/api/web_experiments", sync_to_thread=False)
def get_web_experiments(request: AnyRequest, instance: NamedDependency[Instance]) -> WebExperiments:
    """List no experiments."""
    _check_project(request, instance)
    return WebExperiments()


@get("/api/product_tours", sync_to_thread=False)
def get_product_tours(request: AnyRequest, instance: NamedDependency[Instance]) -> ProductTours:
    """List no tours."""
    _check_project(request, instance)
    return ProductTours()


@post("/s", status_code=200, sync_to_thread=False)
def capture_replay() -> CaptureAnswer:
    """Take a recording and drop it, as a project does that records no sessions."""
    return CaptureAnswer()


EMPTY_PRODUCTS = [
    get_surveys,
    get_early_access_features,
    get_web_experiments,
    get_product_tours,
    capture_replay,
]


def _check_project(request: AnyRequest, instance: Instance) -> None:
    token = request.query_params.get("token")
    if not token:
        raise _refused("missing_api_key", "API key not provided.")
    if token != instance.options.project_key:
        raise _refused("invalid_api_key", "Project API key invalid.")


def _refused(code: str, detail: str) -> ApiError:
    return ApiError(401, ApiErrorBody("authentication_error", code, detail))
