"""Diagnosis of the integration, part by part; it changes nothing."""
