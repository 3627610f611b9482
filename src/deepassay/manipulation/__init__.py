"""Making fakes from real media, NumPy only: blends and warps of faces; vocoders, splices and phase changes of voices."""
