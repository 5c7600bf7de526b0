"""The destinations that are read, and their order (contract 2.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hogsend.posthog.api import HogFunctions, Transport
from hogsend.posthog.errors import PostHogError
from services.provisioner.destination.candidates import MAX_PROBES, candidates
from services.provisioner.destination.posthog_errors import Step
from tests.destinations import OTHER_URL, inputs
from tests.posthog_recorder import Recorder
from tests.unit.provisioner.fakes import POSTHOG_URL, http_to

COLLECTION = "/api/projects/4242/hog_functions/"


class Run:
    """One iteration over the candidates, with the steps of its requests."""

    def __init__(self, posthog: Recorder) -> None:
        self.steps: list[Step] = []
        transport = Transport(http_to(posthog), POSTHOG_URL, "pha_a")
        self._functions = candidates(HogFunctions(transport, "4242"), self._at_step)

    async def ids(self) -> list[str]:
        return [function.id async for function in self._functions]

    @contextmanager
    def _at_step(self, step: Step) -> Iterator[None]:
        self.steps.append(step)
        yield


@pytest.fixture
def posthog() -> Recorder:
    return Recorder(url=POSTHOG_URL)


def read_in_full(posthog: Recorder) -> list[str]:
    return [line.removeprefix(f"GET {COLLECTION}") for line in posthog.lines()[1:]]


async def test_likely_names_are_read_first_and_each_group_in_the_lists_order(
    posthog: Recorder,
) -> None:
    for id, name in (("a", "Slack"), ("b", "My HOGSEND loop"), ("c", ""), ("d", "hogsend")):
        posthog.add(id, name=name, inputs=inputs())
    run = Run(posthog)
    assert await run.ids() == ["b", "d", "a", "c"]
    assert read_in_full(posthog) == ["b/", "d/", "a/", "c/"]
    assert run.steps == [Step.COLLECTION] + [Step.FUNCTION] * 4


async def test_only_destinations_that_deliver_to_a_hogsend_are_candidates(
    posthog: Recorder,
) -> None:
    posthog.add("slack", inputs=inputs("https://slack.example/hook"))
    posthog.add("other", inputs=inputs(OTHER_URL))
    posthog.add("own", inputs=inputs())
    posthog.add("odd", inputs={"url": {"value": 7}})
    assert await Run(posthog).ids() == ["other", "own"]


async def test_at_most_twenty_five_destinations_are_read(posthog: Recorder) -> None:
    for number in range(30):
        posthog.add(f"fn{number}", name="Slack", inputs=inputs())
    posthog.add("own", name="Hogsend", inputs=inputs())
    ids = await Run(posthog).ids()
    assert MAX_PROBES == 25
    assert len(ids) == len(read_in_full(posthog)) == 25
    assert ids[0] == "own"


async def test_a_destination_is_read_only_when_the_iteration_reaches_it(posthog: Recorder) -> None:
    for id in ("a", "b"):
        posthog.add(id, inputs=inputs())
    transport = Transport(http_to(posthog), POSTHOG_URL, "pha_a")
    functions = candidates(HogFunctions(transport, "4242"), Run(posthog)._at_step)
    assert (await anext(functions)).id == "a"
    await functions.aclose()
    assert read_in_full(posthog) == ["a/"]


@pytest.mark.parametrize(
    ("path", "step"), [(r"hog_functions/\?", Step.COLLECTION), ("fn/", Step.FUNCTION)]
)
async def test_a_failing_request_is_attributed_to_its_step(
    posthog: Recorder, path: str, step: Step
) -> None:
    posthog.add("fn", inputs=inputs())
    posthog.refuse("GET", path, 500)
    run = Run(posthog)
    with pytest.raises(PostHogError):
        await run.ids()
    assert run.steps[-1] is step
