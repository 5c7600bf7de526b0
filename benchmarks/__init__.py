"""Every figure the README quotes, measured side by side in one run: `make bench`."""
