"""Hog functions: validation, filters and templates."""
