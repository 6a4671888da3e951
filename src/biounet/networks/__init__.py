"""Networks as modules with a declared geometry; they know nothing of files, tiles or settings."""
