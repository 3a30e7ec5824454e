"""Chooses the cut and the codec under latency, energy, memory and accuracy bounds."""
