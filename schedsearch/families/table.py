"""The families, one row each; a new one needs a row and a case in ``tests/apply``."""

from __future__ import annotations

from schedsearch.families.family import TIMES, Clock, Family

FAMILIES: tuple[Family, ...] = (
    # ---- diffusers ----------------------------------------------------------------------------
    Family(
        name="diffusers:DiTTransformer2DModel",
        class_name="DiTTransformer2DModel",
        package="diffusers",
        lists=("transformer_blocks",),
        time_argument="timestep",
        time_position=1,
        clock=TIMES["timestep"],
        other_names=("dit",),
    ),
    Family(
        name="diffusers:PixArtTransformer2DModel",
        class_name="PixArtTransformer2DModel",
        package="diffusers",
        lists=("transformer_blocks",),
        time_argument="timestep",
        time_position=2,
        clock=TIMES["timestep"],
    ),
    Family(
        name="diffusers:SD3Transformer2DModel",
        class_name="SD3Transformer2DModel",
        package="diffusers",
        lists=("transformer_blocks",),
        time_argument="timestep",
        time_position=3,
        clock=TIMES["sigma1000"],
    ),
    Family(
        name="diffusers:FluxTransformer2DModel",
        class_name="FluxTransformer2DModel",
        package="diffusers",
        lists=("transformer_blocks", "single_transformer_blocks"),
        time_argument="timestep",
        time_position=3,
        clock=TIMES["sigma"],
    ),
    Family(
        name="diffusers:SanaTransformer2DModel",
        class_name="SanaTransformer2DModel",
        package="diffusers",
        lists=("transformer_blocks",),
        time_argument="timestep",
        time_position=2,
        clock=TIMES["sigma1000"],
        clock_scale_in_config="timestep_scale",
    ),
    # ---- backbones of this package ------------------------------------------------------------
    Family(
        name="dit",
        class_name="DiT",
        package="schedsearch.backbones",
        time_argument="t",
        time_position=1,
        clock=TIMES["timestep"],
        may_choose_time=True,
        exit_argument="exit_depth",
        other_names=("sit",),
    ),
    Family(
        name="uvit",
        class_name="UViT",
        package="schedsearch.backbones",
        time_argument="t",
        time_position=1,
        clock=Clock(1000.0 / 999.0, process="ddpm"),
        may_choose_time=True,
        exit_argument="exit_depth",
        min_depth=0,
    ),
    # ---- official code ------------------------------------------------------------------------
    # NOTE: DiT and SiT samplers call ``forward_with_cfg``, past the hooks of the model itself.
    Family(
        name="dit",
        class_name="DiT",
        needs=("x_embedder", "t_embedder", "y_embedder", "blocks", "final_layer"),
        lists=("blocks",),
        time_argument="t",
        time_position=0,
        arm_at="t_embedder",
        disarm_at="final_layer",
        clock=TIMES["timestep"],
        may_choose_time=True,
    ),
    Family(
        name="sit",
        class_name="SiT",
        needs=("x_embedder", "t_embedder", "y_embedder", "blocks", "final_layer"),
        lists=("blocks",),
        time_argument="t",
        time_position=0,
        arm_at="t_embedder",
        disarm_at="final_layer",
        may_choose_time=True,
        sigma_attributes=("projectors", "encoder_depth"),
        # NOTE: REPA's forward returns what it projects after this block, and fails before it.
        min_depth_attribute="encoder_depth",
    ),
    Family(
        name="uvit",
        class_name="UViT",
        needs=("in_blocks", "mid_block", "out_blocks", "time_embed", "decoder_pred"),
        lists=("out_blocks",),
        time_argument="timesteps",
        time_position=1,
        clock=Clock(1000.0 / 999.0, process="ddpm"),
        may_choose_time=True,
        past_exit="skip_linear",
        min_depth=0,
    ),
)
