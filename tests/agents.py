"""Small slice pairs for the tests of the agents: blobs whose 'CT' has another contrast than their 'MR'."""

from pathlib import Path

import cv2
import numpy as np
import torch

from regagent.agent import a3c, regression
from regagent.agent.agent_file import export_agent
from regagent.agent.checkpoints import Finisher, save_model
from regagent.agent.networks import (
    AgentNetwork,
    CubeNetwork,
    SpaceNetworks,
    to_blocks,
    to_states,
)
from regagent.agent.stopping import Thresholds
from regagent.pairs.training_pairs import Pairs
from regagent.settings import (
    Cubes,
    Inference,
    PerturbationRange,
    ReinforcementAgent,
    Slices,
    SupervisedAgent,
    Volumes,
)

PLAIN = {"augmentation": {"enabled": False}}
RANGES = PerturbationRange(translation_px=25, rotation_deg=30)


def make_pairs(count: int = 3, size: int = 168, seed: int = 0) -> Pairs:
    """Return pairs (count, size, size) with landmarks and evaluation points, some padded by NaN."""
    rng = np.random.default_rng(seed)
    mr, ct = np.zeros((2, count, size, size), np.float32)
    for i in range(count):
        for _ in range(12):
            centre = rng.uniform(0.3 * size, 0.7 * size, 2).astype(int).tolist()
            axes = rng.uniform(0.03 * size, 0.12 * size, 2).astype(int).tolist()
            angle, bright, dense = rng.uniform(0, 180), rng.uniform(0.2, 1), rng.uniform(0.2, 1)
            cv2.ellipse(mr[i], centre, axes, angle, 0, 360, float(bright), -1)
            cv2.ellipse(ct[i], centre, axes, angle, 0, 360, float(dense), -1)
    landmarks = rng.uniform(-0.25 * size, 0.25 * size, (count, 20, 2))
    landmarks[0, 15:] = np.nan
    points = rng.uniform(-0.25 * size, 0.25 * size, (count, 15, 2))
    return Pairs(mr, ct, landmarks, points, np.zeros(mr.shape, np.uint8))


def give_pairs(monkeypatch) -> Pairs:
    """Give the trainings small pairs instead of slice files; return them."""
    made = make_pairs()
    for module in (a3c, regression):
        monkeypatch.setattr(module, "read_pairs", lambda slices, split, subset: made)
    return made


def random_states(count: int, size: int = 168) -> torch.Tensor:
    """Return states of noise as the networks take them."""
    return to_states(*map(to_blocks, torch.rand(2, count, size, size)))


def reinforcement(**keys) -> ReinforcementAgent:
    """Return the settings of a small reinforcement agent."""
    small = {"steps": 960, "workers": 1, "environments": 4, "unroll": 10, "checkpoint_seconds": 1000, **PLAIN}
    return ReinforcementAgent(learner="reinforcement", **{**small, **keys})


def supervised(**keys) -> SupervisedAgent:
    """Return the settings of a small supervised agent."""
    small = {"steps": 960, "workers": 1, "environments": 4, "unroll": 10, "checkpoint_seconds": 1000, **PLAIN}
    return SupervisedAgent(learner="supervised", **{**small, **keys})


def export(
    folder: Path, greedy: float = -1e9, lookahead: float = -1e9, finisher: Finisher | None = None
) -> Path:
    """Train nothing: write an agent of random weights as a run would, and return its file."""
    torch.manual_seed(0)
    network = AgentNetwork("CNN", values=2, rescaled=True)
    settings = reinforcement(network="CNN").model_dump()
    if finisher:
        save_model(finisher, folder / "finisher.pt")
    save_model(network, folder / "model.pt", variant="CNN-LME", seed=1, steps=960, settings=settings)
    Thresholds(greedy=greedy, lookahead=lookahead).write(folder / "threshold.json")
    slices = [folder / f"{patient}.npz" for patient in ("A", "B", "C")]
    for seed, path in enumerate(slices):
        pairs = make_pairs(2, seed=seed)
        np.savez(
            path, patient=path.stem, mr=pairs.mr, ct=pairs.ct, head=pairs.mr > 0, slice_index=np.arange(2),
            mm_per_px=1.5, landmarks=pairs.landmarks, evaluation_points=pairs.evaluation_points,
            landmark_source=np.array(["sift", "sift"]), tissue=pairs.tissue,
        )  # fmt: skip
    split = folder / "split.tsv"
    split.write_text("patient\tset\nA\ttrain\nB\ttrain\nC\ttest\n")
    registrations = [folder / "registrations/CNN-LME-MC/seed1" / f"{name}.csv" for name in ("E1", "E2")]
    for path in registrations:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "case,patient,slice,tx,ty,angle,scale,initial_px,tre_px,tre_mm,steps,seconds,status\n"
            "0,C,0,0,0,0,1,20,0.8,1.2,30,0.1,registered\n"
            "1,C,0,0,0,0,1,20,1.9,2.9,30,0.1,registered\n"
            "2,C,1,0,0,0,1,20,2.1,3.2,30,0.1,registered\n"
            "3,C,1,0,0,0,1,20,9.0,13.5,500,0.1,refused\n"
        )
    export_agent(
        model=folder / "model.pt",
        threshold=folder / "threshold.json",
        slices=slices,
        split=split,
        registrations=registrations,
        run={"run": "test", "source": "simulated"},
        code={"train_agent": "0123"},
        slice_settings=Slices(),
        inference=Inference(maximum_steps=2, simulations=2, depth=2),
        output=folder / "agent.pt",
        finisher=folder / "finisher.pt" if finisher else None,
    )
    return folder / "agent.pt"


#: The augmentation of cubes that leaves them as they are.
STILL = {
    "mirror": 0, "rotation_deg": 0, "shift_mm": 0, "scale": 0, "anisotropy": 0,
    "deformation_mm": 0, "gamma": 0, "gain": 0,
    "bias": 0, "noise": 0, "contrast": 0, "ct_window": 0, "cut": 0, "caudal": 0,
}  # fmt: skip

#: The arguments of a small network of matching, for cubes of 28 voxels.
MATCHING = {"size": 28, "spacing_mm": 8.0, "channels": 4, "features": 4, "reach": 2}


def export_networks(path, chance=None):
    """Write small networks of volumes at their random start, which see this chance of a success in all."""
    torch.manual_seed(0)
    networks = SpaceNetworks([CubeNetwork(28, (4, 8), 8.0, places=4).arguments], MATCHING)
    if chance is not None:
        networks.trust[0] = chance
    settings = Volumes(cubes=Cubes(size=28, spacing_mm=8.0), looks=1, further_looks=1, kept=2)
    save_networks(networks, path, settings)
    return path


def save_networks(networks, path, volumes):
    """Write networks of volumes."""
    save_model(networks, path, networks=[], volumes=volumes.model_dump(mode="json"))
