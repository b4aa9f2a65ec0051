"""Write the summary on the first page of the report: patients, errors, failures.

Input: registrations (registrations/{method}/seed{n}/{set}.csv of all methods), split (patient, set).
Params: families (the family of each method, in the order of Table 2). Output: text.
"""

from regagent.evaluation.report_summary import write_summary
from regagent.jobs import logged

with logged(snakemake.log[0]):
    write_summary(
        registrations=snakemake.input.registrations,
        split=snakemake.input.split,
        families=snakemake.params.families,
        output=snakemake.output.text,
    )
