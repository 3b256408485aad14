"""Weights that ship (safetensors); made by commands in the README."""
