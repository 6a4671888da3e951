"""From image files to result files, of any size, here or on many machines."""
