"""How a board sends what its head makes, where the bundle does not say it."""

ANSWER_CODEC = "i8:b=8|none"
"""Of each output at x = N, as it is: whoever asked for them packs the answer."""
