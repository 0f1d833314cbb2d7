"""May I believe it? What can be said of a denoised image without its truth."""
