import pytest
from ml_collections import ConfigDict

from fairjax import config as configuration
from fairjax.config import STEERED, defaults, digest, nearest, paths, variant, with_arm
from fairjax.errors import InputError
from fairjax.gan_validation import WORDS
from fairjax.validation import cautions, validate


def problems(config, **kwargs):
    """The problems that validation reports, as one text; fails where it reports none."""
    with pytest.raises(InputError) as error:
        validate(config, **kwargs)
    return str(error.value)


def test_defaults_are_valid_and_fresh():
    validate(defaults())
    changed = defaults()
    changed.data.bias = 0.7
    assert defaults().data.bias == 0.9


def test_all_problems_are_reported_at_once():
    config = defaults()
    config.data.bias = 1.5
    config.ratio.folds = 1
    config.gan.loss = "wasserstein"
    config.eval.samples = 0
    config.weights.alpha = -1.0
    text = problems(config)
    assert text.startswith("config fair_generation: 5 problem(s): ")
    assert "data.bias (=1.5) must be between 0 and 1" in text
    assert "gan.loss (='wasserstein') must be hinge or logistic" in text
    for key in ("ratio.folds (=1)", "eval.samples (=0)", "weights.alpha (=-1.0)"):
        assert key in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.source", "flickr"),
        ("data.resolution", 48),
        ("data.crop", "none at all"),
        ("data.perc", 0.0),
        ("data.split", "paper"),
        ("data.biased_proportions", (0.9, 0.2)),
        ("data.reference_proportions", (1.5, -0.5)),
        ("ratio.stem", "vgg"),
        ("ratio.batch", 7),
        ("ratio.calibration", "isotonic"),
        ("ratio.validation_share", 0.5),
        ("judge.epochs", 0.0),
        ("weights.clip", 0.5),
        ("eval.features", "inception"),
        ("eval.every_kimg", 0.0),
        ("ratio.networks", ()),
        ("ratio.networks", ("resnet", "resnet")),
        ("ratio.networks", ("resnet", "vgg")),
        ("ratio.feature_resolution", 16),
        ("ratio.clusters", 1),
        ("weights.clip_quantile", 0.0),
        ("gan.reweight", "sometimes"),
        ("gan.resample_share", 1.0),
        ("gan.draws", "systematic"),
        ("gan.train_on", "half"),
        ("gan.own_from", "main"),  # arm:main would be meant
        ("gan.own_share", 0.0),
        ("gan.own_share", 1.5),
        ("seed", 2**32),
        ("gan.alpha_ramp", 0.5),  # the default has no weights in the loss
        ("gan.self_normalise", True),
        ("gan.groups", "hair"),
        ("gan.dro_absent", "ignore"),
        ("gan.beta2", 1.0),
        ("gan.style_mixing", 1.1),
        ("gan.mbstd_group", 5),
        ("gan.mbstd_mode", "diagonal"),
        ("gan.d_width", float("inf")),
        ("gan.d_width", float("nan")),
        ("gan.mbstd_features", 3),
        ("gan.mbstd_weighted", True),  # the default draws reals by their weight
        ("gan.condition", ("long_hair", "long_hair")),
        ("gan.condition_form", "floats"),
        ("gan.fake_labels", "biased"),
        ("gan.sample_labels", "biased"),
        ("gan.condition", ("reference_set", "long_hair")),
        ("gan.d_mapping_layers", -1),
        ("data.channels", 2),
        ("data.channels", 4),  # avatars have no transparency
        ("gan.kimg", 0.0),
        ("gan.r1_gamma", -1.0),
        ("gan.r1_target", 1.0),
        ("gan.r1_target", -0.1),
        ("gan.r1_kimg", 0.0),
        ("gan.augment", "sometimes"),
        ("gan.augment_categories", "bg,blur"),
        ("gan.augment_categories", "hue*2"),
        ("gan.augment_categories", ""),
        ("gan.diffaugment_policy", "color,flip"),
        ("judge.members", 0),
        ("judge.augment_p", 1.5),
        ("gan.ada_p_max", 1.0),
        ("gan.ada_target", 1.5),
        ("gan.ada_kimg", 0.0),
        ("gan.init_d", "none"),
        ("gan.init_grow", True),
        ("gan.freeze_d", 1),
        ("gan.learning_rate_mapping", -0.1),
        ("gan.penalty", "wish"),
        ("gan.penalty_attributes", ("young",)),  # not a set that is judged
        ("gan.penalty_target", "data"),
        ("gan.penalty_weight", -1.0),
        ("gan.penalty_weight", float("inf")),
        ("gan.penalty_slack", -0.1),
        ("gan.penalty_count", 1),
        ("gan.penalty_rate", 0.0),
        ("gan.adversary_width", 0),
        ("gan.adversary_learning_rate", 0.0),
    ],
)
def test_a_bad_value_is_named_with_its_key(key, value):
    config = defaults()
    config.update_from_flattened_dict({key: value})
    text = problems(config)
    assert "1 problem(s)" in text
    assert f"{key} (={config_value(config, key)!r}) must be" in text


