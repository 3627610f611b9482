"""Where training curves go: a CSV file, TensorBoard, or nowhere; settings that a config can hold."""

from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from deepassay.errors import MissingDependencyError


@dataclass(frozen=True, kw_only=True)
class CsvLog:
    """``logs/epoch-NNN/metrics.csv`` in the training folder; every resumed stretch has a file of its own."""

    every_n_steps: int = 10

    def build(self, folder: Path, first_epoch: int) -> Logger | None:
        """Lightning's logger for a stretch of training that begins with an epoch."""
        return CSVLogger(save_dir=folder, name="logs", version=f"epoch-{first_epoch:03d}")


@dataclass(frozen=True, kw_only=True)
class TensorBoardLog:
    """TensorBoard event files below ``logs/`` in the training folder: ``tensorboard --logdir runs``."""

    every_n_steps: int = 10

    def build(self, folder: Path, first_epoch: int) -> Logger | None:
        """Lightning's logger for a stretch of training. Raises MissingDependencyError without tensorboard."""
        try:
            return TensorBoardLogger(save_dir=folder, name="logs", version=f"epoch-{first_epoch:03d}")
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "tensorboard is not installed", hint="pip install tensorboard, or logger=csv"
            ) from error


@dataclass(frozen=True, kw_only=True)
class NoLog:
    """No curves on disk beside the history that `fit` always writes."""

    every_n_steps: int = 10

    def build(self, folder: Path, first_epoch: int) -> Logger | None:
        """None."""
        return None
