"""A server of django-oauth-toolkit, the package on which PostHog's OAuth server is built."""
