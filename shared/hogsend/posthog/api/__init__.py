"""Client of PostHog's private API, with one class for each area that Hogsend uses."""

from hogsend.posthog.api.hog_functions import (
    FunctionSummary,
    HogFunction,
    HogFunctionChanges,
    HogFunctions,
    Input,
    KeptInput,
    NewHogFunction,
)
from hogsend.posthog.api.persons import Persons
from hogsend.posthog.api.projects import Project, Projects
from hogsend.posthog.api.queries import EventRange, Queries
from hogsend.posthog.api.transport import Transport
from hogsend.posthog.errors import PostHogError

__all__ = [
    "EventRange",
    "FunctionSummary",
    "HogFunction",
    "HogFunctionChanges",
    "HogFunctions",
    "Input",
    "KeptInput",
    "NewHogFunction",
    "Persons",
    "PostHogError",
    "Project",
    "Projects",
    "Queries",
    "Transport",
]
