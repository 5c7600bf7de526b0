"""What `hogsend audit` prints."""
