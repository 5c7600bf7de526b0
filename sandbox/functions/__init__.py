"""Hog functions: their rules, filters and templates."""
