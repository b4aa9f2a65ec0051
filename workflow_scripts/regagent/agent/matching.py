"""Matching: where each place of a plane through the CT lies in the MR, and the motion that fits all places.

Two encoders, one for MR and one for CT, give the places of a plane features that agree where both show the
same anatomy, whatever their contrasts (CoMIR, Pielawski et al. 2020, learns such features, too). How well a
place's features agree with those of the MR around it is a distribution over its displacements, and that of
the truth is learned by cross-entropy: thousands of places of a pair teach at once. The rigid motion that fits
the means of all places, each as much as it is sure, is the rest of the way. It finishes what the regressor of
cubes found, and judges it: at the truth nearly every place lies where it likeliest does.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regagent.agent.cube_regressor import SHOWN, CubeLearner, rest_pose
from regagent.agent.matching_network import CELL, PLACE, Encoder, Grid, MatchingNetwork, Planes
from regagent.agent.networks import LEVER_MM
from regagent.agent.residual import STARTS_PER_PAIR
from regagent.pairs.cube_augmentation import planes_of
from regagent.pairs.draws import Draw
from regagent.pairs.rigid import IDENTITY, compose, invert, transform
from regagent.pairs.training_pairs import CubePairs
from regagent.settings import PlaneMatching

#: A place counts where both images are, on average over its pixels, brighter than this.
SHOWN_AT_PLACE = SHOWN / 4
#: Places of no spread would count for all: the standard deviation of each is at least so many pixels.
LEAST_SPREAD = 0.25
#: Where hardly a place is sure nothing moves far: as one more place would say, it is off by so many mm or px.
PRIOR = 60.0
#: Where fewer of the places than this are shown in both volumes, nothing tells whether they agree: they
#: disagree by so much.
LEAST_SEEN, NOTHING_SEEN = 0.05, 100.0
#: Registration looks on until a look moves the head by less than so many voxels.
SETTLED = 0.02


def encoded(encoder: Encoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features (B·P, F, H/2, H/2) of planes (B, P, H, H), and where they show a head (B, P, S)."""
    flat = images.flatten(0, 1)[:, None]
    shown = F.avg_pool2d(flat, CELL * PLACE)[:, 0].flatten(1) > SHOWN_AT_PLACE
    return encoder(flat), shown.unflatten(0, images.shape[:2])


def fitting_motion(log_chances: Tensor, counts: Tensor, grid: Grid, moves: Tensor) -> Tensor:
    """Return the parameters (B, D) of motions that fit the displacements of places best.

    ``log_chances`` are (B, S, O), and the places that count are (B, S). ``moves`` (S, 2, D) tell how each
    parameter moves a place. It is a weighted least-squares fit of the places' means, each with its
    covariance.
    """
    chances = log_chances.exp()
    mean = chances @ grid.offsets
    apart = grid.offsets - mean[..., None, :]
    least = (LEAST_SPREAD * grid.spacing) ** 2 * torch.eye(2).to(mean)
    spread = torch.einsum("bso,bsoi,bsoj->bsij", chances, apart, apart) + least
    precision = torch.linalg.inv(spread) * counts[..., None, None]
    weighted = torch.einsum("sia,bsij->bsaj", moves, precision)
    normal = torch.einsum("bsaj,sjc->bac", weighted, moves) + torch.eye(moves.shape[-1]).to(mean) / PRIOR**2
    return torch.linalg.solve(normal, torch.einsum("bsaj,bsj->ba", weighted, mean))


def rigid_moves(planes: Planes) -> Tensor:
    """Return how each parameter of a rest (see ``rest_pose``) moves the places of planes (P·S, 2, 6)."""
    # A small turn by w moves x by w × x.
    turned = torch.linalg.cross(planes.places[:, :, None], planes.axes[:, None], dim=-1) / LEVER_MM
    return torch.cat([planes.axes[:, None].expand_as(turned), turned], -1).flatten(0, 1)


