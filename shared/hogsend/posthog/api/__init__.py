"""PostHog's private API, as far as Hogsend uses it: one class for each area."""

from hogsend.posthog.api.hog_functions import (
    HogFunction,
    HogFunctionChanges,
    HogFunctions,
    Input,
    KeptInput,
    Listed,
    NewHogFunction,
)
from hogsend.posthog.api.persons import Persons
from hogsend.posthog.api.projects import Project, Projects
from hogsend.posthog.api.queries import Queries, Slice
from hogsend.posthog.api.transport import Transport
from hogsend.posthog.errors import PostHogError

__all__ = [
    "HogFunction",
    "HogFunctionChanges",
    "HogFunctions",
    "Input",
    "KeptInput",
    "Listed",
    "NewHogFunction",
    "Persons",
    "PostHogError",
    "Project",
    "Projects",
    "Queries",
    "Slice",
    "Transport",
]
