"""Adapters to inference engines, one file each; see `base` for the contract."""
