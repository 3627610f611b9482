"""KServe: a bundle's graph on an inference server (NVIDIA Triton and others), by the Open Inference Protocol V2."""

import http.client
import json
import math
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from deepassay.errors import BundleError, ConfigError
from deepassay.files import atomic_folder, slug

DATATYPES = {"UINT8": ("uint8", "tensor(uint8)"), "FP32": ("float32", "tensor(float)")}
_AGAIN = "start the server with what `deepassay export layout=triton` wrote, or screen without --remote"


class RemoteModel:
    """A graph behind ``http(s)://HOST[:PORT]/v2/models/NAME[/versions/V]``, in the place of an onnxruntime session.

    Tensors travel in binary where the server lists the extension ``binary_tensor_data`` (Triton), else as JSON.
    References: KServe, Open Inference Protocol (V2), REST; Triton, binary tensor data extension.

    Args:
        url: of the model. timeout_s: longest wait for an answer.

    Raises:
        ConfigError: no such URL form. BundleError: the server does not answer, or not by the protocol.
    """

    def __init__(self, url: str, *, timeout_s: float = 60.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "/v2/models/" not in parts.path + "/":
            raise ConfigError(
                f"remote {url!r} is no model's address", hint="give http://HOST:PORT/v2/models/NAME, as the server does"
            )
        if parts.username or parts.query or parts.fragment:
            raise ConfigError(f"remote {parts.hostname}: credentials and queries are not used", hint="leave them out")
        self.url, self.timeout_s = url.rstrip("/"), timeout_s
        self._path = parts.path.rstrip("/")
        self._host, self._port, self._secure = parts.hostname, parts.port, parts.scheme == "https"
        self._line: http.client.HTTPConnection | None = None
        root = self._path.partition("/models/")[0]
        self._binary = "binary_tensor_data" in self._json("GET", root).get("extensions", [])
        facts = self._json("GET", self._path)
        try:
            self._inputs = [self._tensor(one) for one in facts["inputs"]]
            self._outputs = [self._tensor(one) for one in facts["outputs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{self.url}: the model's metadata cannot be read ({error})", hint=_AGAIN) from error

    @staticmethod
    def _tensor(facts: Mapping[str, Any]) -> SimpleNamespace:
        shape = ["n" if int(size) == -1 else int(size) for size in facts["shape"]]
        kind = DATATYPES.get(facts["datatype"], ("", str(facts["datatype"])))[1]
        return SimpleNamespace(name=str(facts["name"]), shape=shape, type=kind)

    def get_inputs(self) -> list[SimpleNamespace]:
        """Name, shape (free sizes as texts) and type of every input, as onnxruntime names them."""
        return self._inputs

    def get_outputs(self) -> list[SimpleNamespace]:
        """The same of every output; Triton's logit of shape (n, 1) counts as (n,)."""
        return [
            SimpleNamespace(name=o.name, type=o.type, shape=o.shape[:1] if o.shape[1:] == [1] else o.shape)
            for o in self._outputs
        ]

    def run(self, _: None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Infer, like `onnxruntime.InferenceSession.run`.

        Raises:
            BundleError: the server does not answer, or answers with an error or other shapes.
        """
        ((name, data),) = feeds.items()
        datatype = next(key for key, (kind, _) in DATATYPES.items() if kind == str(data.dtype))
        tensor: dict[str, Any] = {"name": name, "shape": list(data.shape), "datatype": datatype}
        wanted: dict[str, Any] = {"name": self._outputs[0].name}
        if self._binary:
            raw = np.ascontiguousarray(data).tobytes()
            tensor["parameters"] = {"binary_data_size": len(raw)}
            wanted["parameters"] = {"binary_data": False}
            head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
            headers = {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(len(head)),
            }
            answer = self._json("POST", f"{self._path}/infer", head + raw, headers)
        else:
            tensor["data"] = data.ravel().tolist()
            body = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
            answer = self._json("POST", f"{self._path}/infer", body, {"Content-Type": "application/json"})
        try:
            (output,) = answer["outputs"]
            values = np.asarray(output["data"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{self.url}: an answer that cannot be read ({error})", hint=_AGAIN) from error
        if values.shape != (len(data),):
            raise BundleError(f"{self.url}: {values.shape} values for {len(data)} views", hint=_AGAIN)
        return [values]

    def _json(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        for attempt in (1, 2):
            fresh = self._line is None
            try:
                line = self._connect()
                line.request(method, path, body, dict(headers or {}))
                response = line.getresponse()
                content = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if attempt == 2 or fresh:  # a kept connection may have been closed by the other side
                    raise BundleError(
                        f"{self.url}: no answer ({type(error).__name__}: {error})", hint="is the server up and ready?"
                    ) from error
        if response.status != 200:
            text = content[:200].decode(errors="replace")
            raise BundleError(f"{self.url}: {method} {path} gave {response.status} ({text})", hint=_AGAIN)
        try:
            values = json.loads(content)
            if not isinstance(values, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{self.url}: an answer that is no JSON ({error})", hint=_AGAIN) from error
        return values

    def _connect(self) -> http.client.HTTPConnection:
        if self._line is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._line = kind(self._host, self._port, timeout=self.timeout_s)
        return self._line

    def close(self) -> None:
        """End the connection; the next request opens another."""
        if self._line is not None:
            self._line.close()
            self._line = None


def check_same_graph(remote: Any, local: Any, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse a server that runs another graph than the bundle's: logits of fixed views must agree to 1e-3.

    Args:
        remote, local: sessions. shape: of one view. dtype: uint8 or float32.

    Raises:
        BundleError: they differ.
    """
    rng = np.random.default_rng(0)
    views = rng.random((3, *shape), dtype=np.float32)
    views = (views * 255).astype(np.uint8) if dtype == "uint8" else (views - 0.5) * 0.2
    ours, theirs = (s.run(None, {s.get_inputs()[0].name: views})[0] for s in (local, remote))
    difference = float(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max())
    if not difference <= 1e-3:
        raise BundleError(
            f"{remote.url}: its logits differ from the bundle's by {difference:.3g} on fixed views",
            hint="the server runs another detector or a reduced precision: deploy this bundle's graph",
        )


def write_triton_repository(bundle: Any, folder: str | Path, *, max_batch_size: int = 64) -> str:
    """Write a model repository of NVIDIA Triton around a bundle's graph; returns the model's name.

    ``folder/NAME/config.pbtxt``, ``folder/NAME/1/model.onnx`` and ``folder/NAME/README.md`` with a client's example.
    The bundle itself stays on the screening side, for finding faces, windows, pooling, calibration and thresholds.

    Args:
        bundle: `Bundle`. folder: a model repository; other models in it stay.

    Raises:
        BundleError: the graph cannot be opened.
    """
    session = bundle.session()
    name = slug(bundle.name).lower()
    given, out = session.get_inputs()[0], session.get_outputs()[0]
    datatype = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}[given.type]
    dims = ", ".join(str(size) for size in given.shape[1:])
    config = f"""name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {max_batch_size}
input [
  {{
    name: "{given.name}"
    data_type: {datatype}
    dims: [ {dims} ]
  }}
]
output [
  {{
    name: "{out.name}"
    data_type: TYPE_FP32
    dims: [ 1 ]
    reshape {{ shape: [ ] }}
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: 2000
}}
parameters {{
  key: "bundle_sha256"
  value: {{ string_value: "{bundle.hash}" }}
}}
"""
    size = math.prod(given.shape[1:])
    readme = f"""# Model repository of {bundle.name}

Written by deepassay from bundle `{bundle.hash}`. Start NVIDIA Triton on this folder:

    tritonserver --model-repository=.

Screen with the bundle here and the graph there; the first request checks that the server runs the same graph:

    deepassay screen inbox/ --bundle BUNDLE --remote http://SERVER:8000/v2/models/{name}

One view is {size:,} values of {datatype.removeprefix("TYPE_")}, shape ({dims}); the answer is one logit per view,
higher = more likely fake. A logit is no verdict: pooling, calibration and the threshold are in bundle.json.
"""
    target = Path(folder)
    with atomic_folder(target / name) as temporary:
        (temporary / "1").mkdir()
        (temporary / "1" / "model.onnx").write_bytes(bundle.graph)
        (temporary / "config.pbtxt").write_text(config)
        (temporary / "README.md").write_text(readme)
    return name
