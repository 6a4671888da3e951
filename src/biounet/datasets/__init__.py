"""Annotated images: the layouts that communities keep them in, outlines and classes, as arrays of labels."""
