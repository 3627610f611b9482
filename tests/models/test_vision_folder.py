"""Backbones from a local folder: the same function as the library that wrote it, and no folder that half fits."""

import json

import pytest
import torch

from deepassay.errors import ConfigError
from deepassay.models.timm_detector import TimmDetector
from deepassay.models.vision_folder import network_from_folder
from deepassay.models.weights import read_weights, save_weights

CLIP = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


@pytest.fixture
def timm_folder(tmp_path):
    """A tiny ViT of timm with three classes, saved as timm does."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(1)
    network = timm.create_model("test_vit", num_classes=3)
    torch.nn.init.normal_(network.pos_embed)  # type: ignore[arg-type]
    save_for_hf(network, tmp_path / "vit", safe_serialization=True)
    return tmp_path / "vit", network.eval()


@pytest.fixture
def clip_folder(tmp_path):
    """A tiny CLIP, whole, saved by transformers."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(2)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=CLIP, projection_dim=8)
    model = transformers.CLIPModel(config).eval()
    for parameter in model.parameters():  # biases and class embeddings begin at zero, which would hide a mix-up
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip", model


def test_a_folder_of_timm_gives_its_features_and_scaling(timm_folder):
    folder, network = timm_folder
    detector = TimmDetector(backbone=None, pretrained="folder", weights=str(folder), size=160).eval()
    views = torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8)
    pixels = (views.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5  # test_vit's own scaling
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True)  # type: ignore[operator]
        torch.testing.assert_close(detector(views).aux["features"], expected, rtol=1e-4, atol=1e-4)
    assert detector(views).logit.shape == (2,)
    assert detector.weight_origin == ("weights folder for test_vit", "not stated")


def test_clip_of_transformers_gives_the_same_features(clip_folder):
    folder, model = clip_folder
    found = network_from_folder(folder, size=32)
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        features = found.network.eval().forward_head(found.network.forward_features(pixels), pre_logits=True)  # type: ignore[operator]
        torch.testing.assert_close(features, model.vision_model(pixels).pooler_output, rtol=1e-4, atol=1e-4)
    assert found.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    assert network_from_folder(folder, size=32).std == (0.25, 0.25, 0.25)


def test_the_vision_tower_alone_is_read_too(clip_folder, tmp_path):
    import transformers

    _, model = clip_folder
    tower = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CLIP)).eval()  # type: ignore[arg-type]
    tower.load_state_dict(model.vision_model.state_dict())
    tower.save_pretrained(tmp_path / "tower")
    pixels = torch.randn(1, 3, 32, 32)
    one, two = (network_from_folder(f, size=32).network.eval() for f in (tmp_path / "clip", tmp_path / "tower"))
    two.head = one.head  # type: ignore[union-attr]
    torch.testing.assert_close(one(pixels), two(pixels))


@pytest.mark.parametrize("size", [32, 48])
def test_clip_learns_by_adapters_and_position_embeddings_follow_the_size(clip_folder, size):
    folder, _ = clip_folder
    detector = TimmDetector(
        backbone=None, pretrained="folder", weights=str(folder), size=size, lora_rank=2, lora_targets=["qkv"],
        mask_head=4,
    )  # fmt: skip
    output = detector(torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8))
    assert output.aux["mask"].shape == (2, size // 8, size // 8)
    output.logit.sum().backward()
    assert len([n for n, p in detector.named_parameters() if "lora_" in n and p.grad is not None]) == 4
    with pytest.raises(ConfigError, match="no multiple of the patch"):
        network_from_folder(folder, size=size + 1)


def test_folders_that_do_not_fit_are_refused_by_what_is_wrong(clip_folder, tmp_path):
    folder, _ = clip_folder
    with pytest.raises(ConfigError, match=r"no config.json"):
        network_from_folder(tmp_path / "nowhere", size=32)
    state = read_weights(folder / "model.safetensors")
    name = "vision_model.encoder.layers.1.mlp.fc1.weight"
    save_weights({k: v for k, v in state.items() if k != name}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="holds no tensor"):
        network_from_folder(folder, size=32)
    save_weights({**state, "vision_model.more": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="1 unknown"):
        network_from_folder(folder, size=32)
    save_weights({**state, name: torch.zeros(3, 3)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="1 of another shape"):
        network_from_folder(folder, size=32)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"no model.safetensors \(there is \['pytorch_model.bin'\]\)"):
        network_from_folder(folder, size=32)
    (folder / "model.safetensors").write_bytes((folder / "pytorch_model.bin").read_bytes())
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="'bert'"):
        network_from_folder(folder, size=32)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        network_from_folder(folder, size=32)


def test_a_folder_needs_no_backbone_and_a_backbone_no_folder(timm_folder):
    folder, _ = timm_folder
    for wrong in ({"pretrained": "folder", "weights": str(folder), "backbone": "test_vit"}, {"backbone": None}):
        with pytest.raises(ConfigError):
            TimmDetector(size=160, **wrong)  # type: ignore[arg-type]


def test_weights_of_another_network_never_leave_a_layer_random(tmp_path):
    import timm

    vit = timm.create_model("test_vit", num_classes=5)
    state = vit.state_dict()
    save_weights(state, tmp_path / "vit.safetensors")
    arguments = {"backbone": "test_vit", "pretrained": "path", "weights": str(tmp_path / "vit.safetensors")}
    other = TimmDetector(size=96, **arguments)  # type: ignore[arg-type]
    fresh = TimmDetector(size=96, backbone="test_vit")
    assert other.network.pos_embed.shape == fresh.network.pos_embed.shape != vit.pos_embed.shape  # type: ignore[union-attr]
    same = [
        n for n, p in other.network.named_parameters() if torch.equal(p, fresh.network.get_parameter(n)) and p.any()
    ]
    assert not [n for n in same if n.endswith("weight") and "norm" not in n], "resampled, not left as it was"
    save_weights({k: v for k, v in state.items() if "blocks.1." not in k}, tmp_path / "vit.safetensors")
    with pytest.raises(ConfigError, match=r"missing blocks\.1"):
        TimmDetector(size=96, **arguments)  # type: ignore[arg-type]
