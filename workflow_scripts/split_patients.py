"""Split the patients into a training and a test set (paper §4).

Settings: ``split``, and the parameter ``patients`` (their names).
Inputs, if the patients come from a sample sheet: ``sheet`` (its column ``set`` overrides the draw), and
``voxels`` (a file of each patient's hashes; two patients with the same image are refused).
Output: ``split``.
"""

from regagent.jobs import logged
from regagent.patients.split import split_patients
from regagent.settings import Split

with logged(snakemake.log[0]):
    split_patients(
        patients=snakemake.params.patients,
        output=snakemake.output.split,
        settings=Split(**snakemake.params.settings),
        sheet=snakemake.input.get("sheet"),
        voxels=snakemake.input.get("voxels", ()),
    )
