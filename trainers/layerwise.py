"""A fine-tune of all exits at once: BERxiT, CALM and, with :mod:`trainers.deediff`, DeeDiff."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, cast

from torch import nn

from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.methods.run import staged
from schedsearch.protocols import Backbone, ExitRule, NoiseProcess, Progress, TrainingData
from schedsearch.settings import RecipeSettings
from trainers.finetune_loop import FinetuneLoop
from trainers.layerwise_losses import LayerwiseLoss
from trainers.layerwise_options import LayerwiseOptions
from trainers.options import freeze_time_embedder


class LayerwiseTrainer:
    """Fine-tunes every exit of a backbone on every sample, and an uncertainty module if asked.

    ``recipe.extra`` holds the options of :class:`LayerwiseOptions`. BERxiT is ``{weights: mean,
    uem: shared, time: false}``, CALM is ``{weights: linear}``. Batches equal those of ASE's
    trainer for equal seeds.
    """

    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Options that hold where ``recipe.extra`` gives none."""

    def finetune(
        self,
        backbone: Backbone,
        exits: ExitRule,
        data: TrainingData,
        process: NoiseProcess,
        recipe: RecipeSettings,
        progress: Progress,
        seed: int,
    ) -> Backbone:
        """Fine-tune ``backbone`` in place by ``recipe``.

        Args:
            backbone: Network to start from, on the device to train on. An uncertainty module
                that it already carries is dropped.
            exits: Gives the edges of lambda(t); all exits are trained.
            data: Images and labels.
            process: Forward process and prediction target.
            recipe: Settings of the fine-tune.
            progress: Reports, saves and resumes.
            seed: Seed of the generator.

        Returns:
            The EMA network in eval mode; with an uncertainty module a ``WithUncertainty``.

        Raises:
            TrialError: If the loss or its gradient is not finite; the message gives the step.
            ConfigError: If an option is wrong, or the backbone lacks what it needs.
        """
        # Read the options.
        options = LayerwiseOptions.read(recipe.extra, self.defaults)
        plain = backbone.net if isinstance(backbone, WithUncertainty) else backbone
        net = cast(nn.Module, staged(cast(Backbone, plain), type(self).__name__))
        if recipe.freeze_time_embedder and recipe.num_steps > 0:
            freeze_time_embedder(net)
        if options.uem != "none":
            net = WithUncertainty.of(
                net,
                exits=options.exits,
                shared=options.uem == "shared",
                time=options.time,
                variant=options.variant,
            )
        if recipe.num_steps == 0:
            return cast(Backbone, net.eval())
        # Train.
        objective = LayerwiseLoss(net, process, recipe, options)
        loop = FinetuneLoop(net, objective, data, process, recipe, seed, exits.edges)
        return cast(Backbone, loop.train(progress))
