"""Take what finishes an agent that was trained elsewhere into the run.

Settings: ``slices``. Input: ``agent`` (the file that the variant names). Output: ``model``.
"""

from regagent.agent.agent_file import import_finisher
from regagent.jobs import logged
from regagent.settings import Slices

with logged(snakemake.log[0]):
    import_finisher(
        agent=snakemake.input.agent,
        slices=Slices(**snakemake.params.settings),
        output_model=snakemake.output.model,
    )
