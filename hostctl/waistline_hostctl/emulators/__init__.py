"""Instruments that are programs: they speak a real instrument's protocol and know the truth."""
