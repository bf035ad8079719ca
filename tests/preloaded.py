"""What processes that are forked for a trial have imported already; see `processes`. It may start no thread."""

import distributed
import torch
import transformers

import flows.cli.app
import flows.run
import flows.run_file
import pipeline.region
import pipeline.worker
import t2s_core.segmenters.sam_hf

__all__ = ["distributed", "flows", "pipeline", "t2s_core", "torch", "transformers"]
