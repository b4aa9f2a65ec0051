"""Make Table 2 of the paper (§4) from the registrations of every method.

Input: registrations (registrations/{method}/seed{n}/{set}.csv, any number), reference (the paper's
numbers). Params: methods (the rows in their order). Output: csv, markdown, latex, html.
"""

from regagent.evaluation.table2 import make_table2
from regagent.jobs import logged

with logged(snakemake.log[0]):
    make_table2(
        registrations=snakemake.input.registrations,
        reference=snakemake.input.reference,
        methods=snakemake.params.methods,
        csv=snakemake.output.csv,
        markdown=snakemake.output.markdown,
        latex=snakemake.output.latex,
        html=snakemake.output.html,
    )
