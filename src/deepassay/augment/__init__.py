"""Random changes of views in training, drawn alike for real and fake."""

import deepassay.models  # noqa: F401  (sets how torch's threads wait, before torch is loaded)
