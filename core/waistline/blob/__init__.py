"""Head blobs, the slice format of microcontrollers: records, checks, and a reference in NumPy."""

FORMAT = "blob"
"""Of such a slice in a bundle."""
