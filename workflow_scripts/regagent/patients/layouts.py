"""The public data sets that can be cohorts, and where a patient's MR and CT are in each of them."""

#: By data set: the pattern of a patient's folder, and the paths of the MR and the CT in it.
LAYOUTS = {
    "rire": ("patient_*", {"mr": "mr_T1/header.ascii", "ct": "ct/header.ascii"}),
    "synthrad2023": ("1B*", {"mr": "mr.nii.gz", "ct": "ct.nii.gz"}),
    "synthrad2025": ("*", {"mr": "mr.mha", "ct": "ct.mha"}),
    "han-seg": ("case_*", {"mr": "{patient}_IMG_MR_T1.nrrd", "ct": "{patient}_IMG_CT.nrrd"}),
}
