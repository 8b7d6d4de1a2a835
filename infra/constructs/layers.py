"""Lambda layers, built on this machine."""

from __future__ import annotations

from aws_cdk import AssetHashType, Stack
from aws_cdk import aws_lambda as lambda_

from constructs import Construct
from infra import layers
from infra.config import Config
from infra.functions import FLAGS, LayerName

_DESCRIPTIONS: dict[LayerName, str] = {
    "base": "wire types and canonical JSON",
    "vision": "arrays, inference, image decoding",
    "web": "pages from the server",
    "signatures": "signatures of witnesses",
    "video": "decoding of video",
    "detector": "the model that finds faces",
    "analysis": "the models that find and describe faces",
    "embedder": "the model that makes templates",
    "tracking": "the models that find, describe and recognise faces",
    "decide": "our rooms without pixels",
    "abeyance": "our rooms",
}
#: The emulator's own Python has these already, see docs/deploy.md.
_NOT_EMULATED: frozenset[LayerName] = frozenset({*layers.WHEEL_LAYERS, *layers.MODEL_ROLES})


class Layers(Construct):
    """The layers of a deployment, each made once for all the functions that carry it."""

    def __init__(self, scope: Construct, construct_id: str, config: Config) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._made: dict[LayerName, lambda_.LayerVersion] = {}

    def of(self, names: tuple[LayerName, ...]) -> list[lambda_.ILayerVersion]:
        """Return the layers of these names, less those that an emulator has itself."""
        wanted = [name for name in names if not (self._config.emulator and name in _NOT_EMULATED)]
        return [self._made.get(name) or self._make(name) for name in wanted]

    def _make(self, name: LayerName) -> lambda_.LayerVersion:
        self._made[name] = lambda_.LayerVersion(
            self,
            name.capitalize(),
            description=f"{self._config.name}: {_DESCRIPTIONS[name]}",
            code=self._code(name),
            compatible_architectures=[lambda_.Architecture.custom(self._config.lambda_architecture)],
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
        )
        return self._made[name]

    def _code(self, name: LayerName) -> lambda_.Code:
        """Return the layer's folder, or another one where the CDK publishes nothing: in tests, and to bootstrap.

        The other has a hash of its own, because the CDK does not copy a hash twice into its output.
        """
        if not Stack.of(self).bundling_required:
            return lambda_.Code.from_asset(str(FLAGS.folder))
        return lambda_.Code.from_asset(
            str(layers.folder(name, self._config)),
            asset_hash_type=AssetHashType.CUSTOM,
            asset_hash=layers.digest_of(name, self._config),
        )
