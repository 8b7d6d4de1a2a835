"""Lambda layers, bundled on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk import aws_lambda as lambda_

from constructs import Construct
from infra import layers
from infra.config import ROOT, Config
from infra.layers import Kind

_ABOUT: dict[Kind, str] = {
    "base": "wire types and canonical JSON",
    "vision": "arrays, inference, image decoding",
    "web": "pages from the server",
    "models": "converted models",
    "decide": "our rooms without pixels",
    "abeyance": "our rooms",
}
#: What the emulator's own Python has already, see docs/deploy.md.
_NOT_EMULATED: frozenset[Kind] = frozenset({"base", "vision", "web", "models"})


@jsii.implements(ILocalBundling)
class _FromCache:
    """Puts a finished layer where the CDK wants it."""

    def __init__(self, kind: Kind, config: Config) -> None:
        self._kind = kind
        self._config = config

    def try_bundle(self, output_dir: str, *_: object, **__: object) -> bool:
        """Always possible: there is no Docker to fall back on."""
        shutil.copytree(layers.folder(self._kind, self._config), output_dir, dirs_exist_ok=True)
        return True


class Layers(Construct):
    """Each kind of layer once, for whichever functions carry it."""

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._made: dict[Kind, lambda_.LayerVersion] = {}

    def of(self, kinds: tuple[Kind, ...]) -> list[lambda_.ILayerVersion]:
        """The layers of these kinds."""
        wanted = [kind for kind in kinds if not (self._config.emulator and kind in _NOT_EMULATED)]
        return [self._made.get(kind) or self._make(kind) for kind in wanted]

    def _make(self, kind: Kind) -> lambda_.LayerVersion:
        architecture = lambda_.Architecture.custom(self._config.lambda_architecture)
        self._made[kind] = lambda_.LayerVersion(
            self,
            kind.capitalize(),
            description=f"{self._config.name}: {_ABOUT[kind]}",
            code=lambda_.Code.from_asset(
                str(_nothing()),
                asset_hash_type=AssetHashType.CUSTOM,
                asset_hash=layers.digest_of(kind, self._config),
                bundling=BundlingOptions(
                    image=DockerImage.from_registry("not-used"), local=_FromCache(kind, self._config)
                ),
            ),
            compatible_architectures=[architecture],
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
        )
        return self._made[kind]


def _nothing() -> Path:
    """The CDK wants a source folder, though the hash is given and the content made elsewhere."""
    folder = ROOT / ".cache" / "layers" / ".nothing"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
