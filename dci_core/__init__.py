"""ICO and DCI ("Customized Generation Reimagined", ECCV 2024) in plain torch.

One idea per module; nothing here imports ComfyUI, so the package can be used on its own.

Shape letters used everywhere: B batch, H heads, N image tokens (h·w), K text tokens, D channels,
h w latent height and width, S concept vectors, M and L image contexts before and after.
"""
