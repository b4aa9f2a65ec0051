"""Hold what the paper claims of its methods (§4, §5) against this run.

Input: registrations (registrations/{method}/seed{n}/{set}.csv, any number). Output: csv, markdown, html.
"""

from regagent.claims import make_claims
from regagent.files import logged

with logged(snakemake.log[0]):
    make_claims(
        registrations=snakemake.input.registrations,
        csv=snakemake.output.csv,
        markdown=snakemake.output.markdown,
        html=snakemake.output.html,
    )
