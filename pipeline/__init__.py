"""The dataflow: scenes, tiles, tile results, mosaics, features. Runs without Prefect, in pytest or a notebook."""
