"""NoAugment: views as they were drawn."""

import numpy as np


class NoAugment:
    """Leaves views as they are, for both modalities."""

    def __call__(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Views (k, *shape) -> the same."""
        return data

    def with_mask(self, data: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Views and masks -> the same."""
        return data, mask
