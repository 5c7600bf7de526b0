"""The sources that need no stored configuration, unlike those of destinations."""

from __future__ import annotations

from services.analytics.delivery.sources.buckets import BucketsSource
from services.analytics.delivery.sources.mirror import MirrorSource
from services.analytics.delivery.sources.persons import PersonsSource
from services.analytics.delivery.sources.source import Source
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings


def built_in_sources(project_key: ProjectKey, settings: AnalyticsSettings) -> list[Source]:
    """Create the sources of person writes and buckets, and of the event mirror if it is on."""
    sources: list[Source] = [PersonsSource(project_key), BucketsSource(project_key)]
    if settings.analytics_event_mirror:
        allow, deny = (
            settings.analytics_event_mirror_allow,
            settings.analytics_event_mirror_deny,
        )
        sources.append(MirrorSource(project_key, allow, deny))
    return sources
