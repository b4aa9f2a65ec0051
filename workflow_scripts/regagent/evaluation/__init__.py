"""The evaluation of a run: errors of registrations, Table 2, statistics, claims, page of results (§4, §5)."""
