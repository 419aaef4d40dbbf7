"""Quantization-aware training: the float graph as a module that rounds as its int8 file will."""
