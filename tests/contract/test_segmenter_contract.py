"""What `ports.Segmenter` promises, of every implementation; and that both SAMs of one weights agree."""

import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import BoxSegmenter
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from tiny_models import sam2_model, sam_model, save_segmenter
from transformers import SamModel

from t2s_core.errors import ContractError, MachineFault
from t2s_core.ports import Segmenter
from t2s_core.prompts import Frame, InstancePrompt
from t2s_core.registry import check_segmenter, load_segmenter, segmenter_version
from t2s_core.segmenters.sam_hf import HfSamSegmenter
from t2s_core.segmenters.segment_anything import MetaSamSegmenter

SHAPES = [(64, 64), (100, 40), (256, 256), (33, 50)]


def tile(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prompt(seed: int, frame: Frame, n_points: int = 2) -> InstancePrompt:
    rng = np.random.default_rng(seed)
    w, h = frame
    x0, y0 = rng.uniform(0, 0.5) * w, rng.uniform(0, 0.5) * h
    x1, y1 = x0 + rng.uniform(0.1, 0.5) * w, y0 + rng.uniform(0.1, 0.5) * h
    points = tuple((float(rng.uniform(x0, x1)), float(rng.uniform(y0, y1))) for _ in range(n_points))
    return InstancePrompt((x0, y0, x1, y1), points)


IMAGES = [tile(i, *shape) for i, shape in enumerate(SHAPES)]
FRAMES = [Frame(w, h) for h, w in SHAPES]
PROMPTS = [
    [prompt(1, FRAMES[0]), prompt(2, FRAMES[0], 1), prompt(3, FRAMES[0])],
    [],
    [prompt(4, FRAMES[2], 3)],
    [prompt(5, FRAMES[3]), prompt(6, FRAMES[3])],
]


SHOWN = {
    "box": InstancePrompt((5, 6, 40, 50), ()),
    "points": InstancePrompt((5, 6, 40, 50), ((10, 10), (30, 40)), boxed=False),
    "both": InstancePrompt((5, 6, 40, 50), ((10, 10), (30, 40))),
    "positive": InstancePrompt((5, 6, 40, 50), ((10, 10), (30, 40), (55, 20))),
    "negative": InstancePrompt((5, 6, 40, 50), ((10, 10), (30, 40)), ((55, 20),)),
}
"""What of one object a segmenter is shown."""


def meta_of(hf: SamModel) -> Sam:
    """The same weights in Meta's package: sizes as `tiny_models.sam_model`, names translated."""
    sam = Sam(
        ImageEncoderViT(
            img_size=64,
            patch_size=8,
            embed_dim=32,
            depth=2,
            num_heads=2,
            mlp_ratio=2,
            out_chans=32,
            norm_layer=lambda n: torch.nn.LayerNorm(n, eps=1e-6),
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
        ),
        PromptEncoder(embed_dim=32, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=4),
        MaskDecoder(
            transformer_dim=32,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, num_heads=4, mlp_dim=64),
            iou_head_hidden_dim=32,
        ),
    )
    rules = [
        (r"^vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
        (r"^vision_encoder\.neck\.(conv|layer_norm)(\d)", lambda m: f"image_encoder.neck.{_neck(*m.groups())}"),
        (r"^vision_encoder\.layers", "image_encoder.blocks"),
        (r"^vision_encoder", "image_encoder"),
        (r"^shared_image_embedding.*", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
        (r"(?<!not_a_)point_embed\.", "point_embeddings."),
        (r"mask_embed\.(conv|layer_norm)(\d)", lambda m: f"mask_downscaling.{_mask(*m.groups())}"),
        (r"upscale_conv1", "output_upscaling.0"),
        (r"upscale_layer_norm", "output_upscaling.1"),
        (r"upscale_conv2", "output_upscaling.3"),
        (r"(mlps\.\d|iou_prediction_head)\.layers\.0", r"\1.layers.1"),
        (r"(mlps\.\d|iou_prediction_head)\.proj_in", r"\1.layers.0"),
        (r"(mlps\.\d|iou_prediction_head)\.proj_out", r"\1.layers.2"),
        (r"layer_norm_final_attn", "norm_final_attn"),
        (r"(blocks|layers)\.(\d)\.layer_norm(\d)", r"\1.\2.norm\3"),
    ]
    weights = {}
    for key, value in hf.state_dict().items():
        if "prompt_encoder.shared_embedding" in key:
            continue
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name) if "no_mask_embed" not in name else name
        weights[name] = value
    sam.load_state_dict(weights)
    return sam


def _neck(kind: str, n: str) -> int:
    return 2 * (int(n) - 1) + (kind == "layer_norm")


def _mask(kind: str, n: str) -> int:
    return 3 * (int(n) - 1) + (kind == "layer_norm")


def saved(make: Callable[[], object]) -> Callable[[Path], Segmenter]:
    def load(folder: Path) -> Segmenter:
        name = f"sam_hf:{save_segmenter(folder, make())}"
        check_segmenter(name)
        segmenter = load_segmenter(name)
        assert segmenter.version == segmenter_version(name)
        return segmenter

    return load


IMPLEMENTATIONS: dict[str, Callable[[Path], Segmenter]] = {
    "fake": lambda _folder: BoxSegmenter(),
    "sam_hf-sam": saved(sam_model),
    "sam_hf-sam2": saved(sam2_model),
    "segment_anything": lambda _folder: MetaSamSegmenter(meta_of(sam_model()), version="meta@1"),
}


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return IMPLEMENTATIONS[request.param](tmp_path_factory.mktemp("segmenter"))


def test_version(segmenter: Segmenter) -> None:
    assert "@" in segmenter.version


def test_frames_are_those_of_the_images(segmenter: Segmenter) -> None:
    embeddings = segmenter.encode(IMAGES)
    assert len(embeddings) == len(IMAGES)
    assert list(embeddings.frames) == FRAMES


def test_one_mask_per_prompt_in_order(segmenter: Segmenter) -> None:
    masks = segmenter.decode(segmenter.encode(IMAGES), PROMPTS)
    assert [len(m) for m in masks] == [len(p) for p in PROMPTS]
    for mask in (mask for found in masks for mask in found):
        assert mask.logits.dtype == np.float32
        assert mask.logits.ndim == 2
        assert np.isfinite(mask.logits).all()
        assert 0 <= mask.predicted_iou <= 1


def test_masks_do_not_depend_on_what_else_is_in_the_batch(segmenter: Segmenter) -> None:
    together = segmenter.decode(segmenter.encode(IMAGES), PROMPTS)
    for image, prompts, masks in zip(IMAGES, PROMPTS, together, strict=True):
        for one, mask in zip(prompts, masks, strict=True):
            alone = segmenter.decode(segmenter.encode([image]), [[one]])[0][0]
            np.testing.assert_allclose(alone.logits, mask.logits, atol=1e-4)
            assert alone.predicted_iou == pytest.approx(mask.predicted_iou, abs=1e-5)


def test_prompts_without_a_box_or_without_points_are_prompts_too(segmenter: Segmenter) -> None:
    mixed = [*SHOWN.values(), PROMPTS[0][0]]
    masks = segmenter.decode(segmenter.encode(IMAGES[:1]), [mixed])[0]
    assert len(masks) == len(mixed)
    for one, mask in zip(mixed, masks, strict=True):
        alone = segmenter.decode(segmenter.encode(IMAGES[:1]), [[one]])[0][0]
        np.testing.assert_allclose(alone.logits, mask.logits, atol=1e-4)


def test_different_prompts_give_different_masks(segmenter: Segmenter) -> None:
    first, _, third = segmenter.decode(segmenter.encode(IMAGES), PROMPTS)[0]
    assert np.abs(first.logits - third.logits).max() > 1e-3


def test_embeddings_can_be_decoded_again(segmenter: Segmenter) -> None:
    embeddings = segmenter.encode(IMAGES)
    first, second = (segmenter.decode(embeddings, PROMPTS) for _ in range(2))
    for a, b in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(a.logits, b.logits)


def test_nothing_asked_nothing_given(segmenter: Segmenter) -> None:
    assert segmenter.decode(segmenter.encode(IMAGES), [[] for _ in IMAGES]) == [[] for _ in IMAGES]
    assert segmenter.decode(segmenter.encode([]), []) == []


def test_a_wrong_number_of_lists_is_a_contract_error(segmenter: Segmenter) -> None:
    embeddings = segmenter.encode(IMAGES[:2])
    for prompts in (PROMPTS[:1], PROMPTS[:3]):
        with pytest.raises(ContractError):
            segmenter.decode(embeddings, prompts)


def test_embeddings_of_another_segmenter_are_refused() -> None:
    sam = sam_model()
    hf, meta = HfSamSegmenter(sam, version="hf@1"), MetaSamSegmenter(meta_of(sam), version="meta@1")
    with pytest.raises(ContractError, match="MetaEmbeddings"):
        hf.decode(meta.encode(IMAGES), PROMPTS)
    with pytest.raises(ContractError, match="HfEmbeddings"):
        meta.decode(hf.encode(IMAGES), PROMPTS)


@pytest.mark.parametrize("kind", ["sam", "sam2", "meta"])
def test_where_memory_runs_out_batches_halve_and_stay_small(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def segmenter(images_per_batch: int, prompts_per_batch: int) -> HfSamSegmenter | MetaSamSegmenter:
        sizes = {"images_per_batch": images_per_batch, "prompts_per_batch": prompts_per_batch}
        if kind == "meta":
            return MetaSamSegmenter(meta_of(sam_model()), version="meta@1", **sizes)
        return HfSamSegmenter(sam_model() if kind == "sam" else sam2_model(), version="hf@1", **sizes)

    prompts = [[prompt(10 * i + j, frame) for j in range(5)] for i, frame in enumerate(FRAMES)]
    small = segmenter(1, 2)
    short = segmenter(4, 5)
    module = short._sam if isinstance(short, MetaSamSegmenter) else short._model
    decoder = module.mask_decoder
    encoder = module.image_encoder if kind == "meta" else module.vision_encoder
    tried: list[tuple[str, int]] = []

    def limit(part: torch.nn.Module, name: str, most: int, rows_of: Callable[..., int]) -> None:
        forward = part.forward

        def limited(*args: torch.Tensor, **inputs: torch.Tensor) -> object:
            tried.append((name, rows_of(*args, **inputs)))
            if tried[-1][1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
            return forward(*args, **inputs)

        monkeypatch.setattr(part, "forward", limited)

    limit(encoder, "images", 1, lambda pixels, **_: len(pixels))
    limit(decoder, "prompts", 2, lambda **inputs: len(inputs["sparse_prompt_embeddings"]))
    for _ in range(2):
        tried.clear()
        found = short.decode(short.encode(IMAGES), prompts)
        for mask, expected in zip(chain(*found), chain(*small.decode(small.encode(IMAGES), prompts)), strict=True):
            np.testing.assert_array_equal(mask.logits, expected.logits)
            assert mask.predicted_iou == expected.predicted_iou
    assert max(n for name, n in tried if name == "images") == 1
    assert max(n for name, n in tried if name == "prompts") == 2
    limit(decoder, "prompts", 0, lambda **inputs: len(inputs["sparse_prompt_embeddings"]))
    with pytest.raises(MachineFault, match=r"CUDA out of memory.* GiB free"):
        short.decode(short.encode(IMAGES), prompts)


def test_masks_are_the_same_to_the_bit_every_time(segmenter: Segmenter) -> None:
    first, second = (segmenter.decode(segmenter.encode(IMAGES), PROMPTS) for _ in range(2))
    for one, other in zip(chain(*first), chain(*second), strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.predicted_iou == other.predicted_iou


def test_chunks_change_nothing() -> None:
    whole = HfSamSegmenter(sam_model(), version="hf@1")
    chunked = HfSamSegmenter(sam_model(), version="hf@1", images_per_batch=1, prompts_per_batch=1)
    a, b = (s.decode(s.encode(IMAGES), PROMPTS) for s in (whole, chunked))
    for mask_a, mask_b in zip(chain(*a), chain(*b), strict=True):
        np.testing.assert_allclose(mask_a.logits, mask_b.logits, atol=1e-4)


def test_the_same_weights_give_the_same_masks_in_both_packages() -> None:
    """Within 1e-4 (measured: 1.4e-5, of logits around 1): the decoders' norms have epsilons of 1e-6 and 1e-5."""
    sam = sam_model()
    hf, meta = HfSamSegmenter(sam, version="hf@1"), MetaSamSegmenter(meta_of(sam), version="meta@1")
    a, b = (s.decode(s.encode(IMAGES), PROMPTS) for s in (hf, meta))
    worst = 0.0
    for mask_a, mask_b in zip(chain(*a), chain(*b), strict=True):
        assert np.abs(mask_a.logits).max() > 0.1
        worst = max(worst, float(np.abs(mask_a.logits - mask_b.logits).max()))
        assert mask_a.predicted_iou == pytest.approx(mask_b.predicted_iou, abs=1e-4)
    assert worst < 1e-4


@pytest.mark.parametrize("model", [sam_model, sam2_model])
def test_box_points_and_negative_points_each_matter(model: Callable[[], SamModel]) -> None:
    segmenter = HfSamSegmenter(model(), version="hf@1")
    masks = segmenter.decode(segmenter.encode(IMAGES[:1]), [list(SHOWN.values())])[0]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert np.abs(one.logits - other.logits).max() > 1e-3


def test_both_packages_agree_on_every_way_to_prompt() -> None:
    sam = sam_model()
    hf, meta = HfSamSegmenter(sam, version="hf@1"), MetaSamSegmenter(meta_of(sam), version="meta@1")
    a, b = (s.decode(s.encode(IMAGES[:1]), [list(SHOWN.values())])[0] for s in (hf, meta))
    for mask_a, mask_b in zip(a, b, strict=True):
        np.testing.assert_allclose(mask_a.logits, mask_b.logits, atol=1e-4)


def test_a_prompt_without_box_and_points_is_a_contract_error() -> None:
    segmenter = HfSamSegmenter(sam_model(), version="hf@1")
    with pytest.raises(ContractError, match="neither box nor points"):
        segmenter.decode(segmenter.encode(IMAGES[:1]), [[InstancePrompt((0, 0, 8, 8), (), boxed=False)]])
