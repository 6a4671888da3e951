"""The doctor: what a folder or a model holds, and what is wrong with it."""
