"""The integration, examined part by part; nothing is changed."""
