"""Which versions an environment is compared with, and what is called a deviation."""

from __future__ import annotations

from omnirt_cli.doctor.pins import pins_for
from omnirt_cli.models.base import Backend

QUANTIZING = {
    "torch": "2.7.1+cu128",
    "torchvision": "0.22.1",
    "transformers": "4.50.0",
    "diffusers": "0.34.0",
    "accelerate": "1.9.0",
    "optimum-quanto": "0.2.6",
    "xformers": "0.0.31",
    "flash-attn": "2.8.0.post2",
    "bitsandbytes": None,
}


def test_an_environment_as_published_deviates_in_nothing() -> None:
    pins = pins_for("soulx-flashtalk-14b", Backend.CUDA, "quantizing")

    assert pins is not None
    assert pins.deviations("3.11.4", QUANTIZING) == []


def test_other_versions_missing_packages_and_another_python_are_told() -> None:
    pins = pins_for("soulx-flashtalk-14b", Backend.CUDA, "quantizing")
    assert pins is not None

    found = pins.deviations("3.13.0", {**QUANTIZING, "torch": "2.6.0", "xformers": None, "bitsandbytes": "0.40"})

    assert found == [
        "torch 2.6.0 (run with torch==2.7.1)",
        "xformers is missing (run with xformers==0.0.31)",
        "bitsandbytes 0.40 (run with bitsandbytes>=0.43.0)",
        "Python 3.13.0 (run with >=3.10,<3.13)",
    ]


def test_each_backend_has_its_own_and_an_unknown_model_none() -> None:
    ascend = pins_for("soulx-flashtalk-14b", Backend.ASCEND, "ascend")

    assert ascend is not None
    assert "torch-npu" in ascend.packages
    assert pins_for("soulx-flashtalk-14b", Backend.CPU, "public-new") is None


def test_a_package_that_may_be_of_any_version_is_only_said_to_be_missing() -> None:
    pins = pins_for("soulx-flashtalk-14b", Backend.ASCEND, "ascend")
    assert pins is not None
    there = {name: wanted.removeprefix("==") for name, wanted in pins.packages.items()}

    assert pins.deviations("3.11.4", {**there, "attrs": "25.1.0"}) == []
    assert pins.deviations("3.11.4", {**there, "attrs": None}) == ["attrs is missing"]
