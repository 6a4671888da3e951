"""What is asked of a prediction and what was found, as files: labels, probabilities, pictures, pages, tables."""
