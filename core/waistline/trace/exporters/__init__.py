"""Writers of other formats, one file each; `base.py` is the contract."""
