"""Lowering: from an int8 head in a model file to a blob the firmware runs."""
