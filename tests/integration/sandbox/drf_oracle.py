"""Prints how the packages that PostHog uses respond: errors, and which redirects they allow.

Runs as a separate process, because Django's settings apply to a whole process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rest_framework",
        "oauth2_provider",
    ],
    REST_FRAMEWORK={"EXCEPTION_HANDLER": "exceptions_hog.exception_handler"},
    USE_TZ=True,
)
django.setup()

from exceptions_hog import exception_handler  # noqa: E402
from oauth2_provider.models import redirect_to_uri_allowed  # noqa: E402
from rest_framework import exceptions, serializers  # noqa: E402

ERRORS: dict[str, exceptions.APIException] = {
    "unauthenticated": exceptions.NotAuthenticated(),
    "not_accepted": exceptions.AuthenticationFailed("Access token has expired."),
    "denied": exceptions.PermissionDenied("API key missing required scope 'person:read'"),
    "not_found": exceptions.NotFound(),
    "no_project": exceptions.NotFound("Project not found."),
    "not_allowed": exceptions.MethodNotAllowed("PUT"),
    "throttled": exceptions.Throttled(30),
    "throttled_one": exceptions.Throttled(1),
    "parse_error": exceptions.ParseError("JSON parse error - x"),
    "addon": exceptions.ValidationError({"template_id": "The add-on is required."}),
    "nested": exceptions.ValidationError({"inputs": {"url": "This field is required."}}),
    "server_error": exceptions.APIException(),
}


class Function(serializers.Serializer[Any]):
    """The fields of a hog function that the sandbox validates without a template."""

    type = serializers.ChoiceField(choices=["destination"])
    enabled = serializers.BooleanField(required=False)
    filters = serializers.DictField(child=serializers.ListField(), required=False)


BODIES: dict[str, Any] = {
    "no_type": {},
    "unknown_type": {"type": "nothing"},
    "no_boolean": {"type": "destination", "enabled": {}},
    "no_list": {"type": "destination", "filters": {"events": "x"}},
    "no_object": [],
}


def errors() -> dict[str, Any]:
    """The status, body and headers of every error."""
    raised: dict[str, Exception] = dict(ERRORS)
    for name, body in BODIES.items():
        try:
            Function(data=body).is_valid(raise_exception=True)
        except exceptions.ValidationError as error:
            raised[name] = error
    responses = {name: exception_handler(error) for name, error in raised.items()}
    return {
        name: {
            "status": response.status_code,
            "body": response.data,
            "headers": dict(response.headers),
        }
        for name, response in responses.items()
        if response is not None
    }


def redirects(pairs: list[list[str]]) -> list[bool]:
    """For each pair, whether the first URI is allowed when the second one is registered."""
    return [redirect_to_uri_allowed(uri, [registered]) for uri, registered in pairs]


if __name__ == "__main__":
    pairs = json.loads(sys.stdin.read())
    json.dump({"errors": errors(), "redirects": redirects(pairs)}, sys.stdout, default=str)
