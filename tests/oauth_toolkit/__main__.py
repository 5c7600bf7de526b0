"""Serves `/o/token/` with rotation and reuse protection, as PostHog configures them.

`python -m tests.oauth_toolkit <directory> <grace seconds>` creates a first grant, prints one JSON
line with the URL, and then serves until it is stopped.
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import timedelta
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings

from hogsend.posthog.client_document import CLIENT_ID

SCOPES = "person:read project:read"


class Quiet(WSGIRequestHandler):
    """Does not log requests, to keep the output of the tests clean."""

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing."""


def configure(directory: Path, grace_seconds: int) -> None:
    """Configure Django with PostHog's settings for tokens (posthog/settings/web.py)."""
    settings.configure(
        SECRET_KEY="test",
        ALLOWED_HOSTS=["127.0.0.1"],
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "oauth2_provider",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(directory / "oauth.sqlite3"),
            }
        },
        # Creates the current tables directly: running all migrations takes three seconds.
        MIGRATION_MODULES=dict.fromkeys(("auth", "contenttypes", "oauth2_provider")),
        ROOT_URLCONF="tests.oauth_toolkit.urls",
        OAUTH2_PROVIDER={
            "SCOPES": {scope: scope for scope in SCOPES.split()},
            "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
            "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 24 * 3600,
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": grace_seconds,
        },
    )
    django.setup()


def create_first_grant() -> None:
    """Create the tokens of a public client, as after a user's consent."""
    from django.contrib.auth.models import User  # noqa: PLC0415 - only after setup
    from django.utils import timezone  # noqa: PLC0415
    from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: PLC0415

    user = User.objects.create_user("operator")
    application = Application.objects.create(
        client_id=CLIENT_ID,
        client_type=Application.CLIENT_PUBLIC,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        redirect_uris="http://127.0.0.1:8423/callback",
    )
    access = AccessToken.objects.create(
        user=user,
        application=application,
        token="pha_first",
        scope=SCOPES,
        expires=timezone.now() + timedelta(seconds=30),
    )
    RefreshToken.objects.create(
        user=user,
        application=application,
        token="phr_first",
        access_token=access,
        token_family=uuid.uuid4(),
    )


def main() -> None:
    """Configure the server, create the first grant, and serve."""
    directory, grace_seconds = Path(sys.argv[1]), int(sys.argv[2])
    configure(directory, grace_seconds)
    from django.core.management import call_command  # noqa: PLC0415
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415

    call_command("migrate", verbosity=0, run_syncdb=True)
    create_first_grant()
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as server:
        url = f"http://127.0.0.1:{server.server_port}/o/token/"
        print(json.dumps({"url": url}), flush=True)  # noqa: T201 - the parent waits for it
        server.serve_forever()


if __name__ == "__main__":
    main()
