"""Statistics of a state: tables and sparklines for a terminal, plots for a page."""