class Matches(CubeLearner):
    """What the network learns: where the places of planes through the CT lie in the MR."""

    network: MatchingNetwork
    settings: PlaneMatching

    def __init__(self, pairs: CubePairs, settings: PlaneMatching, generator: torch.Generator):
        network = MatchingNetwork(
            pairs.mr.shape[-1], pairs.spacing_mm, settings.channels, settings.features, settings.reach
        )
        super().__init__(pairs.tensors(generator.device), pairs.spacing_mm, network, settings, generator)

    def _centred(self, cubes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cubes as they are: a place looks alike wherever it lies."""
        return cubes, still(len(cubes), cubes.device)

    def loss(self) -> Tensor:
        """Return the mean cross-entropy of the places' true displacements.

        The places are those where both images show something, and that lie within reach.
        """
        network, starts = self.network, self.draw()
        planes = network.random_planes(self.settings.planes, Draw(self.generator, 1))
        first = starts.fixed[::STARTS_PER_PAIR]
        pixels, spacing_mm = planes.pixels, self.spacing_mm
        of_mr, in_mr = encoded(
            network.of_mr, planes_of(first, still(len(first), first.device), pixels, spacing_mm)
        )
        moved = planes_of(starts.moving, compose(starts.error, starts.place), pixels, spacing_mm)
        of_ct, in_ct = encoded(network.of_ct, moved)
        # The starts of a pair share its MR.
        rows = torch.arange(len(starts.moving), device=first.device) // STARTS_PER_PAIR
        around = network.surroundings(of_mr).unflatten(0, (len(first), -1))[rows].flatten(0, 1)
        log_chances = network.log_chances(around, of_ct).unflatten(0, in_ct.shape[:2])
        places = planes.places.double()
        gone = transform(invert(starts.error), places.flatten(0, 1)).unflatten(1, places.shape[:2]) - places
        true = torch.einsum("bpsi,pai->bpsa", gone.float(), planes.axes)
        lost, within = cross_entropy(log_chances, true / (CELL * spacing_mm), network.reach)
        counts = in_mr[rows] & in_ct & within
        return (lost * counts).sum() / counts.sum().clamp(min=1)


def still(count: int, device: torch.device) -> Tensor:
    """Return so many poses (count, 7) that move nothing."""
    return torch.from_numpy(IDENTITY).to(device).expand(count, -1)


def cross_entropy(log_chances: Tensor, true: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy (...) of displacements (..., 2) in cells, and whether they are within reach.

    A displacement between four offsets (..., O) belongs to each of them in parts.
    """
    place, along = true + reach, 2 * reach + 1
    within = ((place >= 0) & (place <= 2 * reach)).all(-1)
    low = place.clamp(0, 2 * reach - 1e-3).floor()
    part = (place - low).clamp(0, 1)
    lost = torch.zeros_like(part[..., 0])
    for right, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (part if right else 1 - part)[..., 0] * (part if down else 1 - part)[..., 1]
        number = (low[..., 1] + down) * along + low[..., 0] + right
        lost = lost - weight * log_chances.gather(-1, number.long()[..., None])[..., 0]
    return lost, within


class Matcher:
    """A network at a pair of cubes (N, N, N), in ``count`` planes of each orientation."""

    def __init__(self, network: MatchingNetwork, fixed: Tensor, moving: Tensor, count: int):
        self.network, self.moving = network, moving[None]
        self.planes = network.regular_planes(count)
        with torch.no_grad():
            images = planes_of(fixed[None], still(1, fixed.device), self.planes.pixels, network.spacing_mm)
            of_mr, self.in_mr = encoded(network.of_mr, images)
            self.around, self.moves = network.surroundings(of_mr), rigid_moves(self.planes)

    @torch.no_grad()
    def look(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ``log_chances`` (1, P, S, O) at a pose (1, 7), and which places (1, P, S) both show."""
        images = planes_of(self.moving, pose, self.planes.pixels, self.network.spacing_mm)
        of_ct, in_ct = encoded(self.network.of_ct, images)
        log_chances = self.network.log_chances(self.around, of_ct)
        return log_chances.unflatten(0, in_ct.shape[:2]), self.in_mr & in_ct

    def follow(self, pose: NDArray, looks: int) -> NDArray[np.float64]:
        """Return the poses (looks + 1, 7) from one (7,) on to where the places lie.

        It ends early where a look moves hardly anything.
        """
        poses = [torch.as_tensor(pose, device=self.moving.device)[None]]
        for _ in range(looks):
            log_chances, counts = (seen.flatten(1, 2) for seen in self.look(poses[-1]))
            rest = fitting_motion(log_chances, counts, self.network.grid, self.moves)
            poses.append(compose(rest_pose(rest.double()), poses[-1]))
            if rest.abs().max() < SETTLED * self.network.spacing_mm:
                break
        return torch.cat(poses).cpu().numpy()

    def disagreement(self, pose: NDArray) -> float:
        """Return how little the places agree with a pose (7,), from 0 on.

        It is the median logarithm of how much likelier a place lies elsewhere, where it likeliest does: a
        mean would rise where a field of view ends. ``NOTHING_SEEN`` where hardly a place is seen in both.
        """
        log_chances, counts = self.look(torch.as_tensor(pose, device=self.moving.device)[None])
        if counts.double().mean() < LEAST_SEEN:
            return NOTHING_SEEN
        here, likeliest = log_chances[..., log_chances.shape[-1] // 2], log_chances.amax(-1)
        return float((likeliest - here)[counts].median())
