"""What a training run is told: everything that changes its result, in one document."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(_Strict):
    """Low-rank adapters instead of all weights."""

    r: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    targets: str = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    """Regular expression over module names."""


class Watch(_Strict):
    """When a run stops by itself, with its last good checkpoint kept."""

    flat_steps: int = Field(default=50, ge=1)
    """Logged steps in a row in which every group scored alike: nothing is learned any more."""
    max_kl: float = Field(default=10.0, gt=0)
    """Mean KL divergence from the starting model, in nats per token."""
    max_length_ratio: float = Field(default=4.0, gt=1)
    """Mean length of replies against that of the first logged steps."""


class TrainSettings(_Strict):
    """Defaults are Think2Seg-RS's for a 3B model; a small model wants a higher learning rate and KL weight."""

    group_size: int = Field(default=16, ge=2)
    """Replies sampled to one question; their rewards are compared with each other."""
    questions_per_step: int = Field(default=2, ge=1)
    """Groups that one step of the optimiser learns from."""
    questions_per_pass: int | None = Field(default=None, ge=1)
    """Groups in one forward and backward pass; less memory. All of a step's if None."""
    learning_rate: float = Field(default=1e-6, gt=0)
    kl_weight: float = Field(default=1e-3, ge=0)
    clip: float = Field(default=0.2, gt=0)
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int | None = Field(default=None, ge=1)
    """As the prompter's profile says if None."""
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant_with_warmup", "linear", "cosine"] = "constant_with_warmup"
    max_grad_norm: float = Field(default=1.0, gt=0)
    steps: int = Field(default=3_000, ge=1)
    """Steps of the optimiser, an earlier part of the same run included."""
    minutes: float | None = Field(default=None, gt=0)
    """Wall time of this call; it then stops with a checkpoint, and a later call goes on."""
    supervised_steps: int = Field(default=0, ge=0)
    """Before reinforcement: steps on clicks drawn from the masks."""
    supervised_learning_rate: float = Field(default=1e-5, gt=0)
    lora: Lora | None = None
    """None trains all weights that are not frozen."""
    freeze_vision: bool = True
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What is computed in on a GPU; a CPU computes in float32."""
    gradient_checkpointing: bool = False
    rollouts: Literal["transformers", "vllm"] = "transformers"
    """What samples replies while training; `vllm`, where it is installed, is faster on large models."""
    vllm_server: str | None = None
    """URL of a `vllm serve` on GPUs of its own; None samples on the GPU that trains."""
    vllm_memory: float = Field(default=0.3, gt=0, lt=1)
    """Share of the GPU that vLLM may take where it samples on the GPU that trains."""
    save_steps: int = Field(default=50, ge=1)
    held_out_steps: int = Field(default=200, ge=1)
    """Between measurements on held-out examples."""
    held_out: int = Field(default=200, ge=0)
    """Held-out examples of each measurement; 0 for none."""
    seed: int = 0
    watch: Watch = Watch()

    @model_validator(mode="after")
    def _server_is_for_vllm(self) -> Self:
        if self.vllm_server is not None and self.rollouts != "vllm":
            raise ValueError(
                f"vllm_server={self.vllm_server} would be asked nothing; add `rollouts: vllm`, or leave it out"
            )
        return self
