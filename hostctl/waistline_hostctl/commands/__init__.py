"""Command-line verbs, one file each, found by file name."""
