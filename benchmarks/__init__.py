"""One script per question: each prints a table and writes JSON beside it, with machine, versions and date."""
