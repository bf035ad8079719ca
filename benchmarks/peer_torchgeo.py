"""torchgeo's side of `bench_reading`: `peer_torchgeo.py FOLDER TILE_PX STRIDE_PX`, by the interpreter of `make peers`.

For each line on its standard input it reads every tile of the one raster once and answers with JSON: seconds, tiles.
"""

import json
import sys
import time

from torchgeo.datasets import RasterDataset
from torchgeo.samplers import GridGeoSampler


def main(folder: str, tile_px: int, stride_px: int) -> None:
    for _ in sys.stdin:
        # a new dataset each time: GDAL keeps decoded blocks of an open one
        dataset = RasterDataset(folder)
        start_s, n = time.perf_counter(), 0
        for query in GridGeoSampler(dataset, size=tile_px, stride=stride_px):
            n += dataset[query]["image"].shape[-1] == tile_px
        print(json.dumps({"seconds": time.perf_counter() - start_s, "tiles": n}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
