"""Training pairs whose contrast is drawn anew, so that a network learns structure and no scanner.

Signals that are random for each tissue, far beyond what any scanner gives, let a network register images of
contrasts that it never saw (SynthMorph, Hoffmann et al. 2022; SynthSeg, Billot et al. 2023).
"""

import math
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from regagent.pairs.draws import Draw
from regagent.phantom.tissues import AIR, LABELS, TISSUES, UNKNOWN
from regagent.settings import Augmentation

#: How often the signals are those of T1, T2 and FLAIR weighting, each tissue's a little off; else arbitrary.
WEIGHTINGS = {"t1": 0.2, "t2": 0.25, "flair": 0.15}
#: Largest logarithm of the factor on a tissue's usual signal.
SIGNAL_SPREAD = 0.25
#: Largest signal of air, as a fraction of the brightest tissue's.
AIR_SIGNAL = 0.06
#: Largest standard deviation of the texture within tissues, as a fraction of their signal, before the image
#: is smoothed.
TEXTURE = 0.06
#: The smoothing along each axis, and what it leaves of the standard deviation of noise over both.
KERNEL = (0.25, 0.5, 0.25)
SMOOTHED = sum(weight * weight for weight in KERNEL)
#: The brightest tissue's signal lies between these.
BRIGHTEST = (0.75, 1.1)

#: Tissues in which lesions grow.
BRAIN = ("white matter", "grey matter", "deep grey")
#: What is left of a head after skull stripping.
INSIDE = (*BRAIN, "csf")
#: What does not move against the brain. The rest of a head lies otherwise in every scan.
FIRM = (
    *INSIDE, "bone", "dense bone", "thin bone", "marrow", "diploe", "tooth", "dura", "vein", "calcification",
    "scar", "tumour", "fluid", "metal", "nerve",
)  # fmt: skip
#: The displacement of soft tissue fades out over so many px, an odd number.
FADE_PX = 9
#: Radii of a lesion in px.
LESION_PX = (2.5, 16.0)
#: Largest change of a lesion's CT value in [0, 1], in the default window about 60 HU.
LESION_CT = 0.05

#: A ghost's brightness, as a fraction of what it is the ghost of.
GHOST = (0.03, 0.2)

#: At least this part of the image's width is left between its centre and the edge of a cut field of view.
CUT_FROM = 0.2


