"""Writes files with the structure of TensorFlow StyleGAN2 pickles, without TensorFlow."""

import numpy as np
from make_published import TensorFlowNetwork, dumps

from fairjax.train.network_files import flat

LAYERS = {"torgb": "ToRGB", "fromrgb": "FromRGB", "skip": "Skip", "conv1": "Conv1"}
# The first repository ("stylegan2"), and stylegan2-ada.
FIRST = {"synthesis": "G_synthesis_stylegan2", "D": "D_stylegan2", "version": 4}
ADA = {"synthesis": "G_synthesis", "D": "D_main", "version": 5}


def generator_variable(path, array):
    """Our array -> (part, name, array) of TensorFlow. Kernels are HWIO and [in, out] in both."""
    *parts, last = path.split("/")
    if path == "w_avg":
        return "", "dlatent_avg", array
    if "mapping" in parts:
        layer = parts[-1].replace("fc", "Dense").replace("embed", "LabelEmbed")
        return "mapping", f"{layer}/{last}", array
    size = int(parts[2][1:])
    if last == "const":
        return "synthesis", "4x4/Const/const", array.transpose(2, 0, 1)[None]
    if last == "noise_const":
        steps = int(np.log2(size)) * 2 - 4 - (parts[3] == "conv0")
        return "synthesis", f"noise{steps}", array[None, None]
    layer = LAYERS.get(parts[3], "Conv0_up")
    if size == 4 and layer == "Conv1":
        layer = "Conv"
    if layer == "Conv0_up" and array.ndim == 4:
        array = array[::-1, ::-1]
    if parts[-1] == "affine":
        array, last = (array - 1 if last == "bias" else array), f"mod_{last}"
    if last == "noise_strength":
        array = array[()]  # TensorFlow gives a scalar
    return "synthesis", f"{size}x{size}/{layer}/{last}", array


def discriminator_variable(path, array):
    """Our array -> ("", name, array) of TensorFlow."""
    block, layer, last = path.split("/")
    if block == "mapping":
        layer = layer.replace("fc", "Mapping").replace("embed", "LabelEmbed")
        return "", f"{layer}/{last}", array
    if layer == "out":
        return "", f"Output/{last}", array
    names = LAYERS | {"conv": "Conv", "fc": "Dense0", "conv0": "Conv0", "conv1": "Conv1_down"}
    return "", f"{block[1:]}x{block[1:]}/{names[layer]}/{last}", array


def stored(name, build, options, variables, version, components=None, source="raise RuntimeError"):
    """What a TensorFlow network is pickled as."""
    net = TensorFlowNetwork()
    net.__dict__ |= {
        "version": version, "name": name, "static_kwargs": options,
        "components": components or {}, "build_module_src": source, "build_func_name": build,
        "variables": [(k, np.ascontiguousarray(v) if v.ndim else v) for k, v in variables.items()],
    }  # fmt: skip
    return net


def common_options(f):
    options = {"num_channels": f["image_channels"], "resolution": f["resolution"],
               "label_size": f["c_dim"], "fmap_base": f["channel_base"] // 2,
               "fmap_max": f["channel_max"], "architecture": f["architecture"]}  # fmt: skip
    return options | ({"conv_clamp": f["conv_clamp"]} if f["conv_clamp"] else {})


def generator(name, fields, params, w_avg, buffers, repository=ADA, source="raise RuntimeError"):
    """A generator of ours as TensorFlow stores it."""
    options = common_options(fields) | {
        "latent_size": fields["z_dim"], "dlatent_size": fields["w_dim"],
        "mapping_layers": fields["mapping_layers"], "mapping_fmaps": fields["w_dim"],
    }  # fmt: skip
    variables = {"": {}, "mapping": {}, "synthesis": {}}
    if repository is FIRST:
        variables[""]["lod"] = np.float32(0)
    for path, array in flat({"params": params, "buffers": buffers, "w_avg": w_avg}).items():
        part, key, value = generator_variable(path, np.asarray(array))
        variables[part][key] = value
    version = repository["version"]
    mapping = stored("G_mapping", "G_mapping", options | {"dlatent_broadcast": 4},
                     variables["mapping"], version, source=source)  # fmt: skip
    synthesis = stored("G_synthesis", repository["synthesis"], options, variables["synthesis"],
                       version, source=source)  # fmt: skip
    return stored(name, "G_main", options | {"style_mixing_prob": None}, variables[""], version,
                  {"synthesis": synthesis, "mapping": mapping}, source)  # fmt: skip


def discriminator(fields, params, repository=ADA, source="raise RuntimeError", **options):
    """A discriminator of ours as TensorFlow stores it; minibatch statistics by the options."""
    options = common_options(fields) | options
    variables = {}
    for path, array in flat(params).items():
        _, key, value = discriminator_variable(path, np.asarray(array))
        variables[key] = value
    return stored("D", repository["D"], options, variables, repository["version"], source=source)


def parts(saved, repository=ADA, source="raise RuntimeError", **d_options):
    """G, D and the averaged G of a `Saved`, to be pickled."""
    rest = (saved.w_avg, saved.buffers, repository, source)
    return (
        generator("G", saved.g_fields, saved.g, *rest),
        discriminator(saved.d_fields, saved.d, repository, source, **d_options),
        generator("Gs", saved.g_fields, saved.ema, *rest),
    )


def content(saved, repository=ADA, protocol=4, source="raise RuntimeError", **d_options):
    """The bytes of such a file."""
    return dumps(parts(saved, repository, source, **d_options), protocol)
