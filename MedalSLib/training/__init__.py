"""Dataset preparation, augmentation, losses, schedule, trainer and fine-tuning."""
