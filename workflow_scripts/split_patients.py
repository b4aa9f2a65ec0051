"""Split the patients into a training and a test set (paper §4).

Settings: ``split``, and the parameter ``patients`` (their names).
Input: ``sheet``, if the patients come from a sample sheet (its column ``set`` overrides the draw).
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
    )
