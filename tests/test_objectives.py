"""How an FID is called."""

from dataclasses import replace

from driving import evaluation_of

from schedsearch.objectives import fid_title


def test_what_an_fid_depends_on_belongs_to_its_name() -> None:
    plain = evaluation_of(2.0, 30.0)
    assert fid_title(plain) == "FID (digits CNN, n=64)"
    several = replace(plain, num_finetunes=3)
    assert fid_title(several) == "FID (digits CNN, n=64, 3 fine-tunes)"
    corrected = replace(several, control_samples=512)
    assert fid_title(corrected) == "FID (digits CNN, n=64, 3 fine-tunes, control n=512)"
