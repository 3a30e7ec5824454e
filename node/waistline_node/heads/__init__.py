"""What runs the head, one file each; see `base` for the contract."""
