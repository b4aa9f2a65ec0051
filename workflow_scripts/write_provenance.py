"""Record the provenance of a run's results: code, versions, machine, seeds, configuration and checksums.

Settings: all of them. Params: ``config`` (the merged configuration), ``code`` (the hash of each rule's
code). Inputs: ``data`` (volumes, split, perturbations, models), ``results`` (tables and figures).
Outputs: ``provenance``, and ``footer``, the report's paragraph about it.
"""

from regagent.jobs import logged
from regagent.reproduction.provenance import write_provenance

with logged(snakemake.log[0]):
    write_provenance(
        output=snakemake.output.provenance,
        output_footer=snakemake.output.footer,
        config=snakemake.params.config,
        code=snakemake.params.code,
        data=snakemake.input.data,
        results=snakemake.input.results,
    )
