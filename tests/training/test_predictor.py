"""TorchPredictor: arrays in, logits out, whatever the batch size, without touching its input."""

import numpy as np
import pytest
import torch

from deepassay.errors import MissingDependencyError
from deepassay.models.lcnn import LCNN
from deepassay.models.timm_detector import TimmDetector
from deepassay.training.predictor import TorchPredictor


def test_logits_do_not_depend_on_batches():
    torch.manual_seed(0)
    data = np.random.default_rng(0).normal(0, 0.1, (7, 8000)).astype(np.float32)
    data.setflags(write=False)
    detector = LCNN(width=0.25).train()
    whole = TorchPredictor(detector, device="cpu")(data)
    assert whole.shape == (7,)
    assert whole.dtype == np.float32
    assert not detector.training
    np.testing.assert_allclose(TorchPredictor(detector, device="cpu", batch_size=2)(data), whole, atol=1e-5)
    assert TorchPredictor(detector)(data[:0]).shape == (0,)


def test_faces_in_channels_last_agree_with_plain_memory():
    torch.manual_seed(0)
    detector = TimmDetector(backbone="mobilenetv3_small_050", size=32).eval()
    data = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        plain = detector(torch.from_numpy(data)).logit.numpy()
    np.testing.assert_allclose(TorchPredictor(detector, device="cpu")(data), plain, atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(MissingDependencyError, match="cuda is not available"):
        TorchPredictor(LCNN(width=0.25), device="cuda")
