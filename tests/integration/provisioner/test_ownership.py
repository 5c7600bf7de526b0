"""Ownership over restarts: PostgreSQL stores which destinations were provisioned."""

from __future__ import annotations

from tests.destinations import OTHER_HOST, OTHER_SECRET, OTHER_URL, WEBHOOK_URL, compliant, inputs
from tests.integration.provisioner.conftest import Start
from tests.integration.provisioner.driver import WITH_SECRET


async def test_the_own_destination_is_recognized_after_a_change_of_url_and_secret(
    start: Start,
) -> None:
    async with start(environment=WITH_SECRET, public_url=f"https://{OTHER_HOST}") as driver:
        driver.posthog.add("unrelated", **compliant(inputs=inputs("https://x.example/hook")))
        first = (await driver.provision()).json()
        async with driver.provisioner.database.acquire() as connection:
            (row,) = await connection.fetch("SELECT * FROM destinations")
    async with start(environment={"posthog_webhook_secret": "rotated"}) as driver:
        foreign = inputs("https://third.example.com/v1/webhooks/posthog", OTHER_SECRET)
        driver.posthog.add("hogsend", **compliant(inputs=foreign))
        result = (await driver.provision()).json()
    assert (first["action"], first["webhookUrl"]) == ("created", OTHER_URL)
    assert (row["project_id"], row["hog_function_id"]) == ("4242", first["hogFunctionId"])
    assert row["webhook_url"] == OTHER_URL
    assert row["provisioned_at"] is not None
    assert (result["action"], result["hogFunctionId"]) == ("updated", first["hogFunctionId"])
    assert result["webhookUrl"] == WEBHOOK_URL
