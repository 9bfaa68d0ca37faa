"""Times the training steps of a config: python launch/bench.py --config=configs/quickstart.py

Two sizes are measured side by side with the official PyTorch networks (flags: `--help`):

python launch/bench.py --config=configs/quickstart.py --config.data.resolution=32 \
  --config.gan.batch=16 --config.gan.channel_base=4096 --config.gan.channel_max=128 \
  --config.gan.z_dim=512 --config.gan.w_dim=512 --config.gan.path_length_weight=2.0 \
  --config.gan.style_mixing=0.9 --against=pytorch --peer_path=stylegan2-ada-pytorch

python launch/bench.py --config=configs/quickstart.py --config.data.resolution=64 \
  --config.gan.batch=8 --config.gan.channel_base=8192 --config.gan.channel_max=256 \
  --config.gan.z_dim=512 --config.gan.w_dim=512 --config.gan.path_length_weight=2.0 \
  --config.gan.style_mixing=0.9 --against=pytorch --peer_path=stylegan2-ada-pytorch
"""

from fairjax.experiments.large_pages import begin_again

if __name__ == "__main__":
    begin_again()  # before JAX is imported

    from fairjax.experiments.bench import main

    main()
