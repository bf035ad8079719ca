"""How t2s is deployed: where Dask workers come from. Imports nothing of ours."""
