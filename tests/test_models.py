"""Families of models, and descriptions of their networks as files hold them, written today or before."""

import json
from dataclasses import asdict

import pytest

from diffusion_lib.models import FAMILIES, read_description

UNET = {"image_size": 8, "width": 8, "mults": [1, 2], "attention_at": [4]}
SWITCHES = {"skips": True, "time": True, "attention": True}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_a_network_and_the_configuration_that_it_is_made_of(name):
    """What is written of a configuration makes the same one again."""
    family, config_class = FAMILIES[name]
    network = family(config_class(**UNET) if name == "unet" else config_class(width=8))
    written = json.loads(json.dumps(asdict(network.config)))
    assert type(network.config) is config_class and isinstance(network, family)
    assert read_description({"family": name, name: written}) == {"family": name, name: written}


def test_a_description_written_before_families_is_of_a_unet_with_all_its_parts():
    old = {"data": "digits", "unet": {**UNET, **SWITCHES}}
    assert read_description(old) == {"family": "unet", "data": "digits", "unet": UNET}
    assert old == {"data": "digits", "unet": {**UNET, **SWITCHES}}  # as it was given
    for part in SWITCHES:
        one = {"unet": {**UNET, part: True}}
        assert read_description(one) == {"family": "unet", "unet": UNET}


def test_todays_description_and_one_of_no_network_are_returned_as_they_are():
    for run in ({"family": "unet", "unet": UNET, "predict": "v"}, {"peer": True}, {}):
        assert read_description(run) == run


@pytest.mark.parametrize("family", [{}, {"family": "unet"}])
@pytest.mark.parametrize("part", SWITCHES)
@pytest.mark.parametrize("value", [False, None, 0])
def test_a_network_that_lacks_a_part_is_refused_by_name(family, part, value):
    run = {**family, "unet": {**UNET, **SWITCHES, part: value}}
    with pytest.raises(ValueError, match=f"unet.{part}: expected true, a U-Net with all its parts, got {value}"):
        read_description(run)


@pytest.mark.parametrize("run", [3, "{", [1], {"unet": 3}])
def test_what_is_no_description_is_refused(run):
    with pytest.raises((TypeError, ValueError)):
        read_description(run)
