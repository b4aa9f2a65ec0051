"""Take an agent that was trained elsewhere into the run.

Settings: ``slices``. Input: ``agent`` (the file that the variant names). Outputs: ``model``, ``threshold``.
"""

from regagent.agent.agent_file import import_agent
from regagent.jobs import logged
from regagent.settings import Slices

with logged(snakemake.log[0]):
    import_agent(
        agent=snakemake.input.agent,
        slices=Slices(**snakemake.params.settings),
        output_model=snakemake.output.model,
        output_threshold=snakemake.output.threshold,
    )
