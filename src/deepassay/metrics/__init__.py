"""Metrics and statistics: arrays in, floats out (NumPy, SciPy, scikit-learn), never a network, never a file."""
