"""Randomness as a function of (seed, epoch, sample id), whatever the number of workers, ranks or interruptions."""

import hashlib

import numpy as np


def stable_seed(*parts: str | int) -> int:
    """A 63-bit seed from words and numbers, the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def sample_rng(seed: int, epoch: int, sample_id: str, repeat: int = 0) -> np.random.Generator:
    """The generator of one sample in one epoch; ``repeat`` tells its occurrences in that epoch apart."""
    return np.random.Generator(np.random.Philox(stable_seed("sample", seed, epoch, sample_id, repeat)))
