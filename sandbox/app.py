"""Composition of the sandbox: the Litestar app, and the server that runs it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Router, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.types import ASGIApp

from hogsend.contract.errors import CannotStart
from hogsend.urls import host_and_port
from sandbox.http.capture import capture, capture_batch
from sandbox.http.control import ControlController
from sandbox.http.cors import with_cors
from sandbox.http.empty_products import EMPTY_PRODUCTS
from sandbox.http.errors import EXCEPTION_HANDLERS
from sandbox.http.faults import with_faults
from sandbox.http.flags import evaluate_flags
from sandbox.http.hog_functions import HogFunctionsController
from sandbox.http.local_evaluation import get_definitions, get_remote_config_payload
from sandbox.http.oauth import (
    OAuthController,
    authorization_server,
    json_web_keys,
    openid_configuration,
    protected_resource,
)
from sandbox.http.persons import PersonsController
from sandbox.http.projects import get_me, get_project, list_projects
from sandbox.http.query import QueryController
from sandbox.http.remote_config import get_extension, get_remote_config, get_remote_config_script
from sandbox.instance import Instance
from sandbox.options import Options
from sandbox.server_threads import wait_for_server_threads

MAX_BODY_BYTES = 20 * 1024 * 1024
"""Maximum size of a capture request (rust/capture/src/v0_request.rs)."""

PROJECT_PATHS = ("/api/projects/{project_id:str}", "/api/environments/{project_id:str}")
"""The second one is an older name that PostHog still rewrites (PostHog/posthog#68511)."""


PROJECT_ROUTES = [HogFunctionsController, PersonsController, QueryController]


class About(msgspec.Struct, frozen=True):
    """A description of this server."""

    what: str
    docs: str
    project_id: int
    state: str


@get(["/", "/_health"], sync_to_thread=False)
def about(instance: NamedDependency[Instance]) -> About:
    """Describe this server as a stand-in."""
    return About(
        what="Hogsend's PostHog sandbox: a stand-in, not PostHog. All state is in memory.",
        docs="docs/sandbox.md",
        project_id=instance.project.id,
        state=f"{instance.options.url}/_sandbox/state",
    )


def build(options: Options) -> ASGIApp:
    """Build an ASGI app with its own instance."""
    return app_of(Instance(options))


def app_of(instance: Instance) -> ASGIApp:
    """Build the ASGI app of an instance."""
    app = Litestar(
        route_handlers=[
            about,
            authorization_server,
            openid_configuration,
            json_web_keys,
            protected_resource,
            OAuthController,
            get_project,
            list_projects,
            get_me,
            *(Router(path, route_handlers=PROJECT_ROUTES) for path in PROJECT_PATHS),
            capture,
            capture_batch,
            evaluate_flags,
            get_definitions,
            get_remote_config_payload,
            get_extension,
            get_remote_config,
            get_remote_config_script,
            *EMPTY_PRODUCTS,
            ControlController,
        ],
        state=State({"url": instance.options.url}),
        dependencies={"instance": Provide(lambda: instance, sync_to_thread=False)},
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
        on_shutdown=[instance.close],
    )
    return with_cors(with_faults(app, instance.faults))


@asynccontextmanager
async def serving(options: Options) -> AsyncIterator[Instance]:
    """Run a sandbox during the block.

    Raises:
        CannotStart: the server cannot listen on host and port.
    """
    async with wait_for_server_threads(), _serving(options) as instance:
        yield instance


@asynccontextmanager
async def _serving(options: Options) -> AsyncIterator[Instance]:
    address = _address(options)
    instance = Instance(options)
    server = Server(
        app_of(instance),
        address=address,
        port=options.port,
        interface=Interfaces.ASGI,
        log_enabled=False,
    )
    running = asyncio.create_task(server.serve())
    try:
        await _wait_until_listening(address, options.port, running)
        yield instance
    finally:
        # The server waits for requests in progress, so delays of faults must end first.
        instance.faults.replace({})
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.gather(running, return_exceptions=True)
        await instance.close()


def _address(options: Options) -> str:
    """Resolve the host name: the server accepts IP addresses only."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        addresses = socket.getaddrinfo(options.host or None, 0, family, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotStart(f"cannot listen on {options.host} ({error.strerror})") from error
    return str(addresses[0][4][0])


async def _wait_until_listening(address: str, port: int, running: asyncio.Task[None]) -> None:
    while True:
        if running.done():
            reason = str(running.exception()).splitlines()[0]
            raise CannotStart(f"cannot listen on {host_and_port(address, port)} ({reason})")
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            return
