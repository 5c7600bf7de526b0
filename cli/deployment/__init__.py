"""A deployment with Compose: checks of `.env`, its layout, upgrades and backups."""
