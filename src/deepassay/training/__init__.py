"""Lightning: data, task, predictor, fit."""
