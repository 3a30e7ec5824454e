"""The waist codec: quantizer, bit packing, entropy coder."""
