"""Training samples: deformation, grey values, targets and border weights."""
