"""The other side of `launch/bench.py --features --against=torch-fidelity`: its Inception-v3 with
random weights and its distances.

Started by `bench_worker`, in an interpreter that has torch and torch-fidelity (and need not have
fairjax).
"""

import sys
import time
import warnings
from unittest.mock import MagicMock


class Fidelity:
    """The network on a fixed batch of bytes, and distances of fixed features."""

    def __init__(self, shape):
        import torch

        try:
            import torchvision  # noqa: F401
        except Exception:  # one that does not fit its torch: imported there, not needed here
            for name in ("", ".datasets", ".transforms", ".transforms.functional"):
                sys.modules["torchvision" + name] = MagicMock()
        from torch_fidelity import feature_extractor_inceptionv3 as inception
        from torch_fidelity import metric_fid, metric_kid

        class Network(inception.FeatureExtractorInceptionV3):
            """With the weights that it was made with: none are loaded."""

            def load_state_dict(self, state):
                pass

        inception.load_state_dict_from_url = lambda *args, **kwargs: {}
        torch.manual_seed(0)
        self.torch, self.metric_fid, self.metric_kid = torch, metric_fid, metric_kid
        self.network = Network("inception-v3-compat", ["2048"])
        size = shape["batch"], 3, shape["resolution"], shape["resolution"]
        self.images = torch.randint(0, 256, size, dtype=torch.uint8)
        self.rows = [torch.rand(shape["rows"], 2048) for _ in range(2)]

    def features(self):
        with self.torch.no_grad():
            self.network(self.images)

    def frechet(self):
        found = [self.metric_fid.fid_features_to_statistics(rows) for rows in self.rows]
        self.metric_fid.fid_statistics_to_metric(*found, verbose=False)

    def kid(self):
        # As it comes: the mean of 100 subsets of 1,000 rows, where ours takes all rows once.
        self.metric_kid.kid_features_to_metric(*self.rows, verbose=False)

    def time(self, program, times):
        """Seconds of `times` runs of a program, one after the other."""
        start = time.perf_counter()
        for _ in range(times):
            getattr(self, program)()
        return time.perf_counter() - start

    def parameters(self):
        return sum(p.numel() for p in self.network.parameters())


def begin(request):
    """The peer and what it is, or a sentence about what is missing."""
    warnings.filterwarnings("ignore")
    try:
        import torch
    except ImportError as error:
        return None, {"error": f"{sys.executable} cannot import torch ({error})", "what": "torch"}
    torch.set_num_threads(request["threads"])
    torch.set_flush_denormal(True)
    try:
        peer = Fidelity(request["shape"])
    except Exception as error:  # whatever is wrong with somebody else's code is one line here
        words = f"torch-fidelity cannot be used ({type(error).__name__}: {error})"
        return None, {"error": words, "what": "torch-fidelity"}
    import torch_fidelity

    facts = {"torch": torch.__version__, "torch_fidelity": torch_fidelity.__version__}
    return peer, facts | {"threads": torch.get_num_threads(), "parameters": peer.parameters()}
