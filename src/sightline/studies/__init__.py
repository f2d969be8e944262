"""Studies: grids of runs with seeds, as data; each answers one question with intervals and a cost."""
