"""Tensors in, logits out: front ends, backbones, heads, losses and the Detector (torch lives here)."""
