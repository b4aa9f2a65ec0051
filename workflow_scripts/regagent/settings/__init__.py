"""The configuration: every key with its type, range, default and meaning, checked before any job starts."""

from regagent.settings.base import Model, models
from regagent.settings.pairs import (
    Augmentation,
    CubeAugmentation,
    PerturbationRange,
    Perturbations,
    Slices,
    WideRange,
)
from regagent.settings.patients import Cohort, Phantom, Preregistration, Split
from regagent.settings.registration import Baselines, Calibration, Inference, Search
from regagent.settings.run import Settings, load
from regagent.settings.variants import (
    Agent,
    AgentSettings,
    CubeRegressor,
    CubeSettings,
    Matching,
    Pretrained,
    Regressor,
    RegressorSettings,
    ReinforcementAgent,
    ResidualRegressor,
    StopThresholds,
    SupervisedAgent,
    Variant,
    agent_settings,
    regressor_settings,
)
from regagent.settings.volumes import Cubes, Motion, Volumes

__all__ = [
    "Agent",
    "AgentSettings",
    "Augmentation",
    "Baselines",
    "Calibration",
    "Cohort",
    "CubeAugmentation",
    "CubeRegressor",
    "CubeSettings",
    "Cubes",
    "Inference",
    "Matching",
    "Model",
    "Motion",
    "PerturbationRange",
    "Perturbations",
    "Phantom",
    "Preregistration",
    "Pretrained",
    "Regressor",
    "RegressorSettings",
    "ReinforcementAgent",
    "ResidualRegressor",
    "Search",
    "Settings",
    "Slices",
    "Split",
    "StopThresholds",
    "SupervisedAgent",
    "Variant",
    "Volumes",
    "WideRange",
    "load",
    "models",
    "agent_settings",
    "regressor_settings",
]
