"""What came out: registrations of every method, Table 2, statistics, claims, the page of results (§4, §5)."""
