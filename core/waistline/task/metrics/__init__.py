"""How good answers are, one file each; see `base` for the contract."""
