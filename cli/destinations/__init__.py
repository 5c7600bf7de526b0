"""What `hogsend destinations` prints."""
