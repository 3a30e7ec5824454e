"""Readers of other people's recordings, one file each; `base.py` is the contract."""
