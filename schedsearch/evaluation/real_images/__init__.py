"""What generated images are compared with: FID's reference, and the training images.

Both are made once per run and cached in its folder ``reference``.
"""
