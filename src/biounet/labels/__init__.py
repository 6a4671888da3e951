"""Annotations: what they mean, targets from them, objects from probabilities."""
