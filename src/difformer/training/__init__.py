"""Configuration, objectives, metrics and the trainer."""

from difformer.training.config import TrainingConfig, load_config
from difformer.training.trainer import TrainingResult, train

__all__ = ["TrainingConfig", "TrainingResult", "load_config", "train"]
