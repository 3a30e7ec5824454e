"""What a model is for: preprocessing, postprocessing, metric, data."""
