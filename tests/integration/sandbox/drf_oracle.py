"""Prints what the packages PostHog is made of answer; runs in a process of its own.

Django's settings are the process's, so the tests must not set them for themselves.
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
    """The fields of a hog function the sandbox checks by itself."""

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
    """Status, body and headers of every error."""
    found: dict[str, Exception] = dict(ERRORS)
    for name, body in BODIES.items():
        try:
            Function(data=body).is_valid(raise_exception=True)
        except exceptions.ValidationError as error:
            found[name] = error
    answers = {name: exception_handler(error) for name, error in found.items()}
    return {
        name: {"status": answer.status_code, "body": answer.data, "headers": dict(answer.headers)}
        for name, answer in answers.items()
        if answer is not None
    }


def redirects(pairs: list[list[str]]) -> list[bool]:
    """Whether each URI may be redirected to, with one registered."""
    return [redirect_to_uri_allowed(uri, [registered]) for uri, registered in pairs]


if __name__ == "__main__":
    asked = json.loads(sys.stdin.read())
    json.dump({"errors": errors(), "redirects": redirects(asked)}, sys.stdout, default=str)
