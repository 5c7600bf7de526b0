"""A webhook receiver on FastAPI that inserts a row in each request.

An event is durable before the response, and stored once by its id. While PostgreSQL is down the
response is 500, and PostHog has to retry. It has no contacts, and publishes nothing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request

from benchmarks.peers.fastapi_receiver import Webhook


@asynccontextmanager
async def _connected(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"])
    await app.state.pool.execute(
        "CREATE TABLE IF NOT EXISTS peer_events"
        " (id text PRIMARY KEY, name text, distinct_id text, payload jsonb)"
    )
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=_connected)


@app.post("/v1/webhooks/posthog")
async def receive(
    webhook: Webhook, request: Request, x_posthog_webhook_secret: Annotated[str, Header()]
) -> dict[str, Any]:
    """Insert an event."""
    if not secrets.compare_digest(x_posthog_webhook_secret, os.environ["SECRET"]):
        raise HTTPException(401)
    event, body = webhook.event, (await request.body()).decode()
    await request.app.state.pool.execute(
        "INSERT INTO peer_events VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        *(event.uuid, event.event, event.distinct_id, body),
    )
    return {"ok": True, "event": event.event, "userId": event.distinct_id}


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="warning")
