"""How good labels are: scores of pixels, objects and boundaries, with intervals."""
