"""Write a trained and calibrated agent into one file, for other cohorts and for ``regagent register``.

Settings: ``slices``, ``inference``. Params: ``run`` (plain facts about the run), ``training_code`` (hashes).
Inputs: ``model``, ``threshold``, ``slices`` (every patient's), ``split``, ``finisher`` (the model that
finishes the agent, or nothing), ``registrations`` (the agent's of the test sets, finished, or with
look-ahead). Output: ``agent``.
"""

from regagent.agent.agent_file import export_agent
from regagent.jobs import logged
from regagent.settings import Inference, Slices

with logged(snakemake.log[0]):
    export_agent(
        model=snakemake.input.model,
        threshold=snakemake.input.threshold,
        slices=snakemake.input.slices,
        split=snakemake.input.split,
        registrations=snakemake.input.registrations,
        run=snakemake.params.run,
        code=snakemake.params.training_code,
        slice_settings=Slices(**snakemake.params.settings),
        inference=Inference(**snakemake.params.inference),
        output=snakemake.output.agent,
        finisher=snakemake.input.finisher or None,
    )
