"""The stack on a container engine: what `.env` says, its layout, upgrades, backups."""
