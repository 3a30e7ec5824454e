"""Sampling instruments, one file each; `base` is what they owe the capture."""
