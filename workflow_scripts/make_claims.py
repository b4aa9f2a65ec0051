"""Test the paper's claims about its methods (§4, §5) on this run.

Settings: ``inference``. Input: registrations (registrations/{method}/seed{n}/{set}.csv, any number),
trainings (models/{variant}/seed{n}/training.csv of Figure 5's variants). Output: csv, markdown, html.
"""

from regagent.evaluation.claims import make_claims
from regagent.jobs import logged
from regagent.settings import Inference

with logged(snakemake.log[0]):
    make_claims(
        registrations=snakemake.input.registrations,
        trainings=snakemake.input.trainings,
        csv=snakemake.output.csv,
        markdown=snakemake.output.markdown,
        html=snakemake.output.html,
        inference=Inference(**snakemake.params.inference),
    )