def test_r1_follows_the_margin_of_the_hinge_only_and_from_above_0():
    for change, words in (
        ({"loss": "logistic"}, "gan.r1_target (=0.6) must be 0 unless gan.loss is hinge"),
        ({"r1_gamma": 0.0}, "gan.r1_gamma (=0.0) must be above 0, where gan.r1_target starts"),
    ):
        config = defaults()
        config.gan.update(change, r1_target=0.6)
        text = problems(config)
        assert "1 problem(s)" in text
        assert words in text


def config_value(config, key):
    for part in key.split("."):
        config = config[part]
    return config


def test_sources_need_what_they_read():
    config = defaults()
    config.data.source = "folder"
    text = problems(config)
    assert "data.folder.biased" in text
    assert "data.folder.reference" in text
    config.data.update(channels=4)
    config.data.folder.update(biased=("A",), reference=("B",))
    validate(config)
    config.data.update(channels=1, source="celeba")
    assert "data.channels" not in problems(config)
    assert "data.celeba.dir" in problems(config)
    config.data.source = "tfds"
    assert "data.tfds.name" in problems(config)


def test_labels_that_are_numbers_need_a_table_and_a_distribution():
    config = defaults()
    config.gan.update(condition=("age",), condition_form="numbers")
    assert "gan.condition_form (='numbers') must be classes" in problems(config)
    config.data.source = "folder"
    config.data.folder.update(biased=("A",), reference=("B",))
    assert "data.folder.attributes a table" in problems(config)
    config.data.folder.attributes = "t.csv"
    validate(config)
    config.gan.fake_labels = "uniform"
    assert "gan.fake_labels (='uniform') must be reference or data" in problems(config)


def test_the_sets_as_labels_need_fakes_of_both():
    config = defaults()
    config.gan.condition = ("reference_set",)
    assert "gan.fake_labels (='reference') must be data with gan.condition" in problems(config)
    config.gan.update(fake_labels="data", sample_labels="reference")
    validate(config)


def test_a_penalty_needs_a_judge_and_is_warned_of():
    config = defaults()
    config.arms = ConfigDict({"plain": {}, "fair": {"penalty": "marginals"}})
    validate(config)
    (warned,) = cautions(config)
    assert warned.startswith("arm fair trains with a penalty: labels are used in training")
    assert "may game its own judge; the figures come from another judge" in warned
    config.judge.attribute_sets = ()
    wanted = "must be none, or penalty_groups ratio, as judge.attribute_sets is empty"
    assert f"gan.penalty (='marginals') {wanted}" in problems(config)
    assert "(arm fair)" in problems(config)


def test_a_penalty_on_groups_of_the_ratios_uses_no_label():
    config = defaults()
    config.arms = ConfigDict({"steered": {"penalty": "marginals", "penalty_groups": "ratio",
                                          "penalty_momentum": 0.9}})  # fmt: skip
    validate(config)
    (warned,) = cautions(config)
    assert warned.startswith("arm steered trains with a penalty on groups of the ratios, which may")
    assert "labels" not in warned
    config.judge.attribute_sets = ()
    validate(config)
    config.arms.steered.update(penalty_target="uniform", penalty_attributes=("hair",))
    for key in ("penalty_target", "penalty_attributes"):
        assert f"gan.{key} (=" in problems(config)
    config.arms.steered.update(penalty_unbiased=True)
    assert "penalty_momentum (=0.9) must be 0 unless penalty is marginals" in problems(config)


