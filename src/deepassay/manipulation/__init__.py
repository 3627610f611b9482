"""Making fakes from real media, NumPy only: blends and warps of faces; vocoders, splices, phase changes of voices."""
