"""Pixels: files and folders in, arrays out, and back."""
