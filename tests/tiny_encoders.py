"""Tiny speech encoders with random weights, saved as transformers saves a real one."""

import json
from pathlib import Path

SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 4), "conv_stride": (5, 8, 8), "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "hidden_dropout": 0.0, "activation_dropout": 0.0,
    "attention_dropout": 0.0, "feat_proj_dropout": 0.0, "vocab_size": 32, "initializer_range": 0.2,
}  # fmt: skip


def save_tiny_encoder(folder: Path, kind: str = "wav2vec2", *, normalise: bool = True, large: bool = False) -> Path:
    """Write config.json, model.safetensors and preprocessor_config.json; ``large`` as XLS-R arranges its layers."""
    import torch
    import transformers

    torch.manual_seed(5)
    classes = {
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
    }
    config_class, model_class = classes[kind]
    shape = {
        **SHAPE,
        **({"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True} if large else {}),
    }
    model = model_class(config_class(**shape))
    for parameter in model.parameters():  # biases and scales begin at 0 and 1, which would hide a mix-up
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    model.save_pretrained(folder)
    facts = {"do_normalize": normalise, "sampling_rate": 16000, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder
