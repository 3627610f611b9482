"""deepassay: train, evaluate, export and screen detectors of manipulated faces and voices, and write the evidence."""

__version__ = "0.1.0"
