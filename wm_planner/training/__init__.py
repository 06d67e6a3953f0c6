"""Training: the small encoder, the transition model, and their fine-tuning."""
