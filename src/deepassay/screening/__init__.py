"""Exported bundles and what runs them on files: onnxruntime only."""
