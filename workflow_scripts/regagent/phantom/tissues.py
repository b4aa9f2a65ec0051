"""The tissues of the simulated heads: what MR and CT show of them."""

from typing import NamedTuple

from regagent.anatomy import AIR_HU


class Tissue(NamedTuple):
    """MR signals of a tissue in T1, T2 and FLAIR weighting (white matter in T1 = 1), and its CT number."""

    t1: float
    t2: float
    flair: float
    hu: float


AIR = "air"

TISSUES = {
    AIR: Tissue(0.02, 0.02, 0.02, AIR_HU),
    "skin": Tissue(0.72, 0.45, 0.45, 20.0),
    "fat": Tissue(1.22, 0.85, 0.75, -100.0),
    "deep fat": Tissue(1.08, 0.75, 0.65, -90.0),
    "muscle": Tissue(0.55, 0.25, 0.35, 56.0),
    "tongue": Tissue(0.62, 0.35, 0.40, 48.0),
    "gland": Tissue(0.88, 0.60, 0.60, 8.0),
    "mucosa": Tissue(0.55, 0.95, 0.80, 38.0),
    "fluid": Tissue(0.36, 1.10, 0.30, 14.0),
    "tumour": Tissue(0.63, 0.85, 0.95, 48.0),
    "node": Tissue(0.56, 0.60, 0.65, 42.0),
    "cartilage": Tissue(0.40, 0.35, 0.40, 120.0),
    "bone": Tissue(0.10, 0.06, 0.06, 1250.0),
    "dense bone": Tissue(0.10, 0.05, 0.05, 1700.0),
    "thin bone": Tissue(0.22, 0.18, 0.15, 650.0),
    "marrow": Tissue(0.86, 0.55, 0.45, 330.0),
    "diploe": Tissue(0.72, 0.45, 0.35, 620.0),
    "tooth": Tissue(0.08, 0.04, 0.04, 1900.0),
    "metal": Tissue(0.03, 0.02, 0.02, 3000.0),
    "vitreous": Tissue(0.30, 1.20, 0.25, 10.0),
    "lens": Tissue(0.55, 0.30, 0.40, 85.0),
    "nerve": Tissue(0.78, 0.50, 0.55, 35.0),
    "white matter": Tissue(1.00, 0.42, 0.55, 27.0),
    "grey matter": Tissue(0.74, 0.62, 0.72, 37.0),
    "deep grey": Tissue(0.82, 0.50, 0.62, 36.0),
    "csf": Tissue(0.27, 1.20, 0.12, 8.0),
    "dura": Tissue(0.45, 0.30, 0.40, 55.0),
    "vessel": Tissue(0.22, 0.10, 0.10, 60.0),
    "vein": Tissue(0.45, 0.30, 0.30, 62.0),
    "calcification": Tissue(0.25, 0.15, 0.15, 350.0),
    "scar": Tissue(0.62, 0.95, 0.95, 20.0),
}

#: The number of a tissue in volumes and slices of labels, where 0 is unknown.
LABELS = {name: number for number, name in enumerate(TISSUES, 1)}
UNKNOWN = 0
