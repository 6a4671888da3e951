"""From data and settings to a model: plan, loop, state."""
