"""The analyses by name, with what their pages say."""

from __future__ import annotations

from benchmarks.paper_analyses.analyses import baselines, emas, lambdas, shapes, solvers
from benchmarks.paper_analyses.cases import Part

PARTS = {
    part.name: part
    for part in (
        Part(
            name="shapes",
            title="Same budget, five shapes (ASE, Table 3)",
            note="Every row runs as many blocks as the hand-made schedule that names its group. "
            "ASE draws its four shapes and gives no numbers, so these are ours: the flat one, "
            "and reorderings of the hand-made depths. ASE reports for its Schedules 1 to 4 at "
            "DPM-25 / 50: 2.116 / 2.144, 2.456 / 2.28, 2.173 / 3.128, 2.966 / 3.253.",
            cases=shapes,
        ),
        Part(
            name="baselines",
            title="Is it the exits, or the training? (ASE, Table 4)",
            note="Paper: CelebA, DPM-25 / 50. Further training and experts use no lambda, which "
            "is made for exits. Multi-experts: ten copies at full depth, each tuned on the times "
            "of one interval; at a tenth of the steps each they see as much data in all as the "
            "other rows, at as many steps each ten times as much (what the paper gave its "
            "experts is not said). Random exits: one shared fine-tune, each sample at a uniform "
            "depth or by a random monotone schedule of its own. The digits model was pretrained "
            "for 12,000 steps on 1,797 images and is scored against the same images: what the "
            "paper calls negative transfer may look different on a model that is far from "
            "converged, or on ten times the data.",
            cases=baselines,
        ),
        Part(
            name="solvers",
            title="One fine-tune, other solvers and step counts (ASE, Fig. 4)",
            note="Full depth was fine-tuned by the same recipe, so that the difference is that "
            "of the schedule. Values of different solvers compare only roughly: with few steps "
            "errors can cancel in FID, and then the pixel standard deviation leaves that of "
            "the real images.",
            cases=solvers,
        ),
        Part(
            name="lambda",
            title="lambda(t), the loss weight near the noise (ASE, Sec. 3.3)",
            note="The paper gives no numbers and the reference code has none. Differences are to "
            "no weighting.",
            cases=lambdas,
        ),
        Part(
            name="ema",
            title="The rate of the EMA (ASE, Sec. 3.3)",
            note="`auto` leaves 10 % of the pretrained weights at the end of a fine-tune; 0.9 / "
            "0.99 / 0.999 leave 0 / 37 / 90 % after 100 steps and 0 / 2 / 67 % after 400.",
            cases=emas,
        ),
    )
}
