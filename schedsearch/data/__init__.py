"""Real images: the training data and the FID reference.

Sources of images and latents belong here, and the decoder of latents. Sampled images and metrics
do not. Nothing is downloaded, and no file can run code. Read first: ``sources.py`` (the
protocol), ``loading.py``.
"""
