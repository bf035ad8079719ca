"""What trains the models that ship: pictures, prompts, the quick vision tower."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2s_core.bundled.build.leaves import draw_leaves
from t2s_core.bundled.build.prompter_model import VisionTower, make_image_processor, make_model, patches
from t2s_core.bundled.build.segmenter_batches import CELL_PX, MIN_PX, SegmenterBatches
from t2s_core.bundled.build.stream import at_the_edge, first_region, tile_stream
from t2s_core.bundled.build.tokenizer import make_tokenizer
from t2s_core.bundled.build.train_segmenter import Training
from t2s_core.bundled.build.weather import weather
from t2s_core.world.queries import FIRST_SEED


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_dead_leaves_are_pictures_with_several_things_whatever_the_seed(seed: int) -> None:
    image, numbers = draw_leaves(np.random.default_rng(seed))
    assert image.shape == (256, 256, 3)
    assert image.dtype == np.uint8
    assert numbers.shape == (256, 256)
    assert numbers.min() >= 0


def test_the_same_seed_draws_the_same_leaves() -> None:
    first, second = (draw_leaves(np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert first[1].max() >= 3


def test_weather_moves_nothing() -> None:
    ground = np.full((256, 256, 3), 40, np.float32)
    ground[100:150, 60:200] = 210
    for seed in range(12):
        seen = weather(np.random.default_rng(seed), ground.copy()).astype(int).mean(axis=2)
        assert seen[110:140, 70:190].mean() > seen[:80].mean() + 20


@pytest.mark.parametrize("leaves_share", [0.0, 1.0])
def test_prompts_lie_in_and_around_the_masks_they_are_for(leaves_share: float) -> None:
    batch = SegmenterBatches(3, 3, leaves_share).draw()
    masks, boxes, points = (batch[key].numpy() for key in ("masks", "boxes", "points"))
    assert (batch["kinds"] >= 0).all() != bool(leaves_share)
    for of_image in zip(masks, boxes, points, strict=True):
        for cells, (x0, y0, x1, y1), at in zip(*of_image, strict=True):
            assert cells.sum() >= MIN_PX * 0.9
            assert cells.max() <= CELL_PX**2
            rows, columns = np.nonzero(cells)
            # Jitter: at most a tenth of the box and some pixels, four deviations out.
            room = 12 + 0.45 * max(x1 - x0, y1 - y0)
            assert abs(columns.min() * CELL_PX - x0) <= room
            assert abs(rows.max() * CELL_PX + CELL_PX - y1) <= room
            assert ((at > -10) & (at < 266)).all()


def test_the_quick_vision_tower_sees_what_the_model_sees() -> None:
    model = make_model(make_tokenizer()).eval()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), dtype=np.uint8))
    processor = make_image_processor()
    once = patches(images, tuple(processor.image_mean), tuple(processor.image_std))
    twice = once.view(-1, 3, 1, 256).expand(-1, 3, 2, 256).flatten(1)
    with torch.no_grad():
        theirs = model.model.visual(twice, grid_thw=torch.tensor([[1, 16, 16]] * 3)).pooler_output
        ours = VisionTower(model.model.visual)(once)
    assert torch.allclose(ours.flatten(0, 1), theirs, atol=1e-5)


DRAWING = """
import torch
from t2s_core.bundled.build.supply import supply

class Counting:
    def __init__(self, worker):
        self.next = 100 * worker

    def draw(self):
        self.next += 1
        return {"n": torch.tensor([self.next])}

for workers in (0, 2):
    batches = supply(Counting, workers, torch.device("cpu"))
    print(*sorted(int(next(batches)["n"]) for _ in range(4)))
"""


def test_workers_draw_each_their_own_batches() -> None:
    # In a process of its own: forked from a test runner, workers would inherit its channels.
    done = subprocess.run([sys.executable, "-c", DRAWING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "2", "3", "4", "1", "2", "101", "102"]


@pytest.mark.parametrize("seed", range(6))
def test_beyond_the_edge_of_a_swath_nothing_is_seen_or_asked_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tile = next(tile_stream(seed, rng))
    edge = at_the_edge(tile, rng)
    black = (edge.image == 0).all(axis=2)
    assert (edge.kinds[black] == 0).all()
    for one in edge.instances:
        assert not (one.mask & black).any()
        assert one.mask[one.points_tile_px[0][1], one.points_tile_px[0][0]]
    assert set(map(id, edge.instances)).isdisjoint(map(id, tile.instances))


@given(st.integers(0, 10**9))
def test_no_stream_leaves_the_training_split(stream: int) -> None:
    """However many workers draw, and however often a training is taken up again."""
    assert FIRST_SEED["train"] <= first_region(stream)
    assert first_region(stream) + 10_000_000 <= FIRST_SEED["val"]


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    batch = SegmenterBatches(1, 1, 0.0).draw()
    training = Training(tmp_path, 1e-3, 1, torch.device("cpu"))
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    training.learn(batch, 1e-3)
    training.save()
    again = Training(tmp_path, 1e-3, 1, torch.device("cpu"))
    assert again.step == 1
    assert any(not torch.equal(before[key], value) for key, value in training.model.state_dict().items())
    for one in (training, again):
        one.learn(batch, 1e-3)
    for key, value in training.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key])
        assert torch.equal(training.average[key], again.average[key])
