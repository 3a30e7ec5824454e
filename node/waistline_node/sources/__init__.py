"""Where frames come from, one file each; see `base` for the contract."""
