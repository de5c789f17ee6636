"""Measures what Onthedot adds: its tasks, beside workflows that do the bare minimum."""
