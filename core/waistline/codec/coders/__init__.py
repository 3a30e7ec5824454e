"""Entropy coders, one file each; see `base` for the contract."""
