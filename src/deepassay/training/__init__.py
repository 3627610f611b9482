"""Training: data, task, optimisers, fit with exact resume, and the predictor."""

import deepassay.models  # noqa: F401  (sets how torch's threads wait, before torch is loaded)
