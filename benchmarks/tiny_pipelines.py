"""Tiny diffusers pipelines with random weights: the real classes, six blocks, no text encoder.

Prompts are random embeddings, so no tokenizer or text model is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

NUM_BLOCKS = 6
"""Blocks of every model; FLUX has two double and four single ones."""

TEXT = 12
"""Width of the prompt embeddings."""

DDPM_SCHEDULERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "DDPM": ("DDPMScheduler", {}),
    "DDIM": ("DDIMScheduler", {}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ singlestep": ("DPMSolverSinglestepScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {}),
    "LCM": ("LCMScheduler", {}),
    "PNDM": ("PNDMScheduler", {}),
}
"""Schedulers of DDPM's timesteps: class and arguments by name."""

_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}

FLOW_SCHEDULERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "flow Euler, shift 1": ("FlowMatchEulerDiscreteScheduler", {"shift": 1.0}),
    "flow Euler, shift 3": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "flow Euler, dynamic": ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}),
    "flow Heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    "DPM++ 2M flow": ("DPMSolverMultistepScheduler", _FLOW),
    "UniPC flow": ("UniPCMultistepScheduler", _FLOW),
}
"""Schedulers of flow matching."""


@dataclass(frozen=True)
class TinyPipeline:
    """How to build and call one kind of pipeline.

    Args:
        name: Name in tables.
        transformer: Makes the model.
        pipeline: Class of diffusers.
        schedulers: Schedulers by name.
        absent: Components to leave out.
        arguments: Makes the arguments of a call, without seed and steps.
        lists: Block lists of the model, in running order.
    """

    name: str
    transformer: Callable[[], nn.Module]
    pipeline: str
    schedulers: Mapping[str, tuple[str, dict[str, Any]]]
    absent: tuple[str, ...]
    arguments: Callable[[], dict[str, Any]]
    lists: tuple[str, ...] = ("transformer_blocks",)
    has_vae: bool = field(default=False)

    def model(self) -> nn.Module:
        """The transformer in eval mode; equal for every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.transformer().eval()

    def build(self, scheduler: str, model: nn.Module | None = None) -> Any:
        """The pipeline with one of its schedulers."""
        name, options = self.schedulers[scheduler]
        components: dict[str, Any] = dict.fromkeys(self.absent)
        components["vae"] = _tiny_vae() if self.has_vae else None
        pipe = getattr(diffusers, self.pipeline)(
            transformer=self.model() if model is None else model,
            scheduler=getattr(diffusers, name)(**options),
            **components,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def sample(self, pipe: Any, num_steps: int = 10, **overrides: Any) -> Any:
        """Samples of two prompts, always with the same noise."""
        # NOTE: DiTPipeline does not hand its generator to the scheduler.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            generator = torch.Generator().manual_seed(0)
            arguments = {**self.arguments(), "num_inference_steps": num_steps, **overrides}
            return torch.as_tensor(pipe(generator=generator, **arguments).images)


def truncated(model: nn.Module, lists: tuple[str, ...], depth: int) -> nn.Module:
    """Keep only the first ``depth`` blocks of a model, by hand and in place."""
    for name in lists:
        blocks = list(getattr(model, name))
        setattr(model, name, nn.ModuleList(blocks[:depth]))
        depth = max(0, depth - len(blocks))
    return model


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers that depend on the shape and the seed alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- models -----------------------------------------------------------------------------------


def _tiny_vae() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            layers_per_block=1,
            sample_size=8,
        ).eval()


def dit() -> nn.Module:
    """A class-conditional DiT on latents (4, 8, 8)."""
    return diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=NUM_BLOCKS,
        sample_size=8,
    )


def pixart() -> nn.Module:
    """A PixArt on latents (4, 8, 8)."""
    return diffusers.PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=NUM_BLOCKS,
        cross_attention_dim=16,
        caption_channels=TEXT,
        sample_size=8,
        use_additional_conditions=False,
    )


def sd3() -> nn.Module:
    """An SD3 of the 3.5 layout, with dual attention, on latents (4, 8, 8)."""
    return diffusers.SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=NUM_BLOCKS,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        pos_embed_max_size=8,
        dual_attention_layers=(0, 1),
        qk_norm="rms_norm",
    )


def flux() -> nn.Module:
    """A guidance-distilled FLUX with two double and four single blocks, on 16 tokens."""
    return diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=NUM_BLOCKS - 2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT,
        pooled_projection_dim=8,
        guidance_embeds=True,
        axes_dims_rope=(2, 2, 4),
    )


def sana() -> nn.Module:
    """A Sana with linear attention on latents (4, 8, 8)."""
    return diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=NUM_BLOCKS,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=TEXT,
        sample_size=8,
        patch_size=1,
    )


# ---- calls ------------------------------------------------------------------------------------


def _masked() -> dict[str, Any]:
    mask = torch.ones(2, 5, dtype=torch.long)
    mask[1, 3:] = 0
    return {
        "prompt_embeds": random(2, 5, TEXT),
        "prompt_attention_mask": mask,
        "negative_prompt": None,
        "negative_prompt_embeds": random(2, 5, TEXT, seed=1),
        "negative_prompt_attention_mask": torch.ones(2, 5, dtype=torch.long),
        "use_resolution_binning": False,
        "output_type": "latent",
    }


def _pooled() -> dict[str, Any]:
    return {
        "prompt_embeds": random(2, 7, TEXT),
        "pooled_prompt_embeds": random(2, 8),
        "height": 64,
        "width": 64,
        "output_type": "latent",
    }


def _sd3() -> dict[str, Any]:
    return {
        **_pooled(),
        "negative_prompt_embeds": random(2, 7, TEXT, seed=1),
        "negative_pooled_prompt_embeds": random(2, 8, seed=1),
    }


PIPELINES: Mapping[str, TinyPipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        TinyPipeline(
            "DiT",
            dit,
            "DiTPipeline",
            DDPM_SCHEDULERS,
            (),
            lambda: {"class_labels": [1, 2], "output_type": "pt"},
            has_vae=True,
        ),
        TinyPipeline(
            "PixArt-alpha",
            pixart,
            "PixArtAlphaPipeline",
            DDPM_SCHEDULERS,
            ("tokenizer", "text_encoder"),
            _masked,
        ),
        TinyPipeline(
            "PixArt-sigma",
            pixart,
            "PixArtSigmaPipeline",
            {"DPM++ 2M": DDPM_SCHEDULERS["DPM++ 2M"]},
            ("tokenizer", "text_encoder"),
            _masked,
        ),
        TinyPipeline(
            "SD3",
            sd3,
            "StableDiffusion3Pipeline",
            FLOW_SCHEDULERS,
            (
                *("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
                *("text_encoder_3", "tokenizer_3"),
            ),
            _sd3,
        ),
        TinyPipeline(
            "FLUX",
            flux,
            "FluxPipeline",
            FLOW_SCHEDULERS,
            ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
            _pooled,
            ("transformer_blocks", "single_transformer_blocks"),
        ),
        TinyPipeline(
            "Sana",
            sana,
            "SanaPipeline",
            FLOW_SCHEDULERS,
            ("tokenizer", "text_encoder"),
            lambda: {**_masked(), "height": 256, "width": 256},
        ),
    )
}
"""The pipelines by name."""
