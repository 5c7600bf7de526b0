"""The chassis of Hogsend's own services; installed with the extra `service`."""
