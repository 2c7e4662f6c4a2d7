"""What serves models to the stages: one place for those that stay in memory."""
