"""Bounded decoding and encoding of images, video and sound, and what their containers say of them."""
