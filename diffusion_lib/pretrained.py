"""Shipped weights by name, checked by hash; and weights that a reader's own training wrote."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from diffusion_lib.denoisers import Guided, LearnedDenoiser
from diffusion_lib.files import FileError, read_checked
from diffusion_lib.models import FAMILIES, read_description
from diffusion_lib.models.unet import UNet
from diffusion_lib.process import PARAMETERIZATIONS, Denoiser, Parameterization
from diffusion_lib.schedules import SCHEDULES, Schedule

ASSETS = Path(__file__).parent / "assets"
FORMAT = "diffusion_lib weights"
SHA256 = {  # of the files in assets/
    "mnist": "54e37b7ba67efab29ee535b06696a561b6b0033ffd7c8136a2ceceee571403b4",
    "digits": "77a532454ee22bc7b59d2a3a6ec6ca8e908476febd7319da7498fbb0010d86db",
}


class WeightsError(FileError):
    """A file of weights is missing, altered, foreign, or contradicts its own description; the message says which."""


@dataclass(frozen=True)
class Network:
    """A trained model of any family; `run` says how it was made, and has the family's name under "family"."""

    model: Any
    run: Mapping[str, Any]
    sha256: str = ""  # of the file that it was read from


@dataclass(frozen=True)
class Pretrained:
    """A trained U-Net with what it takes to use it: schedule and parameterization; `run` says how it was made."""

    model: UNet
    schedule: Schedule
    parameterization: Parameterization
    run: Mapping[str, Any]
    sha256: str = ""  # of the file that it was read from

    @classmethod
    def of(cls, network: Network) -> "Pretrained":
        """Return the network with the schedule and the parameterization that its run names.

        Raises: ValueError for a network that is no U-Net, or whose run names none.
        """
        if not isinstance(network.model, UNet):
            raise ValueError(f"network: expected a U-Net, got the family {network.run['family']}")
        try:
            schedule, parameterization = SCHEDULES[network.run["schedule"]](), PARAMETERIZATIONS[network.run["predict"]]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"network: expected a run with a schedule and what it predicts, got none of {error}"
            ) from error
        return cls(network.model, schedule, parameterization, network.run, network.sha256)

    def denoiser(self, labels: Tensor | Sequence[int] | None = None, scale: float = 1.0) -> Denoiser:
        """Return a denoiser with its labels bound: int64 (B,), one for each image of the batch, or None for no label.

        With a guidance `scale` other than 1 it is `Guided` by the same network without labels. Raises: ValueError,
        when called, for labels that do not fit; ValueError for guidance without labels.
        """
        unlabelled = self._bound(None)
        if labels is None:
            if scale != 1.0:
                raise ValueError(f"scale: expected 1.0 where there are no labels to be guided to, got {scale}")
            return unlabelled
        labelled = self._bound(labels)
        return labelled if scale == 1.0 else Guided(labelled, unlabelled, scale)

    def _bound(self, labels: Tensor | Sequence[int] | None) -> LearnedDenoiser:
        model = partial(_unlabelled, self.model) if labels is None else partial(self.model, labels=labels)
        return LearnedDenoiser(self.schedule, model, self.parameterization)


def _unlabelled(model: UNet, x_t: Tensor, t: Tensor) -> Tensor:
    if model.label is None:
        return model(x_t, t)
    return model(x_t, t, torch.full((len(x_t),), model.no_label, device=x_t.device))


def pretrained(name: str) -> Pretrained:
    """Return a network whose weights ship with the library: "mnist" (32 x 32) or "digits" (16 x 16).

    Raises: ValueError for another name, WeightsError for a file that is missing or altered.
    """
    if name not in SHA256:
        raise ValueError(f"name: expected one of {', '.join(SHA256)}, got {name!r}")
    return load_weights(ASSETS / f"{name}.safetensors", SHA256[name])


def load_weights(path: str | Path, sha256: str | None = None) -> Pretrained:
    """Return the U-Net in a weights file that `python -m diffusion_lib train` wrote, in float32, ready to sample.

    Raises: WeightsError as `load_network` does, and for a file of another family.
    """
    try:
        return Pretrained.of(load_network(path, sha256))
    except ValueError as error:
        raise WeightsError(
            f"{path}: expected a description of the network, got one that does not fit ({error})"
        ) from error


def load_network(path: str | Path, sha256: str | None = None) -> Network:
    """Return the model of any family in a weights file that `python -m diffusion_lib train` wrote, in float32, frozen.

    Raises: WeightsError for a file that is missing, has another SHA-256 than the one given, is damaged, is not such a
    file, or whose tensors contradict its description.
    """
    path = Path(path)
    content = _content(path, sha256)
    try:
        metadata, tensors = _metadata(content), load_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path}: expected a whole safetensors file, got a damaged or foreign one ({error})"
        ) from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: expected weights written by `python -m diffusion_lib train`, got another file")
    try:
        run = read_description(json.loads(metadata["run"]))
        family, config_class = FAMILIES[run["family"]]
        found = run[run["family"]].items()
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found}
        config = config_class(**settings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path}: expected a description of the network, got one that does not fit ({error})"
        ) from error
    return Network(_filled(path, family(config), tensors), run, hashlib.sha256(content).hexdigest())


def _content(path: Path, sha256: str | None) -> bytes:
    try:
        return path.read_bytes() if sha256 is None else read_checked(path, sha256, WeightsError)
    except OSError as error:
        raise WeightsError(f"{path}: expected a file of weights, found none ({error.strerror})") from error


def _metadata(content: bytes) -> dict[str, str]:
    """Return what a safetensors file says of itself: 8 bytes of length, then JSON; ValueError if that is damaged."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return (header.get("__metadata__") if isinstance(header, dict) else None) or {}


def _filled(path: Path, model: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [name for name in sorted(expected | found) if expected.get(name) != found.get(name)]
    if wrong:
        name = wrong[0]
        raise WeightsError(
            f"{path}: {len(wrong)} tensors contradict the configuration; {name}: expected {expected.get(name)}, "
            f"got {found.get(name)}"
        )
    model.float().load_state_dict(tensors)
    return model.eval().requires_grad_(False)
