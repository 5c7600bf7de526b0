"""A webhook receiver on FastAPI that publishes to JetStream.

An event is durable before the response, and JetStream deduplicates it for two minutes. While NATS
is down the response is 500, and PostHog has to retry.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import nats
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request
from pydantic import BaseModel


class Event(BaseModel):
    """The event of a webhook."""

    uuid: str
    event: str
    distinct_id: str
    properties: dict[str, Any]
    timestamp: str


class Webhook(BaseModel):
    """The body of PostHog's webhook."""

    event: Event
    person: dict[str, Any]


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    client = await nats.connect(os.environ["NATS_URL"])
    app.state.js = client.jetstream()
    yield
    await client.drain()


app = FastAPI(lifespan=_connected)


@app.post("/v1/webhooks/posthog")
async def receive(
    webhook: Webhook, request: Request, x_posthog_webhook_secret: Annotated[str, Header()]
) -> dict[str, Any]:
    """Publish an event."""
    if not secrets.compare_digest(x_posthog_webhook_secret, os.environ["SECRET"]):
        raise HTTPException(401)
    body, headers = await request.body(), {"Nats-Msg-Id": webhook.event.uuid}
    await request.app.state.js.publish("webhooks.posthog", body, headers=headers)
    return {"ok": True, "event": webhook.event.event, "userId": webhook.event.distinct_id}


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="warning")
