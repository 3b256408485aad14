"""The analyses by name, with what their pages say."""

from __future__ import annotations

from benchmarks.paper_analyses.analyses import baselines, emas, lambdas, shapes, solvers
from benchmarks.paper_analyses.cases import Part

PARTS = {
    part.name: part
    for part in (
        Part(
            name="shapes",
            title="Five shapes at the same budget (ASE, Table 3)",
            question="Which shape of schedule has the lowest FID for a given number of blocks?",
            rows="All rows of a group run the same number of blocks. `monotone` is the "
            "hand-made schedule D3 or D7. `flat` has nearly the same depth in every interval. "
            "`hump`, `valley` and `reversed` reorder the depths of `monotone`.",
            limits=(
                "ASE draws its four shapes but gives no depths, so these five are ours. It "
                "reports for its Schedules 1 to 4, with 25 / 50 solver steps: 2.116 / 2.144, "
                "2.456 / 2.28, 2.173 / 3.128, 2.966 / 3.253.",
            ),
            cases=shapes,
        ),
        Part(
            name="baselines",
            title="Exits or training? (ASE, Table 4)",
            question="Is a lower FID due to the exits, or to the further training alone?",
            rows="`multi-experts` are ten copies at full depth, each fine-tuned on the times of "
            "one interval. `Mixed-k` uses D3's fine-tuned network in interval k and the "
            "pretrained one elsewhere. `uniform random exits` and `random monotone schedules` "
            "are one shared fine-tune, in which every sample gets a random depth or a random "
            "schedule.",
            limits=(
                "The paper measures on CelebA with 25 / 50 solver steps.",
                "Rows at full depth and experts use no lambda(t), which is made for exits.",
                "The paper does not say how many steps its experts had. With a tenth of the "
                "steps each, experts see as much data in all as the other rows. With all steps, "
                "each of them sees as much as another row.",
                "The digits model had converged before: 12,000 steps on 1,797 images, which are "
                "also the images that FID compares with. A model that has not converged may "
                "show the paper's negative transfer.",
            ),
            cases=baselines,
        ),
        Part(
            name="solvers",
            title="One fine-tune, other solvers and step counts (ASE, Fig. 4)",
            question="Does the cost of a schedule depend on the solver?",
            rows="Each schedule is fine-tuned once and sampled with every solver. Full depth is "
            "fine-tuned by the same recipe, so a difference is due to the schedule.",
            limits=(
                "Compare FIDs of different solvers only roughly. With few steps, errors can "
                "cancel in FID; the pixel std then differs from that of the real images.",
            ),
            cases=solvers,
        ),
        Part(
            name="lambda",
            title="The loss weight lambda(t) (ASE, Sec. 3.3)",
            question="Does a larger loss weight near the noise lower FID, and when should it end?",
            rows="Weights rise linearly to 4 towards the noise. They return to 1 after half of "
            "the steps, when the loss is flat, or never. `none` is weight 1 throughout.",
            limits=("The paper gives no numbers for lambda(t), nor does its code.",),
            cases=lambdas,
        ),
        Part(
            name="ema",
            title="The rate of the EMA (ASE, Sec. 3.3)",
            question="Which decay should the EMA have in a short fine-tune?",
            rows="`auto` leaves 10 % of the pretrained weights at the end of any fine-tune. "
            "Decays 0.9, 0.99 and 0.999 leave 0, 37 and 90 % after 100 steps, and 0, 2 and 67 % "
            "after 400.",
            limits=("The paper's rate belongs to fine-tunes of 40,000 steps and more.",),
            cases=emas,
        ),
    )
}
