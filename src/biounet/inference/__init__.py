"""A model over an image of any size: engines and exact tiles."""