def redraw(
    mr: Tensor, ct: Tensor, tissue: Tensor, settings: Augmentation, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Return MR and CT (B, H, H) in [0, 1] with other contrasts, lesions, ghosts and fields of view.

    ``tissue`` (B, H, H) are labels; a pair without labels keeps its contrast and skull, and gets no lesion.
    """
    if settings.contrast:
        chosen = draw.share(settings.contrast) & (tissue != UNKNOWN).flatten(1).any(1)
        mr = _where(chosen, _signals(tissue, draw), mr)
    if settings.lesions:
        mr, ct = _lesions(mr, ct, tissue, settings, draw)
    if settings.stripped:
        inside = shows(tissue, INSIDE)
        chosen = draw.share(settings.stripped) & inside.flatten(1).any(1)
        mr = _where(chosen, mr * inside, mr)
    if settings.soft_px:
        ct = _soft_tissue_moved(ct, tissue, settings, draw)
    if settings.ghosts:
        mr = _where(draw.share(settings.ghosts), _with_ghost(mr, draw), mr)
    if settings.ct_window:
        ct = _where(draw.share(settings.ct_window), windowed(ct, draw), ct)
    if settings.cut:
        mr, ct = _cut(mr, settings, draw), _cut(ct, settings, draw)
    return mr, ct


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None], new, old)


def _signals(tissue: Tensor, draw: Draw) -> Tensor:
    """Return MR images (B, H, H) with signals drawn for each tissue of each pair."""
    image = painted(tissue, draw)
    texture = _smooth(draw.normal(image)) / SMOOTHED * draw.amount(0, TEXTURE)
    return _smooth(image * (1 + texture)).clamp(0, 1)


def painted(tissue: Tensor, draw: Draw) -> Tensor:
    """Return images or cubes of the shape of the labels (B, ...), with a signal drawn for each tissue."""
    usual, edges = _weightings(tissue.device)
    kind = torch.bucketize(draw.between(0, 1).float(), edges)
    spread = torch.exp(draw.between(-SIGNAL_SPREAD, SIGNAL_SPREAD, usual.shape[1])).float()
    arbitrary = draw.between(0, 1, usual.shape[1]).float()
    known = usual[kind.clamp(max=len(usual) - 1)] * spread
    signal = torch.where((kind == len(usual))[:, None], arbitrary, known)
    signal[:, LABELS[AIR]] = signal[:, UNKNOWN] = draw.between(0, AIR_SIGNAL).float()
    signal *= (draw.between(*BRIGHTEST).float() / signal.max(1).values)[:, None]
    return signal.gather(1, tissue.flatten(1).long()).view(tissue.shape)


@cache
def _weightings(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the signals (W, T) of all labels in the weightings, and the ends (W,) of their parts of 0..1."""
    signals = [[0.0] + [getattr(one, name) for one in TISSUES.values()] for name in WEIGHTINGS]
    return torch.tensor(signals, device=device), torch.tensor([*WEIGHTINGS.values()], device=device).cumsum(0)


def _smooth(images: Tensor) -> Tensor:
    """Return images (B, H, H) as an edge one pixel wide would leave them."""
    kernel = images.new_tensor(KERNEL)
    padded = F.pad(images[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, (kernel[:, None] * kernel)[None, None])[:, 0]


def _lesions(
    mr: Tensor, ct: Tensor, tissue: Tensor, settings: Augmentation, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Put an ellipse of other signal into the brain of a share of the pairs: in the MR, the CT or both."""
    size = mr.shape[-1]
    brain = shows(tissue, BRAIN).float()
    chosen = draw.share(settings.lesions) & brain.flatten(1).any(1)
    # A random pixel of the brain: the highest of random numbers that are 0 elsewhere.
    centre = (
        (torch.rand(brain.shape, generator=draw.generator, device=mr.device) * brain).flatten(1).argmax(1)
    )
    ticks = torch.arange(size, device=mr.device, dtype=mr.dtype)
    x = ticks - (centre % size)[:, None].to(mr.dtype)
    y = ticks - (centre // size)[:, None].to(mr.dtype)
    radii = torch.exp(draw.between(math.log(LESION_PX[0]), math.log(LESION_PX[1]), 2)).float()
    along = (x / radii[:, :1])[:, None, :] ** 2 + (y / radii[:, 1:])[:, :, None] ** 2
    rim = 0.15 * draw.fields(1, size)[:, 0]
    inside = torch.sigmoid((1 + rim - along.sqrt()) * radii.amin(1)[:, None, None] * 2) * (brain > 0)
    where = draw.between(0, 3).long()  # the MR, the CT or both
    for_mr, for_ct = chosen & (where != 1), chosen & (where != 0)
    signal = draw.amount(0, 1)
    mr = _where(for_mr, mr + inside * (signal - mr), mr)
    change = draw.amount(-LESION_CT, LESION_CT)
    return mr, _where(for_ct, (ct + inside * change).clamp(0, 1), ct)


def _soft_tissue_moved(ct: Tensor, tissue: Tensor, settings: Augmentation, draw: Draw) -> Tensor:
    """Return CT images (B, H, H) whose soft tissue outside the skull lies otherwise than in the MR.

    The displacement is smooth, differs from pair to pair, and fades out towards bone and brain, where it is
    0. Pairs without labels stay as they are.
    """
    size, firm = ct.shape[-1], (shows(tissue, FIRM) | (tissue == UNKNOWN)).float()[:, None]
    # Along one axis after the other, which is quicker.
    windows = [((FADE_PX, 1), 1, (FADE_PX // 2, 0)), ((1, FADE_PX), 1, (0, FADE_PX // 2))]
    for pool in (F.max_pool2d, partial(F.avg_pool2d, count_include_pad=False)):
        for window in windows:
            firm = pool(firm, *window)
    free = 1 - firm
    most = settings.soft_px * draw.between(0, 1, 1, 1, 1).float()
    moved = free * most * draw.fields(2, size)
    half = (size - 1) / 2
    x = torch.linspace(-half, half, size, device=ct.device)
    source = torch.stack([x + moved[:, 0], x[:, None] + moved[:, 1]], -1) / half
    return F.grid_sample(ct[:, None], source, align_corners=True)[:, 0]


def shows(tissue: Tensor, names: tuple[str, ...]) -> Tensor:
    """Tell where labels (B, H, H) are those of the tissues of these names."""
    return _are(names, tissue.device)[tissue.long()]


@cache
def _are(names: tuple[str, ...], device: torch.device) -> Tensor:
    """Return for each of the numbers 0..255 of a label whether its tissue is one of these names."""
    return torch.isin(torch.arange(256), torch.tensor([LABELS[name] for name in names])).to(device)


def _with_ghost(mr: Tensor, draw: Draw) -> Tensor:
    """Return MR images (B, H, H) over which a faint copy lies, shifted along x or y, as after a motion."""
    size = mr.shape[-1]
    shift = (draw.between(0.1, 0.5) * size).long()
    source = (torch.arange(size, device=mr.device) - shift[:, None]) % size
    along_y = mr.gather(1, source[:, :, None].expand_as(mr))
    along_x = mr.gather(2, source[:, None, :].expand_as(mr))
    ghost = _where(draw.share(0.5), along_y, along_x)
    return (mr + draw.amount(*GHOST) * ghost).clamp(max=1)


def windowed(ct: Tensor, draw: Draw) -> Tensor:
    """Return CT images or cubes (B, ...) in windows for reading, from the brain's to the bone's."""
    brain, each = draw.share(0.5), (-1, *[1] * (ct.ndim - 1))
    low = torch.where(brain, draw.between(0.12, 0.18), draw.between(0.0, 0.25))
    width = torch.where(brain, draw.between(0.06, 0.2), draw.between(0.3, 1.0))
    return ((ct - low.float().view(each)) / width.float().view(each)).clamp(0, 1)


def _cut(images: Tensor, settings: Augmentation, draw: Draw) -> Tensor:
    """Return images (B, H, H) that in a share of the pairs show nothing beyond a random straight line."""
    size = images.shape[-1]
    angle = draw.amount(0, 2 * math.pi)
    ticks = torch.arange(size, device=images.device) - (size - 1) / 2
    away = ticks * torch.cos(angle) + ticks[:, None] * torch.sin(angle)
    limit = draw.amount(CUT_FROM, 0.5) * size
    return _where(draw.share(settings.cut), images * (away < limit), images)
