"""Write the page of results: what a run found beside what the paper says.

Input: table2, table2_markdown, statistics, statistics_markdown, claims. Params: run (its name). Output: page.
"""

from regagent.evaluation.results_page import write_results
from regagent.jobs import logged

with logged(snakemake.log[0]):
    write_results(
        run=snakemake.params.run,
        table2=(snakemake.input.table2, snakemake.input.table2_markdown),
        statistics=(snakemake.input.statistics, snakemake.input.statistics_markdown),
        claims=snakemake.input.claims,
        output=snakemake.output.page,
    )