def test_a_slack_below_the_chance_of_a_batch_is_warned_of():
    config = defaults()
    config.gan.update(penalty="constraint", batch=16)  # chance 0.031, slack 0.02
    assert "the multiplier may never stop rising" in cautions(config)[1]
    config.gan.penalty_unbiased = True
    assert len(cautions(config)) == 1
    config.gan.update(penalty_unbiased=False, penalty_slack=0.05)
    assert len(cautions(config)) == 1


def test_the_penalty_of_the_default_arm_is_left_out_by_one_word():
    config = defaults()
    config.arms = ConfigDict({"weighted": STEERED | {"penalty": "none", "reweight": "loss"}})
    validate(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # The blocks that growing adds are not trained.
        ({"init_from": "f", "init_grow": True, "freeze_d": 1}, "freeze_d (=1) must be 0 with gan"),
        ({"init_from": "f", "init_grow": True, "second_d": "frozen"}, "second_d (='frozen') must"),
        # A discriminator that sees one set only would tell fakes by their label.
        ({"condition": ("reference_set",), "fake_labels": "data", "train_on": "reference"},
         "unless each discriminator sees both sets"),
        ({"condition": ("reference_set",), "fake_labels": "data", "train_on": "union",
          "second_d": "reference"}, "unless each discriminator sees both sets"),
        # Words that would change nothing.
        ({"reweight": "loss", "dro": True, "self_normalise": True}, "self_normalise (=True) must"),
        ({"reweight": "loss", "r1_weighted": True, "r1_gamma": 0.0}, "r1_weighted (=True) must be"),
        ({"reweight": "loss", "mbstd_weighted": True, "mbstd_group": 0}, "mbstd_weighted (=True)"),
        ({"reweight": "loss", "ada_weighted": True}, "ada_weighted (=True) must be False unless"),
        ({"dro": True, "groups": "dataset", "train_on": "biased"}, "groups (='dataset') must be"),
        ({"penalty": "quality", "penalty_unbiased": True}, "penalty_unbiased (=True) must be"),
        ({"penalty": "adversary", "penalty_target": "uniform"}, "penalty_target (='uniform')"),
        ({"penalty": "marginals", "penalty_unbiased": True, "batch": 1, "mbstd_group": 1},
         "penalty_unbiased (=True) must be False with a batch of one"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(changes, words):
    config = defaults()
    config.gan.update(changes)
    assert words in problems(config)


def test_arms_that_take_a_discriminator_have_its_label_layers_and_statistics():
    config = defaults()
    told = {"condition": ("long_hair",)}
    config.arms = ConfigDict({"a": told, "b": told | {"init_from": "arm:a", "d_mapping_layers": 2}})
    assert "must be equal in both: d_mapping_layers" in problems(config)
    config.arms = ConfigDict({"a": {}, "b": {"init_from": "arm:a", "mbstd_features": 2}})
    assert "must be equal in both: mbstd_features" in problems(config)
    config.arms.b.update(init_d="fresh")
    validate(config)


def test_an_image_of_no_size_is_refused():
    config = defaults()
    config.data.resolution = 0
    assert "data.resolution (=0) must be" in problems(config)


def test_batches_must_split_over_the_devices():
    config = defaults()
    validate(config, devices=4)
    text = problems(config, devices=3)
    for key in ("gan.batch", "ratio.batch", "judge.batch"):
        assert f"{key} (=" in text
    config.gan.update(batch=8, mbstd_group=4)
    validate(config, devices=2)
    assert "gan.mbstd_group" in problems(config, devices=4)  # two images on each device


def test_arms_are_validated_with_their_own_values():
    config = defaults()
    config.arms = ConfigDict(
        {"good": {"reweight": "loss"}, "bad": {"dro_bins": 1}, "worse": {"r1_gama": 2.0}}
    )
    text = problems(config)
    assert "2 problem(s)" in text
    assert "gan.dro_bins (=1) must be at least 2 (arm bad)" in text
    assert "arms.worse.r1_gama is no key of gan. Did you mean gan.r1_gamma" in text
    config.arms = ConfigDict({})
    assert "at least one arm" in problems(config)
    config.arms = ConfigDict({"a/b": {}})
    assert "'a/b'" in problems(config)


def test_generated_images_have_no_weight_group_label_or_set():
    config = defaults()
    own = {"own_from": "arm:a", "reweight": "none"}
    config.arms = ConfigDict({"a": {}, "b": own | {"second_from": ""}})
    validate(config)
    config.arms.b.update(reweight="resample", draws="stratified", dro=True, train_on="reference",
                         condition=("long_hair",), second_d="reference")  # fmt: skip
    text = problems(config)
    assert "6 problem(s)" in text
    for words in (
        "gan.reweight (='resample') must be none with gan.own_from, as a generated image has no "
        "weight (arm b)",
        "gan.draws (='stratified') must be independent with gan.own_from",
        "gan.dro (=True) must be False with gan.own_from, as a generated image has no group",
        "gan.condition (=('long_hair',)) must be empty with gan.own_from",
        "gan.train_on (='reference') must be union with gan.own_from",
        "gan.second_d (='reference') must be none or frozen with gan.own_from",
    ):
        assert words in text
    config.arms = ConfigDict({"a": {}, "b": own | {"own_from": "arm:c"}})
    assert "arms.b.own_from (='arm:c') must name another arm (a)" in problems(config)
    config.arms = ConfigDict({"a": own | {"own_from": "arm:b"}, "b": own})
    assert "arms a, b wait for each other" in problems(config)


def test_an_arm_changes_a_copy():
    config = defaults()
    config.arms = ConfigDict({"equi": {"reweight": "none", "kimg": 7.0}, "main": {}})
    equi = with_arm(config, "equi")
    assert (equi.gan.reweight, equi.gan.kimg) == ("none", 7.0)
    assert config.gan.reweight == "resample"
    assert with_arm(config, "main").gan == config.gan


def test_variants():
    changes = configuration.variants()
    with pytest.raises(InputError, match=r"variant .huge. does not exist.*:tiny, :128, :256"):
        variant(defaults(), "huge", changes)
    assert variant(defaults(), None, changes).to_dict() == defaults().to_dict()
    tiny = variant(defaults(), "tiny", changes)
    assert tiny.name == "fair_generation_tiny"
    assert tiny.data.resolution == 16
    validate(tiny)
    large = variant(defaults(), "128", changes)
    validate(large)
    assert large.data.resolution == 128
    assert large.gan.r1_gamma == pytest.approx(0.01 * 128**2)
    assert large.gan.r1_target == 0.6
    for names in ("128+auto", "auto+128"):  # the logistic loss has no margin
        published = variant(defaults(), names, changes)
        validate(published)
        assert published.gan.r1_gamma == pytest.approx(0.0002 * 128**2 / 32)
        assert published.gan.r1_target == 0


def test_digest_is_of_the_values():
    assert digest(defaults()) == digest(defaults().to_dict())
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    changed = defaults()
    changed.gan.dro_eta *= 1.001
    assert digest(changed) != digest(defaults())


def test_nearest_names():
    names = paths(defaults())
    assert "config.gan.r1_gamma" in names
    assert "config.data.folder.biased" in names
    assert nearest("config.gan.r1gamma", names).startswith("Did you mean config.gan.r1_gamma")
    assert "config.gan.kimg" in nearest("config.x.kimg", names)  # the right key in a wrong place
    assert nearest("zzz", ["a", "b"]) == "Known names: a, b"


def test_an_arm_with_a_wrong_type_or_no_channels_is_named():
    config = defaults()
    config.arms = ConfigDict({"odd": {"batch": 8.5}, "thin": {"channel_base": 16}})
    with pytest.raises(InputError) as found:
        validate(config)
    assert "arms.odd" in str(found.value)
    assert "8.5" in str(found.value)
    assert "channel_base (=16)" in str(found.value)


def test_a_word_that_every_arm_replaces_is_looked_at():
    config = defaults()
    config.arms = ConfigDict({"equi": {"reweight": "none"}})
    config.gan.reweight = "../x"
    with pytest.raises(InputError, match=r"1 problem.*gan\.reweight \(='\.\./x'\) must be one of"):
        validate(config)
    config.arms = ConfigDict(
        {"equi": {key: config.gan[key] for key in WORDS} | {"reweight": "none"}}
    )
    for key in WORDS:
        config.gan[key] = "../x"
    with pytest.raises(InputError, match=f"^[^:]*: {len(WORDS)} problem") as found:
        validate(config)
    assert all(f"gan.{key} (='../x') must be " in str(found.value) for key in WORDS)
    assert "gan.sample_labels (='../x') must be one of empty, reference, data, uniform" in str(
        found.value
    )
