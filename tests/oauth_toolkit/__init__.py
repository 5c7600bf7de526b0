"""An OAuth server that is not ours: django-oauth-toolkit, on which PostHog's own is built."""
