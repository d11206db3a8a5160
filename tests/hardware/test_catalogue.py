"""The catalogue of accelerators: its own file is whole, and faults of such a file are found with their line."""

import pytest

from hetsim.errors import InputError
from hetsim.hardware import catalogue, rates
from hetsim.hardware.catalogue import FILE, accelerator, accelerators, read_accelerators


def test_figures_are_in_base_units():
    v100 = accelerator("V100 SXM2 16GB")
    assert v100.peak_flops_per_s["float32"] == pytest.approx(15.67e12)
    assert v100.memory_bytes == 16_000_000_000
    assert v100.measured_bandwidth_bytes_per_s == pytest.approx(739e9)
    assert (v100.power_w, v100.compute_units, v100.chip) == (300, 80, "GV100")


def test_a_blank_is_unknown():
    k80 = accelerator("k80")
    assert "bfloat16" not in k80.peak_flops_per_s
    assert k80.measured_bandwidth_bytes_per_s is None


def test_peaks_follow_from_units_and_clock_where_the_architecture_is_known():
    """128 float32 units a multiprocessor in these chips, two operations each and cycle: no digit was mistyped."""
    for entry in accelerators().values():
        if entry.name == "L4":
            continue  # its source gives it units for 58 multiprocessors, and 60 of them; the row's notes say so
        if entry.architecture in ("Ampere", "Ada Lovelace") and entry.chip.startswith(("GA102", "AD")):
            derived = entry.compute_units * 128 * 2 * entry.boost_hz
            assert entry.peak_flops_per_s["float32"] == pytest.approx(derived, rel=0.01), entry.name


def test_every_device_names_a_source():
    assert len(accelerators()) > 35
    assert all(entry.sources for entry in accelerators().values())


@pytest.mark.parametrize(
    ("name", "help_"), [("V100", "V100 SXM2 32GB"), ("K8", 'Did you mean "K80"?'), ("H100 SMX", 'Did you mean "H100 SXM"?')]
)
def test_an_unknown_name_gets_a_suggestion(name, help_):
    with pytest.raises(InputError, match="not in the catalogue") as caught:
        accelerator(name)
    assert help_ in str(caught.value)


def edited(tmp_path, old, new):
    text = FILE.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path = tmp_path / "accelerators.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("\nK80,NVIDIA", "\nK80 board,NVIDIA", "K80 board stands twice"),
        (",4.11,", ",-4.11,", 'peak_fp32_tflops: got "-4.11"'),
        (",4.11,", ",four,", 'peak_fp32_tflops: got "four"'),
        (",4.11,", ",inf,", 'peak_fp32_tflops: got "inf"'),
        (",4.11,", ",4.11,,", "another number of cells"),
        (",0.09,8,192.3,", ",0.09,8,100,", "expected no more than the specified 100"),
        ("chip,", "chips,", "columns differ"),
        ("accelerators 1", "accelerators 2", "expected # hetsim accelerators 1"),
    ],
)  # fmt: skip
def test_faults_are_found_with_their_line(tmp_path, old, new, what):
    with pytest.raises(InputError, match=r"accelerators\.csv:\d+:1") as caught:
        read_accelerators(edited(tmp_path, old, new))
    assert what in str(caught.value)


def test_the_line_of_a_fault_is_that_of_the_file(tmp_path):
    path = edited(tmp_path, ",4.11,", ",zero,")
    (line,) = (i for i, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if ",zero," in text)
    with pytest.raises(InputError, match=rf"accelerators\.csv:{line}:1"):
        read_accelerators(path)


def test_what_was_measured_is_what_is_achieved():
    t4 = rates.achieved_rates(accelerator("T4"), "float16")
    assert (t4.flops_per_s, t4.bytes_per_s) == (pytest.approx(46.5e12), pytest.approx(239e9))


def test_a_variant_that_nobody_measured_achieves_the_fraction_of_its_chip():
    pcie, sxm = (accelerator(f"P100 {form} 16GB") for form in ("PCIe", "SXM2"))
    measured, derived = rates.achieved_rates(pcie, "float32"), rates.achieved_rates(sxm, "float32")
    assert derived.flops_per_s / measured.flops_per_s == pytest.approx(
        sxm.peak_flops_per_s["float32"] / pcie.peak_flops_per_s["float32"]
    )


def test_a_format_that_a_device_lacks_has_no_rate():
    assert rates.achieved_rates(accelerator("V100 SXM2 16GB"), "bfloat16") is None
    assert rates.achieved_rates(accelerator("TPU v4"), "float32") is None


def test_tf32_is_float32_where_a_device_has_none():
    for name in ("K80", "RTX 2080 Ti"):
        assert rates.achieved_rates(accelerator(name), "tf32") == rates.achieved_rates(accelerator(name), "float32")
    a100 = accelerator("A100 SXM 40GB")
    assert rates.achieved_rates(a100, "tf32").flops_per_s > 4 * rates.achieved_rates(a100, "float32").flops_per_s


def test_every_step_factor_is_of_a_device_of_the_catalogue():
    assert set(rates.STEP_FACTORS) == {rates.model_of(name) for name in accelerators()} & set(rates.STEP_FACTORS)
    assert rates.model_of("V100 PCIe 32GB") == "V100"
    assert rates.model_of("A10G") == "A10G"  # not an A100


def test_the_catalogue_is_read_once_and_not_at_import():
    assert catalogue.accelerators() is catalogue.accelerators()
