"""What an answer is, one file each; see `base` for the contract."""
