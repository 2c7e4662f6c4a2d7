"""One module from a packed batch to log-probs, which training and scoring share."""
