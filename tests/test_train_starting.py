"""Files of networks, and trainings that start from them: `gan.init_from` and its options."""

import hashlib
import json
from functools import cache, partial

import jax
import jax.numpy as jnp
import make_published as make
import numpy as np
import optax
import pytest
from published_networks import D_FIELDS, assert_equal, saved
from quick import quick_jit

from fairjax.config import defaults
from fairjax.errors import InputError
from fairjax.experiments import gan_stage
from fairjax.train import loop, network_files
from fairjax.train.conditions import Conditions, of_numbers
from fairjax.train.gan_state import by_part, frozen_blocks, reals
from fairjax.train.network_files import flat, to_published, write_folder, write_published

BATCH = 4


def config(resolution=8, **gan):
    tree = defaults()
    tree.data.resolution = resolution
    tree.gan.update(batch=BATCH, z_dim=5, w_dim=7, mapping_layers=2, channel_base=64,
                    channel_max=6, mbstd_group=4)  # fmt: skip
    tree.gan.update(gan)
    return tree


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same networks in the three forms."""
    root, nets = tmp_path_factory.mktemp("files"), saved()
    (root / "net.pkl").write_bytes(make.content(to_published(nets)))
    write_published(root / "net.safetensors", to_published(nets))
    (root / "gan").mkdir()
    write_folder(root / "gan", nets)
    return root


@cache
def first_state(resolution):
    gan = gan_stage.programs(config(resolution))
    return jax.device_get(quick_jit(gan.init)(jax.random.key(0), np.ones(1)))


def started(tree):
    """The fresh state of a config with what its file gives, and the record."""
    state = first_state(tree.data.resolution)
    start = gan_stage.start_of(tree, state)
    return start(state), start.record


@pytest.mark.parametrize("form", ["net.pkl", "net.safetensors", "gan"])
def test_every_form_is_read_bit_by_bit(files, form):
    nets, found = saved(), network_files.read(files / form)
    assert (found.g_fields, found.d_fields) == (nets.g_fields, nets.d_fields)
    for name in ("ema", "d", "buffers"):
        assert_equal(getattr(found, name), getattr(nets, name))
    np.testing.assert_array_equal(found.w_avg, nets.w_avg)
    if form == "gan":  # it has the moving average only
        assert found.g is None
    else:
        assert_equal(found.g, nets.g)


@pytest.mark.parametrize("form", ["net.pkl", "gan"])
def test_a_run_starts_from_the_networks_of_the_file(files, form):
    nets = saved()
    state, record = started(config(init_from=str(files / form)))
    assert_equal(state.ema, nets.ema)
    assert_equal(state.d, nets.d)
    assert_equal(state.g, nets.ema if form == "gan" else nets.g)
    np.testing.assert_array_equal(state.w_avg, nets.w_avg)
    assert record["sha256"] == network_files.sha256(files / form)
    if form == "net.pkl":
        assert record["sha256"] == hashlib.sha256((files / form).read_bytes()).hexdigest()
    assert record["generator"]["fresh"] == []
    assert record["discriminator"]["taken from the file"] == ["b4", "b8"]
    # Each has memory of its own: a step donates its state.
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((state.g, state.ema))]
    assert len(set(pointers)) == len(pointers)


def test_the_loop_starts_a_new_run_only(tmp_path):
    calls = []

    def start(state):
        calls.append(1)
        return state | {"x": state["x"] + 10}

    class State(dict):
        step = property(lambda self: self["step"])

    jax.tree_util.register_pytree_node(
        State,
        lambda s: (tuple(s.values()), tuple(s)),
        lambda keys, values: State(zip(keys, values, strict=True)),
    )
    task = loop.Task(
        "t",
        init=lambda key: State(step=jnp.zeros((), jnp.int32), x=jnp.zeros(())),
        step=lambda s, b, k, i: (State(step=s["step"] + 1, x=s["x"]), {}),
        start=lambda s: State(start(s)),
    )
    feed = lambda a, b: iter([{"i": np.zeros(1)}] * (b - a))
    for total in (1, 2):
        rhythm = loop.Rhythm(total, 1, log=1, save=1, evaluate=0)
        state = loop.run(task, feed, jax.random.key(0), rhythm, tmp_path)
        assert state["x"] == 10
    assert calls == [1]


def test_a_frozen_second_discriminator_is_that_of_the_start_or_of_another_file(files, tmp_path):
    nets = saved()
    other = jax.tree.map(lambda a: a + 1, nets.d)
    write_folder(tmp_path, nets._replace(d=other))
    for second_from, expected in (("", nets.d), (str(tmp_path), other)):
        tree = config(init_from=str(files / "gan"), second_d="frozen", second_from=second_from)
        fresh = quick_jit(gan_stage.programs(tree).init)(jax.random.key(0), np.ones(1))
        start = gan_stage.start_of(tree, fresh)
        state = start(fresh)
        assert_equal(state.d, nets.d)
        assert_equal(state.second.d, expected)
        assert ("second" in start.record) == bool(second_from)
    other_kind = config(init_from=str(files / "gan"), second_d="frozen", d_architecture="orig",
                    second_from=str(tmp_path), init_d="fresh")  # fmt: skip
    with pytest.raises(InputError, match="gan.second_from=.*d_architecture"):
        gan_stage.start_of(other_kind)


def test_a_fresh_discriminator(files):
    state, record = started(config(init_from=str(files / "net.pkl"), init_d="fresh"))
    assert_equal(state.d, first_state(8).d)
    assert_equal(state.ema, saved().ema)
    assert record["discriminator"]["fresh"] == ["b4", "b8"]


def test_a_grown_generator_starts_as_the_enlarged_one(files):
    tree = config(16, init_from=str(files / "net.pkl"), init_grow=True, channel_base=64)
    state, record = started(tree)
    assert record["generator"] == {
        "taken from the file": ["mapping", "synthesis/b4", "synthesis/b8"],
        "fresh": ["synthesis/b16"],
    }
    assert record["discriminator"] == {"taken from the file": ["b4", "b8"], "fresh": ["b16"]}
    assert "fromrgb" not in state.d["b8"]
    assert_equal(state.d["b8"]["conv1"], saved().d["b8"]["conv1"])
    assert_equal(state.d["b16"], first_state(16).d["b16"])
    large, small = gan_stage.programs(tree).g, gan_stage.programs(config()).g
    z = jax.random.normal(jax.random.key(1), (3, 5))
    before, after = (
        np.asarray(quick_jit(partial(net.apply, noise="none"))({"params": params}, z))
        for net, params in ((small, saved().ema), (large, state.ema))
    )
    # Twice the size by [1, 3, 3, 1]: in the inside each pixel is 3/4 of the nearest and 1/4 of the
    # next one, along both axes.
    rows = 0.75 * before[:, 1:-1] + 0.25 * before[:, :-2]
    expected = 0.75 * rows[:, :, 1:-1] + 0.25 * rows[:, :, :-2]
    np.testing.assert_allclose(after[:, 2:-2:2, 2:-2:2], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("resolution", "changes", "words"),
    [
        (8, {"w_dim": 8}, "gan.w_dim is 8, its w_dim is 7"),
        (8, {"z_dim": 8}, "gan.z_dim is 8, its z_dim is 5"),
        (8, {"mapping_layers": 3}, "gan.mapping_layers is 3, its mapping_layers is 2"),
        (8, {"g_architecture": "orig"}, "gan.g_architecture is orig, its architecture is skip"),
        (8, {"d_architecture": "skip"}, "gan.d_architecture is skip, its architecture is resnet"),
        (8, {"mbstd_group": 0}, "gan.mbstd_group"),
        (8, {"channel_max": 5}, "6 channels instead of 5 (gan.channel_base=64, gan.channel_max=6"),
        (16, {}, "data.resolution is 16, its resolution is 8 (or set gan.init_grow=True)"),
    ],
)
def test_another_architecture_is_named_by_the_keys_to_change(files, resolution, changes, words):
    tree = config(resolution, init_from=str(files / "net.pkl"), **changes)
    with pytest.raises(InputError) as error:
        gan_stage.start_of(tree)
    assert words in str(error.value)
    assert "gan.init_from=" in str(error.value)


def test_numbers_mean_the_same_after_the_start_whatever_their_scale(tmp_path):
    """Another set has another mean age: the embeddings are changed with the scale."""
    ages = lambda *values, names=("age",): of_numbers(
        names, np.array(values, float)[:, None] * np.ones(len(names)), np.ones(len(values), bool)
    )
    old, new = ages(20, 30, 70), ages(0, 50, 60, 90)
    change = {"c_dim": 2}
    record = old.record()
    nets = saved(change, change, raw=False)._replace(conditions=record)
    write_folder(tmp_path, nets)
    tree = config(condition=("age",), condition_form="numbers", init_from=str(tmp_path))
    state = quick_jit(gan_stage.programs(tree, new).init)(jax.random.key(0), np.ones(1))
    start = gan_stage.start_of(tree, state, new)
    for found, theirs in ((start.ema, nets.ema), (start.g, nets.ema), (start.d, nets.d)):
        age = np.array([[34.5], [70.0]])
        np.testing.assert_allclose(
            new.numbers.labels(age) @ found["mapping/embed/weight"],
            old.numbers.labels(age) @ theirs["mapping"]["embed"]["weight"], atol=1e-5,
        )  # fmt: skip
    other = ages(20, 30, 70, names=("height",))
    with pytest.raises(InputError, match="its labels are the numbers age, those .* height"):
        gan_stage.start_of(tree, state, other)
    # So does a frozen second discriminator, of a run with yet another mean.
    far, folder = ages(0, 10, 100), tmp_path / "second"
    for numbers in (far, ages(0, 10, 100, names=("height",))):
        folder.mkdir(exist_ok=True)
        write_folder(folder, nets._replace(conditions=numbers.record()))
        tree.gan.update(second_d="frozen", second_from=str(folder))
        if numbers is far:
            second = gan_stage.start_of(tree, state, new).second["mapping/embed/weight"]
            expected = far.numbers.labels(age) @ nets.d["mapping"]["embed"]["weight"]
            np.testing.assert_allclose(new.numbers.labels(age) @ second, expected, atol=1e-5)
        else:
            with pytest.raises(InputError, match="second_from=.*labels are the numbers height"):
                gan_stage.start_of(tree, state, new)
    # A file with published names keeps what the numbers mean.
    write_published(tmp_path / "n.safetensors", to_published(nets), record)
    assert network_files.read(tmp_path / "n.safetensors").conditions == record
    described = json.loads((tmp_path / "n.json").read_text())
    described["conditions"]["numbers"]["mean"] = [1, 2]
    (tmp_path / "n.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="n.json: no description of labels"):
        network_files.read(tmp_path / "n.safetensors")


def test_classes_of_another_meaning_are_told(tmp_path, caplog):
    def labels(*names):
        return Conditions(("hair",), names, np.eye(2, dtype=np.float32), np.full(2, 0.5),
                          np.zeros(3, int))  # fmt: skip

    change, old = {"c_dim": 2}, labels("short", "long")
    nets = saved(change, change, raw=False)
    nets = nets._replace(conditions=old.record(), w_avg=np.stack([nets.w_avg] * 2))
    write_folder(tmp_path, nets)
    tree = config(condition=("hair",), init_from=str(tmp_path))
    state = quick_jit(gan_stage.programs(tree, old).init)(jax.random.key(0), np.ones(1))
    gan_stage.start_of(tree, state, old)
    assert not caplog.messages
    gan_stage.start_of(tree, state, labels("long", "short"))
    (told,) = caplog.messages
    assert "its classes are short, long (hair), now long, short (hair)" in told


def test_bad_files(files, tmp_path):
    def refused(path, **changes):
        with pytest.raises(InputError) as error:
            gan_stage.start_of(config(init_from=str(path), **changes))
        return str(error.value)

    assert "no such file" in refused(tmp_path / "none.pkl")
    (tmp_path / "x.onnx").write_text("x")
    assert "'.onnx'" in refused(tmp_path / "x.onnx")
    write_folder(tmp_path, saved()._replace(d=None))
    assert "gan.init_d=fresh" in refused(tmp_path)
    gan_stage.start_of(config(init_from=str(tmp_path), init_d="fresh"))
    shape = json.loads((tmp_path / "generator.json").read_text())
    (tmp_path / "generator.json").write_text(json.dumps(shape | {"channel_max": 4}))
    assert "instead of" in refused(tmp_path, init_d="fresh")
    (tmp_path / "generator.json").write_text("{}")
    assert "no description of a generator" in refused(tmp_path)
    copy = tmp_path / "net.safetensors"
    copy.write_bytes((files / "net.safetensors").read_bytes())
    assert "net.json" in refused(copy)
    options = json.loads((files / "net.json").read_text())
    (tmp_path / "net.json").write_text(json.dumps({"G": options["G"]}))
    assert "is of no network" in refused(copy)
    only_d = {"D": to_published(saved())["D"]}
    (tmp_path / "d.pkl").write_bytes(make.content(only_d))
    assert "it holds no generator" in refused(tmp_path / "d.pkl")


# What is trained, and how fast.


def trained(*phases, **changes):
    """The state after a step of these networks, "g" or "d", of a config with these changes."""
    gan = gan_stage.programs(config(path_length_weight=0.0, style_mixing=0.0, **changes))
    state = jax.device_put(first_state(8))
    g = gan.g_adam.init(state.g)
    state = state.replace(g_optimiser=g, d_optimiser=gan.d_adam.init(state.d))
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 3)).astype(np.uint8)
    batch = {"image": jnp.asarray(images), "index": jnp.arange(BATCH)}
    of_reals = reals(np.ones(BATCH), np.zeros(BATCH), np.ones(1), np.zeros(1))
    key = jax.random.key(1)
    if "g" in phases:
        state, _ = quick_jit(gan._g_step, static_argnums=2)(state, key, False)
    if "d" in phases:
        state, _ = quick_jit(gan._d_step, static_argnums=4)(state, batch, of_reals, key, False)
    return jax.device_get(state)


def moved(before, after):
    before, after = flat(before), flat(after)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def test_frozen_blocks_rest_bit_by_bit_and_the_others_do_not(files):
    new = trained("g", "d", init_from="x", freeze_d=1)
    names = moved(first_state(8).d, new.d)
    assert names
    assert all(name.startswith("b4/") for name in names)
    assert moved(first_state(8).g, new.g) >= {"mapping/fc0/weight", "synthesis/b8/conv1/weight"}
    assert frozen_blocks(64, 2) == ["b64", "b32"]
    assert frozen_blocks(64, 0) == []


@pytest.mark.slow
def test_the_mapping_network_has_a_rate_of_its_own():
    usual, slow, still = (trained("g", learning_rate_mapping=f) for f in (1.0, 0.25, 0.0))
    start = first_state(8).g
    assert_equal(still.g["mapping"], start["mapping"])
    assert_equal(still.g["synthesis"], usual.g["synthesis"])
    assert_equal(slow.g["synthesis"], usual.g["synthesis"])
    for layer in ("fc0", "fc1"):
        for kind in ("weight", "bias"):
            step, quarter = (of.g["mapping"][layer][kind] - start["mapping"][layer][kind]
                             for of in (usual, slow))  # fmt: skip
            assert np.abs(step).max() > 1e-4
            # A step is 2e-5 of the weights here, whose rounding shows.
            np.testing.assert_allclose(quarter, step / 4, atol=2e-5)


def test_factors_scale_the_updates_and_no_factor_changes_nothing():
    adam = optax.adam(0.1)
    assert by_part(adam, {"a": 1.0}) is adam
    params = {"a": {"x": jnp.ones(3)}, "b": {"x": jnp.ones(3)}, "c": {"x": jnp.ones(3)}}
    parts = by_part(adam, {"a": 0.5, "b": 0.0})
    state, usual = parts.init(params), adam.init(params)
    grads = jax.tree.map(lambda x: x * jnp.array([1.0, -2.0, 3.0]), params)
    for _ in range(3):
        updates, state = parts.update(grads, state)
        full, usual = adam.update(grads, usual)
        np.testing.assert_allclose(updates["a"]["x"], 0.5 * full["a"]["x"], rtol=1e-6)
        np.testing.assert_array_equal(updates["b"]["x"], 0.0)
        np.testing.assert_allclose(updates["c"]["x"], full["c"]["x"], rtol=1e-6)


def test_d_fields_are_those_that_a_stage_records():
    tree = config()
    state = first_state(8)
    found = gan_stage.saved(tree, gan_stage.programs(tree), state, None)
    assert found.d_fields == D_FIELDS | {"mbstd_mode": "contiguous"}
    assert_equal(found.d, state.d)
