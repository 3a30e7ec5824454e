"""Bundles: slices, codec and hashes in one folder, written once and checked when read."""
