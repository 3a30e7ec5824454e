"""Turns power traces into energy per layer and fitted platform records."""
