"""Networks: front ends, backbones, losses and the Detector contract; tensors in, logits out."""

import os

# Torch's OpenMP threads otherwise spin at every barrier. On a core that somebody else needs too, that makes steps of
# small networks up to fourteen times slower (measured: 1.5 s against 0.11 s). It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
