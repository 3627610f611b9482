"""Where training curves go: a CSV file, TensorBoard, MLflow, W&B, or nowhere; settings that a config can hold."""

import os
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

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
class MlflowLog:
    """MLflow. By default a database below ``logs/`` in the training folder, and nothing goes out.

    Args:
        tracking_uri: of a server or store; None: ``sqlite:///FOLDER/logs/mlflow.db``, to look at with
            ``mlflow ui --backend-store-uri``.
        experiment: name in MLflow.
    """

    every_n_steps: int = 10
    tracking_uri: str | None = None
    experiment: str = "deepassay"

    def build(self, folder: Path, first_epoch: int) -> Logger | None:
        """Lightning's logger for a stretch of training. Raises MissingDependencyError without mlflow."""
        uri = self.tracking_uri
        if uri is None:
            (folder / "logs").mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{folder.resolve() / 'logs' / 'mlflow.db'}"
        # Artefacts belong to the run folder; a remote server gets the curves only.
        name = f"{folder.resolve().parent.name}, from epoch {first_epoch}"
        try:
            return MLFlowLogger(experiment_name=self.experiment, run_name=name, tracking_uri=uri, log_model=False)
        except ModuleNotFoundError as error:
            raise MissingDependencyError("mlflow is not installed", hint="pip install mlflow, or logger=csv") from error


@dataclass(frozen=True, kw_only=True)
class WandbLog:
    """Weights & Biases. Offline by default, below ``logs/`` in the training folder: ``wandb sync`` sends it.

    Args:
        online: send while training.
        project: name in W&B.
    """

    every_n_steps: int = 10
    online: bool = False
    project: str = "deepassay"

    def build(self, folder: Path, first_epoch: int) -> Logger | None:
        """Lightning's logger for a stretch of training. Raises MissingDependencyError without wandb."""
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        if not self.online:
            os.environ.setdefault("WANDB_SILENT", "true")
        name = f"{folder.resolve().parent.name}, from epoch {first_epoch}"
        try:
            return WandbLogger(
                name=name, project=self.project, save_dir=str(folder / "logs"), offline=not self.online, log_model=False
            )
        except ModuleNotFoundError as error:
            raise MissingDependencyError("wandb is not installed", hint="pip install wandb, or logger=csv") from error


@dataclass(frozen=True, kw_only=True)
class NoLog:
    """No curves on disk beside the history that `fit` always writes."""

    every_n_steps: int = 10

    def build(self, folder: Path, first_epoch: int) -> Logger | None:
        """None."""
        return None
