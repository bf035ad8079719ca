"""The dataflow: scenes to tiles to tile results to mosaics to features. Runs without Prefect, in plain pytest or a notebook."""
