"""The simulated device: waveforms whose energies are known. No solver imports it."""
