"""Ordered byte streams between a node and an edge, one file each; see `base` for the contract."""
